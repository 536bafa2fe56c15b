//! One condition over time: its window, its checks, how many breached in a row.
//!
//! ```text
//! check, every quarter of the window:
//!   the window's bound is over the limit, and it lasts                          one more; two where it is certain
//!   too few in the window, or nothing proven: the whole stage is asked instead  two where it is certain
//!   the window's value is within the limit                                      back to none
//!   nothing new, or neither                                                     as it was
//! four: the condition trips
//! ```
//!
//! It lasts where the newest quarter's own value is over the limit, and the window's would be without its worst quarter: an
//! outage of some seconds is in four windows, but in one or two quarters. A quarter alone counts once at the most.
//!
//! Knows the age of its rollout, not the time of day. Called by `state` and `soak`.

use super::bounds::more_than_other;
use super::judge::{Finding, Proof};
use super::{Condition, Counts, Hold, Limit};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// So many checks in a row trip; and so many pieces are a window.
pub(super) const ROW: u8 = 4;
/// What the control showed in the last stage is compared with for so long, where it gets no requests any more.
const REMEMBERED: Duration = Duration::from_secs(1800);

/// Chance makes a group so much worse once in ten thousand stages…
const CLEARLY_MORE: f64 = 1e-4;
/// …and less than twice and two points more matters to nobody.
const MORE: f64 = 0.02;

/// What both groups did in one piece of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) group: Counts,
    pub(super) control: Counts,
}

impl Piece {
    fn merge(&mut self, later: &Self) {
        self.group.merge(&later.group);
        self.control.merge(&later.control);
    }
}

/// What people read of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Called {
    /// What stands before the value.
    pub(super) what: String,
    /// What is counted.
    pub(super) unit: String,
    /// What the control's value is.
    pub(super) beside: String,
}

/// One condition over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) condition: Condition,
    pub(super) called: Called,
    /// The last one is not complete yet.
    pieces: VecDeque<Piece>,
    /// Since the stage began.
    pub(super) whole: Piece,
    /// The age when it began.
    whole_since: Duration,
    /// The age at the next check.
    pub(super) next: Duration,
    /// Breaches, 0 to [`ROW`].
    pub(super) row: u8,
    /// What the last check said.
    pub(super) tripped: Tripped,
    /// The control of the last stage that had enough of it, and the age at that stage's end.
    remembered: Option<(Duration, Counts)>,
}

/// Whether a condition has tripped, with what it found in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tripped {
    #[default]
    No,
    /// The control fails as well.
    Shared(String),
    Yes(String),
}

impl Watch {
    pub(super) fn new(condition: Condition, called: Called, age: Duration) -> Self {
        let (pieces, next) = ([Piece::default()].into(), age + condition.lasting / u32::from(ROW));
        let whole = Piece::default();
        Self {
            condition,
            called,
            pieces,
            whole,
            whole_since: age,
            next,
            row: 0,
            tripped: Tripped::No,
            remembered: None,
        }
    }

    /// A stage begins: what was seen before still counts in the window.
    pub(super) fn renew(&mut self, age: Duration) {
        let control = std::mem::take(&mut self.whole).control;
        if self.tells(&control) {
            self.remembered = Some((age, control));
        }
        self.whole_since = age;
    }

    /// Nobody watched for so long: what is older than the window is forgotten.
    pub(super) fn after_gap(&mut self, gap: Duration) {
        if gap > self.condition.lasting {
            self.pieces = [Piece::default()].into();
            (self.row, self.tripped) = (0, Tripped::No);
        }
        self.remembered.take_if(|_| gap > REMEMBERED);
    }

    /// Counts what came.
    pub(super) fn observe(&mut self, group: &Counts, control: &Counts) {
        let metric = self.condition.metric;
        let came = Piece { group: metric.part(group), control: metric.part(control) };
        self.whole.merge(&came);
        if let Some(newest) = self.pieces.back_mut() {
            newest.merge(&came);
        }
    }

    /// Looks at the last quarter, where its time has come; answers what the last check said.
    pub(super) fn check(&mut self, age: Duration) -> &Tripped {
        if age < self.next {
            return &self.tripped;
        }
        let window = self.window();
        self.row = self.row_after(&window, age);
        self.tripped = match self.row {
            ROW if self.is_shared(age) => Tripped::Shared(self.now_in_words(age)),
            ROW => Tripped::Yes(self.now_in_words(age)),
            _ => Tripped::No,
        };
        let quarter = self.condition.lasting / u32::from(ROW);
        while self.next <= age {
            self.next += quarter;
            self.pieces.push_back(Piece::default());
        }
        self.pieces.drain(..self.pieces.len().saturating_sub(usize::from(ROW)));
        &self.tripped
    }

    fn row_after(&self, window: &Piece, age: Duration) -> u8 {
        let (found, whole) = (self.find(window, age), self.find(&self.whole, age));
        let Some(limit) = found.limit.or(whole.limit) else { return self.row };
        let is_long = age.saturating_sub(self.whole_since) > self.condition.lasting;
        let breaches = match (found.proof, whole.proof) {
            (Proof::Within, _) | (Proof::TooFew, Proof::Within) if self.has_news() => return 0,
            (Proof::Certain, _) => 2,
            (Proof::Likely, _) => 1,
            (Proof::TooFew | Proof::Over, Proof::Certain) if is_long => 2,
            _ => 0,
        };
        (self.row + breaches.min(self.lasts(limit))).min(ROW)
    }

    /// Whether the newest quarter has anything to say.
    fn has_news(&self) -> bool {
        self.pieces.back().is_some_and(|newest| self.condition.metric.count(&newest.group) > 0)
    }

    /// How many breaches a check may count: none where the newest quarter is not over the limit, or the window without its
    /// worst one; one where no other quarter tells anything.
    fn lasts(&self, limit: f64) -> u8 {
        let metric = self.condition.metric;
        let values: Vec<_> = self.pieces.iter().map(|piece| metric.value(&piece.group)).collect();
        let is_over = |value: Option<f64>| value.is_some_and(|value| metric.is_over(value, limit));
        if !is_over(values.last().copied().flatten()) {
            return 0;
        }
        let worse = |a: f64, b: f64| if metric.higher_is_worse() { a.total_cmp(&b) } else { b.total_cmp(&a) };
        let told = values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?)));
        let worst = told.clone().max_by(|a, b| worse(a.1, b.1)).map(|(at, _)| at);
        let mut others = Counts::default();
        for (at, _) in told.filter(|(at, _)| Some(*at) != worst) {
            others.merge(&self.pieces[at].group);
        }
        match metric.value(&others) {
            None => 1,
            others => 2 * u8::from(is_over(others)),
        }
    }

    fn is_shared(&self, age: Duration) -> bool {
        let told = self.telling(age);
        self.condition.is_shared(&told.group, &told.control)
    }

    /// What the last quarters say together.
    pub(super) fn window(&self) -> Piece {
        let mut window = Piece::default();
        self.pieces.iter().for_each(|piece| window.merge(piece));
        window
    }

    /// What tells more: the window where it proves something or has enough, else the whole stage.
    pub(super) fn telling(&self, age: Duration) -> Piece {
        let window = self.window();
        match self.find(&window, age).proof {
            Proof::Within | Proof::Likely | Proof::Certain => window,
            Proof::Over | Proof::TooFew => self.whole.clone(),
        }
    }

    /// What these counts say, beside a control that tells enough.
    pub(super) fn find(&self, piece: &Piece, age: Duration) -> Finding {
        self.condition.judge(&piece.group, self.control(piece, age))
    }

    /// What these counts are compared with: the control's of the same time; where they are too few the stage's, then those
    /// of the stage before.
    pub(super) fn control<'a>(&'a self, piece: &'a Piece, age: Duration) -> &'a Counts {
        let remembered = self.remembered.as_ref().filter(|(at, _)| age.saturating_sub(*at) <= REMEMBERED);
        // Whether a cause is shared is not told by what was before.
        let remembered = remembered.filter(|_| matches!(self.condition.limit, Limit::TimesControl(_)));
        let all = [Some(&piece.control), Some(&self.whole.control), remembered.map(|(_, control)| control)];
        all.into_iter().flatten().find(|control| self.tells(control)).unwrap_or(&piece.control)
    }

    /// Whether the control had enough of the same to be compared with.
    pub(super) fn has_control(&self, age: Duration) -> bool {
        self.tells(&self.telling(age).control)
    }

    /// Why the group is clearly worse than the control over the whole stage, whatever the limit.
    pub(super) fn excess(&self, age: Duration) -> Option<String> {
        let Piece { group, control } = &self.whole;
        let is_clear = more_than_other(group.failures, group.told, control.failures, control.told) < CLEARLY_MORE;
        let [part, other] = [group, control].map(|counts| counts.error_rate().unwrap_or_default());
        let is_more = self.tells(group) && self.tells(control) && part > 2.0 * other + MORE;
        (is_clear && is_more).then(|| format!("over the whole stage {}", self.in_words(&self.whole, age)))
    }

    /// Why a stage must not end yet. `is_all`: the canary gets everything, and there is no control.
    pub(super) fn objection(&self, age: Duration, is_all: bool) -> Option<Hold> {
        let found = self.find(&self.whole, age);
        let (name, least) = (self.condition.metric.name(), self.condition.metric.least());
        match found.proof {
            Proof::TooFew if found.count < least => {
                let reason = format!("{name} is told by {} requests of the {least} that it needs", found.count);
                Some(Hold::TooLittleData { reason })
            }
            Proof::TooFew if is_all => None,
            Proof::TooFew => {
                let told = self.condition.metric.count(&self.whole.control);
                let reason = format!("{name}: the control has {told} requests of the {least} that it takes to compare");
                Some(Hold::TooLittleData { reason })
            }
            Proof::Within if self.row == 0 => None,
            Proof::Within => {
                let reason = format!("{} of {ROW} checks in a row breached: {}", self.row, self.now_in_words(age));
                Some(Hold::Unproven { reason })
            }
            Proof::Over | Proof::Likely | Proof::Certain => {
                let reason = format!("over the whole stage {}", self.in_words(&self.whole, age));
                Some(Hold::Unproven { reason })
            }
        }
    }

    /// What tells more, in words.
    pub(super) fn now_in_words(&self, age: Duration) -> String {
        self.in_words(&self.telling(age), age)
    }

    fn tells(&self, control: &Counts) -> bool {
        let metric = self.condition.metric;
        metric.count(control) >= metric.least()
    }
}
