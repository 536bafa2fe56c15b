//! Sizes as the operator writes them: `64KiB`.

use super::Refused;

/// Parses `512B`, `64KiB`, `16MiB` or `1GiB` into bytes.
///
/// # Errors
/// No unit, an unknown unit, not a whole number, or beyond 2⁶³.
pub fn parse_size(text: &str) -> Result<u64, Refused> {
    let form = || Refused::new("a size is a whole number with a unit, such as \"512B\", \"64KiB\" or \"1MiB\"");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().map_err(|_| form())?;
    let unit: u64 = match &text[digits..] {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(form()),
    };
    number.checked_mul(unit).filter(|bytes| *bytes < 1 << 63).ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_a_binary_unit() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("0B"), Ok(0));
        for text in ["", "64", "64KB", "64 KiB", "-1B", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
