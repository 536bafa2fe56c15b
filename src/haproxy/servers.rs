//! Adding and removing servers while HAProxy runs.
//!
//! A server is added in maint, with its checks off; both are set right after. It can only be removed in maint and when
//! its last request has ended: till then it stays, takes nothing new, and is asked again later.
//!
//! **Source**: management guide, `add server`, `del server`.

use super::command::{CommandRefused, word};
use super::error::AdminError;
use super::session::Session;
use super::verb::words;
use crate::model::AdminState;
use crate::plan::Step;

/// HAProxy's own limit is 64 words in a command; 2.6 silently drops the rest.
const MAX_WORDS: usize = 60;

/// What became of the step.
pub(super) enum Changed {
    /// It was done.
    Done,
    /// Out of the traffic, but its last requests have not ended.
    Waits,
    /// HAProxy refuses: its own words.
    Refused(String),
}

/// Carries out a step that adds or removes a server; `None` for any other step.
pub(super) async fn change(session: &mut Session, step: &Step) -> Result<Option<Changed>, AdminError> {
    match step {
        Step::AddServer { proxy, server, words, state } => match add_commands(proxy, server, words, *state) {
            Ok(commands) => add(session, &commands, proxy, server).await.map(Some),
            Err(refused) => Ok(Some(Changed::Refused(refused.to_string()))),
        },
        Step::RemoveServer { proxy, server, is_out: _ } => remove(session, proxy, server).await.map(Some),
        Step::SetState { .. }
        | Step::SetWeight { .. }
        | Step::SetMaxconn { .. }
        | Step::SetProcessMaxconn { .. }
        | Step::SetAddress { .. }
        | Step::ReplaceMap { .. }
        | Step::Certificate(_) => Ok(None),
    }
}

fn add_commands(proxy: &str, server: &str, line: &[String], state: AdminState) -> Result<Vec<String>, CommandRefused> {
    if line.len() > MAX_WORDS {
        return Err(CommandRefused(format!("its line has {} words; HAProxy takes {MAX_WORDS}", line.len())));
    }
    let name = format!("{}/{}", word(proxy)?, word(server)?);
    let line = line.iter().map(|text| word(text)).collect::<Result<Vec<_>, _>>()?.join(" ");
    let mut commands = vec![format!("add server {name} {line}"), format!("enable health {name}")];
    if state != AdminState::Maint {
        commands.push(format!("set server {name} state {state}"));
    }
    Ok(commands)
}

async fn add(session: &mut Session, commands: &[String], proxy: &str, server: &str) -> Result<Changed, AdminError> {
    for (at, command) in commands.iter().enumerate() {
        let reply = session.ask(command).await?;
        let is_done = if at == 0 { reply.contains("New server registered.") } else { reply.trim().is_empty() };
        if !is_done {
            if at > 0 {
                // Half a server is worse than none: it would never be checked, or never take traffic.
                remove(session, proxy, server).await?;
            }
            return Ok(Changed::Refused(words(&reply)));
        }
    }
    Ok(Changed::Done)
}

async fn remove(session: &mut Session, proxy: &str, server: &str) -> Result<Changed, AdminError> {
    let name = format!("{}/{}", word(proxy)?, word(server)?);
    let reply = session.ask(&format!("set server {name} state maint")).await?;
    if !reply.trim().is_empty() {
        return Ok(Changed::Refused(words(&reply)));
    }
    let reply = session.ask(&format!("del server {name}")).await?;
    Ok(match reply.trim() {
        text if text.contains("Server deleted.") => Changed::Done,
        text if text.contains("still has connections") => Changed::Waits,
        text => Changed::Refused(words(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::add_commands;
    use crate::model::AdminState;

    #[test]
    fn a_server_is_added_then_checked_then_made_ready() {
        let line = ["192.0.2.1:80", "weight", "5", "check", "sni", "str(a b)"].map(str::to_owned);
        let commands = add_commands("be", "s", &line, AdminState::Ready).unwrap();
        assert_eq!(
            commands,
            [
                r"add server be/s 192.0.2.1:80 weight 5 check sni str\(a\ b\)",
                "enable health be/s",
                "set server be/s state ready"
            ]
        );
        assert_eq!(add_commands("be", "s", &line, AdminState::Maint).unwrap().len(), 2);
        let long = vec!["x".to_owned(); 61];
        assert!(add_commands("be", "s", &long, AdminState::Ready).is_err());
    }
}
