//! Which requests go to which backend: one of a frontend's `routes`.

use crate::model::{Name, Sourced};
use std::collections::BTreeMap;

/// One of `routes`. What is given must match, all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `path`: prefixes, each beginning with `/`; any of them.
    pub path: Vec<Sourced<String>>,
    /// `model`: globs with `*` and `?` on the request's model; any of them.
    pub model: Vec<Sourced<String>>,
    /// `no_model`: requests without any model, beside those of `model`.
    pub no_model: bool,
    /// `client`: globs on the client's name; any of them.
    pub client: Vec<Sourced<String>>,
    /// `plan`: globs on the plan's name; any of them.
    pub plan: Vec<Sourced<String>>,
    /// `header`: by names in lower case, globs on the one value; any of them.
    pub header: BTreeMap<String, Vec<Sourced<String>>>,
    /// `backend`: where to.
    pub backend: Sourced<Name>,
}

impl Route {
    /// Whether it looks at who asks, or at headers.
    pub fn looks_at_caller(&self) -> bool {
        !self.client.is_empty() || !self.plan.is_empty() || !self.header.is_empty()
    }
}
