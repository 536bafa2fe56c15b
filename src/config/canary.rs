//! A part of a backend's clients that is served in another way first: `[canary.NAME]`.

use crate::model::{Name, Sourced};
use crate::rollout::Rules;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `[canary.NAME]`: a split of the clients of one backend, and what becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// The table's name and place.
    pub name: Sourced<Name>,
    /// `servers` or `models`
    pub group: CanaryGroup,
    /// `sticky`
    pub sticky: Sticky,
    /// `override`: who may choose the group of a request.
    pub chosen: Option<GroupChoice>,
    /// `stages`, `rollback` and the rest of what decides.
    pub rules: Rules,
}

/// What the canary group gets.
#[derive(Clone, Debug, PartialEq)]
pub enum CanaryGroup {
    /// These servers of the backend, which nobody else gets while another one works.
    Servers(Vec<Name>),
    /// The servers of all, with these other models, by those that clients ask for.
    Models(BTreeMap<String, Sourced<String>>),
}

/// Who stays in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// Each client, known by its key; else by its address.
    Client,
    /// Each address; of IPv6 each /64.
    Address,
    /// Nobody: each request falls into a group by chance.
    Nobody,
}

/// `override`: a header by which some may choose the group of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupChoice {
    /// The header, whose value is the canary's name or `control`.
    pub header: String,
    /// Globs on the names of clients that may.
    pub clients: Vec<Sourced<String>>,
    /// Globs on the names of their plans.
    pub plans: Vec<Sourced<String>>,
    /// Addresses that may.
    pub addresses: Vec<IpAddr>,
}

impl Canary {
    /// Whether a server of the backend is the canary group's alone.
    pub fn has_server(&self, server: &Name) -> bool {
        matches!(&self.group, CanaryGroup::Servers(servers) if servers.contains(server))
    }

    /// The models of the canary group, where it has models of its own.
    pub fn models(&self) -> Option<&BTreeMap<String, Sourced<String>>> {
        match &self.group {
            CanaryGroup::Servers(_) => None,
            CanaryGroup::Models(models) => Some(models),
        }
    }
}
