//! The life of a canary, one rule at a time.

use super::{Change, Condition, Counts, Deaf, Decided, HardRules, Heard, Hold, Limit, Lost, Metric, Percent, Phase};
use super::{Request, Rollout, Rules, Servers, Stage, Word};
use crate::model::Moment;
use std::time::Duration;

const BEGIN: u64 = 10_000;

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(BEGIN + seconds))
}

fn percent(percent: u16) -> Percent {
    Percent::of_hundredths(percent * 100).unwrap()
}

fn rules() -> Rules {
    let stage = |of: u16, gate| Stage { percent: percent(of), hold: Duration::from_secs(60), gate };
    let lasting = Duration::from_secs(60);
    Rules {
        stages: vec![stage(5, false), stage(50, true)],
        conditions: vec![Condition { metric: Metric::ErrorRate, limit: Limit::At(0.05), lasting }],
        bake: Duration::from_secs(30),
        lost: Lost::Hold,
        hard: HardRules::default(),
        least_requests: 59,
    }
}

/// So many good ones, then so many failures.
fn counts(good: usize, failed: usize) -> Counts {
    let mut counts = Counts::default();
    let request = |failed| Request { failed: Some(failed), ..Request::default() };
    (0..good).for_each(|_| counts.add(&request(false)));
    (0..failed).for_each(|_| counts.add(&request(true)));
    counts
}

fn heard(canary: Counts, control: Counts) -> Heard {
    Heard { canary, control, servers: None }
}

/// A rollout that is driven second by second.
struct Driven {
    rollout: Rollout,
    second: u64,
    changes: Vec<(u64, Change)>,
}

impl Driven {
    fn new(rules: Rules) -> Self {
        Self { rollout: Rollout::new(rules, "abc", at(0)), second: 0, changes: Vec::new() }
    }

    fn run(&mut self, seconds: u64, each: &Heard) {
        for _ in 0..seconds {
            self.second += 1;
            self.rollout.observe(each, at(self.second));
            self.decide();
        }
    }

    /// The agent hears nothing, and decides at the deadlines alone.
    fn blind(&mut self, seconds: u64) {
        let end = self.second + seconds;
        while let Some(next) = self.rollout.next_deadline(at(self.second)) {
            assert!(next > at(self.second) || self.rollout.has_ended(), "the deadline stands still");
            let next = next.0.as_secs_f64().ceil() as u64 - BEGIN;
            if next > end {
                break;
            }
            self.second = next;
            self.decide();
        }
        self.second = end;
    }

    fn decide(&mut self) {
        let changes = self.rollout.decide(at(self.second));
        self.changes.extend(changes.into_iter().map(|change| (self.second, change)));
    }

    fn say(&mut self, word: Word) -> Result<Vec<Change>, Deaf> {
        self.rollout.told(word, at(self.second))
    }

    fn waits(&self) -> String {
        self.rollout.view(at(self.second)).waits
    }
}

#[test]
fn a_good_canary_goes_through_its_stages_its_gate_and_the_bake() {
    let mut driven = Driven::new(rules());
    let good = heard(counts(2, 0), counts(8, 0));
    assert_eq!(driven.rollout.percent(), percent(5));
    driven.run(30, &good);
    assert_eq!(driven.waits(), "the stage lasts 30s more");
    driven.run(90, &good);
    assert_eq!(driven.rollout.phase(), &Phase::Gate(1));
    assert_eq!(driven.waits(), "waits for `promote` at the end of stage 2");
    assert_eq!(driven.rollout.percent(), percent(50));
    driven.run(1_000, &good);
    assert_eq!(driven.say(Word::Promote), Ok(vec![Change::Baking]));
    assert_eq!(driven.rollout.percent(), Percent::ALL);
    driven.run(30, &good);
    assert_eq!(driven.rollout.phase(), &Phase::Done);
    assert_eq!(driven.waits(), "promoted: it has all clients, and nobody watches it any more");
    assert_eq!(driven.rollout.next_deadline(at(driven.second)), None);
    let changes: Vec<_> = driven.changes.iter().map(|(second, change)| (*second, change)).collect();
    assert_eq!(
        changes,
        [
            (60, &Change::Stage { stage: 1, percent: percent(50) }),
            (120, &Change::Gate { stage: 1 }),
            (1_150, &Change::Done)
        ]
    );
}

#[test]
fn a_stage_needs_its_requests_too() {
    let mut driven = Driven::new(rules());
    driven.run(60, &heard(Counts::default(), counts(1, 0)));
    let told: Vec<_> = driven.changes.iter().map(|(second, _)| *second).collect();
    assert_eq!(told, [60]);
    assert_eq!(driven.waits(), "held: too few requests of the canary: 0 of the 59 that a stage needs");
    driven.run(30, &heard(counts(2, 0), counts(1, 0)));
    assert_eq!(driven.rollout.phase(), &Phase::Stage(1));
    let [.., (_, Change::WentOn), (90, Change::Stage { .. })] = &driven.changes[..] else {
        panic!("{:?}", driven.changes)
    };
}

#[test]
fn what_is_over_its_limit_but_not_proven_is_neither_promoted_nor_rolled_back() {
    let mut driven = Driven::new(rules());
    driven.run(29, &heard(counts(2, 0), counts(8, 0)));
    // Four of 62: 6.5 %, which may be chance.
    for _ in 0..4 {
        driven.run(1, &heard(counts(0, 1), counts(8, 0)));
    }
    driven.run(27, &heard(Counts::default(), counts(8, 0)));
    assert_eq!(
        driven.waits(),
        "held: over the whole stage error_rate is 6.5 % of 62 requests (95 % sure of 1.8 % at least), above 5 %; the \
         control's: 0 % of 480"
    );
    driven.run(20, &heard(counts(2, 0), counts(8, 0)));
    assert_eq!(driven.rollout.phase(), &Phase::Stage(1));
}

#[test]
fn a_bad_canary_is_rolled_back_with_its_numbers_also_at_a_gate_and_in_an_operators_hold() {
    let bad = heard(counts(3, 1), counts(16, 0));
    for word in [None, Some(Word::Hold)] {
        let mut driven = Driven::new(rules());
        driven.run(if word.is_some() { 10 } else { 150 }, &heard(counts(4, 0), counts(16, 0)));
        word.into_iter().for_each(|word| assert!(driven.say(word).is_ok()));
        driven.run(120, &bad);
        let Phase::RolledBack { reason } = driven.rollout.phase().clone() else { panic!("{:?}", driven.changes) };
        assert!(
            reason.starts_with("error_rate is ") && reason.contains("above 5 %; the control's: 0 % of"),
            "{reason}"
        );
        assert_eq!(driven.rollout.percent(), Percent::NONE);
        let deaf = format!("the rollout was rolled back: {reason}; `restart` begins it anew");
        assert_eq!(driven.say(Word::Promote).unwrap_err().0, deaf);
        assert_eq!(driven.rollout.view(at(driven.second)).conditions, [], "nothing is checked any more");
    }
}

#[test]
fn one_outage_of_seconds_is_not_lasting() {
    let mut driven = Driven::new(rules());
    driven.run(40, &heard(counts(10, 0), counts(40, 0)));
    driven.run(4, &heard(counts(0, 10), counts(40, 0)));
    driven.run(200, &heard(counts(10, 0), counts(40, 0)));
    assert!(!driven.rollout.has_ended(), "{:?}", driven.changes);
}

#[test]
fn a_dead_canary_is_off_within_seconds_and_not_where_all_is_dead() {
    let mut driven = Driven::new(rules());
    driven.run(20, &heard(counts(5, 0), counts(20, 0)));
    driven.run(7, &heard(counts(0, 5), counts(20, 0)));
    let [(26, Change::RolledBack { reason })] = &driven.changes[..] else { panic!("{:?}", driven.changes) };
    assert_eq!(
        reason,
        "the canary's last 30 requests failed, all in a row; of the control 120 of 120 succeeded meanwhile"
    );
    let mut driven = Driven::new(rules());
    driven.run(20, &heard(counts(5, 0), counts(20, 0)));
    driven.run(100, &heard(counts(0, 5), counts(0, 20)));
    assert!(matches!(driven.rollout.hold(), Some(Hold::SharedCause { .. })), "{:?}", driven.changes);
    driven.run(100, &heard(counts(5, 0), counts(20, 0)));
    assert_eq!(driven.rollout.hold(), None);
}

#[test]
fn servers_that_are_down_roll_back_unless_all_are() {
    let servers = |canary_up, control_up| Heard {
        servers: Some(Servers { canary_up, canary: 2, control_up, control: 3 }),
        ..heard(counts(1, 0), counts(4, 0))
    };
    let mut driven = Driven::new(rules());
    driven.run(5, &servers(1, 3));
    driven.run(5, &servers(0, 0));
    assert!(matches!(driven.rollout.hold(), Some(Hold::SharedCause { .. })));
    // One that is started again, twice.
    driven.run(14, &servers(0, 2));
    assert_eq!(driven.waits(), "no server of the canary is up, for 13s now: after 15s it is rolled back");
    driven.run(1, &servers(1, 2));
    driven.run(14, &servers(0, 2));
    assert_eq!(driven.rollout.phase(), &Phase::Stage(0));
    driven.run(2, &servers(0, 2));
    let reason = "no server of the canary is up; of the control 2".to_owned();
    assert_eq!(driven.rollout.phase(), &Phase::RolledBack { reason });
}

#[test]
fn a_node_without_clients_does_as_the_owner_does() {
    let mut driven = Driven::new(rules());
    assert_eq!(driven.rollout.follow(&Decided::Stage(0), at(1)), []);
    assert_eq!(driven.rollout.follow(&Decided::Stage(1), at(2)), [Change::Stage { stage: 1, percent: percent(50) }]);
    // One that is behind is no reason to go back.
    assert_eq!(driven.rollout.follow(&Decided::Stage(0), at(3)), []);
    assert_eq!(driven.rollout.follow(&Decided::Behind, at(4)), [Change::Baking]);
    let reason = "at another node: it failed".to_owned();
    let other = Decided::RolledBack("it failed".to_owned());
    assert_eq!(driven.rollout.follow(&other, at(5)), [Change::RolledBack { reason }]);
    assert_eq!((driven.rollout.percent(), driven.rollout.follow(&other, at(6))), (Percent::NONE, vec![]));
}

#[test]
fn lost_metrics_hold_and_roll_back_after_five_minutes_where_that_is_asked() {
    for (lost, ends) in [(Lost::Hold, false), (Lost::RollBack, true)] {
        let mut driven = Driven::new(Rules { lost, ..rules() });
        driven.run(20, &heard(counts(1, 0), counts(4, 0)));
        driven.blind(29);
        assert_eq!(driven.rollout.hold(), None);
        driven.blind(1);
        assert!(matches!(driven.rollout.hold(), Some(Hold::MetricsLost { .. })));
        driven.blind(269);
        assert!(!driven.rollout.has_ended());
        driven.blind(1_000);
        assert_eq!(driven.rollout.has_ended(), ends);
        if !ends {
            driven.run(1, &heard(counts(1, 0), counts(4, 0)));
            assert_eq!(driven.rollout.hold(), None);
            // Time in which nothing was heard is no time of the stage.
            assert_eq!(driven.rollout.view(at(driven.second)).time_s, 20.0);
        }
    }
}

#[test]
fn operators_words_are_done_or_refused_with_a_reason() {
    let good = heard(counts(2, 0), counts(8, 0));
    let mut driven = Driven::new(rules());
    assert_eq!(driven.say(Word::Resume), Err(Deaf("it is not held".to_owned())));
    assert_eq!(driven.say(Word::Hold), Ok(vec![Change::Held(Hold::Operator)]));
    assert_eq!(driven.say(Word::Hold), Err(Deaf("it is held by an operator already".to_owned())));
    driven.run(500, &good);
    assert_eq!((driven.rollout.phase(), &driven.changes[..]), (&Phase::Stage(0), &[][..]));
    assert_eq!(driven.say(Word::Resume), Ok(vec![Change::WentOn]));
    driven.run(1, &good);
    assert_eq!(driven.rollout.phase(), &Phase::Stage(0));
    let second = Change::Stage { stage: 1, percent: percent(50) };
    assert_eq!(driven.say(Word::Promote), Ok(vec![second]));
    assert_eq!(driven.say(Word::Promote), Ok(vec![Change::Baking]));
    assert_eq!(driven.say(Word::Promote), Ok(vec![Change::Done]));
    let deaf = "it is promoted, and has all clients already; `abort` takes them back, `restart` begins it anew";
    for word in [Word::Promote, Word::Hold, Word::Resume] {
        assert_eq!(driven.say(word), Err(Deaf(deaf.to_owned())));
    }
    // A way back is there after the end, too, and other nodes go it as well.
    let mut other = Driven { rollout: driven.rollout.clone(), ..Driven::new(rules()) };
    let reason = "an operator aborted it".to_owned();
    assert_eq!(driven.say(Word::Abort), Ok(vec![Change::RolledBack { reason: reason.clone() }]));
    assert_eq!(driven.rollout.percent(), Percent::NONE);
    let back = other.rollout.follow(&Decided::RolledBack(reason), at(9));
    assert!(matches!(&back[..], [Change::RolledBack { .. }]) && other.rollout.percent() == Percent::NONE, "{back:?}");
    let mut driven = Driven::new(rules());
    let reason = "an operator aborted it".to_owned();
    assert_eq!(driven.say(Word::Abort), Ok(vec![Change::RolledBack { reason }]));
    assert_eq!(driven.rollout.percent(), Percent::NONE);
}

#[test]
fn what_is_saved_goes_on_where_it_was_and_the_time_between_is_not_counted() {
    let good = heard(counts(2, 0), counts(8, 0));
    let mut driven = Driven::new(rules());
    driven.run(50, &good);
    let saved = serde_json::to_string(&driven.rollout).unwrap();
    let loaded: Rollout = serde_json::from_str(&saved).unwrap();
    assert_eq!(serde_json::to_string(&loaded).unwrap(), saved);
    // Another node, whose clock has nothing to do with ours, an hour later.
    let mut other = Driven { rollout: loaded, second: 777, changes: Vec::new() };
    other.run(10, &good);
    assert_eq!(other.changes, []);
    other.run(1, &good);
    assert_eq!(other.changes, [(788, Change::Stage { stage: 1, percent: percent(50) })]);
    assert_eq!(other.rollout.content(), "abc");
}

#[test]
fn the_view_tells_each_condition_and_both_shares() {
    let mut driven = Driven::new(rules());
    driven.run(20, &heard(counts(3, 1), counts(71, 1)));
    let view = driven.rollout.view(at(driven.second));
    assert_eq!((view.target_share, view.actual_share), (0.05, Some(4.0 / 76.0)));
    let [condition] = &view.conditions[..] else { panic!("{view:?}") };
    assert_eq!(condition.condition, "error_rate above 5 % for 1m");
    assert_eq!((condition.value, condition.count, condition.limit), (Some(0.25), 80, Some(0.05)));
    assert_eq!((condition.breaches, condition.breaches_to_trip, condition.next_check_s), (1, 4, 10.0));
    assert_eq!(condition.state, "breach");
    let words =
        "in the last 1m error_rate is 25 % of 80 requests (95 % sure of 16 % at least), above 5 %; the control's: ";
    assert!(condition.words.starts_with(words), "{}", condition.words);
    assert!(condition.bound.is_some_and(|bound| (0.15..0.17).contains(&bound)), "{:?}", condition.bound);
    assert!(serde_json::to_string(&view).unwrap().contains("\"waits\":\"the stage lasts 40s more"));
}

#[test]
fn conditions_that_make_no_sense_are_refused() {
    let condition = |metric, limit, lasting| Condition { metric, limit, lasting: Duration::from_secs(lasting) };
    for (good, limit, metric, lasting) in [
        (true, Limit::At(0.05), Metric::ErrorRate, 60),
        (false, Limit::At(5.0), Metric::ErrorRate, 60),
        (false, Limit::At(0.0), Metric::LatencyP99, 60),
        (false, Limit::At(0.05), Metric::ErrorRate, 9),
        (true, Limit::TimesControl(1.05), Metric::FirstTokenP50, 60),
        (false, Limit::TimesControl(1.0), Metric::FirstTokenP50, 60),
        (false, Limit::TimesControl(f64::NAN), Metric::FirstTokenP50, 60),
        (true, Limit::TimesControl(0.8), Metric::TokensPerSecond, 60),
        (false, Limit::TimesControl(1.2), Metric::SuccessRate, 60),
    ] {
        assert_eq!(condition(metric, limit, lasting).mistake().is_none(), good, "{metric:?} {limit:?} {lasting}");
    }
}

fn refused(good: usize, refused: usize) -> Counts {
    let mut counts = counts(good, 0);
    (0..refused).for_each(|_| counts.add(&Request { is_refused: true, ..Request::default() }));
    counts
}

#[test]
fn a_canary_that_refuses_what_the_control_answers_is_rolled_back_or_not_promoted() {
    // A model that is misspelt: nothing of it tells of the server.
    let mut driven = Driven::new(rules());
    driven.run(90, &heard(refused(0, 1), counts(8, 0)));
    let [(second, Change::RolledBack { reason })] = &driven.changes[..] else { panic!("{:?}", driven.changes) };
    assert!(*second <= 60 && reason.starts_with("refused (4xx): 100 % of "), "{second}: {reason}");
    // A parameter that it does not know.
    let mut driven = Driven::new(rules());
    driven.run(120, &heard(refused(2, 3), refused(20, 1)));
    assert!(matches!(driven.changes[..], [(..=90, Change::RolledBack { .. })]), "{:?}", driven.changes);
    // Some of it: it is not promoted.
    let mut driven = Driven::new(rules());
    driven.run(600, &heard(refused(9, 1), refused(100, 0)));
    assert_eq!(driven.rollout.percent(), percent(5));
    assert!(driven.waits().contains("over the whole stage refused (4xx): 10 % of "), "{}", driven.waits());
}

#[test]
fn what_clients_ask_for_is_no_fault_of_the_canary() {
    // The same of both groups; and of a canary that has all clients.
    let mut driven =
        Driven::new(Rules { stages: vec![Stage { percent: Percent::ALL, ..rules().stages[0] }], ..rules() });
    driven.run(600, &heard(refused(4, 4), Counts::default()));
    assert_eq!(driven.rollout.phase(), &Phase::Done, "{}", driven.waits());
    let mut driven = Driven::new(rules());
    driven.run(200, &heard(refused(4, 4), refused(40, 40)));
    assert_eq!(driven.rollout.phase(), &Phase::Gate(1), "{}", driven.waits());
}

#[test]
fn time_in_which_the_agent_stood_still_was_not_watched() {
    let mut driven = Driven::new(rules());
    let good = heard(counts(2, 0), counts(8, 0));
    driven.run(30, &good);
    driven.second += 600;
    driven.run(10, &good);
    assert_eq!(driven.rollout.percent(), percent(5), "{:?}", driven.changes);
    driven.run(30, &good);
    assert_eq!(driven.rollout.percent(), percent(50));
}

#[test]
fn a_value_within_its_limit_is_not_said_to_be_above_it() {
    let mut driven = Driven::new(rules());
    driven.run(9, &heard(counts(2, 0), counts(23, 0)));
    let words = |driven: &Driven| driven.rollout.view(at(driven.second)).conditions[0].words.clone();
    assert_eq!(words(&driven), "in the last 1m error_rate is 0 % of 18 requests, limit 5 %; the control's: 0 % of 207");
    let condition = Condition { metric: Metric::LatencyP50, limit: Limit::TimesControl(1.2), ..rules().conditions[0] };
    let driven = Driven::new(Rules { conditions: vec![condition], ..rules() });
    assert_eq!(words(&driven), "since the stage began latency_p50 is unknown: nothing was seen");
}

#[test]
fn an_edit_of_the_rules_keeps_the_stage_its_time_and_what_its_conditions_have_seen() {
    let good = heard(counts(2, 0), counts(8, 0));
    let mut driven = Driven::new(rules());
    driven.run(90, &good);
    assert_eq!(driven.rollout.phase(), &Phase::Stage(1));
    let (before, seen) = (rules(), driven.rollout.view(at(90)));
    let mut longer = Rules { stages: [&before.stages[..1], &before.stages].concat(), ..before };
    longer.stages[0].percent = percent(1);
    longer.stages[2].hold = Duration::from_secs(70);
    longer.conditions.push(Condition { metric: Metric::SuccessRate, limit: Limit::At(0.9), ..longer.conditions[0] });
    driven.rollout.edit(&longer, at(90));
    let now = driven.rollout.view(at(90));
    assert_eq!((now.stage, now.target_share, now.time_s), (Some(3), seen.target_share, seen.time_s));
    assert_eq!((&now.conditions[0], now.conditions[1].count), (&seen.conditions[0], 0));
    // At a gate it stays at the gate, while there is one.
    driven.run(40, &good);
    assert_eq!(driven.rollout.phase(), &Phase::Gate(2));
    let longer = Rules { bake: Duration::from_secs(1), ..longer };
    driven.rollout.edit(&longer, at(131));
    assert_eq!(driven.rollout.phase(), &Phase::Gate(2));
    let mut open = longer;
    open.stages[2].gate = false;
    driven.rollout.edit(&open, at(131));
    assert_eq!(driven.rollout.phase(), &Phase::Stage(2));
    // No edit gives it more than it had, but for a first stage that has more.
    for (stages, at_stage, of) in [(vec![percent(10), percent(80)], 0, 10), (vec![percent(60), percent(80)], 0, 60)] {
        let stages = stages.into_iter().map(|percent| Stage { percent, ..open.stages[0] }).collect();
        let rules = Rules { stages, ..open.clone() };
        let mut edited = driven.rollout.clone();
        assert_eq!(edited.percent_under(&rules), percent(of));
        edited.edit(&rules, at(131));
        assert_eq!(
            (edited.phase(), edited.percent(), edited.view(at(131)).time_s),
            (&Phase::Stage(at_stage), percent(of), 0.0)
        );
    }
}
