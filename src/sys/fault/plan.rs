//! The plan of faults, read once from the environment. Compiled only with debug assertions.

use super::{Fault, Watcher, die};
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What is to fail, and what was passed so far.
#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    log: Option<std::fs::File>,
    passed: u32,
    passes: HashMap<&'static str, u32>,
}

/// One word of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// `None` for any point.
    point: Option<String>,
    /// From 1.
    at: u32,
    for_ever: bool,
    effect: Effect,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Fails(Fault),
    /// It takes so long, and then is done.
    Takes(Duration),
}

impl Rule {
    fn holds(&self, point: &str, of_point: u32, of_all: u32) -> bool {
        let count = match &self.point {
            Some(wanted) if wanted == point => of_point,
            Some(_) => return false,
            None => of_all,
        };
        if self.for_ever { count >= self.at } else { count == self.at }
    }
}

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

pub(super) fn watch(watcher: Option<Watcher>) {
    WATCHER.set(watcher);
}

/// Asks the watcher of this thread. One that unwinds watches no more.
pub(super) fn watched(point: &'static str, what: &impl Display) -> Option<Fault> {
    let mut watcher = WATCHER.take()?;
    let fault = watcher(point, &what.to_string());
    WATCHER.set(Some(watcher));
    fault
}

/// Counts a pass and looks it up.
pub(super) fn pass(point: &'static str, what: impl Display) -> Option<Fault> {
    static PLAN: OnceLock<Option<Mutex<Plan>>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var("HAPILOT_FAULTS").ok()?;
        match parse(&text) {
            Ok(plan) => Some(Mutex::new(plan)),
            Err(problem) => {
                // A test that believes in a fault which never happens would prove nothing.
                eprintln!("HAPILOT_FAULTS: {problem}");
                die()
            }
        }
    });
    let mut plan = plan.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    plan.passed += 1;
    let all = plan.passed;
    let count = plan.passes.entry(point).or_default();
    *count += 1;
    let own = *count;
    if let Some(log) = &mut plan.log {
        // One write per line, so that a death right after it loses none.
        let _ = log.write_all(format!("{all} {point}@{own} {what}\n").as_bytes());
    }
    let effect = plan.rules.iter().find(|rule| rule.holds(point, own, all)).map(|rule| rule.effect);
    drop(plan);
    match effect? {
        Effect::Fails(fault) => Some(fault),
        Effect::Takes(time) => {
            #[expect(clippy::disallowed_methods, reason = "a slow disk blocks its thread, too")]
            std::thread::sleep(time);
            None
        }
    }
}

fn parse(text: &str) -> Result<Plan, String> {
    let mut plan = Plan::default();
    for word in text.split_whitespace() {
        if let Some(path) = word.strip_prefix("log=") {
            let log = std::fs::File::options().create(true).append(true).open(path);
            plan.log = Some(log.map_err(|e| format!("{path}: {e}"))?);
        } else {
            plan.rules.push(rule(word).ok_or_else(|| format!("{word:?} is no POINT@N=FAULT"))?);
        }
    }
    Ok(plan)
}

fn rule(word: &str) -> Option<Rule> {
    let (place, fault) = word.split_once('=')?;
    let (place, for_ever) = place.strip_suffix('+').map_or((place, false), |place| (place, true));
    let (point, at) = match place.strip_prefix('#') {
        Some(at) => (None, at),
        None => place.split_once('@').map(|(point, at)| (Some(point.to_owned()), at))?,
    };
    let effect = match fault {
        "EIO" => Effect::Fails(Fault::Errno(Errno::EIO as i32)),
        "ENOSPC" => Effect::Fails(Fault::Errno(Errno::ENOSPC as i32)),
        "EACCES" => Effect::Fails(Fault::Errno(Errno::EACCES as i32)),
        "short" => Effect::Fails(Fault::Short),
        "torn" => Effect::Fails(Fault::Torn),
        "timeout" => Effect::Fails(Fault::Timeout),
        "half" => Effect::Fails(Fault::Half),
        "abort" => Effect::Fails(Fault::Abort),
        slow => Effect::Takes(Duration::from_millis(slow.strip_prefix("slow")?.parse().ok()?)),
    };
    Some(Rule { point, at: at.parse().ok().filter(|at| *at > 0)?, for_ever, effect })
}

#[cfg(test)]
mod tests {
    use super::{Effect, Fault, parse, rule};
    use std::time::Duration;

    #[test]
    fn a_rule_holds_once_or_for_ever() {
        let once = rule("files.write@2=short").unwrap();
        let held: Vec<u32> = (1..5).filter(|n| once.holds("files.write", *n, 9)).collect();
        assert_eq!((held, once.effect), (vec![2], Effect::Fails(Fault::Short)));
        assert_eq!(rule("files.sync@1+=slow250").unwrap().effect, Effect::Takes(Duration::from_millis(250)));
        let ever = rule("files.write@2+=EIO").unwrap();
        assert!(ever.holds("files.write", 7, 9) && !ever.holds("files.write", 1, 9) && !ever.holds("files.sync", 7, 9));
        let any = rule("#3=abort").unwrap();
        assert!(any.holds("whatever", 1, 3) && !any.holds("whatever", 3, 4));
    }

    #[test]
    fn a_plan_that_means_nothing_is_refused() {
        for text in [
            "files.write=EIO",
            "files.write@0=EIO",
            "files.write@1=EWHAT",
            "files.write@1=slow",
            "files.write@1=slowly",
            "#x=EIO",
            "EIO",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("a@1=EIO  b@2+=timeout").unwrap().rules.len(), 2);
    }
}
