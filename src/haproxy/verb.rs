//! How a step about one server is spelt, and what its answer means. Pure.
//!
//! An answer is matched exactly: what is not known as success is a failure, shown in HAProxy's own words.

use super::command::{CommandRefused, word};
use crate::model::AdminState;
use crate::plan::Step;

/// The command for a step; `None` for one that is a conversation of its own.
pub(super) fn spell(step: &Step) -> Result<Option<String>, CommandRefused> {
    Ok(match step {
        Step::SetState { proxy, server, from: _, to } => {
            Some(format!("set server {}/{} state {to}", word(proxy)?, word(server)?))
        }
        Step::SetWeight { proxy, server, from: _, to } => {
            Some(format!("set server {}/{} weight {to}", word(proxy)?, word(server)?))
        }
        Step::SetMaxconn { proxy, server, from: _, to } => {
            Some(format!("set maxconn server {}/{} {to}", word(proxy)?, word(server)?))
        }
        Step::SetProcessMaxconn { from: _, to } => Some(format!("set maxconn global {to}")),
        Step::SetAddress { proxy, server, from: _, to, port } => {
            Some(format!("set server {}/{} addr {to} port {port}", word(proxy)?, word(server)?))
        }
        Step::AddServer { .. } | Step::RemoveServer { .. } | Step::ReplaceMap { .. } | Step::Certificate(_) => None,
    })
}

/// What goes before a step without deciding on it. A server is added with its checks off: where the agent died before
/// they were switched on, they are when it comes out of maint; where they are on, nothing happens.
pub(super) fn spell_before(step: &Step) -> Result<Option<String>, CommandRefused> {
    Ok(match step {
        Step::SetState { proxy, server, from: AdminState::Maint, to: _ } => {
            Some(format!("enable health {}/{}", word(proxy)?, word(server)?))
        }
        _ => None,
    })
}

/// The server that a step is about.
pub(super) fn server_of(step: &Step) -> Option<(&str, &str)> {
    match step {
        Step::SetState { proxy, server, .. }
        | Step::SetWeight { proxy, server, .. }
        | Step::SetMaxconn { proxy, server, .. }
        | Step::SetAddress { proxy, server, .. } => Some((proxy, server)),
        Step::SetProcessMaxconn { .. }
        | Step::AddServer { .. }
        | Step::RemoveServer { .. }
        | Step::ReplaceMap { .. }
        | Step::Certificate(_) => None,
    }
}

/// Whether a reply says that the step was done.
///
/// # Errors
/// HAProxy's own words, cut to one short line.
pub(super) fn judge(step: &Step, reply: &str) -> Result<(), String> {
    let done = match step {
        Step::SetAddress { .. } => says_address_is_set(reply),
        // The last four are judged in their own conversations.
        Step::SetState { .. }
        | Step::SetWeight { .. }
        | Step::SetMaxconn { .. }
        | Step::SetProcessMaxconn { .. }
        | Step::AddServer { .. }
        | Step::RemoveServer { .. }
        | Step::ReplaceMap { .. }
        | Step::Certificate(_) => without_notices(reply).is_none(),
    };
    if done { Ok(()) } else { Err(words(reply)) }
}

/// The first words of a reply, for people.
pub(super) fn words(reply: &str) -> String {
    let line = without_notices(reply).unwrap_or(reply.trim());
    if line.is_empty() {
        return "HAProxy gave an empty answer".to_owned();
    }
    let line = match line.split_once(", but maybe one of the following") {
        Some((start, _)) => start,
        None => line,
    };
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The first line that is an answer. 3.4 lets log lines about other servers (`Server nb/s1 is going DOWN…`) slip in
/// before it.
fn without_notices(reply: &str) -> Option<&str> {
    let is_notice = |line: &str| {
        line.starts_with("[NOTICE]")
            || line.starts_with("[WARNING]")
            || (line.starts_with("Server ") && line.contains('/') && line.contains(" is "))
            || (line.starts_with("backend ") && line.ends_with("has no server available!"))
    };
    reply.lines().map(str::trim).find(|line| !line.is_empty() && !is_notice(line))
}

/// `IP changed from '192.0.2.1' to '192.0.2.2', port changed from '1' to '2' by 'stats socket command'`; where
/// nothing had to change, 2.6 says `no need to change the addr` or `… the port`, 3.0 `nothing changed`.
fn says_address_is_set(reply: &str) -> bool {
    const PARTS: [&str; 5] = [
        "IP changed from '",
        "port changed from '",
        "no need to change the addr",
        "no need to change the port",
        "nothing changed",
    ];
    let Some(line) = without_notices(reply) else { return false };
    line.split(", ").all(|part| PARTS.iter().any(|known| part.starts_with(known)))
}

#[cfg(test)]
mod tests {
    use super::{judge, spell, spell_before};
    use crate::model::{AdminState, Weight};
    use crate::plan::Step;

    fn weight() -> Step {
        let to = Weight::new(30).unwrap();
        Step::SetWeight { proxy: "be".into(), server: "s1".into(), from: Weight::ZERO, to }
    }

    fn address() -> Step {
        let to = "2001:db8::1".parse().unwrap();
        Step::SetAddress { proxy: "be".into(), server: "s1".into(), from: String::new(), to, port: 8443 }
    }

    #[test]
    fn steps_are_spelt_as_the_management_guide_says() {
        assert_eq!(spell(&weight()).unwrap().unwrap(), "set server be/s1 weight 30");
        assert_eq!(spell(&address()).unwrap().unwrap(), "set server be/s1 addr 2001:db8::1 port 8443");
        let limit = Step::SetMaxconn { proxy: "be".into(), server: "s1".into(), from: 9, to: 0 };
        assert_eq!(spell(&limit).unwrap().unwrap(), "set maxconn server be/s1 0");
        let limit = Step::SetProcessMaxconn { from: 9, to: 5 };
        assert_eq!(spell(&limit).unwrap().unwrap(), "set maxconn global 5");
        judge(&limit, "").unwrap();
        assert_eq!(judge(&limit, "Value out of range.\n"), Err("Value out of range.".to_owned()));
        let step =
            Step::SetState { proxy: "be".into(), server: "s 1".into(), from: AdminState::Ready, to: AdminState::Drain };
        assert_eq!(spell(&step).unwrap().unwrap(), r"set server be/s\ 1 state drain");
        assert_eq!(spell_before(&step).unwrap(), None);
        let step =
            Step::SetState { proxy: "be".into(), server: "s".into(), from: AdminState::Maint, to: AdminState::Ready };
        assert_eq!(spell_before(&step).unwrap().unwrap(), "enable health be/s");
    }

    #[test]
    fn only_an_empty_answer_to_a_weight_is_success() {
        judge(&weight(), "").unwrap();
        judge(&weight(), "Server nb/s1 is going DOWN for maintenance.\n").unwrap();
        for words in [
            "No such server.",
            "No such backend.",
            "Permission denied",
            "Proxy is disabled.",
            "Absolute weight can only be between 0 and 256 inclusive.",
            "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.",
        ] {
            assert_eq!(judge(&weight(), words), Err(words.to_owned()));
        }
        let unknown = "Unknown command: 'foo', but maybe one of the following ones is a better match:\n  x";
        assert_eq!(judge(&weight(), unknown), Err("Unknown command: 'foo'".to_owned()));
    }

    #[test]
    fn an_address_is_set_only_where_haproxy_says_so() {
        for words in [
            "IP changed from '127.0.0.1' to '127.0.0.5', port changed from '9009' to '9010' by 'stats socket command'",
            "no need to change the addr, port changed from '9002' to '9009' by 'stats socket command'",
            "no need to change the addr, no need to change the port by 'stats socket command'",
            "port changed from '9002' to '9009' by 'stats socket command'",
            "nothing changed",
        ] {
            judge(&address(), words).unwrap();
        }
        for words in ["", "Invalid addr 'zz' by 'stats socket command'", "No such server.", "nothing changed, Invalid"]
        {
            assert!(judge(&address(), words).is_err(), "{words:?}");
        }
    }
}
