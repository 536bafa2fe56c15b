//! Addresses that operators move away, and take back.

use super::released::Released;
use super::vips::Vips;
use crate::agent::outcome::report::Failed;
use crate::agent::tell::refusal::Refusal;
use crate::config::{Config, own_vips};
use crate::model::Name;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// An address that an operator takes back comes in this time or not at all.
pub(super) const RECLAIM: Duration = Duration::from_secs(10);

impl Vips {
    /// Moves addresses to other nodes: before this one is taken down. Answers which, in words.
    ///
    /// # Errors
    /// No such VIP, or nobody else can take it, unless `force`.
    pub(in crate::agent) fn release(&mut self, names: &[Name], force: bool, config: &Config) -> Result<String, Failed> {
        let names = called(config, names)?;
        if !force {
            self.refuse_orphans(&names)?;
        }
        let mut released = self.released.clone();
        released.extend(names.iter().cloned());
        self.set_released(released);
        Ok(list(&names))
    }

    /// Takes addresses back. Answers which, in words.
    ///
    /// # Errors
    /// No such VIP.
    pub(in crate::agent) fn reclaim(&mut self, names: &[Name], config: &Config) -> Result<String, Failed> {
        let names = called(config, names)?;
        let mut released = self.released.clone();
        released.retain(|name| !names.contains(name));
        self.wanted.extend(names.iter().cloned());
        self.wanted_until = Instant::now() + RECLAIM;
        self.set_released(released);
        Ok(list(&names))
    }

    /// Refuses where nobody else is known to be able to take one.
    fn refuse_orphans(&self, names: &[Name]) -> Result<(), Failed> {
        let report = self.report.borrow();
        for name in names.iter().filter(|name| report.vips.get(*name).is_some_and(|vip| vip.owned_since.is_some())) {
            let takers = report.peers.values().filter(|peer| peer.is_heard).filter_map(|peer| peer.news.as_ref());
            let can = takers.filter(|news| news.can_serve).filter_map(|news| news.vips.get(name.as_str()));
            if !can.filter_map(|vip| vip.word.as_ref()).any(|word| !word.fault && word.adjustment > -100) {
                let what = format!("no other node is known to be able to take {name}");
                return Err(Failed::refused(Refusal::new(what).help(
                    "`hapilot vip status` shows them; with --force it is released all the same, and stays here until \
                     somebody takes it",
                )));
            }
        }
        Ok(())
    }

    fn set_released(&mut self, released: BTreeSet<Name>) {
        self.kept.set(&released);
        self.released = released;
    }

    /// What is to be written down of it: that takes as long as the disk does.
    pub(in crate::agent) fn kept(&self) -> Released {
        self.kept.clone()
    }
}

fn list(names: &[Name]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The VIPs of these names; all, where none is named.
fn called(config: &Config, names: &[Name]) -> Result<Vec<Name>, Failed> {
    let own: Vec<Name> = own_vips(config).map(|vip| vip.name.clone()).collect();
    if own.is_empty() {
        return Err(no_vips());
    }
    match names.iter().find(|name| !own.contains(name)) {
        Some(unknown) => Err(Failed::refused(format!("this node has no [vip.{unknown}]; it has {}", list(&own)))),
        None if names.is_empty() => Ok(own),
        None => Ok(names.to_vec()),
    }
}

pub(in crate::agent) fn no_vips() -> Failed {
    Failed::refused("the file gives this node no part in a [vip.NAME]")
}
