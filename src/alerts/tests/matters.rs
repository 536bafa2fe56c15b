//! Which matters are one and which are another, and what is true of them when it is told.

use super::*;

fn haproxy_is_gone() -> Event {
    Event::begins(EventKind::Haproxy, Severity::Error, "haproxy", "HAProxy is gone")
}

fn haproxy_is_back() -> Event {
    Event::ends(EventKind::Haproxy, "haproxy", "HAProxy follows again")
}

fn rollback(number: u32) -> Event {
    let text = format!("revision {number} was not confirmed; rolling back to revision 1");
    Event::once(EventKind::Trial, Severity::Warning, "file", text).about("rollback")
}

#[test]
fn an_operators_own_word_is_no_page_and_a_rollback_after_it_rings() {
    let rolled_back = |severity, why: &str| {
        let text = format!("the canary turbo was rolled back: {why}");
        Event::once(EventKind::Canary, severity, "turbo", text).about("rollback")
    };
    let urgency = |event: &Event| classify(event)[0].urgency;
    let aborted = rolled_back(Severity::Info, "an operator aborted it").because("root said so");
    assert_eq!(urgency(&aborted), Urgency::Info);
    let rolled_back = |why| rolled_back(Severity::Error, why);
    assert_eq!(urgency(&rolled_back("12 % of its requests fail")), Urgency::Page);
    let mut life = Life::new();
    life.rules.selection = Selection::of(["page", "warning", "info"]);
    life.event(aborted);
    life.until(755);
    life.event(rolled_back("12 % of its requests fail"));
    life.until(1_000);
    let page = life.told.iter().find(|(_, told)| told.urgency == Urgency::Page).map(|(at, told)| (*at, told.clone()));
    let (at, page) = page.unwrap();
    assert_eq!((at, page.change, page.lines.len(), page.lines[0].count), (790, Change::Trigger, 1, 1));
    assert_eq!(page.since.as_second(), START + 755);
}

#[test]
fn each_rollback_rings_with_a_key_of_its_own() {
    let mut life = Life::new();
    life.event(Event::once(EventKind::Trial, Severity::Info, "file", "revision 2 is on trial"));
    life.until(600);
    for number in 2..5 {
        life.event(rollback(number));
        life.until(life.now + 1_200);
    }
    assert_eq!(life.changes().iter().map(|(_, change, _)| *change).collect::<Vec<_>>(), [Change::Trigger; 3]);
    let keys: std::collections::BTreeSet<_> = life.told.iter().map(|(_, told)| told.dedup.as_str()).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    for (at, told) in &life.told {
        let line = &told.lines[0];
        assert_eq!((told.lines.len(), line.count, told.scope.as_str()), (1, 1, "rollback"));
        assert!(told.since.as_second() >= START + at - 40, "its time is its own");
    }
    // One that is tried again and again is one matter.
    for _ in 0..60 {
        life.event(rollback(9));
        life.until(life.now + 10);
    }
    let keys: std::collections::BTreeSet<_> = life.told.iter().map(|(_, told)| told.dedup.as_str()).collect();
    assert_eq!(keys.len(), 4, "{:?}", life.changes());
    // Read again after a death, it is none.
    let known = life.table.all().count();
    let again = rollback(9).at(life.told[2].1.since);
    life.table.take(&again, true);
    assert_eq!(life.table.all().count(), known);
    // And all are over.
    life.until(life.now + 5 * 3_600);
    assert_eq!(life.book.open(), 0);
}

#[test]
fn a_page_is_not_hidden_in_a_warning_or_in_another_page() {
    let mut life = Life::new();
    life.event(Event::once(EventKind::Haproxy, Severity::Warning, "haproxy", "another worker serves"));
    life.until(20);
    life.event(haproxy_is_gone());
    life.until(100);
    let page = life.told.iter().find(|(_, told)| told.urgency == Urgency::Page).map(|(_, told)| told.clone()).unwrap();
    assert_eq!((page.since.as_second(), page.lines[0].count), (START + 20, 1));
    // Of one backend: the second page rings, the warnings are news.
    let mut life = Life::new();
    life.event(outage());
    life.until(100);
    let key = Event::begins(EventKind::Key, Severity::Warning, "chat/a", "key k1 is rejected").about("k1");
    life.event(key);
    life.until(200);
    let told: Vec<_> = life.told.iter().map(|(_, told)| (told.change, told.dedup.as_str())).collect();
    let wanted =
        [(Change::Trigger, "hapilot/lb1+lb2/page/all/chat"), (Change::Trigger, "hapilot/lb1+lb2/page/all/chat#2")];
    assert_eq!(told, wanted);
    assert_eq!(life.told[1].1.scope, "chat");
    // Each is over for itself.
    life.event(Event::ends(EventKind::Outage, "chat", "backend chat serves again"));
    life.until(400);
    life.event(Event::ends(EventKind::Key, "chat/a", "key k1 works").about("k1"));
    life.until(600);
    let told: Vec<_> = life.told[2..].iter().map(|(_, told)| (told.change, told.dedup.as_str())).collect();
    assert_eq!(told, wanted.map(|(_, dedup)| (Change::Resolve, dedup)));
    assert_eq!(life.told[2].1.headline(), "backend chat serves again");
}

#[test]
fn what_is_well_is_not_told_to_be_out_and_the_headline_is_what_is_new() {
    let mut life = Life::new();
    life.rules.refresh = Some(Duration::from_secs(60));
    life.table.know_pools([("chat".to_owned(), 4)].into());
    // All four flap, and are kept open for it.
    for _ in 0..2 {
        for server in ["chat/a", "chat/b", "chat/c", "chat/d"] {
            life.event(out(server));
        }
        life.until(life.now + 60);
        for server in ["chat/a", "chat/b", "chat/c", "chat/d"] {
            life.event(back(server));
        }
        life.until(life.now + 100);
    }
    life.until(600);
    let began = life.now;
    life.event(out("chat/e"));
    life.until(700);
    let (_, news) = life.told.iter().rev().find(|(_, told)| told.change == Change::Update).unwrap();
    assert_eq!(news.headline(), "chat/e is out");
    assert_eq!(news.lines[0].began.map(Timestamp::as_second), Some(START + began));
    assert_eq!(news.hint, "3 of 4 servers of chat are well; why: `hapilot explain chat/e`");
    for told in life.told.iter().filter(|(at, _)| *at > began).flat_map(|(_, told)| &told.lines) {
        let is_well = told.subject != "chat/e";
        assert_eq!(
            (told.words().ends_with("is well again"), told.kept().contains("because it flaps")),
            (is_well, is_well)
        );
    }
    // One of them is out again: that is so now, since then.
    life.event(out("chat/b"));
    life.until(800);
    let (_, last) = life.told.last().unwrap();
    let so: Vec<_> = last.lines.iter().filter(|line| line.is_so()).map(|line| line.subject.as_str()).collect();
    assert_eq!(so, ["chat/b", "chat/e"]);
}

#[test]
fn what_was_never_told_does_not_flap_and_a_page_that_does_says_once_that_it_is_back() {
    let mut life = Life::new();
    // The first start of HAProxy.
    life.event(haproxy_is_gone());
    life.until(10);
    life.event(haproxy_is_back());
    life.until(1_000);
    assert_eq!(life.changes(), []);
    life.event(haproxy_is_gone());
    life.until(1_040);
    life.event(haproxy_is_back());
    life.until(1_200);
    assert_eq!(life.changes(), [(1_035, Change::Trigger, "haproxy"), (1_100, Change::Resolve, "haproxy")]);
    // Now it flaps: it is kept open, and that it is back is told.
    life.event(haproxy_is_gone());
    life.until(1_240);
    life.event(haproxy_is_back());
    life.until(2_000);
    assert_eq!(life.changes()[2..], [(1_235, Change::Trigger, "haproxy"), (1_300, Change::Update, "haproxy")]);
    let headline = life.told[3].1.headline();
    assert!(
        headline.starts_with("HAProxy follows again since ") && headline.ends_with("because it flaps"),
        "{headline}"
    );
    // That it is gone again is told once as well, at once; then it is quiet until it is over.
    life.event(haproxy_is_gone());
    life.until(2_010);
    assert_eq!(life.changes()[4..], [(2_005, Change::Update, "haproxy")]);
    assert_eq!(life.told[4].1.headline(), "HAProxy is gone");
    for _ in 0..20 {
        life.event(haproxy_is_back());
        life.until(life.now + 120);
        life.event(haproxy_is_gone());
        life.until(life.now + 120);
    }
    life.event(haproxy_is_back());
    life.until(life.now + 7 * 3_600);
    assert_eq!(life.changes()[5..].iter().map(|(_, change, _)| *change).collect::<Vec<_>>(), [Change::Resolve]);
}

#[test]
fn of_a_dead_pool_the_outage_is_the_headline() {
    let mut life = Life::new();
    let text = "less than half of chat's capacity is left: all its servers take requests again";
    life.event(Event::begins(EventKind::Guard, Severity::Warning, "chat", text).about("fail_open"));
    life.until(10);
    life.event(outage());
    life.until(100);
    assert_eq!(life.told.len(), 1);
    assert_eq!(life.told[0].1.headline(), "backend chat cannot serve (and 1 more)");
}

#[test]
fn a_new_sink_is_told_what_lasts_and_not_what_happened_before_it() {
    let mut life = Life::new();
    life.rules.selection = Selection::of(["page", "warning", "info"]);
    life.event(rollback(2));
    life.event(Event::once(EventKind::Client, Severity::Info, "client/acme", "client acme was added"));
    life.event(out("chat/a"));
    life.event(out("chat/b"));
    life.until(660);
    life.event(back("chat/b"));
    life.book = SinkBook::begin(life.at());
    life.told.clear();
    life.until(1_000);
    assert_eq!(life.changes(), [(695, Change::Trigger, "chat")]);
    assert_eq!(life.told[0].1.lines.len(), 1, "what is over already is left out");
    life.event(rollback(3));
    life.until(1_100);
    assert_eq!(life.changes()[1..], [(1_035, Change::Trigger, "rollback")]);
}

#[test]
fn what_an_agent_tells_at_each_start_rings_once() {
    let mut life = Life::new();
    let expired = || Event::once(EventKind::Certificate, Severity::Error, "/a.pem", "it has expired").about("expiry");
    for _ in 0..3 {
        life.event(Event::begins(EventKind::Agent, Severity::Info, "agent", "hapilot runs"));
        life.until(life.now + 10);
        life.event(expired());
        life.until(life.now + 1_200);
    }
    assert_eq!(life.changes(), [(45, Change::Trigger, "certificates")]);
    assert_eq!(life.told[0].1.lines[0].count, 1);
}

#[test]
fn what_somebody_saw_before_the_agent_ran_is_told_only_if_the_agent_sees_it_too() {
    let before = || {
        let mut life = Life::new();
        // A command, or an agent that was killed before it told.
        life.event(haproxy_is_gone());
        life.event(outage());
        life.until(20);
        life.event(Event::begins(EventKind::Agent, Severity::Info, "agent", "hapilot runs"));
        life.until(25);
        life
    };
    let mut life = before();
    life.until(2_000);
    assert_eq!(life.changes(), [], "neither is so any more");
    let mut life = before();
    life.event(outage());
    life.until(2_000);
    assert_eq!(life.changes(), [(35, Change::Trigger, "chat")]);
    assert_eq!(life.told[0].1.lines.len(), 1);
    assert_eq!(life.told[0].1.since.as_second(), START, "it has been so since the first look");
}

#[test]
fn what_is_open_is_listed_with_why() {
    let mut life = Life::new();
    life.event(out("chat/a"));
    life.event(rollback(2));
    life.until(60);
    life.event(back("chat/a"));
    life.until(65);
    let matters = life.book.open_matters(&life.table);
    assert_eq!(matters.len(), 2, "{matters:?}");
    assert!(matters[0].ends_with(", at 2023-11-14T22:13:20Z, open until 2023-11-15T02:13:20Z"), "{matters:?}");
    assert_eq!(matters[1], "chat/a is well again since 2023-11-14T22:14:20Z, over when that has held for a minute");
    life.event(out("chat/b"));
    life.until(150);
    let matters = life.book.open_matters(&life.table);
    assert_eq!(matters.len(), 1, "what is over is not open, though what is told with it is: {matters:?}");
}

#[test]
fn what_comes_and_goes_beside_what_was_told_is_not_told() {
    let mut life = Life::new();
    life.event(out("chat/a"));
    life.until(200);
    life.event(out("chat/b"));
    life.until(220);
    life.event(back("chat/a"));
    life.event(back("chat/b"));
    life.until(1_000);
    assert_eq!(life.changes(), [(35, Change::Trigger, "chat"), (280, Change::Resolve, "chat")]);
    assert_eq!(life.told[1].1.headline(), "chat/a is well again");
}
