//! What came of many lives, and which promises they break.

use super::lives::Life;

/// What came of all lives of one kind.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) lives: usize,
    /// Seconds, in their order.
    pub(super) back: Vec<f64>,
    pub(super) promoted: Vec<f64>,
    naive: Vec<f64>,
    wilson: Vec<f64>,
    /// Lives that were held, by why.
    pub(super) shared: usize,
    pub(super) lost: usize,
    pub(super) data: usize,
    why: Option<String>,
}

impl Outline {
    /// Times count from this second on.
    pub(super) fn of(lives: &[Life], from: f64) -> Self {
        let sorted = |time: &dyn Fn(&Life) -> Option<f64>| {
            let mut times: Vec<f64> = lives.iter().filter_map(|life| Some(time(life)? - from)).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let held = |seconds: &dyn Fn(&Life) -> u32| lives.iter().filter(|life| seconds(life) > 0).count();
        Self {
            lives: lives.len(),
            back: sorted(&|life| Some(life.rolled_back.as_ref()?.0)),
            promoted: sorted(&|life| life.promoted),
            naive: sorted(&|life| life.naive),
            wilson: sorted(&|life| life.wilson),
            shared: held(&|life| life.held.shared),
            lost: held(&|life| life.held.lost),
            data: held(&|life| life.held.data),
            why: lives.iter().find_map(|life| Some(life.rolled_back.as_ref()?.1.clone())),
        }
    }

    /// The part that was rolled back within so many seconds, after the beginning of what is wrong.
    pub(super) fn within(&self, seconds: f64) -> f64 {
        self.back.iter().filter(|time| (0.0..=seconds).contains(*time)).count() as f64 / self.lives as f64
    }

    pub(super) fn print(&self, name: &str, rate: f64, promise: &str, is_kept: bool) {
        let part = |of: &[f64]| match (of.len() * 1000).div_ceil(self.lives) {
            0 => "-".to_owned(),
            thousandths => format!("{} %", thousandths as f64 / 10.0),
        };
        let times = |of: &[f64]| match of {
            [] => "-".to_owned(),
            of => format!("{:.0} / {:.0} / {:.0}", of[of.len() / 2], of[of.len() * 199 / 200], of[of.len() - 1]),
        };
        let held = [(self.shared, "shared"), (self.lost, "lost"), (self.data, "data")];
        let held = held.iter().filter(|(lives, _)| *lives > 0).map(|(lives, why)| format!("{lives} {why}"));
        let [back, promoted, naive, wilson] = [&self.back, &self.promoted, &self.naive, &self.wilson];
        println!(
            "{name:<44} {:>6} {:>6} | {:>7} {:>18} | {:>7} {:>18} | {:<20} | {:>7} | {:>7} {:>16} | {}: {promise}",
            format!("{rate}/s"),
            self.lives,
            part(back),
            times(back),
            part(promoted),
            times(promoted),
            held.collect::<Vec<_>>().join(", "),
            part(naive),
            part(wilson),
            times(wilson),
            if is_kept { "kept" } else { "BROKEN" },
        );
    }

    /// One of the reasons.
    pub(super) fn why(&self) -> &str {
        self.why.as_deref().unwrap_or_default()
    }
}

pub(super) fn print_head() {
    println!(
        "\n{:<44} {:>6} {:>6} | {:>26} | {:>26} | {:<20} | {:>7} | {:>24} | promise\n{:<60} | {:>26} | {:>26} |",
        "canary",
        "rate",
        "lives",
        "rolled back",
        "promoted",
        "lives held",
        "minute",
        "Wilson",
        "",
        "median / 99.5 % / all, s",
        "median / 99.5 % / all, s",
    );
}
