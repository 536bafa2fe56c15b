//! Canaries and soaks in simulated time, with seeds: traffic that comes by chance, servers that fail by chance.
//!
//! The tests of a build run a few; `scripts/measure/rollouts` runs thousands and prints what came of them
//! (`HAPILOT_ROLLOUTS`: so many of each kind; `HAPILOT_ROLLOUTS_SEED`: other dice).

mod canaries;
mod lives;
mod naive;
mod soaks;
mod table;

use super::{Counts, Request};
use std::time::Duration;

/// Small random numbers with a seed (SplitMix64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// 0 to 1, neither included.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((bits ^ (bits >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Around 1, as times and costs are: half of them below it.
    fn log_normal(&mut self, sigma: f64) -> f64 {
        let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), 2.0 * std::f64::consts::PI * self.unit());
        (sigma * radius * angle.cos()).exp()
    }

    /// How many come, where so many come on average.
    fn arrivals(&mut self, average: f64) -> u32 {
        let (mut count, mut left) = (0, average);
        loop {
            left += self.unit().ln();
            if left < 0.0 {
                return count;
            }
            count += 1;
        }
    }
}

/// How a group of servers answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Requests in a second.
    pub(super) rate: f64,
    /// The part that fails.
    pub(super) errors: f64,
    /// Half of the first tokens come within it, in seconds.
    pub(super) first_token: f64,
    /// Half of the answers end within it, in seconds.
    pub(super) latency: f64,
    /// Tokens in a second.
    pub(super) speed: f64,
    /// Dollars a request.
    pub(super) cost: f64,
}

impl Group {
    /// 1 % errors, first tokens within 0.4 s; latency: one of a thousand takes more than 3 s.
    pub(super) const HEALTHY: Self =
        Self { rate: 1.0, errors: 0.01, first_token: 0.4, latency: 1.2, speed: 40.0, cost: 0.01 };

    pub(super) fn at_rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    /// What comes in so many seconds.
    pub(super) fn counts(&self, seconds: f64, dice: &mut Dice) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..dice.arrivals(self.rate * seconds) {
            counts.add(&self.request(dice));
        }
        counts
    }

    fn request(&self, dice: &mut Dice) -> Request {
        if dice.unit() < self.errors {
            return Request { failed: Some(true), ..Request::default() };
        }
        let time = |seconds: f64| Some(Duration::from_secs_f64(seconds));
        let tokens = 100.0 * dice.log_normal(0.8);
        let took = tokens / (self.speed * dice.log_normal(0.3));
        Request {
            failed: Some(false),
            first_token: time(self.first_token * dice.log_normal(0.5)),
            latency: time(self.latency * dice.log_normal(0.3)),
            tokens: Some((tokens.ceil() as u64, Duration::from_secs_f64(took))),
            cost_nano_usd: Some((self.cost * 1e9 * dice.log_normal(1.0)) as u64),
            is_refused: false,
        }
    }
}

/// The middle one and the largest.
pub(super) fn median_and_worst(times: &mut [f64]) -> Option<(f64, f64)> {
    times.sort_by(f64::total_cmp);
    Some((*times.get(times.len() / 2)?, *times.last()?))
}

/// So many lives of each kind.
pub(super) fn lives_of_each_kind() -> u64 {
    from_environment("HAPILOT_ROLLOUTS").unwrap_or(1)
}

/// The first seed.
pub(super) fn seed() -> u64 {
    from_environment("HAPILOT_ROLLOUTS_SEED").unwrap_or(1)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Makes one for each seed, on all processors.
pub(super) fn for_seeds<T: Send>(seeds: std::ops::Range<u64>, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let one = &one;
    std::thread::scope(|scope| {
        let parts = (0..threads).map(|part| {
            let seeds = seeds.clone().filter(move |seed| seed % threads == part);
            scope.spawn(move || seeds.map(one).collect::<Vec<_>>())
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().expect("a simulation ends")).collect()
    })
}
