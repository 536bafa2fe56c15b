//! `events`: what happened, from the history on disk. Needs no agent.

use super::args;
use super::layout;
use super::output::{Failure, Output, Tone};
use super::target;
use crate::agent::{Place, SecretUse};
use crate::event::{Event, Severity};
use crate::store::EventReader;
use crate::sys;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;

/// A reader who follows looks this often.
const LOOK: Duration = Duration::from_millis(200);
/// The time, and the blanks behind it.
const INDENT: usize = 10;

/// `hapilot events`: the oldest first. With `--json` one object in each line.
pub(super) async fn events(place: &Place, options: &args::Events, out: Output) -> Result<(), Failure> {
    let (state, unread) = target::state(place);
    let mut reader = EventReader::new(&state);
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let since = options.since.begin(now, &zone);
    let until = options.until.map_or(Timestamp::MAX, |until| until.end(now, &zone));
    if until <= since {
        return Err(Failure::usage("--until lies before --since: nothing can have happened between"));
    }
    let mut day = String::new();
    let mut count = 0_usize;
    loop {
        let mut found = vec![];
        let read = reader.read(|event| {
            if (since..until).contains(&event.at) && is_of(&event, options) {
                found.push(event);
            }
        });
        read.map_err(|e| Failure::refused(sys::chain(&e)))?;
        count += found.len();
        let mut text = String::new();
        for event in &found {
            match out.json {
                true => text.extend([serde_json::to_string(event).unwrap_or_default().as_str(), "\n"]),
                false => text.push_str(&told(event, &mut day, &out)),
            }
        }
        if !out.print_on(&text) {
            return Ok(());
        }
        if !options.follow {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    if let (0, Some(failure)) = (count, unread) {
        return Err(failure);
    }
    if count == 0 && !out.json {
        let of = options.subject.as_ref().map(|subject| format!(" to {subject}")).unwrap_or_default();
        let span = match (options.since, options.until) {
            (args::When::Ago(length), None) => format!("within the last {}", crate::model::format_duration(length)),
            (_, None) => format!("since {}", out.with_clocks(&told_at(since))),
            (_, Some(_)) => {
                format!("from {} to {}", out.with_clocks(&told_at(since)), out.with_clocks(&told_at(until)))
            }
        };
        let meant = options.subject.as_ref().and_then(|subject| alike(place, subject));
        let meant = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        out.note(format_args!("nothing happened{of} {span}, or nobody kept it in {state}{meant}"));
    }
    Ok(())
}

/// As `Output` finds times.
fn told_at(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The backend or server that is spelt nearly so.
fn alike(place: &Place, subject: &str) -> Option<String> {
    let sources = target::load(&place.using(SecretUse::Nothing)).ok()?;
    let backends = sources.config.backends.iter().map(|backend| backend.name.to_string());
    let servers = sources.config.servers().map(|(backend, server)| format!("{}/{}", backend.name, server.name));
    let all = backends.chain(servers).map(|name| (strsim::damerau_levenshtein(&name, subject), name));
    all.filter(|(slips, _)| (1..=2).contains(slips)).min().map(|(_, name)| name)
}

/// Whether it befell the subject that is asked for, or what belongs to it: `chat` has `chat/openai-1`.
fn is_of(event: &Event, options: &args::Events) -> bool {
    let belongs = |subject: &String| {
        event.subject == *subject
            || event.subject.strip_prefix(subject.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    let is_of_kind = options.kind.is_empty() || options.kind.contains(&event.kind);
    is_of_kind
        && options.subject.as_ref().is_none_or(belongs)
        && options.severity.is_none_or(|least| event.severity >= least)
}

/// Some lines, below the day where that is another one.
fn told(event: &Event, day: &mut String, out: &Output) -> String {
    let at = event.at.to_zoned(TimeZone::system());
    let (today, time) = (at.strftime("%Y-%m-%d %Z").to_string(), at.strftime("%H:%M:%S").to_string());
    let mut lines = String::new();
    if *day != today {
        lines.push_str(&format!("{}\n", out.paint(Tone::Strong, &today)));
        *day = today;
    }
    let tone = match event.severity {
        Severity::Info => Tone::Plain,
        Severity::Warning => Tone::Warn,
        Severity::Error => Tone::Bad,
    };
    // Most texts name whom they are about.
    let whom = if event.text.contains(&event.subject) { String::new() } else { format!("{}: ", event.subject) };
    let because = if event.cause.is_empty() { String::new() } else { format!("\nbecause {}", event.cause) };
    for (number, line) in format!("{whom}{}{because}", event.text.trim_end()).lines().enumerate() {
        let head = if number == 0 { out.paint(Tone::Dim, &time) } else { " ".repeat(time.len()) };
        let wrapped = layout::wrap(line, out.width.saturating_sub(INDENT), 0);
        for (part, piece) in wrapped.lines().enumerate() {
            let head = if part == 0 { head.clone() } else { " ".repeat(time.len()) };
            lines.push_str(&format!("{head}  {}\n", out.paint(tone, piece)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Color;
    use crate::event::EventKind;

    #[test]
    fn a_backend_has_the_events_of_its_servers_and_nobody_elses() {
        let of = |subject: &str, wanted: &str| {
            let options = args::Events {
                since: args::When::Ago(Duration::ZERO),
                until: None,
                kind: vec![EventKind::Weight, EventKind::Health],
                subject: Some(wanted.to_owned()),
                severity: Some(Severity::Warning),
                follow: false,
            };
            is_of(&Event::once(EventKind::Health, Severity::Error, subject, "x"), &options)
        };
        assert!(of("chat/a", "chat/a") && of("chat/a", "chat") && of("chat", "chat"));
        assert!(!of("chat2/a", "chat") && !of("chat", "chat/a") && !of("chat/ab", "chat/a"));
    }

    #[test]
    fn lines_fit_and_a_day_is_told_once() {
        let out = Output { width: 40, ..Output::new(false, Color::Never) };
        let event =
            Event::once(EventKind::Health, Severity::Error, "chat/a", "a text that needs two lines at least, or three")
                .because("b refused")
                .at(Timestamp::from_second(1_700_000_000).unwrap());
        let mut day = String::new();
        let (first, second) = (told(&event, &mut day, &out), told(&event, &mut day, &out));
        assert!(first.lines().all(|line| line.chars().count() <= 40), "{first}");
        assert_eq!(first.lines().count(), second.lines().count() + 1);
        assert!(second.contains("chat/a: a text") && second.contains("\n          because b refused\n"), "{second}");
    }
}
