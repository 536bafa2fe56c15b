//! Whole lives of alerts, second by second.

mod matters;
mod nodes;

use super::*;
use crate::event::{Event, EventKind, Severity};
use jiff::Timestamp;
use std::time::Duration;

/// A node with one sink, whose clock stands where it is put.
struct Life {
    table: AlertTable,
    book: SinkBook,
    rules: SinkRules,
    who: Identity,
    now: i64,
    told: Vec<(i64, Notification)>,
}

const START: i64 = 1_700_000_000;
/// Between two looks.
const LOOK: i64 = 5;

impl Life {
    fn new() -> Self {
        let rules = SinkRules {
            name: "team".into(),
            selection: Selection::default(),
            group: Duration::from_secs(30),
            update: Duration::from_secs(300),
            repeat: Duration::from_secs(4 * 3600),
            refresh: None,
            wants_changes: false,
        };
        let who =
            Identity { node: "lb1".into(), cluster: "lb1+lb2".into(), speaks: true, elsewhere: Elsewhere::default() };
        Self { table: AlertTable::default(), book: SinkBook::default(), rules, who, now: 0, told: vec![] }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(START + self.now).unwrap()
    }

    fn event(&mut self, event: Event) {
        let event = event.at(self.at());
        self.table.take(&event, false);
    }

    /// Looks until then, and takes what is told.
    fn until(&mut self, second: i64) {
        while self.now < second {
            self.now += LOOK;
            self.look();
        }
    }

    fn look(&mut self) {
        let at = self.at();
        self.table.look(at);
        self.book.look(&self.table, &self.rules, &self.who, at);
        self.table.note_told(self.book.told());
        while let Some(first) = self.book.queue.first().cloned() {
            self.book.queue.done(&first.id);
            self.told.push((self.now, first));
        }
    }

    fn changes(&self) -> Vec<(i64, Change, &str)> {
        self.told.iter().map(|(at, told)| (*at, told.change, told.scope.as_str())).collect()
    }
}

fn out(server: &str) -> Event {
    Event::begins(EventKind::Health, Severity::Warning, server, format!("{server} is out")).because("refused")
}

fn back(server: &str) -> Event {
    Event::ends(EventKind::Health, server, format!("{server} is back"))
}

fn outage() -> Event {
    Event::begins(EventKind::Outage, Severity::Error, "chat", "backend chat cannot serve")
}

#[test]
fn what_begins_together_is_told_together_and_its_end_when_it_has_held() {
    let mut life = Life::new();
    life.event(out("chat/a"));
    life.until(20);
    life.event(out("chat/b"));
    life.until(100);
    assert_eq!(life.changes(), [(35, Change::Trigger, "chat")]);
    let (_, first) = &life.told[0];
    assert_eq!(
        (first.lines.len(), first.urgency, first.dedup.as_str()),
        (2, Urgency::Warning, "hapilot/lb1+lb2/warning/all/chat")
    );
    assert_eq!(first.headline(), "chat/a is out (and 1 more)");
    life.event(back("chat/a"));
    life.until(200);
    life.event(back("chat/b"));
    life.until(250);
    assert_eq!(life.told.len(), 1, "no update within five minutes, and no end within a minute");
    life.until(400);
    assert_eq!(life.changes()[1..], [(260, Change::Resolve, "chat")]);
    let (_, last) = &life.told[1];
    assert_eq!((last.lines.len(), last.lines[0].is_over, &last.dedup), (2, true, &life.told[0].1.dedup));
    assert_ne!(last.id, life.told[0].1.id);
}

#[test]
fn who_does_not_speak_any_more_tells_no_end_and_who_speaks_does() {
    let (mut first, mut second) = (Life::new(), Life::new());
    second.who = Identity { node: "lb2".into(), speaks: false, ..second.who };
    for life in [&mut first, &mut second] {
        life.event(outage());
        life.until(200);
    }
    assert_eq!((first.told.len(), second.told.len()), (1, 0));
    // The address moves while it lasts.
    (first.who.speaks, second.who.speaks) = (false, true);
    for life in [&mut first, &mut second] {
        life.until(400);
        life.event(Event::ends(EventKind::Outage, "chat", "backend chat can serve again"));
        life.until(800);
    }
    assert_eq!(first.told.len(), 1, "{:?}", first.changes());
    let told = second.changes();
    assert_eq!(told.iter().filter(|(_, change, _)| *change == Change::Resolve).count(), 1, "{told:?}");
    assert_eq!(first.told[0].1.dedup, second.told[0].1.dedup);
}

#[test]
fn a_page_and_a_warning_of_one_backend_are_two_matters() {
    let mut life = Life::new();
    life.event(out("chat/a"));
    life.event(outage());
    life.until(100);
    let told: Vec<_> = life.told.iter().map(|(_, told)| (told.urgency, told.dedup.as_str())).collect();
    let wanted =
        [(Urgency::Page, "hapilot/lb1+lb2/page/all/chat"), (Urgency::Warning, "hapilot/lb1+lb2/warning/all/chat")];
    assert_eq!(told, wanted);
}

#[test]
fn what_is_over_before_it_is_told_is_not_told() {
    let mut life = Life::new();
    life.event(outage());
    life.until(10);
    life.event(Event::ends(EventKind::Outage, "chat", "backend chat serves again"));
    life.until(1_000);
    assert_eq!(life.changes(), []);
    // What has happened and does not last is told, and is over in silence after hours.
    life.event(Event::once(EventKind::Trial, Severity::Warning, "file", "rolling back to revision 3"));
    life.until(1_000 + 5 * 3600);
    assert_eq!(life.changes(), [(1_035, Change::Trigger, "rollback"), (15_400, Change::Expire, "rollback")]);
}

#[test]
fn a_day_of_flapping_is_three_notifications_at_the_most() {
    for (down, up) in [(5, 5), (30, 30), (60, 60), (60, 300), (300, 60), (600, 600), (30, 1_700), (1_700, 30)] {
        let mut life = Life::new();
        while life.now < 86_400 {
            life.event(out("chat/a"));
            life.until(life.now + down);
            life.event(back("chat/a"));
            life.until(life.now + up);
        }
        assert!((1..=3).contains(&life.told.len()), "{down} {up}: {:?}", life.changes());
        // It is quiet, and its end is told.
        life.until(life.now + 13 * 3600);
        assert_eq!(life.told.last().map(|(_, last)| last.change), Some(Change::Resolve), "{down} {up}");
        assert_eq!(life.book.open(), 0);
    }
}

#[test]
fn what_lasts_is_told_again_after_four_hours_and_what_comes_to_it_after_five_minutes() {
    let mut life = Life::new();
    life.event(out("chat/a"));
    life.until(60);
    life.event(out("chat/b"));
    life.until(9 * 3600);
    let wanted = [
        (35, Change::Trigger, "chat"),
        (335, Change::Update, "chat"),
        (14_735, Change::Repeat, "chat"),
        (29_135, Change::Repeat, "chat"),
    ];
    assert_eq!(life.changes(), wanted);
}

#[test]
fn what_an_agent_told_is_resolved_by_the_next_one_that_does_not_see_it() {
    let mut life = Life::new();
    life.event(outage());
    life.event(out("chat/a"));
    life.until(60);
    let kept = (serde_json::to_string(&life.table).unwrap(), serde_json::to_string(&life.book).unwrap());
    life.table = serde_json::from_str(&kept.0).unwrap();
    life.book = serde_json::from_str(&kept.1).unwrap();
    life.event(Event::begins(EventKind::Agent, Severity::Info, "agent", "hapilot runs"));
    life.until(100);
    life.event(out("chat/a"));
    life.until(1_000);
    assert_eq!(life.changes()[2..], [(420, Change::Resolve, "chat")], "the outage; the server is told to be out still");
    assert_eq!(life.told[2].1.dedup, life.told[0].1.dedup);
    assert_eq!(life.book.open(), 1);
}

#[test]
fn events_that_are_read_again_after_a_death_count_once() {
    let mut life = Life::new();
    let refused = Event::once(EventKind::Refused, Severity::Warning, "rollback", "refused");
    let events: Vec<Event> = [outage(), refused].into_iter().map(|event| event.at(life.at())).collect();
    for _ in 0..3 {
        events.iter().for_each(|event| life.table.take(event, true));
    }
    assert_eq!(life.table.get("refused/rollback").map(|alert| alert.count), Some(1));
    let unread_from = life.table.unread_from().unwrap();
    assert!(unread_from < life.at());
}

#[test]
fn of_two_nodes_one_tells_and_the_other_goes_on_when_it_takes_over() {
    let (mut owner, mut other) = (Life::new(), Life::new());
    other.who = Identity { node: "lb2".into(), speaks: false, ..other.who };
    let both = |owner: &mut Life, other: &mut Life, event: Event| {
        owner.event(event.clone());
        other.event(event);
    };
    both(&mut owner, &mut other, out("chat/a"));
    // What is the other's own it tells by itself.
    other.event(Event::begins(EventKind::Haproxy, Severity::Error, "haproxy", "HAProxy is gone"));
    owner.until(600);
    other.until(600);
    assert_eq!(owner.changes(), [(35, Change::Trigger, "chat")]);
    assert_eq!(other.changes(), [(35, Change::Trigger, "haproxy")]);
    assert_eq!(other.told[0].1.dedup, "hapilot/lb2/page/node/haproxy");
    // The owner dies just after another backend goes down.
    both(
        &mut owner,
        &mut other,
        Event::begins(EventKind::Outage, Severity::Error, "embed", "backend embed cannot serve"),
    );
    other.until(700);
    other.who.speaks = true;
    other.until(800);
    assert_eq!(other.changes()[1..], [(705, Change::Trigger, "embed")], "what was told long ago is not told again");
    other.event(back("chat/a"));
    other.until(900);
    assert_eq!(other.changes()[2..], [(860, Change::Resolve, "chat")]);
    assert_eq!(other.told[2].1.dedup, owner.told[0].1.dedup);
}

#[test]
fn a_storm_is_bounded_and_nothing_of_it_is_lost() {
    let mut life = Life::new();
    for number in 0..200 {
        life.event(out(&format!("b{number}/a")));
    }
    life.until(60);
    assert_eq!(life.told.len(), 20);
    life.until(7_000);
    let scopes: std::collections::BTreeSet<&str> = life.told.iter().map(|(_, told)| told.scope.as_str()).collect();
    assert_eq!(scopes.len(), 200);
    // A page is not held up by them.
    let mut life = Life::new();
    for number in 0..50 {
        life.event(out(&format!("b{number}/a")));
    }
    life.until(60);
    life.event(outage());
    life.until(100);
    assert_eq!(life.told.last().map(|(_, told)| told.urgency), Some(Urgency::Page));
}

#[test]
fn a_sink_that_is_down_keeps_a_thousand_and_the_ends() {
    let mut life = Life::new();
    life.event(outage());
    life.now += 5;
    let template = {
        life.until(60);
        life.told[0].1.clone()
    };
    let mut queue = Queue::default();
    for number in 0..3_000_i64 {
        let urgency = if number % 3 == 0 { Urgency::Info } else { Urgency::Warning };
        let change = if number % 10 == 0 { Change::Resolve } else { Change::Trigger };
        queue.push(Notification {
            id: number.to_string(),
            dedup: number.to_string(),
            change,
            urgency,
            ..template.clone()
        });
    }
    assert_eq!((queue.len(), queue.dropped), (MAX_WAITING, 2_000));
    assert_eq!(queue.first().map(|first| first.id.as_str()), Some("0"), "it may be under way");
    assert_eq!(queue.iter().filter(|one| one.change == Change::Resolve).count(), 300);
    assert!(queue.iter().all(|one| one.urgency != Urgency::Info || one.change == Change::Resolve));
    // An update takes the place of the one before, which nobody has seen.
    let mut queue = Queue::default();
    for change in [Change::Trigger, Change::Update, Change::Update, Change::Repeat, Change::Resolve] {
        queue.push(Notification { id: format!("{change:?}"), change, ..template.clone() });
    }
    assert_eq!(queue.iter().map(|one| one.change).collect::<Vec<_>>(), [Change::Trigger, Change::Resolve]);
}

#[test]
fn a_haproxy_that_cannot_be_steered_is_a_page_after_five_minutes() {
    let mut life = Life::new();
    life.event(Event::begins(EventKind::Haproxy, Severity::Warning, "haproxy", "HAProxy does not follow"));
    life.until(600);
    assert_eq!(life.changes(), [(35, Change::Trigger, "haproxy"), (330, Change::Trigger, "agent")]);
    assert_eq!(life.told[1].1.urgency, Urgency::Page);
    life.event(Event::ends(EventKind::Haproxy, "haproxy", "HAProxy follows again"));
    life.until(1_000);
    let mut over: Vec<_> = life.changes()[2..].iter().map(|(_, change, scope)| (*change, *scope)).collect();
    over.sort_by_key(|(_, scope)| scope.len());
    assert_eq!(over, [(Change::Resolve, "agent"), (Change::Resolve, "haproxy")]);
}

#[test]
fn the_symptom_says_how_urgent_it_is() {
    let once = |kind, severity, subject: &str| Event::once(kind, severity, subject, "x");
    let cases = [
        (
            Event::begins(EventKind::Guard, Severity::Warning, "chat", "x").about("fail_open"),
            Some((Topic::PoolPanic, Urgency::Page)),
        ),
        (
            Event::begins(EventKind::Guard, Severity::Warning, "chat", "x").about("keep_half"),
            Some((Topic::Guard, Urgency::Warning)),
        ),
        (outage(), Some((Topic::Outage, Urgency::Page))),
        (out("chat/a"), Some((Topic::Server, Urgency::Warning))),
        (once(EventKind::Trial, Severity::Warning, "file"), Some((Topic::Rollback, Urgency::Page))),
        (once(EventKind::Trial, Severity::Info, "file"), Some((Topic::Change, Urgency::Info))),
        (once(EventKind::Refused, Severity::Warning, "rollback"), Some((Topic::Rollback, Urgency::Page))),
        (once(EventKind::Refused, Severity::Error, "file"), Some((Topic::Change, Urgency::Warning))),
        (once(EventKind::Vip, Severity::Warning, "node").about("haproxy_lost"), Some((Topic::Vip, Urgency::Page))),
        (once(EventKind::Vip, Severity::Warning, "public").about("two_masters"), Some((Topic::Vip, Urgency::Page))),
        (
            Event::begins(EventKind::Key, Severity::Warning, "chat/a", "x").about("k1"),
            Some((Topic::Credential, Urgency::Page)),
        ),
        (once(EventKind::Key, Severity::Info, "chat/a").about("k1"), None),
        (once(EventKind::Budget, Severity::Warning, "client/acme").about("1.0"), Some((Topic::Budget, Urgency::Page))),
        (
            once(EventKind::Budget, Severity::Warning, "client/acme").about("0.800"),
            Some((Topic::Budget, Urgency::Warning)),
        ),
        (
            once(EventKind::Certificate, Severity::Error, "/a.pem").about("expiry"),
            Some((Topic::Certificate, Urgency::Page)),
        ),
        (once(EventKind::Canary, Severity::Warning, "turbo"), Some((Topic::Canary, Urgency::Warning))),
        (
            Event::begins(EventKind::Rule, Severity::Error, "chat", "x").about("slow"),
            Some((Topic::Rule, Urgency::Page)),
        ),
        (once(EventKind::Weight, Severity::Info, "chat/a"), None),
    ];
    for (event, wanted) in cases {
        let found = classify(&event).first().map(|finding| (finding.topic, finding.urgency));
        assert_eq!(found, wanted, "{event:?}");
    }
    let lost = classify(&once(EventKind::Vip, Severity::Warning, "node").about("haproxy_lost"));
    let found = classify(&once(EventKind::Vip, Severity::Info, "node").about("haproxy_back"));
    assert_eq!(lost[0].key, found[0].key);
}

#[test]
fn who_cannot_be_reached_is_not_told_so_and_others_are() {
    let mut life = Life::new();
    let trouble = |name: &str| {
        Event::begins(EventKind::Problem, Severity::Warning, format!("alert/{name}"), "x").about("delivery")
    };
    life.event(trouble("team"));
    life.until(100);
    assert_eq!(life.changes(), []);
    life.event(trouble("mail"));
    life.until(200);
    assert_eq!(life.changes().len(), 1);
}

#[test]
fn a_sink_that_forgets_is_told_what_lasts_and_one_that_asks_learns_of_revisions() {
    let mut life = Life::new();
    life.rules.refresh = Some(Duration::from_secs(60));
    life.rules.wants_changes = true;
    life.event(outage());
    life.until(300);
    let changes: Vec<_> = life.told.iter().map(|(_, told)| told.change).collect();
    assert_eq!(changes, [Change::Trigger, Change::Refresh, Change::Refresh, Change::Refresh, Change::Refresh]);
    let event = Event::once(EventKind::Revision, Severity::Info, "file", "revision 7 serves").at(life.at());
    life.book.applied(&event, &life.rules, &life.who);
    let applied = life.book.queue.first().unwrap();
    assert_eq!((applied.change, applied.headline().as_str()), (Change::Applied, "revision 7 serves"));
    let named = Event::once(EventKind::Revision, Severity::Info, "file", "revision 7 is called good").about("name");
    life.book.applied(&named.at(life.at()), &life.rules, &life.who);
    assert_eq!(life.book.queue.len(), 1, "a name is no other revision");
}

#[test]
fn what_happens_beside_what_lasts_changes_nothing_of_it() {
    let mut life = Life::new();
    life.event(Event::begins(EventKind::Haproxy, Severity::Error, "haproxy", "HAProxy is gone"));
    life.until(40);
    life.event(Event::once(EventKind::Haproxy, Severity::Warning, "haproxy", "another worker serves"));
    life.event(Event::ends(EventKind::Haproxy, "haproxy", "HAProxy follows again"));
    life.until(200);
    assert_eq!(life.changes(), [(35, Change::Trigger, "haproxy"), (100, Change::Resolve, "haproxy")]);
    // A rollback stays one when the next revision is on trial.
    life.event(Event::once(EventKind::Trial, Severity::Warning, "file", "rolling back"));
    life.until(300);
    life.event(Event::once(EventKind::Trial, Severity::Info, "file", "revision 8 is on trial"));
    life.until(1_000);
    assert_eq!(life.changes()[2..], [(235, Change::Trigger, "rollback")]);
}

#[test]
fn a_page_that_becomes_a_warning_is_over_as_a_page() {
    let mut life = Life::new();
    life.event(Event::begins(EventKind::Haproxy, Severity::Error, "haproxy", "HAProxy is gone"));
    life.until(60);
    life.event(Event::begins(EventKind::Haproxy, Severity::Warning, "haproxy", "HAProxy does not follow"));
    life.until(120);
    let told: Vec<_> = life.told.iter().map(|(at, told)| (*at, told.change, told.urgency)).collect();
    let wanted = [
        (35, Change::Trigger, Urgency::Page),
        (65, Change::Resolve, Urgency::Page),
        (95, Change::Trigger, Urgency::Warning),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn an_agent_that_starts_doubts_what_it_tells_again_and_nothing_else() {
    let mut life = Life::new();
    let vip = |matter: &str, text: &str| Event::once(EventKind::Vip, Severity::Warning, "node", text).about(matter);
    life.event(vip("peer_lost", "lb2 is silent"));
    life.event(vip("peer_lost", "lb3 is silent"));
    life.event(vip("keepalived_lost", "Keepalived ended"));
    life.until(60);
    life.event(Event::begins(EventKind::Agent, Severity::Info, "agent", "hapilot runs"));
    life.event(vip("peer_heard", "lb3 is heard"));
    life.until(1_000);
    assert_eq!(life.changes().len(), 2, "{:?}", life.changes());
    let (_, update) = &life.told[1];
    let over: Vec<_> = update.lines.iter().filter(|line| line.is_over).map(|line| line.text.as_str()).collect();
    assert_eq!((update.change, over), (Change::Update, vec!["lb3 is silent"]));
}

#[test]
fn an_end_that_the_owner_did_not_live_to_tell_is_told_by_who_takes_over() {
    let mut other = Life::new();
    other.who = Identity { node: "lb2".into(), speaks: false, ..other.who };
    other.event(outage());
    other.until(600);
    // The owner is silent from here on, and is waited for.
    other.event(Event::ends(EventKind::Outage, "chat", "backend chat serves again"));
    other.until(690);
    assert_eq!(other.changes(), []);
    other.who.speaks = true;
    other.until(700);
    assert_eq!(other.changes(), [(695, Change::Resolve, "chat")]);
    assert_eq!(other.told[0].1.dedup, "hapilot/lb1+lb2/page/all/chat");
    // What was over long before is the owner's affair, and told.
    let mut other = Life::new();
    other.who.speaks = false;
    other.event(outage());
    other.until(600);
    other.event(Event::ends(EventKind::Outage, "chat", "backend chat serves again"));
    other.until(1_000);
    other.who.speaks = true;
    other.until(1_100);
    assert_eq!(other.changes(), []);
}
