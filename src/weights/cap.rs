//! No server of three or more carries almost everything, however good it is.
//!
//! Knows shares of base weights. Called by `decide` for adaptive weights.

/// No more of a tier's traffic than this, unless the operator's own weights say so.
const CAP: f64 = 0.6;
/// Of two servers one may carry what it likes: the other would not carry more for it.
const SERVERS: usize = 3;

/// A server of one tier that takes its full part (not in probation, not out).
#[derive(Clone, Copy, Debug)]
pub(super) struct FullServer {
    pub(super) base: f64,
    /// What is planned of the base, above 0.
    pub(super) share: f64,
}

/// The factor of each, 0 to 1, in the order of `parts`.
pub(super) fn factors(parts: &[FullServer]) -> Vec<f64> {
    let mut factors = vec![1.0; parts.len()];
    if parts.len() < SERVERS {
        return factors;
    }
    let weights: Vec<f64> = parts.iter().map(|part| part.base * part.share).collect();
    let (sum, bases): (f64, f64) = (weights.iter().sum(), parts.iter().map(|part| part.base).sum());
    for ((part, weight), factor) in parts.iter().zip(&weights).zip(&mut factors) {
        let cap = CAP.max(part.base / bases);
        let others = sum - weight;
        if others > 0.0 && cap < 1.0 && *weight > sum * cap {
            // w / (w + others) = cap
            *factor = others * cap / (1.0 - cap) / weight;
        }
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[(f64, f64)], expected: &[f64]) {
        let parts: Vec<FullServer> =
            parts.iter().map(|(base, share)| FullServer { base: *base, share: *share }).collect();
        let factors: Vec<f64> = factors(&parts).iter().map(|factor| (factor * 100.0).round() / 100.0).collect();
        assert_eq!(factors, expected);
    }

    #[test]
    fn of_three_nobody_has_more_than_six_tenths_unless_the_operator_says_so() {
        check(&[(100.0, 1.0), (100.0, 0.2), (100.0, 0.2)], &[0.6, 1.0, 1.0]);
        check(&[(100.0, 1.0), (100.0, 0.4), (100.0, 0.4)], &[1.0, 1.0, 1.0]);
        check(&[(200.0, 1.0), (20.0, 1.0), (20.0, 1.0)], &[1.0, 1.0, 1.0]);
        check(&[(100.0, 1.0), (100.0, 0.02)], &[1.0, 1.0]);
    }
}
