//! What only a start of HAProxy finds, and `haproxy -c` does not: enough descriptors, and the program that runs.
//!
//! Called by `preflight`, by `engine`, and by `check` through `agent`.

use crate::agent::outcome::applied::Prepared;
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::Objection;
use crate::haproxy;
use crate::model::Sourced;
use crate::plan::{Action, Version};
use crate::sys;
use camino::Utf8PathBuf;

/// What HAProxy opens at least beside its connections.
///
/// **Source**: measured, 2.6 to 3.4: 37 with two threads, five listeners and five checked servers.
const OWN_DESCRIPTORS: u64 = 14;

/// Why a HAProxy that may open so many descriptors does not start. It says so itself only when it starts.
fn too_few(maxconn: u32, listeners: usize, most: u64) -> Option<Objection> {
    let needs = 2 * u64::from(maxconn) + listeners as u64 + OWN_DESCRIPTORS;
    let enough = most.saturating_sub(listeners as u64 + 3 * OWN_DESCRIPTORS) / 2;
    (most < needs).then(|| {
        Objection::new(format_args!(
            "`maxconn` {maxconn} needs more than {needs} descriptors, and HAProxy may open {most}: it would not start"
        ))
        .help(format_args!(
            "raise the limit (LimitNOFILE= of its unit, --ulimit nofile of its container), or write maxconn = {enough}"
        ))
    })
}

/// What would keep HAProxy from starting with these files. Where it runs and reloads, that is sure.
pub(super) fn objection(sources: &Sources, prepared: &Prepared) -> Option<Objection> {
    let runtime = prepared.observed.runtime.as_ref()?;
    let process = runtime.master.as_ref().map_or(runtime.pid, |master| master.pid);
    let most = sys::process::most_descriptors(Some(process))?;
    too_few(prepared.rendered.maxconn.process?, sources.config.binds().count(), most)
}

/// The same where it does not run: whoever starts it may have another limit than this process.
pub fn start_doubts(sources: &Sources, prepared: &Prepared) -> Option<String> {
    if !matches!(prepared.plan.action, Action::Start) {
        return None;
    }
    let haproxy = &sources.config.haproxy;
    let sockets = [(&haproxy.admin_socket, "haproxy.admin_socket"), (&haproxy.master_socket, "haproxy.master_socket")];
    let folder = |(socket, key): (&Sourced<Utf8PathBuf>, &str)| {
        let folder = sys::files::directory_of(socket);
        let lack = sys::folders::barrier(&folder).or_else(|| sys::folders::missing(&folder))?;
        let what = format!("{}: {}: HAProxy does not start without it", socket.named(key), lack.what);
        let help = format!("{}; where systemd starts HAProxy, RuntimeDirectory= of its unit may do that", lack.help);
        Some(Objection::new(what).help(help).to_string())
    };
    if let Some(doubt) = sockets.into_iter().find_map(folder) {
        return Some(doubt);
    }
    let most = sys::process::most_descriptors(None)?;
    let why = too_few(prepared.rendered.maxconn.process?, sources.config.binds().count(), most)?;
    Some(format!("started with the limits of this command: {why}"))
}

/// Where another branch of HAProxy runs than `binary` is: what that means for a file which one makes and the other
/// judges.
pub(in crate::agent) async fn other_binary(sources: &Sources, prepared: &Prepared) -> Option<Objection> {
    let runtime = prepared.observed.runtime.as_ref()?;
    let binary = &sources.config.haproxy.binary;
    let installed = haproxy::binary_version(binary).await.ok()?;
    let branch = |version: Version| (version.major, version.minor);
    if branch(installed) == branch(runtime.version) {
        return None;
    }
    let process = runtime.master.as_ref().map_or(runtime.pid, |master| master.pid);
    let program = sys::process::program_of(process).map(|path| format!(" ({path})")).unwrap_or_default();
    let what = format!(
        "`binary` {} is {installed}, running is {}{program}: the files are made for the one that runs, and the other one \
         judges them",
        binary.value, runtime.version
    );
    let help = "name the one that runs in `[haproxy] binary`, or restart HAProxy with the installed one";
    Some(Objection::new(what).help(help))
}

#[cfg(test)]
mod tests {
    use super::too_few;

    #[test]
    fn a_limit_below_two_descriptors_for_each_connection_is_too_low() {
        assert_eq!(too_few(9_900, 2, 20_000), None);
        assert_eq!(too_few(10_000, 2, 1_048_576), None);
        let why = too_few(10_000, 2, 20_000).unwrap().to_string();
        assert!(why.contains("more than 20016 descriptors") && why.contains("may open 20000"), "{why}");
        // What it advises is enough.
        assert!(why.ends_with("maxconn = 9978"), "{why}");
        assert_eq!(too_few(9_978, 2, 20_000), None);
        assert!(too_few(10, 0, 0).is_some());
    }
}
