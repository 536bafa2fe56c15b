//! What counts prove: exact tests for shares, and the normal one for means.
//!
//! Knows numbers alone. Exact ones, because Wilson's bound takes two failures of ten for proof that more than 5 % fail,
//! see `docs/decisions/77-a-canary-is-judged-by-exact-bounds-that-must-last.md`.

/// How sure something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// One in four.
    Leaning,
    /// The 95 % bound: one side of it, 2.5 %, is what chance may do.
    Likely,
    /// One in ten thousand.
    Certain,
}

impl Level {
    /// The part of cases in which chance alone shows as much.
    pub(super) fn chance(self) -> f64 {
        match self {
            Self::Leaning => 0.25,
            Self::Likely => 0.025,
            Self::Certain => 1e-4,
        }
    }

    /// So many standard errors, for this many values.
    ///
    /// **Source**: the first term of the expansion of Student's distribution (Abramowitz and Stegun, 26.7.5).
    pub(super) fn errors(self, count: u64) -> f64 {
        let normal: f64 = match self {
            Self::Leaning => 0.674,
            Self::Likely => 1.96,
            Self::Certain => 3.719,
        };
        normal + (normal.powi(3) + normal) / (4.0 * (count.max(2) - 1) as f64)
    }
}

/// The chance of at least `part` of `whole`, where each is one with this chance: small where `part` is too many.
pub(super) fn at_least(part: f64, whole: f64, chance: f64) -> f64 {
    match () {
        () if part <= 0.0 || chance >= 1.0 => 1.0,
        () if chance <= 0.0 => 0.0,
        () if part >= whole => chance.powf(whole),
        () => incomplete_beta(part, whole - part + 1.0, chance),
    }
}

/// What `part` of `whole` proves at least, 0 to 1.
///
/// **Source**: C. J. Clopper and E. S. Pearson, 1934.
pub(super) fn lower(part: f64, whole: f64, level: Level) -> f64 {
    largest(0.0, 1.0, |share| at_least(part, whole, share) < level.chance())
}

/// What `part` of `whole` proves at most, 0 to 1.
pub(super) fn upper(part: f64, whole: f64, level: Level) -> f64 {
    1.0 - lower(whole - part, whole, level)
}

/// The largest number between two of which something holds that holds for all smaller ones; the lower end if for none.
pub(super) fn largest(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    // Enough for a millionth of the range.
    for _ in 0..20 {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// The chance that of `all` marked ones among both groups, at least `part` are in the first one, where the groups do not
/// differ: Fisher's exact test.
pub(super) fn more_than_other(part: u64, whole: u64, other_part: u64, other_whole: u64) -> f64 {
    let marked = part + other_part;
    let most = marked.min(whole);
    if part == 0 || whole == 0 || other_whole == 0 {
        return 1.0;
    }
    let [k, n, m, all] = [part, whole, marked, whole + other_whole].map(|count| count as f64);
    let first = ln_choose(m, k) + ln_choose(all - m, n - k) - ln_choose(all, n);
    let (mut term, mut sum) = (1.0, 0.0);
    for at in part..=most {
        sum += term;
        let at = at as f64;
        term *= (m - at) * (n - at) / ((at + 1.0) * (all - m - n + at + 1.0));
        // Below the middle of the distribution terms still grow: there is nothing to prove, and no need for the sum.
        if term < sum * 1e-9 || sum * first.exp() > 0.5 {
            break;
        }
    }
    (sum * first.exp()).min(1.0)
}

fn ln_choose(all: f64, some: f64) -> f64 {
    ln_gamma(all + 1.0) - ln_gamma(some + 1.0) - ln_gamma(all - some + 1.0)
}

/// The logarithm of the gamma function, right to ten digits above 0.
///
/// **Source**: C. Lanczos, 1964, with the coefficients of g = 7, n = 9.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum: f64 = COEFFICIENTS.iter().enumerate().map(|(at, c)| c / (x + at as f64 + 1.0)).sum();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + (0.999_999_999_999_809_9 + sum).ln()
}

/// The regularised incomplete beta function.
///
/// **Source**: the continued fraction of Abramowitz and Stegun, 26.5.8, evaluated as W. J. Lentz does.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta_by_fraction(b, a, 1.0 - x);
    }
    incomplete_beta_by_fraction(a, b, x)
}

fn incomplete_beta_by_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let solid = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / solid(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    // It needs some √max(a, b) steps.
    for m in 1..5_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for step in [even, odd] {
            d = 1.0 / solid(1.0 + step * d);
            c = solid(1.0 + step / c);
            fraction *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-10 {
            break;
        }
    }
    front * fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    #[test]
    fn the_bounds_are_clopper_and_pearsons() {
        // From tables.
        for (part, whole, low, high) in [
            (0.0, 10.0, 0.0, 0.3085),
            (2.0, 10.0, 0.0252, 0.5561),
            (10.0, 10.0, 0.6915, 1.0),
            (5.0, 100.0, 0.0164, 0.1128),
        ] {
            let (lower, upper) = (lower(part, whole, Level::Likely), upper(part, whole, Level::Likely));
            assert!((lower - low).abs() < 1e-4 && (upper - high).abs() < 1e-4, "{part} of {whole}: {lower} {upper}");
        }
    }

    #[test]
    fn none_of_59_is_below_5_percent() {
        let chance = 1.0 - at_least(1.0, 59.0, 0.05);
        assert!((0.045..0.05).contains(&chance), "{chance}");
    }

    #[test]
    fn fishers_test_is_his() {
        // The lady who tastes tea: all four, and three of four.
        assert!((more_than_other(4, 4, 0, 4) - 1.0 / 70.0).abs() < 1e-9);
        assert!((more_than_other(3, 4, 1, 4) - 17.0 / 70.0).abs() < 1e-9);
        assert!(more_than_other(50, 1_000, 50, 1_000) > 0.5);
        assert!(more_than_other(90_000, 300_000, 80_000, 300_000) < 1e-9);
        assert_eq!(more_than_other(0, 5, 5, 5), 1.0);
        assert_eq!(more_than_other(5, 5, 0, 0), 1.0);
    }

    proptest! {
        #[test]
        fn the_tail_is_the_sum_of_its_terms(whole in 1u32..200, part in 0u32..200, chance in 0.001f64..0.999) {
            let part = part.min(whole);
            let term = |k: u32| {
                let (k, n) = (f64::from(k), f64::from(whole));
                (ln_choose(n, k) + k * chance.ln() + (n - k) * (1.0 - chance).ln()).exp()
            };
            let sum: f64 = (part..=whole).map(term).sum();
            let told = at_least(f64::from(part), f64::from(whole), chance);
            prop_assert!((told - sum).abs() < 1e-7, "{told} for {sum}");
        }
    }
}
