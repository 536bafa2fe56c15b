//! Honest and bad canaries, and what is promised of them.

use super::lives::{HALF_HOUR, Story, condition, conditions, rules};
use super::table::{Outline, print_head};
use super::{Group, for_seeds, lives_of_each_kind, seed};
use crate::rollout::{Condition, Limit, Lost, Metric};

/// A kind of canary.
struct Kind {
    name: &'static str,
    story: Story,
    /// Of as many lives as the others, this part is enough: much traffic takes long.
    part: u64,
    /// When it begins to be bad.
    from: f64,
    promise: &'static str,
    is_kept: fn(&Outline) -> bool,
}

fn healthy(_: f64) -> Group {
    Group::HEALTHY
}

fn failing(part: f64) -> Group {
    Group { errors: part, ..Group::HEALTHY }
}

fn error_rate() -> Vec<Condition> {
    vec![condition(Metric::ErrorRate, Limit::At(0.05), 60)]
}

fn first_token(factor: f64) -> Vec<Condition> {
    vec![condition(Metric::FirstTokenP50, Limit::TimesControl(factor), 60)]
}

/// Half of what the condition allows takes more than 3 s.
fn near_p99(_: f64) -> Group {
    Group { latency: 3.0 / (0.3_f64 * 2.5758).exp(), ..Group::HEALTHY }
}

fn bad() -> Vec<Kind> {
    let kind = |name, story, promise, is_kept| Kind { name, story, part: 1, from: 0.0, promise, is_kept };
    let errors = |rate| Story::new(error_rate(), rate, |_| failing(0.2), healthy);
    let slow =
        |factor| Story::new(first_token(factor), 20.0, |_| Group { first_token: 0.52, ..Group::HEALTHY }, healthy);
    vec![
        kind("20 % errors", errors(2.0), "99.5 % off within 90 s, all within 150 s", |all| {
            all.within(90.0) >= 0.995 && all.within(150.0) == 1.0
        }),
        Kind {
            from: 400.0,
            ..kind(
                "20 % errors from second 400 on",
                Story::new(error_rate(), 2.0, |at| failing(if at > 400.0 { 0.2 } else { 0.01 }), healthy),
                "99 % off within 105 s, all within 180 s",
                |all| all.within(105.0) >= 0.99 && all.within(180.0) == 1.0,
            )
        },
        kind(
            "20 % errors, agent started again",
            Story { restarts: &[20, 50, 80], ..errors(2.0) },
            "99 % off within 93 s, all within 153 s",
            |all| all.within(93.0) >= 0.99 && all.within(153.0) == 1.0,
        ),
        kind(
            "20 % errors",
            Story { longest: 2 * HALF_HOUR, ..errors(0.1) },
            "none promoted, 95 % off in an hour",
            |all| all.promoted.is_empty() && all.within(3600.0) >= 0.95,
        ),
        kind("dead", Story::new(error_rate(), 10.0, |_| failing(1.0), healthy), "all off within 8 s", |all| {
            all.within(8.0) == 1.0
        }),
        kind("dead", Story::new(error_rate(), 1.0, |_| failing(1.0), healthy), "all off within 30 s", |all| {
            all.within(30.0) == 1.0
        }),
        kind("dead", Story::new(error_rate(), 0.1, |_| failing(1.0), healthy), "all off within 5 min", |all| {
            all.within(300.0) == 1.0
        }),
        kind("first tokens 30 % slower, above_control 1.15", slow(1.15), "99 % within 75 s, all within 105 s", |all| {
            all.within(75.0) >= 0.99 && all.within(105.0) == 1.0
        }),
        kind("first tokens 30 % slower, above_control 1.2", slow(1.2), "80 % within 75 s, all within 5 min", |all| {
            all.within(75.0) >= 0.8 && all.within(300.0) == 1.0
        }),
    ]
}

fn shared() -> Vec<Kind> {
    let kind = |name, story: Story, promise, is_kept| Kind {
        name,
        story: Story { longest: HALF_HOUR, ..story },
        part: 1,
        from: 0.0,
        promise,
        is_kept,
    };
    let both = || Story::new(error_rate(), 2.0, |_| failing(0.2), |_| failing(0.2));
    let dark = |lost| {
        let rules = crate::rollout::Rules { lost, ..rules(error_rate()) };
        Story { rules, blind: 200..800, ..Story::new(error_rate(), 1.0, healthy, healthy) }
    };
    vec![
        kind("20 % errors, and of the control too", both(), "all held, none back or promoted", |all| {
            all.shared == all.lives && all.back.is_empty() && all.promoted.is_empty()
        }),
        kind(
            "60 % errors, 20 % of the control",
            Story::new(error_rate(), 2.0, |_| failing(0.6), |_| failing(0.2)),
            "99 % off within 2 min",
            |all| all.within(120.0) >= 0.99,
        ),
        kind(
            "dead, and so is the control",
            Story::new(error_rate(), 2.0, |_| failing(1.0), |_| failing(1.0)),
            "all held",
            |all| all.shared == all.lives && all.back.is_empty() && all.promoted.is_empty(),
        ),
        kind("nothing is heard for 10 min", dark(Lost::Hold), "all held, none back", |all| {
            all.lost == all.lives && all.back.is_empty()
        }),
        kind("the same, to be rolled back", dark(Lost::RollBack), "all back after 5 min", |all| {
            all.within(500.0) == 1.0 && all.back.first().is_some_and(|first| *first >= 499.0)
        }),
    ]
}

fn honest() -> Vec<Kind> {
    let kind = |name, story, promise, is_kept| Kind { name, story, part: 1, from: 0.0, promise, is_kept };
    let healthy_at = |rate| Story::new(conditions(), rate, healthy, healthy);
    let near_at = |rate| Story::new(conditions(), rate, |_| failing(0.03), |_| failing(0.03));
    let promoted = "none back, all promoted";
    let are_promoted: fn(&Outline) -> bool = |all| all.back.is_empty() && all.promoted.len() == all.lives;
    let hardly_back: fn(&Outline) -> bool = |all| all.back.len() * 200 <= all.lives;
    let few = "5 of 1000 back at most";
    let patient = |story: Story| Story { longest: 8 * HALF_HOUR, ..story };
    vec![
        kind("healthy, 1 % errors", patient(healthy_at(0.1)), promoted, are_promoted),
        kind("healthy, 1 % errors", patient(healthy_at(0.3)), promoted, are_promoted),
        kind("healthy, 1 % errors", healthy_at(1.0), promoted, are_promoted),
        kind("healthy, 1 % errors", healthy_at(5.0), promoted, are_promoted),
        Kind { part: 10, ..kind("healthy, 1 % errors", healthy_at(30.0), promoted, are_promoted) },
        kind(
            "healthy, agent started again 5 times",
            Story { restarts: &[100, 101, 350, 900, 1500], ..healthy_at(1.0) },
            promoted,
            are_promoted,
        ),
        kind("honest, 3 % errors", patient(near_at(0.3)), few, hardly_back),
        kind("honest, 3 % errors", near_at(1.0), few, hardly_back),
        kind("honest, 3 % errors", near_at(5.0), few, hardly_back),
        kind(
            "honest, 0.5 % slower than 3 s",
            Story::new(vec![condition(Metric::LatencyP99, Limit::At(3.0), 30)], 1.0, near_p99, near_p99),
            few,
            hardly_back,
        ),
    ]
}

/// Lets them live, prints what came of them, answers what was broken.
fn judge(kinds: Vec<Kind>) -> Vec<String> {
    let (lives, seed) = (lives_of_each_kind(), seed());
    print_head();
    let mut broken = Vec::new();
    for Kind { name, story, part, from, promise, is_kept } in kinds {
        // Much traffic is for the script.
        if lives < part {
            continue;
        }
        let lives = lives / part;
        let outline = Outline::of(&for_seeds(seed..seed + lives, |seed| story.live(seed)), from);
        let is_kept = is_kept(&outline);
        outline.print(name, story.rate, promise, is_kept);
        if !is_kept {
            broken.push(format!("{name} at {}/s: not kept: {promise}; {}", story.rate, outline.why()));
        }
    }
    broken
}

#[test]
fn rollout_table_of_bad_canaries() {
    let broken = judge(bad());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn rollout_table_of_shared_causes() {
    let broken = judge(shared());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn rollout_table_of_honest_canaries() {
    let broken = judge(honest());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
