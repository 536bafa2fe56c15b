//! One alert as a line of a notification: what of it is so now, and what a reader knows already.

use super::notification::Line;
use super::table::{Alert, AlertTable};
use super::topic::{Topic, Urgency};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Whether it is new to who was told this line of it.
pub(super) fn is_news(alert: &Alert, told: Option<&Line>) -> bool {
    match told {
        None => true,
        // What happens again is news; what comes back while its end is waited for is the same.
        Some(line) => !alert.lasts() && line.count != alert.count,
    }
}

/// Whether it has been back for the time after which others are over, and is kept open since it flaps.
pub(super) fn is_kept(alert: &Alert, now: Timestamp) -> bool {
    alert.is_ending()
        && alert.is_flapping()
        && alert.ended.is_some_and(|ended| now.duration_since(ended) >= AlertTable::HOLD)
}

/// What is so before what has ended; then the worst, the news, that a backend is out, and the order in which they began. What
/// has ended, or is in doubt, and was not told is left out.
pub(super) fn lines_of(alerts: &[&Alert], told: &BTreeMap<String, Line>) -> Vec<Line> {
    let line = |alert: &&Alert| Line {
        key: alert.key.clone(),
        topic: alert.topic,
        urgency: alert.urgency,
        subject: alert.subject.clone(),
        text: alert.text.clone(),
        cause: alert.cause.clone(),
        since: alert.since,
        is_over: false,
        count: alert.count,
        is_news: is_news(alert, told.get(&alert.key)),
        is_event: alert.merely_happened(),
        began: alert.began,
        ended: alert.ended.filter(|_| alert.is_ending()),
        kept_until: alert.held_until().filter(|_| alert.is_flapping()),
        over_text: alert.over_text.clone(),
    };
    let is_known = |alert: &&&Alert| alert.is_sure() || told.contains_key(&alert.key);
    let mut lines: Vec<Line> = alerts.iter().filter(is_known).map(line).collect();
    lines.sort_by_key(|line| {
        (!line.is_so(), Reverse(line.urgency), !line.is_news, line.topic != Topic::Outage, line.since)
    });
    lines
}

/// The line of something that is over.
pub(super) fn ended(line: &Line, table: &AlertTable, now: Timestamp) -> Line {
    // One that is more or less urgent by now is another matter.
    let known = table.get(&line.key).filter(|alert| alert.urgency == line.urgency);
    let (ended, over_text) = known.map(|alert| (alert.ended, alert.over_text.clone())).unwrap_or_default();
    let (count, began) = known.map_or((line.count, line.began), |alert| (alert.count, alert.began));
    Line {
        is_over: true,
        is_news: false,
        kept_until: None,
        ended: ended.or(Some(now)),
        over_text,
        count,
        began,
        ..line.clone()
    }
}

/// What carries where a server is out, and where to look.
pub(super) fn hint(line: &Line, table: &AlertTable) -> Option<String> {
    if line.topic != Topic::Server || line.urgency != Urgency::Warning || !line.is_so() {
        return None;
    }
    let pool = line.subject.split('/').next()?;
    let (serving, all) = table.serving(pool)?;
    Some(format!("{serving} of {all} servers of {pool} are well; why: `hapilot explain {}`", line.subject))
}
