//! The guards that were told: each once when it begins to work, and once when it is over.
//!
//! Pure. Kept by the loop.

use crate::event::{Event, EventKind, Severity};
use crate::health::{Guard, GuardEvent};
use crate::model::Name;

/// What is to be told of guards.
#[derive(Debug, Default)]
pub(in crate::agent) struct GuardNews {
    /// Those that began, and those that are over.
    pub events: Vec<Event>,
    /// Those that work on, in the words of now.
    pub reworded: Vec<Event>,
}

/// What has changed from those that were told to those that work now.
pub(in crate::agent) fn guard_news(told: &[GuardEvent], now: &[GuardEvent]) -> GuardNews {
    let is_in = |events: &[GuardEvent], one: &GuardEvent| {
        events.iter().any(|other| (other.guard, &other.pool) == (one.guard, &one.pool))
    };
    let over = |event: &GuardEvent| event.pool.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
    let mut news = GuardNews::default();
    for event in now.iter().filter(|event| !told.contains(event)) {
        let begins = Event::begins(EventKind::Guard, Severity::Warning, over(event), begins(event));
        let list = if is_in(told, event) { &mut news.reworded } else { &mut news.events };
        list.push(begins.about(event.guard).because(&event.why));
    }
    for event in told.iter().filter(|event| !is_in(now, event)) {
        news.events.push(Event::ends(EventKind::Guard, over(event), ends(event)).about(event.guard));
    }
    news
}

fn begins(event: &GuardEvent) -> String {
    let (whose, pool) = names(event);
    match event.guard {
        Guard::SuspectOurselves => "this node's own network may be at fault: no server's weight goes down".to_owned(),
        Guard::KeepHalf => format!("most servers of {pool} are unhealthy: no more than half of them go out"),
        Guard::FailOpen => {
            format!("less than half of {whose} capacity is left: all its servers take requests again")
        }
        Guard::BudgetSpent => format!("the probes that cost money have spent {whose} budget of the day"),
    }
}

fn ends(event: &GuardEvent) -> String {
    let (whose, pool) = names(event);
    match event.guard {
        Guard::SuspectOurselves => "this node's own network is not suspected any more".to_owned(),
        Guard::KeepHalf => format!("no unhealthy server of {pool} is kept in any more"),
        Guard::FailOpen => format!("enough of {whose} capacity is left again"),
        Guard::BudgetSpent => format!("the probes that cost money have a budget again: {pool}"),
    }
}

fn names(event: &GuardEvent) -> (String, &str) {
    match event.pool.as_ref().map(Name::as_str) {
        Some(pool) => (format!("{pool}'s"), pool),
        None => ("their".to_owned(), "all backends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Moment;
    use std::time::Duration;

    #[test]
    fn a_guard_is_told_once_each_way_in_plain_words_and_its_reason_is_that_of_now() {
        let of = |why: &str| GuardEvent {
            guard: Guard::FailOpen,
            pool: Name::new("chat").ok(),
            since: Moment(Duration::ZERO),
            why: why.to_owned(),
        };
        let began = guard_news(&[], &[of("40 % are healthy")]);
        assert_eq!((began.events.len(), began.reworded.len()), (1, 0));
        let text = "less than half of chat's capacity is left: all its servers take requests again";
        assert_eq!((began.events[0].text.as_str(), began.events[0].key.as_str()), (text, "guard/chat/fail_open"));
        let worse = guard_news(&[of("40 % are healthy")], &[of("none is healthy")]);
        assert_eq!((worse.events.len(), worse.reworded[0].cause.as_str()), (0, "none is healthy"));
        let same = guard_news(&[of("x")], &[of("x")]);
        assert_eq!((same.events.len(), same.reworded.len()), (0, 0));
        let over = guard_news(&[of("x")], &[]);
        assert_eq!((over.events[0].key.as_str(), over.reworded.len()), ("guard/chat/fail_open", 0));
    }
}
