//! Whether the old worker has taught the new one its stick-tables.
//!
//! A `peers` section with the local peer alone is what carries them over a reload: the old worker connects to the new
//! one and sends every entry. **Source**: `show peers` of 2.6, 3.0 and 3.2, which agree on the two facts used here.

use super::error::AdminError;
use super::session::{RETRY, Session};
use crate::plan::Runtime;
use camino::Utf8Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the old worker is waited for. It takes 10 to 60 ms; HAProxy itself gives up after 5 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where the old worker probably cannot teach.
const LITTLE_PATIENCE: Duration = Duration::from_millis(500);
/// For one question.
const ANSWER: Duration = Duration::from_secs(1);
/// Before 3.0, a worker that nobody taught waits for two time-outs of five seconds before it teaches.
const MUTE_S: u64 = 11;
/// The two lowest flags: nothing more is expected from the local peer, nor from remote ones.
const FINISHED: u32 = 0x3;

/// How far a worker's learning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lesson {
    /// There are no tables to be shared.
    NoTables,
    /// The old worker may still come.
    Waiting,
    /// Every section was taught by a local peer.
    Learnt,
    /// It is over, and nobody came.
    NobodyCame,
}

/// Waits until the serving worker has the tables of the one before, bounded. Answers what to tell the operator where
/// it has not: counters (limits per client) begin at zero then.
pub(super) async fn tables(admin_socket: &Utf8Path, before: &Runtime, by: Instant) -> Option<String> {
    let may_be_mute = !before.version.at_least(3, 0) && before.uptime_s < MUTE_S;
    let by = by.min(Instant::now() + if may_be_mute { LITTLE_PATIENCE } else { PATIENCE });
    let lost = |why: &str| Some(format!("stick-tables were not handed over ({why}): counters of limits begin at zero"));
    loop {
        match ask(admin_socket, by + ANSWER).await {
            Ok(Lesson::NoTables | Lesson::Learnt) => return None,
            Ok(Lesson::NobodyCame) => return lost("the old worker did not send them"),
            Ok(Lesson::Waiting) if Instant::now() + RETRY < by => sleep(RETRY).await,
            Ok(Lesson::Waiting) => {
                return lost("the old worker sent nothing in time; before 3.0 it cannot in its first ten seconds");
            }
            Err(error) => return lost(&error.to_string()),
        }
    }
}

async fn ask(admin_socket: &Utf8Path, by: Instant) -> Result<Lesson, AdminError> {
    let (mut session, _) = Session::with_serving_worker(admin_socket, by).await?;
    Ok(lesson(&session.ask("show peers").await?))
}

/// Reads `show peers`: per section a line `0x… id=hapilot … flags=0x11000003 …`, indented below it a line per peer
/// `0x… id=lb1(local,inactive) … last_status=ESTA …`, and their tables.
fn lesson(reply: &str) -> Lesson {
    let word = |line: &str, key: &str| {
        let value = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key))?;
        Some(value.to_owned())
    };
    let mut sections: Vec<(u32, bool, bool)> = Vec::new();
    for line in reply.lines() {
        if line.starts_with("0x") {
            let flags = word(line, "flags=0x").and_then(|flags| u32::from_str_radix(&flags, 16).ok());
            sections.push((flags.unwrap_or_default(), false, false));
        } else if let Some((_, was_taught, has_tables)) = sections.last_mut() {
            *was_taught |= line.contains("(local,") && word(line, "last_status=").as_deref() == Some("ESTA");
            *has_tables |= line.trim_start().starts_with("table:");
        }
    }
    sections.retain(|(_, _, has_tables)| *has_tables);
    let is_over = |(flags, _, _): &(u32, bool, bool)| flags & FINISHED == FINISHED;
    match &sections[..] {
        [] => Lesson::NoTables,
        all if !all.iter().all(is_over) => Lesson::Waiting,
        all if all.iter().all(|(_, was_taught, _)| *was_taught) => Lesson::Learnt,
        _ => Lesson::NobodyCame,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lesson, lesson};

    fn reply(flags: &str, status: &str) -> String {
        format!(
            "0x7f63: [19/Feb/1970:17:02:27] id=hapilot disabled=0 flags={flags} resync_timeout=4s task_calls=3623\n  \
             0x7f64: id=lb1(local,inactive) addr=unix:0 app_state=STOPPED last_status={status} last_hdshk=0s\n        \
             reconnect=<NEVER> heartbeat=2s confirm=0\n        flags=0x0\n        shared tables:\n          \
             0x7f65 local_id=1 remote_id=0 flags=0x0\n              table:0x7f66 id=limit:address update=1\n"
        )
    }

    #[test]
    fn what_each_version_shows_is_told_apart() {
        assert_eq!(lesson(""), Lesson::NoTables);
        assert_eq!(lesson("0x1: id=hapilot flags=0x300003\n  0x2: id=lb1(local,inactive)\n"), Lesson::NoTables);
        for taught in ["0x11000003", "0x1103"] {
            assert_eq!(lesson(&reply(taught, "ESTA")), Lesson::Learnt);
        }
        // After a cold start nobody comes.
        assert_eq!(lesson(&reply("0x300003", "NONE")), Lesson::NobodyCame);
        for waiting in ["0x0", "0x11", "0x1"] {
            assert_eq!(lesson(&reply(waiting, "NONE")), Lesson::Waiting);
        }
        let both = reply("0x11000003", "ESTA") + &reply("0x0", "NONE");
        assert_eq!(lesson(&both), Lesson::Waiting);
    }
}
