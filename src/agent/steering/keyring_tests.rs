//! Keys of a real file: adopted, renewed, moved, shared.

use crate::agent::sources::place::{Place, Sources};
use crate::agent::sources::unread::SecretUse;
use crate::fleet::{Keyring, Learnt};
use crate::health::{Observation, Outcome, ProbeKind};
use crate::model::{Moment, Name, Secret, ServerId};
use crate::traffic::KeyWords;
use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;

struct Scene {
    _held: tempfile::TempDir,
    dir: Utf8PathBuf,
}

impl Scene {
    fn new() -> Self {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap().to_owned();
        let scene = Self { _held: held, dir };
        ["a", "b", "c"].iter().for_each(|name| scene.write(name, &format!("sk-{name}")));
        scene
    }

    fn write(&self, name: &str, key: &str) {
        crate::sys::files::replace_file(&self.dir.join(name), key.as_bytes(), 0o600).unwrap();
    }

    /// Servers at these addresses, each with these keys.
    fn sources(&self, servers: &[(&str, &[&str])]) -> Sources {
        let mut text = "[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"chat\"\n".to_owned();
        for (at, (address, keys)) in servers.iter().enumerate() {
            let keys: Vec<_> = keys.iter().map(|name| format!("\"file:{}/{name}\"", self.dir)).collect();
            text += &format!("[backend.chat.server.s{at}]\nurl = \"http://{address}\"\nkeys = [{}]\n", keys.join(", "));
        }
        let place = Place {
            file: self.dir.join("hapilot.toml"),
            node: Some(Name::new("lb1").unwrap()),
            socket: None,
            state: None,
            secrets: SecretUse::Handed,
        };
        place.understand(text).unwrap_or_else(|e| panic!("{e}"))
    }
}

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn id(server: &str) -> ServerId {
    format!("chat/{server}").parse().unwrap()
}

fn keyring(sources: &Sources, running: &[(String, String)]) -> Keyring {
    Keyring::new(&sources.config, &sources.secrets, running, at(0))
}

fn go_on(keyring: &mut Keyring, sources: &Sources, now: Moment) {
    keyring.reconfigure(&sources.config, &sources.secrets, now);
}

fn told(keyring: &mut Keyring, server: &str, key: &str, outcome: Outcome, now: u64) -> Learnt {
    let key = Secret::new(key.to_owned()).unwrap();
    let observation = Observation::new(ProbeKind::Models, outcome, Duration::from_millis(5));
    keyring.observe(&id(server), &key, &observation, at(now))
}

#[test]
fn what_haproxy_runs_goes_on_serving() {
    let scene = Scene::new();
    let sources = scene.sources(&[("192.0.2.1", &["a", "b"])]);
    let map = |value: &str| [("chat".to_owned(), value.to_owned())];
    for (value, active) in [("k2 sk-b", 1), ("k1 sk-a", 0), ("k9 sk-b", 1), ("k2 sk-x", 0), ("sk-b", 0)] {
        let keyring = keyring(&sources, &map(value));
        assert_eq!(keyring.active(&id("s0")), Some(active), "{value}");
    }
    let keyring = keyring(&sources, &map("k2 sk-b"));
    assert_eq!(keyring.active_keys(), [("chat".to_owned(), 1)].into());
    assert!(!format!("{keyring:?}").contains("sk-"));
}

#[test]
fn what_is_known_of_a_key_follows_its_value_through_the_list() {
    let scene = Scene::new();
    let mut keyring = keyring(&scene.sources(&[("192.0.2.1", &["a", "b"])]), &[]);
    let learnt = told(&mut keyring, "s0", "sk-a", Outcome::Credential, 10);
    assert!(learnt.is_rotated && learnt.events[0].is_grave);
    assert!(!format!("{learnt:?}").contains("sk-"));
    // Turned round, with a third one: the second serves on, as the first of the list.
    go_on(&mut keyring, &scene.sources(&[("192.0.2.1", &["b", "c", "a"])]), at(20));
    let states: Vec<_> = keyring.status(&id("s0"), at(20)).iter().map(|key| key.state.as_str()).collect();
    assert_eq!((keyring.active(&id("s0")), states), (Some(0), vec!["in_service", "in_service", "retired"]));
    // Renewed at its place: nothing is known of it, and it is tested at once.
    scene.write("a", "sk-renewed");
    go_on(&mut keyring, &scene.sources(&[("192.0.2.1", &["b", "c", "a"])]), at(30));
    assert_eq!(keyring.status(&id("s0"), at(30))[2].state.as_str(), "in_service");
    let (tests, _) = keyring.due(|_| true, at(30));
    assert!(tests.contains(&(id("s0"), 2)), "{tests:?}");
    // Another server beside it, with a list of its own: the first one keeps what it has behind its hop.
    told(&mut keyring, "s0", "sk-b", Outcome::Credential, 40);
    go_on(&mut keyring, &scene.sources(&[("192.0.2.1", &["b", "c", "a"]), ("192.0.2.2", &["a"])]), at(50));
    assert_eq!(keyring.active_keys(), [("chat/s0".to_owned(), 1)].into());
    assert_eq!(keyring.active(&id("s1")), Some(0));
}

#[test]
fn live_traffic_names_a_key_by_its_id() {
    let scene = Scene::new();
    let mut keyring = keyring(&scene.sources(&[("192.0.2.1", &["a", "b"])]), &[]);
    told(&mut keyring, "s0", "sk-a", Outcome::Ok, 1);
    let mut live = |key: &str, now| {
        let (id, outcome) = (id("s0"), Outcome::Credential);
        let words = KeyWords { id, key_id: key.into(), outcome, is_billing: false, count: 1, retry_after: None };
        keyring.observe_live(&words, at(now))
    };
    for unknown in ["", "-", "k0", "k3", "k", "sk-a", "kk1"] {
        live(unknown, 2);
        assert!(live(unknown, 2).events.is_empty(), "{unknown}");
    }
    assert!(live("k1", 10).events.is_empty(), "one alone only asks for a test");
    assert!(live("k1", 11).is_rotated);
    assert_eq!(keyring.status(&id("s0"), at(11))[0].uses, 2);
    assert_eq!(keyring.active(&id("s0")), Some(1));
}

#[test]
fn one_replica_that_rejects_the_shared_key_does_not_take_it_from_the_others() {
    let scene = Scene::new();
    let keys: &[&str] = &["a", "b"];
    let mut keyring = keyring(&scene.sources(&[("192.0.2.1", keys), ("192.0.2.2", keys)]), &[]);
    told(&mut keyring, "s1", "sk-a", Outcome::Ok, 1);
    assert!(!told(&mut keyring, "s0", "sk-a", Outcome::Credential, 10).is_rotated);
    // A server in maint is not asked; the others are.
    let (tests, _) = keyring.due(|id| *id != self::id("s0"), at(20));
    assert!(!tests.is_empty() && tests.iter().all(|(id, _)| *id == self::id("s1")), "{tests:?}");
}

#[test]
fn a_server_without_a_key_left_is_exhausted_and_asked_when_it_has_one_again() {
    let scene = Scene::new();
    let mut keyring = keyring(&scene.sources(&[("192.0.2.1", &["a", "b"])]), &[]);
    told(&mut keyring, "s0", "sk-a", Outcome::Credential, 10);
    assert_eq!(keyring.exhausted(&id("s0"), at(10)), None);
    let learnt = told(&mut keyring, "s0", "sk-b", Outcome::Credential, 11);
    assert!(learnt.exhausted.iter().any(|(entry, _)| entry == "chat"));
    assert!(keyring.exhausted(&id("s0"), at(11)).is_some_and(|none| none.is_rejected && none.until == at(70)));
    let learnt = told(&mut keyring, "s0", "sk-a", Outcome::Ok, 71);
    assert_eq!((learnt.is_rotated, learnt.ask_soon), (true, vec![id("s0")]));
    assert_eq!(keyring.exhausted(&id("nobody"), at(71)), None);
}

#[test]
fn two_places_of_one_key_are_warned_about_without_saying_it() {
    let scene = Scene::new();
    assert!(scene.sources(&[("192.0.2.1", &["a", "b"])]).warnings.is_empty());
    scene.write("b", "sk-a");
    let warnings = scene.sources(&[("192.0.2.1", &["a", "b"])]).warnings;
    assert!(warnings.len() == 1 && warnings[0].ends_with("of server chat/s0 are the same key"), "{warnings:?}");
    assert!(!warnings[0].contains("sk-"), "{warnings:?}");
}
