//! What the benchmarks share: the HAProxies to run with, and pairs of runs that are compared.
//!
//! A time alone says little on a machine that others use too, so each subject has a reference that runs beside it, turn
//! by turn, and what counts is the median of the ratios.

use hapilot::plan::Version;
use std::process::Command;
use std::time::Duration;

/// Servers of one backend: more would measure HAProxy's own tree of one huge roundrobin backend.
pub const PER_BACKEND: usize = 100;

/// Every HAProxy that `HAPILOT_TEST_HAPROXY` names (separated by colons; default `haproxy`) and its version; those that
/// cannot be started are said and left out.
pub fn haproxies() -> Vec<(String, Version)> {
    let list = std::env::var("HAPILOT_TEST_HAPROXY").unwrap_or_else(|_| "haproxy".to_owned());
    let found = |binary: &str| {
        let version = version(binary);
        if version.is_none() {
            println!("{binary} does not answer to -v: left out");
        }
        Some((binary.to_owned(), version?))
    };
    list.split(':').filter_map(found).collect()
}

fn version(binary: &str) -> Option<Version> {
    let output = Command::new(binary).arg("-v").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().find_map(|word| word.parse().ok())
}

/// The medians of a subject and of the reference beside it.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Of the subject.
    pub subject: Duration,
    /// Of the reference.
    pub reference: Duration,
    /// Of the ratios of neighbours.
    pub ratio: f64,
}

/// The median; the values need no order.
pub fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("measured values can be compared"));
    values[values.len() / 2]
}

/// Collects runs in turns.
#[derive(Debug, Default)]
pub struct Turns(Vec<(Duration, Duration)>);

impl Turns {
    /// Adds one turn.
    pub fn add(&mut self, subject: Duration, reference: Duration) {
        self.0.push((subject, reference));
    }

    /// The medians so far.
    pub fn pair(&self) -> Pair {
        let mut subjects: Vec<_> = self.0.iter().map(|turn| turn.0).collect();
        let mut references: Vec<_> = self.0.iter().map(|turn| turn.1).collect();
        let mut ratios: Vec<_> = self.0.iter().map(|turn| turn.0.as_secs_f64() / turn.1.as_secs_f64()).collect();
        Pair { subject: median(&mut subjects), reference: median(&mut references), ratio: median(&mut ratios) }
    }
}

/// Milliseconds with three digits that mean something.
pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}
