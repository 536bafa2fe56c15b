//! Regular expressions of the operator's: bounded, and linear in time whatever they are tried on.

use super::Refused;
use regex::{Regex, RegexBuilder};
use std::fmt;

/// Longest expression, in characters.
const MAX: usize = 512;
/// Most memory of a compiled expression, and of the automata that are built while it is tried, in bytes: `\w{1000}` is
/// short to write.
const MAX_COMPILED: usize = 256 << 10;

/// A regular expression that is looked for anywhere in a text.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is found.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As the operator wrote it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::str::FromStr for Pattern {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        if text.is_empty() || text.chars().count() > MAX {
            return Err(Refused::new(format!("a regular expression has 1 to {MAX} characters")));
        }
        let mut builder = RegexBuilder::new(text);
        let built = builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).nest_limit(32).build();
        built.map(Self).map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => Refused::new("the regular expression is too large when compiled"),
            // The last line says what is wrong, those before repeat the expression.
            other => {
                let words = other.to_string();
                let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Refused::new(format!("not a regular expression: {last}"))
            }
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_found_anywhere_and_a_bad_or_huge_one_is_refused_in_a_line() {
        let pattern: Pattern = "(?i)\"status\":\\s*\"ok\"".parse().unwrap();
        assert!(pattern.is_in("{ \"STATUS\": \"ok\" }") && !pattern.is_in("{}"));
        for bad in ["", "(", "a{", "\\w{100}{100}{100}", &"(".repeat(40), &"x".repeat(600)] {
            let Refused(words) = bad.parse::<Pattern>().unwrap_err();
            assert_eq!(words.lines().count(), 1, "{words}");
        }
    }
}
