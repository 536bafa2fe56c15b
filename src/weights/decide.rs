//! The weights of one backend's servers, each with its factors.
//!
//! Called by `agent`, once for each backend.

use super::latency::{Rivals, takes_traffic};
use super::{cap, smoothing};
use crate::health::{Factor, FactorName, Guard, Member, PoolGuards, Ruling, Signals};
use crate::model::{AdminState, Moment, ServerId, Weight};
use serde::Serialize;

/// How the weights of a backend come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weighting {
    /// base × health.
    #[default]
    Static,
    /// base × health × speed relative to the best of the tier.
    Adaptive,
}

/// What is known of one server of the backend.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolMember {
    /// Which.
    pub id: ServerId,
    /// What the operator's file gives it.
    pub base: Weight,
    /// What the operator's command gives it: that it has, whatever its health.
    pub pinned: Option<Weight>,
    /// What the operator wants of it.
    pub admin: AdminState,
    /// 1 or 2.
    pub tier: u8,
    /// [`ServerHealth::factor`](crate::health::ServerHealth::factor); `None`: unknown, keep the weight.
    pub health: Option<Factor>,
    /// [`ServerHealth::signals`](crate::health::ServerHealth::signals).
    pub signals: Signals,
    /// What HAProxy runs; `None`: it does not know this server yet, which is as good as at its base weight.
    pub runs: Option<Weight>,
    /// The value of `health` at the decision before; `None`: this life of the agent has decided nothing yet.
    pub decided_with: Option<f64>,
}

/// One line of `explain`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorLine {
    /// What it is.
    pub name: FactorName,
    /// What the product so far is multiplied with, 0 or more. `guard` begins anew: it multiplies the base.
    pub value: f64,
    /// One sentence for people.
    pub why: String,
}

/// The weight of one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightDecision {
    /// Which server.
    pub id: ServerId,
    /// What the factors begin with.
    pub base: Weight,
    /// What HAProxy is to run: the base times all factors, rounded, and at least 1 unless a factor is 0.
    pub weight: Weight,
    /// In the order in which they apply; factors that change nothing are left out, but for the first.
    pub factors: Vec<FactorLine>,
    /// The pool failed open: why. The same on each server of the backend.
    pub panic: Option<String>,
}

/// Decides on every member of one backend, in the order of `members`.
///
/// `guards`
/// are the backend's own and remember; `suspected` says why it may be our own network that fails. Only where it is
/// `compares`' time are the servers of an adaptive backend compared anew: in between, and until there is something to
/// compare after a start, each keeps its part of what runs.
pub fn decide(
    weighting: Weighting,
    members: &[PoolMember],
    guards: &mut PoolGuards,
    suspected: Option<&str>,
    compares: bool,
    now: Moment,
) -> Vec<WeightDecision> {
    let mut planned: Vec<Product> = members.iter().map(|member| Product::begin(member, member.runs)).collect();
    if weighting == Weighting::Adaptive {
        adapt(members, &mut planned);
    }
    let runs: Vec<Weight> = members.iter().map(|member| member.runs.unwrap_or(member.base)).collect();
    let as_guarded: Vec<Member> = members
        .iter()
        .zip(&planned)
        .zip(&runs)
        .map(|((member, product), runs)| product.member(member, *runs))
        .collect();
    let rulings = guards.rule(&as_guarded, suspected, now);
    let panic = guards.active().find(|(guard, ..)| *guard == Guard::FailOpen).map(|(.., why)| why.to_owned());

    let decide_one = |(((member, product), ruling), runs): (((&PoolMember, &mut Product), Ruling), Weight)| {
        match ruling {
            // An emergency neither waits for the dead band nor for the slew.
            Ruling::Share(share, why) => product.begin_anew(share, why),
            Ruling::Hold(weight, why) => product.begin_anew(share(weight, member.base), why),
            Ruling::AsPlanned => match &member.health {
                Some(health) if weighting == Weighting::Adaptive && !compares => {
                    product.keep_part(health.value, member.decided_with, runs);
                }
                Some(_) => product.smooth(weighting, runs),
                None => {}
            },
        }
        WeightDecision {
            id: member.id.clone(),
            base: member.base,
            weight: product.weight(),
            factors: std::mem::take(&mut product.factors),
            panic: panic.clone(),
        }
    };
    members.iter().zip(&mut planned).zip(rulings).zip(runs).map(decide_one).collect()
}

/// Multiplies with what the servers of each tier are worth beside each other.
fn adapt(members: &[PoolMember], planned: &mut [Product]) {
    for tier in [1, 2] {
        let rivals = Rivals::of(tier, members);
        let of_tier = |member: &PoolMember| member.tier == tier && member.health.is_some();
        for (member, product) in members.iter().zip(planned.iter_mut()).filter(|(member, _)| of_tier(member)) {
            let (value, why) = rivals.factor(member);
            product.multiply(FactorName::Latency, value, why);
            if let Some((value, why)) = rivals.queue(member) {
                product.multiply(FactorName::Queue, value, why);
            }
        }
        // Who is being let in does not count yet, or it would pull the others down with it.
        let in_full = |member: &PoolMember| {
            member.health.as_ref().is_some_and(|health| health.name == FactorName::Health) && takes_traffic(member)
        };
        let mut full: Vec<(&PoolMember, &mut Product)> =
            members.iter().zip(planned.iter_mut()).filter(|(member, _)| of_tier(member) && in_full(member)).collect();
        let parts: Vec<cap::FullServer> = full
            .iter()
            .map(|(member, product)| cap::FullServer { base: f64::from(member.base.get()), share: product.share })
            .collect();
        for ((_, product), factor) in full.iter_mut().zip(cap::factors(&parts)) {
            product.multiply(
                FactorName::Cap,
                factor,
                "no server of three or more carries over 60 % of a pool".to_owned(),
            );
        }
    }
}

/// A base weight and what it is multiplied with.
struct Product {
    base: Weight,
    share: f64,
    factors: Vec<FactorLine>,
}

impl Product {
    fn begin(member: &PoolMember, runs: Option<Weight>) -> Self {
        let mut product = Self { base: member.base, share: 1.0, factors: Vec::with_capacity(1) };
        let (name, value, why) = match (&member.health, runs) {
            (Some(Factor { name, value, why, kind: _ }), _) => (*name, *value, why.clone()),
            (None, Some(runs)) => (
                FactorName::Kept,
                share(runs.min(member.base), member.base),
                format!("nothing is known of the server yet: it keeps the {runs} that it runs"),
            ),
            (None, None) => (FactorName::Kept, 1.0, "nothing is known of the server yet, and it is new".to_owned()),
        };
        product.multiply(name, value, why);
        product
    }

    /// The weight that the product stands for. A share above 0 never vanishes in rounding.
    fn weight(&self) -> Weight {
        if self.base == Weight::ZERO || self.share <= 0.0 {
            return Weight::ZERO;
        }
        Weight::clamped(f64::from(self.base.get()) * self.share).max(Weight::clamped(1.0))
    }

    fn member(&self, member: &PoolMember, runs: Weight) -> Member {
        let share = if member.pinned.is_some() { 1.0 } else { self.share };
        Member {
            id: member.id.clone(),
            tier: member.tier,
            base: member.pinned.unwrap_or(member.base),
            capacity: member.base,
            admin: member.admin,
            share,
            kind: member.health.as_ref().map(|health| health.kind).unwrap_or_default(),
            success: member.signals.success.unwrap_or(0.0),
            runs,
        }
    }

    fn multiply(&mut self, name: FactorName, value: f64, why: String) {
        self.share *= value;
        if value != 1.0 || self.factors.is_empty() {
            self.factors.push(FactorLine { name, value, why });
        }
    }

    /// Moves the product to a weight, and says so as a factor. Only for a product above 0: from 0 no factor leads
    /// anywhere.
    fn adjust(&mut self, name: FactorName, weight: Weight, why: String) {
        let before = self.share;
        self.share = share(weight, self.base);
        self.factors.push(FactorLine { name, value: self.share / before, why });
    }

    /// Goes back to a share of the base weight, whatever the factors so far.
    fn begin_anew(&mut self, share: f64, why: String) {
        self.share = if self.base == Weight::ZERO { 0.0 } else { share };
        self.factors.push(FactorLine { name: FactorName::Guard, value: self.share, why });
    }

    /// Between two comparisons only what health says moves the weight: not what a server is worth beside the others.
    fn keep_part(&mut self, health: f64, before: Option<f64>, runs: Weight) {
        let base = f64::from(self.base.get());
        let kept = match before {
            // From 0 nothing can be kept.
            _ if runs == Weight::ZERO || health <= 0.0 => return,
            Some(before) if before <= 0.0 => return,
            Some(before) => f64::from(runs.get()) * health / before,
            None => f64::from(runs.get()),
        };
        let target = self.weight();
        let kept = Weight::clamped(kept.min(base * health)).max(Weight::clamped(1.0));
        let kept =
            if before == Some(health) { kept } else { smoothing::dead_band(self.base, runs.min(self.base), kept) };
        if kept != target {
            self.adjust(
                FactorName::Kept,
                kept,
                "the servers are compared every 5 s, and not at once after a start".to_owned(),
            );
        }
    }

    fn smooth(&mut self, weighting: Weighting, runs: Weight) {
        let target = self.weight();
        let held = smoothing::dead_band(self.base, runs.min(self.base), target);
        if held != target {
            self.adjust(
                FactorName::DeadBand,
                held,
                format!("{target} is too near to the {held} that runs to be worth a write"),
            );
        }
        if weighting == Weighting::Adaptive {
            let reached = smoothing::slew(self.base, runs, held);
            if reached != held {
                self.adjust(
                    FactorName::Slew,
                    reached,
                    format!("on the way from {runs} to {held}, a quarter of the base at a time"),
                );
            }
        }
    }
}

/// A base of 0 has no shares: it stays 0, because the operator said so.
fn share(weight: Weight, base: Weight) -> f64 {
    if base == Weight::ZERO { 0.0 } else { f64::from(weight.get()) / f64::from(base.get()) }
}
