//! The backends whose requests servers of another tier take, as they were told: each once when it begins, and once when it
//! is over.
//!
//! Pure. Kept by the loop.

use crate::event::{Event, EventKind, Severity};
use crate::model::{Name, format_duration};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The tier that serves instead, and since when.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Fallbacks(BTreeMap<Name, (u8, Instant)>);

impl Fallbacks {
    /// Takes in of each backend with several tiers the first one and the one that takes its requests, which is `None` where
    /// nobody can: then everything stays as it was told.
    pub fn note(&mut self, found: &[(&Name, u8, Option<u8>)], now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.0.retain(|name, _| found.iter().any(|(found, ..)| *found == name));
        for &(name, first, serving) in found {
            let Some(serving) = serving else { continue };
            match self.0.get(name).copied() {
                None if serving == first => {}
                Some((told, _)) if told == serving => {}
                Some((_, since)) if serving == first => {
                    let lasted = format_duration(Duration::from_secs(now.duration_since(since).as_secs().max(1)));
                    let text = format!("tier {first} takes the requests of backend {name} again, after {lasted}");
                    events.push(Event::ends(EventKind::Fallback, name, text));
                    self.0.remove(name);
                }
                told => {
                    let text = format!("tier {serving} takes the requests of backend {name}");
                    let why = format!("no server of tier {first} can");
                    let event = Event::begins(EventKind::Fallback, Severity::Warning, name, text).because(why);
                    events.push(event);
                    self.0.insert(name.clone(), (serving, told.map_or(now, |(_, since)| since)));
                }
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_is_told_once_each_way_whatever_happens_in_between() {
        let (chat, start) = (Name::new("chat").unwrap(), Instant::now());
        let mut fallbacks = Fallbacks::default();
        let mut told = Vec::new();
        for (second, serving) in
            [Some(1), Some(2), Some(2), None, Some(3), None, Some(1), Some(1)].into_iter().enumerate()
        {
            let now = start + Duration::from_secs(second as u64);
            let events = fallbacks.note(&[(&chat, 1, serving)], now);
            told.extend(events.into_iter().map(|event| format!("{second} {}", event.text)));
        }
        assert_eq!(
            told,
            [
                "1 tier 2 takes the requests of backend chat",
                "4 tier 3 takes the requests of backend chat",
                "6 tier 1 takes the requests of backend chat again, after 5s",
            ]
        );
        fallbacks.note(&[(&chat, 1, Some(2))], start);
        assert!(fallbacks.note(&[], start).is_empty());
        assert!(fallbacks.note(&[(&chat, 1, Some(1))], start).is_empty(), "forgotten with its backend");
    }
}
