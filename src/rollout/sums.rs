//! One quantity over another (tokens over seconds, cost over requests), with what a bound on their ratio needs.

use serde::{Deserialize, Serialize};

/// Sums of pairs. The ratio is that of the sums: an answer with more tokens counts for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// How many pairs.
    pub count: u64,
    above: f64,
    below: f64,
    above_squared: f64,
    below_squared: f64,
    product: f64,
}

impl Sums {
    /// Counts one pair.
    pub fn add(&mut self, above: f64, below: f64) {
        self.merge(&Self {
            count: 1,
            above,
            below,
            above_squared: above * above,
            below_squared: below * below,
            product: above * below,
        });
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        let Self { count, above, below, above_squared, below_squared, product } = *other;
        self.count += count;
        self.above += above;
        self.below += below;
        self.above_squared += above_squared;
        self.below_squared += below_squared;
        self.product += product;
    }

    /// The ratio; `None` where nothing was counted.
    pub fn ratio(&self) -> Option<f64> {
        (self.below > 0.0).then(|| self.above / self.below)
    }

    /// The standard error of the ratio, as a part of it.
    ///
    /// **Source**: the usual estimator of a ratio (Cochran, Sampling Techniques, 6.4).
    pub fn relative_error(&self) -> Option<f64> {
        let ratio = self.ratio().filter(|ratio| *ratio > 0.0 && self.count > 1)?;
        let n = self.count as f64;
        let squares = self.above_squared - 2.0 * ratio * self.product + ratio * ratio * self.below_squared;
        Some((squares.max(0.0) * n / (n - 1.0)).sqrt() / self.above)
    }
}
