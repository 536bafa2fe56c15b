//! Prometheus' text format, as far as one gauge of it is wanted. Pure; whatever it does not understand it skips.
//!
//! **Source**: Prometheus, "Exposition formats", text-based format; OpenMetrics 1.0.

/// The values of every sample of this name that are numbers from 0 up, finite.
pub(super) fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    text.lines()
        .filter_map(move |line| sample(line.trim_start(), name))
        .filter(|value| value.is_finite() && *value >= 0.0)
}

/// The value of a line, if it is a sample of this name: `name{label="text",…} value timestamp`.
fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let rest = match rest.as_bytes().first()? {
        b'{' => after_labels(&rest[1..])?,
        b' ' | b'\t' => rest,
        // Another name that begins alike.
        _ => return None,
    };
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What follows the brace that closes the labels; their texts may hold braces, quoted.
fn after_labels(text: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(&text[at + 1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn all(text: &str, name: &str) -> Vec<f64> {
        samples(text, name).collect()
    }

    #[test]
    fn samples_are_found_by_their_whole_name_whatever_their_labels_hold() {
        for (text, expected) in [
            ("a 1", &[1.0][..]),
            ("a{} 1.5 1700000000000", &[1.5]),
            ("a{x=\"}\\\"} 9 {\",y=\"z\"} 2\na{x=\"\"}\t3e0", &[2.0, 3.0]),
            ("# a 7\n#a 7\nab 7\na_b{} 7\na\na{\na{x=\"} 7", &[]),
            ("a +Inf\na NaN\na -1\na x\na  4", &[4.0]),
        ] {
            assert_eq!(all(text, "a"), expected, "{text}");
        }
        assert_eq!(all("vllm:num_requests_waiting{model_name=\"a/b\"} 3.0\r\n", "vllm:num_requests_waiting"), [3.0]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall_over(text in "(a|\\{|\\}|\"|\\\\| |\n|1|\\PC){0,200}") {
            prop_assert!(samples(&text, "a").all(|value| value.is_finite() && value >= 0.0));
        }

        #[test]
        fn what_was_written_is_read(label in "\\PC{0,20}", value in 0.0f64..1e9, others in "[b-z ]{0,20}") {
            let label = label.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("{others} 1\na{{x=\"{label}\"}} {value}\n");
            prop_assert_eq!(all(&text, "a"), vec![value]);
        }
    }
}
