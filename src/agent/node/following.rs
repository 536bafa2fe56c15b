//! How HAProxy follows, in the log: that it is gone, that it is back, and what was changed in it, in words for people.

use super::Node;
use crate::agent::outcome::applied::{Applied, ApplyError, How};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::bulletin::Bulletin;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::{Matter, TroubleChange};
use crate::config::Config;
use crate::event::{Event, EventKind, Severity};
use crate::haproxy;
use std::time::{Duration, Instant};

/// A new master answers so long before its worker does, at the most; 0.1 s were seen.
const START_PATIENCE: Duration = Duration::from_secs(3);

impl Node {
    /// Keeps why HAProxy does not follow, and tells it where that is news.
    pub(super) fn remember(&mut self, result: &Result<Applied, ApplyError>) {
        self.lacks = matches!(result, Err(ApplyError::Own(_)));
        let is_absent = matches!(result, Ok(applied) if applied.how == How::Start);
        if is_absent && self.owns_haproxy && !self.has_followed {
            tracing::info!("the files are ready; HAProxy is started with them");
            return;
        }
        if is_absent
            && !self.troubles.has(Matter::Haproxy)
            && may_be_starting(&self.serving.config, self.engine.absent_since)
        {
            return;
        }
        let is_first = !self.has_followed;
        self.has_followed |= result.is_ok() && !is_absent;
        let problem = match result {
            Ok(_) => is_absent.then(|| start_hint(&self.serving.config)),
            Err(ApplyError::TooSoon(_)) => return,
            Err(e) => Some(e.refusal()),
        };
        if self.troubles.note(Matter::Haproxy, problem.as_ref()) == TroubleChange::None {
            return;
        }
        match &problem {
            Some(problem) if result.is_ok() && self.is_settled => {
                let text = format!("HAProxy is gone: {problem}");
                self.bulletin.tell(Event::begins(EventKind::Haproxy, Severity::Error, "haproxy", text));
            }
            Some(problem) if result.is_ok() => {
                self.bulletin.tell(Event::begins(EventKind::Haproxy, Severity::Warning, "haproxy", problem));
            }
            Some(problem) => {
                let is_behind = matches!(result, Err(ApplyError::Files(_)));
                let text = if is_behind { "HAProxy's files are behind" } else { "HAProxy does not follow" };
                let event = Event::begins(EventKind::Haproxy, Severity::Warning, "haproxy", text);
                self.bulletin.tell(event.because(problem));
            }
            None => {
                let again = if is_first { "" } else { " again" };
                let text = match self.runtime() {
                    Some(runtime) => format!("HAProxy {} follows{again}, pid {}", runtime.version, runtime.pid),
                    None => format!("HAProxy follows{again}"),
                };
                self.bulletin.tell(Event::ends(EventKind::Haproxy, "haproxy", text));
            }
        }
    }
}

/// A change that did not happen: told where it is another refusal than the one that was told last.
pub(in crate::agent) fn tell_failure(
    bulletin: &Bulletin,
    revision: Option<u32>,
    attempt: &Attempt,
    told: Option<&Refusal>,
) {
    if let Attempt::Failed(failed) = attempt
        && told != Some(&failed.refusal)
    {
        let state = if revision.is_some() { "the last good state serves on" } else { "nothing is served yet" };
        let text = format!("the change is refused, {state}\n{failed}");
        bulletin.tell(Event::begins(EventKind::Refused, Severity::Error, "file", text));
    }
}

/// A rollback that was asked for and did not happen: who asked is told, and nothing is wrong with the file.
pub(in crate::agent) fn tell_no_rollback(bulletin: &Bulletin, actor: &str, failed: &Failed) {
    let text = format!("the rollback that {actor} asked for is refused\n{failed}");
    bulletin.tell(Event::once(EventKind::Refused, Severity::Warning, "rollback", text));
}

/// The last word of an agent that ends.
pub(in crate::agent) fn log_stop(node: &Node) {
    let text = match (node.owns_haproxy, node.runtime()) {
        (true, _) => "stopping, and HAProxy with it",
        (false, Some(_)) => "stopping; HAProxy serves on",
        (false, None) => "stopping; no HAProxy runs",
    };
    node.bulletin.tell(Event::ends(EventKind::Agent, "agent", text));
}

/// A master that answers without a worker's socket: HAProxy starts, or somebody removed the socket.
fn has_master_alone(config: &Config) -> bool {
    let haproxy = &config.haproxy;
    // To connect takes no time where somebody listens on a file.
    !haproxy.admin_socket.exists() && std::os::unix::net::UnixStream::connect(&haproxy.master_socket.value).is_ok()
}

fn may_be_starting(config: &Config, absent_since: Option<Instant>) -> bool {
    let is_short = absent_since.is_some_and(|since| since.elapsed() < START_PATIENCE);
    is_short && has_master_alone(config)
}

/// What to do where no HAProxy runs.
pub(super) fn start_hint(config: &Config) -> Refusal {
    let haproxy = &config.haproxy;
    let (admin, master) = (&haproxy.admin_socket.value, &haproxy.master_socket.value);
    if has_master_alone(config) {
        return Refusal::notice(format_args!(
            "HAProxy runs and serves on, its master answers on {master}; but its admin socket {admin} was removed, so \
             that nobody can steer it"
        ))
        .help("restart it, which makes the socket again: systemctl restart haproxy");
    }
    let command = haproxy::start_command(&haproxy.binary, &haproxy.config, &haproxy.master_socket);
    Refusal::notice(format_args!(
        "no HAProxy answers on {admin}: nobody is served; the files are ready, start it: {command}"
    ))
}

/// What serves when the agent begins.
pub(in crate::agent) fn log_start(report: &Report, bulletin: &Bulletin) {
    let how = match report.applied.how {
        How::Unchanged => "HAProxy runs it already",
        How::Files => "files were written, HAProxy ran it already",
        How::Runtime => "by runtime commands",
        How::Reload => "by a reload",
        How::Start => "as soon as HAProxy is started",
    };
    let text = match report.revision {
        Some(revision) => format!("hapilot runs; serving revision {revision}: {how}"),
        None => format!("hapilot runs; serving: {how}"),
    };
    bulletin.tell(Event::begins(EventKind::Agent, Severity::Info, "agent", text));
}
