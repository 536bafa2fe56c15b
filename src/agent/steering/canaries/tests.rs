//! What becomes of canaries as files and nodes change.

use super::*;
use crate::config;
use crate::event::Severity;

const FILE: &str = "[frontend.api]\nbind = [\"127.0.0.1:1\"]\n[backend.chat.server.a]\nurl = \"http://192.0.2.1\"\n\
                    [backend.chat.server.b]\nurl = \"http://192.0.2.2\"\n[canary.turbo]\nbackend = \"chat\"\nservers = [\"b\"]\n\
                    stages = [{ percent = 5, hold = \"1h\" }, { percent = 50, hold = \"1h\" }]\n";

fn config(file: &str) -> Config {
    config::parse("a.toml", file, "node").expect("a good file")
}

fn percent(canaries: &Canaries) -> f64 {
    view(canaries).percent
}

fn view(canaries: &Canaries) -> CanaryView {
    canaries.view(Moment::default(), SystemTime::now()).remove(0)
}

fn say(canaries: &mut Canaries, word: CanaryWord, today: SystemTime) -> Result<(), String> {
    canaries.say(&Name::new("turbo").expect("a name"), word, "me", Moment::default(), today)
}

const PROMOTE: CanaryWord = CanaryWord::Rollout(Word::Promote);
const ABORT: CanaryWord = CanaryWord::Rollout(Word::Abort);
const FORCE: CanaryWord = CanaryWord::Restart { force: true };

fn news(canaries: &mut Canaries) -> Vec<String> {
    canaries.take_news().into_iter().map(|event| event.text).collect()
}

/// As an older version tells it.
fn unnumbered(canaries: &Canaries) -> BTreeMap<String, CanaryNews> {
    let mut news = canaries.news_of_stages();
    news.values_mut().for_each(|news| news.rules.clear());
    news
}

fn told(content: &str, stage: Option<usize>, why: Option<&str>) -> BTreeMap<String, CanaryNews> {
    let news =
        CanaryNews { content: content.to_owned(), rules: String::new(), stage, rolled_back: why.map(str::to_owned) };
    BTreeMap::from([("turbo".to_owned(), news)])
}

#[test]
fn a_node_does_as_the_owner_does_and_a_later_life_goes_on_there() {
    let (first, today) = (config(FILE), SystemTime::now());
    let now = |seconds| Moment(Duration::from_secs(seconds));
    let mut canaries = Canaries::default();
    canaries.look(&first, now(0), today);
    assert_eq!(percent(&canaries), 5.0);
    let content = canaries.news_of_stages()["turbo"].content.clone();
    assert!(!canaries.follow(&told("another", Some(1), None), now(1), today), "of another content");
    assert!(canaries.follow(&told(&content, Some(1), None), now(2), today));
    assert_eq!((percent(&canaries), unnumbered(&canaries)), (50.0, told(&content, Some(1), None)));

    let mut later = Canaries::of(canaries.to_save(today));
    later.look(&first, now(0), today);
    assert_eq!((percent(&later), unnumbered(&later)), (50.0, told(&content, Some(1), None)));

    assert!(later.follow(&told(&content, None, Some("it failed")), now(3), today));
    assert_eq!(percent(&later), 0.0);
    assert!(!later.follow(&told(&content, None, Some("it failed")), now(4), today), "nothing is new");
    // What was rolled back waits in a later file as well; the owner's operator began it again.
    later.look(&config(&FILE.replace("[canary.turbo]", "[canary.other]")), now(5), today);
    assert_eq!(percent(&later), 0.0);
    later.look(&first, now(6), today);
    assert_eq!(percent(&later), 0.0);
    assert!(later.follow(&told(&content, Some(0), None), now(7), today));
    assert_eq!(percent(&later), 5.0);
    let news: Vec<String> = later.take_news().into_iter().map(|event| event.text).collect();
    assert!(news.iter().any(|text| text.contains("at another node: it failed")), "{news:?}");
}

#[test]
fn another_server_in_the_group_is_another_canary_and_another_weight_is_none() {
    let (first, today) = (config(FILE), SystemTime::now());
    let mut canaries = Canaries::default();
    canaries.look(&first, Moment::default(), today);
    let name = Name::new("turbo").expect("a name");
    canaries.say(&name, CanaryWord::Rollout(Word::Promote), "me", Moment::default(), today).expect("a stage");
    let weighed = FILE.replace("url = \"http://192.0.2.1\"", "url = \"http://192.0.2.1\"\nweight = 7");
    canaries.look(&config(&weighed), Moment::default(), today);
    assert_eq!(percent(&canaries), 50.0);
    news(&mut canaries);
    canaries.look(&config(&FILE.replace("192.0.2.2", "192.0.2.3")), Moment::default(), today);
    assert_eq!(percent(&canaries), 5.0);
    let told = news(&mut canaries);
    assert!(
        told[0].ends_with("it begins anew, and had 50 % of the clients") && told[1].contains("begins with 5 %"),
        "{told:?}"
    );
}

#[test]
fn what_was_begun_by_force_is_not_stopped_by_the_next_edit_nor_by_a_restart() {
    let (file, today) = (config(FILE), SystemTime::now());
    let mut canaries = Canaries::default();
    canaries.look(&file, Moment::default(), today);
    say(&mut canaries, ABORT, today).expect("back");
    assert!(say(&mut canaries, CanaryWord::Restart { force: false }, today).is_err());
    say(&mut canaries, FORCE, today).expect("it begins");
    say(&mut canaries, PROMOTE, today).expect("a stage");
    let edited = config(&FILE.replace("percent = 50, hold = \"1h\"", "percent = 50, hold = \"2h\""));
    canaries.look(&edited, Moment::default(), today);
    assert_eq!(percent(&canaries), 50.0);
    // Away and back.
    canaries.look(&config(&FILE.replace("192.0.2.2", "192.0.2.3")), Moment::default(), today);
    canaries.look(&edited, Moment::default(), today);
    assert_eq!((percent(&canaries), view(&canaries).waits), (5.0, None));
    let mut later = Canaries::of(canaries.to_save(today));
    later.look(&config(&FILE.replace("192.0.2.2", "192.0.2.3")), Moment::default(), today);
    later.look(&edited, Moment::default(), today);
    assert_eq!(view(&later).waits, None);
}

#[test]
fn other_rules_leave_a_canary_where_it_is_and_say_so() {
    let today = SystemTime::now();
    let at_50 = || {
        let mut canaries = Canaries::default();
        canaries.look(&config(FILE), Moment::default(), today);
        say(&mut canaries, PROMOTE, today).expect("a stage");
        news(&mut canaries);
        canaries
    };
    const STAGES: &str = "{ percent = 5, hold = \"1h\" }, { percent = 50, hold = \"1h\" }";
    for (stages, expected, text) in [
        (
            "{ percent = 5 }, { percent = 20 }, { percent = 50, hold = \"25s\" }",
            50.0,
            "it goes on with 50 % of the clients (stage 3 of 3)",
        ),
        (
            "{ percent = 5 }, { percent = 25 }, { percent = 100 }",
            25.0,
            "it falls from 50 % to 25 % of the clients (stage 2 of 3)",
        ),
        ("{ percent = 60 }, { percent = 100 }", 60.0, "it rises from 50 % to 60 % of the clients (stage 1 of 2)"),
    ] {
        let file = config(&FILE.replace(STAGES, stages));
        let mut canaries = at_50();
        canaries.look(&file, Moment::default(), today);
        let told = news(&mut canaries);
        assert!(percent(&canaries) == expected && told.len() == 1 && told[0].contains(text), "{told:?}");
        // The same where the file was edited while no agent ran.
        let mut later = Canaries::of(at_50().to_save(today));
        later.look(&file, Moment::default(), today);
        assert_eq!((percent(&later), news(&mut later)), (expected, told));
    }
    // What was rolled back stays blocked under other rules; what was promoted stays promoted.
    let edited = config(&FILE.replace("percent = 50, hold = \"1h\"", "percent = 50, hold = \"2h\""));
    let mut canaries = at_50();
    say(&mut canaries, ABORT, today).expect("back");
    canaries.look(&edited, Moment::default(), today);
    assert!(view(&canaries).waits.is_some_and(|why| why.contains("was rolled back")));
    let mut canaries = at_50();
    say(&mut canaries, PROMOTE, today).expect("the end");
    canaries.look(&edited, Moment::default(), today);
    assert_eq!(percent(&canaries), 100.0);
}

#[test]
fn servers_that_become_ordinary_ones_are_named_before_and_after() {
    let today = SystemTime::now();
    let without = FILE.split("[canary.turbo]").next().expect("a file");
    let mut canaries = Canaries::default();
    canaries.look(&config(FILE), Moment::default(), today);
    say(&mut canaries, ABORT, today).expect("back");
    let notes = canaries.notes_on(&config(without), today + Duration::from_secs(2));
    let note = "the canary turbo (rolled back 2 s ago): b becomes an ordinary server of chat, with its whole share of the clients";
    assert!(notes.len() == 1 && notes[0].starts_with(note), "{notes:?}");
    assert_eq!(canaries.notes_on(&config(FILE), today), [""; 0]);
    news(&mut canaries);
    canaries.look(&config(without), Moment::default(), today);
    let gone = "the canary turbo is gone from the file: b becomes an ordinary server of chat, with its whole share of the clients";
    assert_eq!(news(&mut canaries), [gone]);
    // With its servers, or with fewer of them.
    let one = without.split("[backend.chat.server.b]").next().expect("a file");
    let both = FILE
        .replace("[\"b\"]", "[\"b\", \"c\"]")
        .replace("[canary", "[backend.chat.server.c]\nurl = \"http://192.0.2.3\"\n[canary");
    for (from, to, text) in [
        (FILE, one, "is gone from the file: all clients of chat are the control group's"),
        (&both, &both.replace("[\"b\", \"c\"]", "[\"b\"]"), "has other servers: c becomes an ordinary server of chat"),
    ] {
        let mut canaries = Canaries::default();
        canaries.look(&config(from), Moment::default(), today);
        canaries.take_news();
        canaries.look(&config(to), Moment::default(), today);
        assert!(news(&mut canaries)[0].contains(text));
    }
    let mut canaries = Canaries::default();
    canaries.look(&config(FILE), Moment::default(), today);
    [PROMOTE; 2].into_iter().for_each(|word| say(&mut canaries, word, today).expect("on"));
    assert_eq!(canaries.notes_on(&config(without), today), [""; 0], "that is what to do then");
}

#[test]
fn the_number_of_a_stage_is_followed_by_the_same_rules_alone() {
    let today = SystemTime::now();
    let edited = config(&FILE.replace("{ percent = 5, hold = \"1h\" }, ", ""));
    let (mut owner, mut other) = (Canaries::default(), Canaries::default());
    owner.look(&config(FILE), Moment::default(), today);
    say(&mut owner, PROMOTE, today).expect("a stage");
    // The other has the new file first: its one stage has the number 0, and the owner speaks of 1.
    other.look(&edited, Moment::default(), today);
    assert!(!other.follow(&owner.news_of_stages(), Moment::default(), today));
    assert_eq!(percent(&other), 50.0);
    owner.look(&edited, Moment::default(), today);
    assert!(!other.follow(&owner.news_of_stages(), Moment::default(), today));
    owner.look(&config(FILE), Moment::default(), today);
    say(&mut owner, ABORT, today).expect("back");
    assert!(other.follow(&owner.news_of_stages(), Moment::default(), today), "a rollback is followed by any rules");
    assert_eq!(percent(&other), 0.0);
}

#[test]
fn who_aborts_a_canary_is_not_paged_for_it_at_any_node_and_another_name_of_a_server_evades_nothing() {
    let today = SystemTime::now();
    let (mut owner, mut other) = (Canaries::default(), Canaries::default());
    for canaries in [&mut owner, &mut other] {
        canaries.look(&config(FILE), Moment::default(), today);
        canaries.take_news();
    }
    say(&mut owner, ABORT, today).expect("back");
    assert!(other.follow(&owner.news_of_stages(), Moment::default(), today));
    for canaries in [&mut owner, &mut other] {
        let events = canaries.take_news();
        let back = events.iter().find(|event| event.text.contains("was rolled back")).expect("its event");
        assert_eq!(back.severity, Severity::Info, "{}", back.text);
    }
    let renamed = FILE.replace("server.b]", "server.renamed]").replace("[\"b\"]", "[\"renamed\"]");
    assert_ne!(renamed, FILE);
    owner.look(&config(&renamed), Moment::default(), today);
    assert_eq!(percent(&owner), 0.0);
}
