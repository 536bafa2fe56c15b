//! How quick a server is beside the others of its tier: the adaptive factor.
//!
//! Knows averages only. Called by `decide`.

use super::PoolMember;
use crate::health::Signals;
use crate::model::AdminState;
use std::time::Duration;

/// Added to every latency: differences far below it are the network's noise, not the server's worth. Without it one
/// millisecond beside three would be a factor of a third.
const NOISE: Duration = Duration::from_millis(50);
/// Servers within 20 % of the best count as equal.
const EQUAL: f64 = 0.8;
/// No server that works sinks lower: it must keep enough traffic to show that it got better.
const FLOOR: f64 = 0.02;

/// Which latency the servers of a tier are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    FirstToken,
    Total,
}

impl Measure {
    fn of(self, signals: &Signals) -> Option<Duration> {
        match self {
            Self::FirstToken => signals.first_token,
            Self::Total => signals.total,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::FirstToken => "first token",
            Self::Total => "probe",
        }
    }
}

/// The factor of `member` among `members`, 0.02 to 1, with one sentence on why.
pub(super) fn factor(member: &PoolMember, members: &[PoolMember]) -> (f64, String) {
    let rivals: Vec<&PoolMember> = members.iter().filter(|m| m.tier == member.tier && takes_traffic(m)).collect();
    // A first token says what users wait for; a cheap probe's time is compared only where no server has one.
    let has_first_token = rivals.iter().any(|rival| rival.signals.first_token.is_some());
    let measure = if has_first_token { Measure::FirstToken } else { Measure::Total };
    let Some(own) = score(&member.signals, measure) else {
        return (1.0, format!("no {} was measured yet", measure.name()));
    };
    let best = rivals.iter().filter_map(|rival| score(&rival.signals, measure)).fold(own, f64::max);
    let share = if best > 0.0 { own / best } else { 1.0 };
    let value = if share >= EQUAL { 1.0 } else { share.max(FLOOR) };
    let (latency, success) = (measure.of(&member.signals).unwrap_or_default(), member.signals.success.unwrap_or(1.0));
    let place = if value < 1.0 { "of the best server's speed" } else { "as quick as the best" };
    let why = format!(
        "{} {} ms, {:.0} % succeed: {:.0} % {place}",
        measure.name(),
        latency.as_millis(),
        success * 100.0,
        share * 100.0
    );
    (value, why)
}

fn takes_traffic(member: &PoolMember) -> bool {
    member.admin == AdminState::Ready
        && member.base.get() > 0
        && member.health.as_ref().is_none_or(|health| health.value > 0.0)
}

/// Successes in a second, roughly.
fn score(signals: &Signals, measure: Measure) -> Option<f64> {
    let latency = measure.of(signals)? + NOISE;
    Some(signals.success.unwrap_or(1.0) / latency.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    fn check(latencies: &[(Option<u64>, Option<u64>)], expected: &[f64]) {
        let ms = |ms: &Option<u64>| ms.map(Duration::from_millis);
        let members: Vec<_> = latencies
            .iter()
            .enumerate()
            .map(|(i, (first_token, total))| PoolMember {
                id: format!("chat/s{i}").parse().unwrap(),
                base: Weight::DEFAULT,
                pinned: None,
                admin: AdminState::Ready,
                tier: 1,
                health: None,
                signals: Signals { first_token: ms(first_token), total: ms(total), success: None },
            })
            .collect();
        let factors: Vec<_> = members.iter().map(|m| (factor(m, &members).0 * 100.0).round() / 100.0).collect();
        assert_eq!(factors, expected, "{latencies:?}");
    }

    #[test]
    fn the_best_and_its_equals_have_one_and_the_others_their_share() {
        check(&[(None, Some(100)), (None, Some(115)), (None, Some(250))], &[1.0, 1.0, 0.5]);
        check(&[(Some(500), Some(9)), (Some(2_150), Some(1))], &[1.0, 0.25]);
    }

    #[test]
    fn noise_is_no_difference_and_nobody_sinks_below_the_floor() {
        check(&[(None, Some(1)), (None, Some(9))], &[1.0, 1.0]);
        check(&[(None, Some(10)), (None, Some(60_000))], &[1.0, 0.02]);
    }

    #[test]
    fn what_was_not_measured_is_not_held_against_anybody() {
        check(&[(None, None), (None, None)], &[1.0, 1.0]);
        check(&[(Some(200), Some(1)), (None, Some(1_000))], &[1.0, 1.0]);
    }

    #[test]
    fn a_server_that_fails_half_of_its_probes_is_worth_half() {
        let ms = Duration::from_millis(150);
        let member = |name: &str, success| PoolMember {
            id: format!("chat/{name}").parse().unwrap(),
            base: Weight::DEFAULT,
            pinned: None,
            admin: AdminState::Ready,
            tier: 1,
            health: None,
            signals: Signals { first_token: None, total: Some(ms), success: Some(success) },
        };
        let members = [member("a", 1.0), member("b", 0.5)];
        assert_eq!(factor(&members[1], &members).0, 0.5);
    }
}
