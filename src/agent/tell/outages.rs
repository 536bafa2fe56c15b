//! The outages that were told: each once when it begins, and once when it is over.
//!
//! Pure. Kept by the loop; a picture reads it.

use crate::event::{Event, EventKind, Severity};
use crate::model::{Name, format_duration};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The outages that were told.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Outages(Arc<BTreeMap<Name, ToldOutage>>);

/// One of them.
#[derive(Clone, Debug)]
struct ToldOutage {
    since: Timestamp,
    why: String,
    /// It looks over since then, by what probes and traffic say.
    looks_over: Option<Instant>,
}

/// What the loop has to do about them.
#[derive(Debug, Default)]
pub(in crate::agent) struct OutageChange {
    /// To be told.
    pub events: Vec<Event>,
    /// What lasts, in the words of now.
    pub reworded: Vec<Event>,
    /// HAProxy is to be asked.
    pub wants_look: bool,
}

impl Outages {
    /// Since when a backend is out, and why it was when that was known last.
    pub fn of(&self, backend: &Name) -> Option<(Timestamp, &str)> {
        self.0.get(backend).map(|standing| (standing.since, standing.why.as_str()))
    }

    /// Takes in of each backend why it can serve nobody, by a HAProxy that was asked at `asked`.
    ///
    /// An outage is over when HAProxy was asked after it looked over: its own check may have found servers down since it
    /// was asked before, and lets them back later than a probe does.
    pub fn note(&mut self, found: &[(&Name, Option<String>)], asked: Option<Instant>, now: Instant) -> OutageChange {
        let mut news = OutageChange::default();
        for &(name, ref why) in found {
            let known = self.0.get(name);
            match (why, known) {
                (None, None) => {}
                (Some(why), None) => {
                    news.events.push(begins(name, why));
                    let since = Timestamp::now();
                    self.keep(name, ToldOutage { since, why: why.clone(), looks_over: None });
                }
                (Some(why), Some(known)) => {
                    if known.why != *why {
                        news.reworded.push(begins(name, why));
                    }
                    if known.looks_over.is_some() || known.why != *why {
                        let since = known.since;
                        self.keep(name, ToldOutage { since, why: why.clone(), looks_over: None });
                    }
                }
                (None, Some(known)) => match known.looks_over {
                    None => {
                        let standing = ToldOutage { looks_over: Some(now), ..known.clone() };
                        self.keep(name, standing);
                        news.wants_look = true;
                    }
                    Some(since) if asked.is_some_and(|asked| asked >= since) => {
                        let lasted = Timestamp::now().duration_since(known.since).unsigned_abs();
                        let text = format!("backend {name} serves again, after {}", roughly(lasted));
                        news.events.push(Event::ends(EventKind::Outage, name, text));
                        Arc::make_mut(&mut self.0).remove(name);
                    }
                    Some(_) => {}
                },
            }
        }
        let is_there = |name: &Name| found.iter().any(|(found, _)| *found == name);
        if !self.0.keys().all(is_there) {
            Arc::make_mut(&mut self.0).retain(|name, _| is_there(name));
        }
        news
    }

    fn keep(&mut self, name: &Name, standing: ToldOutage) {
        Arc::make_mut(&mut self.0).insert(name.clone(), standing);
    }
}

fn begins(name: &Name, why: &str) -> Event {
    Event::begins(EventKind::Outage, Severity::Error, name, format!("backend {name} cannot serve")).because(why)
}

/// In whole seconds, or milliseconds below one.
fn roughly(lasted: Duration) -> String {
    let whole = Duration::from_secs(lasted.as_secs());
    format_duration(if whole.is_zero() { Duration::from_millis(lasted.subsec_millis().into()) } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_over_when_haproxy_was_asked_since_it_looked_over_and_is_told_once_each_way() {
        let (chat, start) = (Name::new("chat").unwrap(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        let mut outages = Outages::default();
        let (mut told, mut reworded) = (vec![], vec![]);
        let out = |why: &str| Some(why.to_owned());
        // What was found, when HAProxy was asked last, and whether it is to be asked.
        let looks = [
            (out("refused"), 0, false),
            // A probe is well again, and HAProxy was not asked since its own check took the servers out.
            (None, 0, true),
            (None, 0, false),
            (out("down"), 3, false),
            (None, 3, true),
            (None, 5, false),
            (None, 5, false),
        ];
        for (now, (why, asked, wants_look)) in looks.into_iter().enumerate() {
            let news = outages.note(&[(&chat, why)], Some(at(asked)), at(now as u64));
            assert_eq!(news.wants_look, wants_look, "{now}");
            reworded.extend(news.reworded.into_iter().map(|event| (now, event.cause)));
            told.extend(news.events.into_iter().map(|event| (now, event.text)));
            assert_eq!(outages.of(&chat).is_some(), now < 5, "{now}");
        }
        let [(0, began), (5, over)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(began, "backend chat cannot serve");
        assert_eq!(reworded, [(3, "down".to_owned())], "its reason is that of now");
        assert!(over.starts_with("backend chat serves again, after "), "{over}");
    }

    #[test]
    fn how_long_it_lasted_is_told_in_one_unit() {
        let of = |ms| roughly(Duration::from_millis(ms));
        assert_eq!([of(0), of(772), of(8_213)], ["0ms", "772ms", "8s"]);
    }

    #[test]
    fn a_backend_that_is_no_more_is_forgotten_in_silence() {
        let (chat, now) = (Name::new("chat").unwrap(), Instant::now());
        let mut outages = Outages::default();
        outages.note(&[(&chat, Some("refused".to_owned()))], Some(now), now);
        assert!(outages.note(&[], Some(now), now).events.is_empty());
        assert!(outages.of(&chat).is_none());
    }
}
