//! Every rule of a pool as a table, and what must hold whatever happens.

use super::{KeyPool, KeyPoolOutcome, KeyPoolParams, KeyState, KeyTest, KeyWitness, KeyWord, Rejection};
use crate::health::{Outcome, Phase};
use crate::model::Moment;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use std::time::Duration;

const PARAMS: KeyPoolParams =
    KeyPoolParams { keys: 2, active: 0, has_free_probe: true, is_spread: false, first_test: Duration::from_secs(5) };

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn word(key: usize, source: KeyWitness, outcome: Outcome) -> KeyWord {
    KeyWord { key, source, voter: 0, outcome, retry_after: None, is_billing: false, count: 1 }
}

fn spent(key: usize, source: KeyWitness) -> KeyWord {
    KeyWord { is_billing: true, ..word(key, source, Outcome::Credential) }
}

fn limited(key: usize, seconds: Option<u64>) -> KeyWord {
    KeyWord { retry_after: seconds.map(Duration::from_secs), ..word(key, KeyWitness::Live, Outcome::RateLimited) }
}

/// Says these words at these seconds; the states and the key that serves at the end.
fn after(words: &[(u64, KeyWord)]) -> (KeyPool, Vec<KeyState>) {
    let mut pool = KeyPool::new(PARAMS, at(0));
    let mut now = at(0);
    for (seconds, word) in words {
        now = at(*seconds);
        pool.observe(word, now);
    }
    let states = pool.snapshot(now).into_iter().map(|key| key.state).collect();
    (pool, states)
}

fn cooling(seconds: u64) -> KeyState {
    KeyState::Cooling { until: at(seconds) }
}

fn retired(why: Rejection, seconds: u64) -> KeyState {
    KeyState::Retired { why, retest_at: at(seconds) }
}

#[test]
fn a_spent_account_is_not_contradicted_by_a_free_probe_elsewhere_but_by_an_answer_that_costs() {
    for (source, is_retired) in [(KeyWitness::Free, true), (KeyWitness::Deep, false), (KeyWitness::Live, false)] {
        let accepted = KeyWord { voter: 1, ..word(0, source, Outcome::Ok) };
        let rejected = KeyWord { count: 2, ..spent(0, KeyWitness::Live) };
        let (_, states) = after(&[(10, accepted), (11, rejected)]);
        let state = states[0];
        assert_eq!(matches!(state, KeyState::Retired { .. }), is_retired, "{source:?}: {state}");
    }
}

#[test]
fn each_word_has_its_effect() {
    use KeyState::InService;
    use Rejection::{Billing, Credential};
    let (free, deep, live) = (KeyWitness::Free, KeyWitness::Deep, KeyWitness::Live);
    let rejected = Outcome::Credential;
    let b_out = (1, word(1, free, rejected));
    for (name, words, states, active) in [
        (
            "a rejection by a probe counts at once",
            vec![(10, word(0, free, rejected))],
            [retired(Credential, 70), InService],
            1,
        ),
        ("one live rejection does not", vec![(10, word(0, live, rejected))], [InService, InService], 0),
        (
            "two live ones in a row make it rest",
            vec![(10, word(0, live, rejected)), (11, word(0, live, rejected))],
            [cooling(21), InService],
            1,
        ),
        (
            "and the free probe decides",
            vec![(10, word(0, live, rejected)), (11, word(0, live, rejected)), (12, word(0, free, rejected))],
            [retired(Credential, 72), InService],
            1,
        ),
        (
            "what may be the client's own only calls for it",
            vec![(10, KeyWord { count: 100, ..word(0, live, Outcome::ProbeConfig) })],
            [InService, InService],
            0,
        ),
        (
            "a success between two makes them two single ones",
            vec![(10, word(0, live, rejected)), (10, word(0, live, Outcome::Ok)), (11, word(0, live, rejected))],
            [InService, InService],
            0,
        ),
        (
            "the free probe that the first one called for does not know what completions meet",
            vec![(10, word(0, live, rejected)), (11, word(0, free, Outcome::Ok)), (12, word(0, live, rejected))],
            [cooling(22), InService],
            1,
        ),
        (
            "which says nothing of an account that is spent",
            vec![(10, spent(0, live)), (11, word(0, free, Outcome::Ok)), (12, spent(0, live))],
            [retired(Billing, 72), InService],
            1,
        ),
        (
            "whoever rejected it, first or later, can tell that it is accepted again",
            vec![(10, spent(0, live)), (11, spent(0, free)), (12, spent(0, live)), (72, word(0, free, Outcome::Ok))],
            [InService, InService],
            1,
        ),
        ("a quota is asked again after an hour", vec![(10, spent(0, deep))], [retired(Billing, 3610), InService], 1),
        (
            "the free probe does not bring it back before",
            vec![(10, spent(0, deep)), (20, word(0, free, Outcome::Ok))],
            [retired(Billing, 3610), InService],
            1,
        ),
        ("but then", vec![(10, spent(0, deep)), (3610, word(0, free, Outcome::Ok))], [InService, InService], 1),
        (
            "a paid answer brings it back at any time",
            vec![(10, spent(0, deep)), (20, word(0, deep, Outcome::Ok))],
            [InService, InService],
            1,
        ),
        ("a 429 rests for ten seconds", vec![(10, limited(0, None))], [cooling(20), InService], 1),
        ("or as long as it says", vec![(10, limited(0, Some(3)))], [cooling(13), InService], 1),
        ("but not for ever", vec![(10, limited(0, Some(9999)))], [cooling(310), InService], 1),
        (
            "a later word with an earlier end changes nothing",
            vec![(10, limited(0, Some(100))), (11, limited(0, Some(1)))],
            [cooling(110), InService],
            1,
        ),
        (
            "many at once are one limit",
            vec![(10, limited(0, None)), (10, limited(0, None)), (10, limited(0, None))],
            [cooling(20), InService],
            1,
        ),
        (
            "the next one rests twice as long",
            vec![(10, limited(0, None)), (20, limited(0, None)), (40, limited(0, None))],
            [cooling(80), InService],
            1,
        ),
        (
            "a success makes it short again",
            vec![
                (10, limited(0, None)),
                (20, limited(0, None)),
                (40, word(0, live, Outcome::Ok)),
                (40, limited(0, None)),
            ],
            [cooling(50), InService],
            1,
        ),
        (
            "a success does not end the pause",
            vec![(10, limited(0, Some(100))), (11, word(0, live, Outcome::Ok))],
            [cooling(110), InService],
            1,
        ),
        (
            "with all resting, the one that ends first serves",
            vec![(10, limited(0, Some(60))), (11, limited(1, Some(20)))],
            [cooling(70), cooling(31)],
            1,
        ),
        (
            "and the other way round",
            vec![(10, limited(0, Some(20))), (11, limited(1, Some(60)))],
            [cooling(30), cooling(71)],
            0,
        ),
        (
            "which stays although its pause is prolonged: the other could else never rest",
            vec![(10, limited(0, Some(20))), (11, limited(1, Some(60))), (12, limited(0, Some(200)))],
            [cooling(212), cooling(71)],
            0,
        ),
        (
            "a limit of long ago is forgotten",
            vec![(10, limited(0, None)), (20, limited(0, None)), (640, limited(0, None))],
            [cooling(650), InService],
            1,
        ),
        (
            "one that rests goes before one that is rejected",
            vec![b_out, (10, limited(0, Some(60)))],
            [cooling(70), retired(Credential, 61)],
            0,
        ),
        (
            "with all rejected, the last one stays",
            vec![(10, word(0, free, rejected)), (11, word(1, free, rejected))],
            [retired(Credential, 70), retired(Credential, 71)],
            1,
        ),
        (
            "a pause outlasts a rejection",
            vec![(10, limited(0, Some(300))), (11, word(0, free, rejected)), (71, word(0, free, Outcome::Ok))],
            [cooling(310), InService],
            1,
        ),
        (
            "a 429 proves that the key is known",
            vec![(10, word(0, free, rejected)), (70, word(0, free, Outcome::RateLimited))],
            [cooling(80), InService],
            1,
        ),
        (
            "a server's own failures say nothing",
            vec![
                (10, word(0, live, Outcome::ServerError)),
                (11, word(0, free, Outcome::Timeout(Phase::Total))),
                (12, word(0, deep, Outcome::ProbeConfig)),
                (13, word(0, live, Outcome::Overloaded)),
            ],
            [InService, InService],
            0,
        ),
        (
            "a key that came back does not push the one that serves out",
            vec![(10, limited(0, Some(3))), (20, word(1, live, Outcome::Ok))],
            [InService, InService],
            1,
        ),
    ] {
        let (pool, found) = after(&words);
        assert_eq!((found.as_slice(), pool.active()), (states.as_slice(), active), "{name}");
    }
}

#[test]
fn a_rejected_key_is_asked_again_ever_more_rarely_and_comes_back() {
    let mut pool = KeyPool::new(PARAMS, at(0));
    let mut now = at(10);
    pool.observe(&word(0, KeyWitness::Free, Outcome::Credential), now);
    let mut gaps = Vec::new();
    for _ in 0..8 {
        let asked = tested(&mut pool, 0, now);
        gaps.push(asked.since(now).as_secs());
        now = asked;
        pool.observe(&word(0, KeyWitness::Free, Outcome::Credential), now);
    }
    assert_eq!(gaps, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    now = tested(&mut pool, 0, now);
    let told = pool.observe(&word(0, KeyWitness::Free, Outcome::Ok), now);
    assert_eq!((told.changes[0].key, told.changes[0].to, told.rotation), (0, KeyState::InService, None));
}

/// Goes on in time to the next test of a key; the other one always passes its own.
fn tested(pool: &mut KeyPool, key: usize, from: Moment) -> Moment {
    let mut now = from;
    for _ in 0..1000 {
        now = pool.next_deadline().expect("something is due").max(now);
        let (tests, _) = pool.due(now);
        for test in tests {
            pool.test_ended(test.key);
            if test.key == key {
                return now;
            }
            pool.observe(&word(test.key, KeyWitness::Free, Outcome::Ok), now);
        }
    }
    panic!("no test of key {key}")
}

#[test]
fn a_key_in_reserve_is_tested_soon_and_every_hour() {
    let mut pool = KeyPool::new(PARAMS, at(0));
    assert_eq!(tested(&mut pool, 1, at(0)), at(5));
    pool.observe(&word(1, KeyWitness::Free, Outcome::Ok), at(5));
    assert_eq!(tested(&mut pool, 1, at(5)), at(3605));
}

#[test]
fn a_live_rejection_calls_for_a_test_at_the_server_that_said_it() {
    let mut pool = KeyPool::new(PARAMS, at(0));
    pool.observe(&word(0, KeyWitness::Free, Outcome::Ok), at(1));
    pool.observe(&KeyWord { voter: 3, ..word(0, KeyWitness::Live, Outcome::Credential) }, at(2));
    assert_eq!(pool.next_deadline(), Some(at(2)));
    let (tests, told) = pool.due(at(2));
    assert_eq!((tests, told), (vec![KeyTest { key: 0, voter: Some(3) }], KeyPoolOutcome::default()));
    assert!(pool.due(at(2)).0.is_empty(), "one at a time");
}

#[test]
fn no_client_condemns_the_only_key_and_who_asks_wrongly_often_makes_few_tests() {
    let mut pool = KeyPool::new(KeyPoolParams { keys: 1, ..PARAMS }, at(0));
    pool.observe(&word(0, KeyWitness::Free, Outcome::Ok), at(1));
    let mut tests = 0;
    for second in 2..62 {
        for outcome in [Outcome::ProbeConfig, Outcome::Credential] {
            let told = pool.observe(&KeyWord { count: 8, ..word(0, KeyWitness::Live, outcome) }, at(second));
            assert_eq!(told, KeyPoolOutcome::default(), "{second}");
        }
        for test in pool.due(at(second)).0 {
            tests += 1;
            pool.observe(&word(test.key, KeyWitness::Free, Outcome::Ok), at(second));
            pool.test_ended(test.key);
        }
    }
    assert_eq!((pool.exhausted(at(62)), tests), (None, 6));
    pool.observe(&word(0, KeyWitness::Free, Outcome::Credential), at(63));
    assert!(pool.exhausted(at(63)).is_some_and(|exhausted| exhausted.is_rejected), "the free probe may");
}

#[test]
fn one_server_among_several_that_rejects_the_key_is_the_servers_fault() {
    let mut pool = KeyPool::new(PARAMS, at(0));
    let from = |voter, outcome| KeyWord { voter, ..word(0, KeyWitness::Free, outcome) };
    pool.observe(&from(1, Outcome::Ok), at(10));
    assert_eq!(pool.observe(&from(0, Outcome::Credential), at(20)), KeyPoolOutcome::default());
    // The other one is asked, and says the same now: it is the key.
    assert_eq!(pool.due(at(20)).0[0], KeyTest { key: 0, voter: Some(1) });
    let told = pool.observe(&from(1, Outcome::Credential), at(20));
    assert_eq!(told.rotation.map(|rotation| rotation.to), Some(1));
}

#[test]
fn without_a_free_probe_a_rejected_key_comes_back_by_time() {
    let mut pool = KeyPool::new(KeyPoolParams { has_free_probe: false, ..PARAMS }, at(0));
    pool.observe(&word(0, KeyWitness::Deep, Outcome::Credential), at(10));
    assert_eq!(pool.next_deadline(), Some(at(70)));
    assert!(pool.due(at(69)).1.changes.is_empty());
    let (tests, told) = pool.due(at(70));
    assert!(tests.is_empty() && told.changes.len() == 1 && pool.active() == 1);
}

#[test]
fn a_renewed_key_is_another_key_and_the_others_stay_what_they_are() {
    let mut pool = KeyPool::new(PARAMS, at(0));
    pool.observe(&word(0, KeyWitness::Free, Outcome::Credential), at(10));
    pool.observe(&limited(1, Some(100)), at(11));
    // The list is turned round, and what was the first is renewed.
    let mut after = pool.remade(PARAMS, &[Some(1), None], at(20));
    let states: Vec<_> = after.snapshot(at(20)).iter().map(|key| key.state).collect();
    assert_eq!(states, [cooling(111), KeyState::InService]);
    // Answers to requests that still had the old value.
    for _ in 0..3 {
        after.observe(&word(1, KeyWitness::Live, Outcome::Credential), at(21));
    }
    assert_eq!(after.snapshot(at(21))[1].state, KeyState::InService);
    let (tests, told) = after.due(at(21));
    assert_eq!((tests[0].key, told.rotation.map(|rotation| rotation.to)), (1, Some(1)));
}

#[test]
fn exhaustion_says_how_long_and_why() {
    let (pool, _) = after(&[(10, limited(0, Some(60)))]);
    assert_eq!(pool.exhausted(at(10)), None);
    let (pool, _) = after(&[(10, limited(0, Some(60))), (11, word(1, KeyWitness::Free, Outcome::Credential))]);
    let exhausted = pool.exhausted(at(11)).unwrap();
    assert_eq!((exhausted.until, exhausted.is_rejected), (at(70), false));
    let (pool, _) = after(&[(10, word(0, KeyWitness::Free, Outcome::Credential)), (11, spent(1, KeyWitness::Deep))]);
    let exhausted = pool.exhausted(at(11)).unwrap();
    assert_eq!((exhausted.until, exhausted.is_rejected), (at(70), true));
}

fn any_word() -> impl Strategy<Value = (u64, KeyWord, bool)> {
    let outcome = proptest::sample::select(vec![
        Outcome::Ok,
        Outcome::RateLimited,
        Outcome::Credential,
        Outcome::ServerError,
        Outcome::SelfCaused,
    ]);
    let source = proptest::sample::select(vec![KeyWitness::Free, KeyWitness::Deep, KeyWitness::Live]);
    let word = (0_usize..3, source, 0_u16..2, outcome, proptest::option::of(0_u64..1000), any::<bool>()).prop_map(
        |(key, source, voter, outcome, retry_after, is_billing)| KeyWord {
            retry_after: retry_after.map(Duration::from_secs),
            voter,
            is_billing,
            ..word(key, source, outcome)
        },
    );
    (0_u64..200, word, any::<bool>())
}

proptest! {
    #[test]
    fn whatever_is_said(words in proptest::collection::vec(any_word(), 0..60), has_free_probe: bool) {
        let params = KeyPoolParams { keys: 3, has_free_probe, ..PARAMS };
        let mut pool = KeyPool::new(params, at(0));
        let mut now = at(0);
        for (pause, word, ticks) in words {
            now = now + Duration::from_secs(pause);
            let before = pool.snapshot(now);
            let told = if ticks {
                let (tests, told) = pool.due(now);
                // Those that tell nothing.
                tests.iter().for_each(|test| pool.test_ended(test.key));
                told
            } else {
                pool.observe(&word, now)
            };
            let after = pool.snapshot(now);
            for (before, after) in before.iter().zip(&after) {
                // No pause is cut short.
                if let (KeyState::Cooling { until: old }, KeyState::Cooling { until: new }) = (before.state, after.state) {
                    prop_assert!(new >= old);
                }
                let is_freed = matches!((before.state, after.state), (KeyState::Cooling { .. }, KeyState::InService));
                prop_assert!(!is_freed);
            }
            // One that may serve does, where there is one; and one that does is not left without need.
            let may = |key: &super::KeySnapshot| key.state == KeyState::InService;
            let active = pool.active();
            prop_assert_eq!(after.iter().any(may), may(&after[active]));
            prop_assert_eq!(pool.exhausted(now).is_none(), may(&after[active]));
            if let Some(rotation) = told.rotation {
                prop_assert!(!may(&after[rotation.from]) && rotation.to == active);
            }
        }
        // Whatever was said, keys that work now all come back, and in time.
        let end = now + Duration::from_secs(2 * 3600 + 300);
        while let Some(next) = pool.next_deadline().filter(|next| *next <= end) {
            now = now.max(next);
            for KeyTest { key, .. } in pool.due(now).0 {
                pool.test_ended(key);
                pool.observe(&word(key, KeyWitness::Free, Outcome::Ok), now);
            }
            now = now + Duration::from_millis(1);
        }
        pool.due(end);
        prop_assert!(pool.snapshot(end).iter().all(|key| key.state == KeyState::InService), "{pool:?}");
    }
}
