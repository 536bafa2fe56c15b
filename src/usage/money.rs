//! Amounts of money as text, from billionths of a US dollar; by whole numbers, so that nothing is lost.
//!
//! Called wherever money is shown.

/// One US dollar.
const USD: u64 = 1_000_000_000;
/// The least that is told in cents.
const CENT: u64 = USD / 100;

/// For people: `12.35`; below a cent with two digits that tell something: `0.0042`.
pub fn told(nano_usd: u64) -> String {
    let decimals = match nano_usd {
        0 | CENT.. => 2,
        // Nine places are all there are.
        _ => (10 - nano_usd.ilog10()).min(9),
    };
    let mut unit = 10_u64.pow(9 - decimals);
    let rounded = nano_usd / unit + u64::from(nano_usd % unit >= unit.div_ceil(2));
    // 0.00999 is 0.010, and not 0.0100.
    let is_longer = nano_usd < CENT && rounded >= 100;
    let (rounded, decimals) = if is_longer { (rounded / 10, decimals - 1) } else { (rounded, decimals) };
    unit = 10_u64.pow(decimals);
    format!("{}.{:0width$}", rounded / unit, rounded % unit, width = decimals as usize)
}

/// For programs: all nine places.
pub fn exact(nano_usd: u64) -> String {
    format!("{}.{:09}", nano_usd / USD, nano_usd % USD)
}

/// With two places at least, and no more than are needed: `50.00`, `0.0375`.
pub fn shortest(nano_usd: u64) -> String {
    let text = exact(nano_usd);
    let kept = text.trim_end_matches('0').len().max(text.len() - 7);
    text[..kept].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_cent_on_two_places_and_below_two_digits() {
        for (nano_usd, text, all) in [
            (0, "0.00", "0.000000000"),
            (1, "0.000000001", "0.000000001"),
            (12, "0.000000012", "0.000000012"),
            (123, "0.00000012", "0.000000123"),
            (995, "0.0000010", "0.000000995"),
            (4_249_999, "0.0042", "0.004249999"),
            (4_250_000, "0.0043", "0.004250000"),
            (9_949_999, "0.0099", "0.009949999"),
            (9_999_999, "0.010", "0.009999999"),
            (10_000_000, "0.01", "0.010000000"),
            (14_999_999, "0.01", "0.014999999"),
            (15_000_000, "0.02", "0.015000000"),
            (999_999_999, "1.00", "0.999999999"),
            (12_345_000_000, "12.35", "12.345000000"),
            (u64::MAX, "18446744073.71", "18446744073.709551615"),
        ] {
            assert!(
                all.starts_with(&shortest(nano_usd))
                    && shortest(nano_usd).split('.').nth(1).is_some_and(|d| d.len() >= 2)
            );
            assert_eq!((told(nano_usd).as_str(), exact(nano_usd).as_str()), (text, all), "{nano_usd}");
        }
    }
}
