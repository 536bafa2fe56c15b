//! Guards over the servers of one backend, between the health of each and the weights of all.
//!
//! Knows shares of base weights, not why they are what they are, and no HAProxy. Called by `weights`, before anything
//! is written.
//!
//! The guards stand in [`guard`] in the order in which they rule; each takes the members and may rule on all of them.
//! Only the last resort stands there yet: fail open. Missing are "suspect ourselves" (before it) and "never more than
//! half" (beside it), which need what the servers told within the last half a minute.

use crate::model::{AdminState, ServerId, Weight};

/// One server, as the guards see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which.
    pub id: ServerId,
    /// 1 takes traffic first, 2 when no server of tier 1 can.
    pub tier: u8,
    /// What the operator gave it.
    pub base: Weight,
    /// The administrative axis, which no guard touches.
    pub admin: AdminState,
    /// The share of the base weight that is planned for it; 0: out.
    pub share: f64,
}

/// What the guards say of a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum Guarded {
    /// The planned shares may be written.
    AsPlanned,
    /// Every server would be out: these get their base weight, whatever their health.
    FailOpen {
        /// All but those in maint and those that the operator gave no weight.
        regain: Vec<ServerId>,
        /// One sentence for people.
        why: String,
    },
}

impl Member {
    /// Whether traffic may come to it, as far as the operator is concerned.
    fn is_wanted(&self) -> bool {
        self.admin == AdminState::Ready && self.base > Weight::ZERO
    }
}

/// Rules over one backend.
pub fn guard(members: &[Member]) -> Guarded {
    never_empty(members).unwrap_or(Guarded::AsPlanned)
}

/// Fails open when no server of any tier would be left: a wrong verdict on all of them is likelier than a provider
/// that mends because we send it nothing, and HAProxy's answer to an empty pool is a 503 to everybody.
///
/// A pool that the operator drained or emptied by hand is not refilled.
fn never_empty(members: &[Member]) -> Option<Guarded> {
    let mut wanted = members.iter().filter(|member| member.is_wanted()).peekable();
    wanted.peek()?;
    if wanted.any(|member| member.share > 0.0) {
        return None;
    }
    let regains = |member: &&Member| member.admin != AdminState::Maint && member.base > Weight::ZERO;
    let regain: Vec<_> = members.iter().filter(regains).map(|member| member.id.clone()).collect();
    let why = format!("no server of the pool is healthy: {} take their base weight again", regain.len());
    Some(Guarded::FailOpen { regain, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, tier: u8, admin: AdminState, base: u16, share: f64) -> Member {
        Member { id: format!("chat/{name}").parse().unwrap(), tier, base: Weight::new(base).unwrap(), admin, share }
    }

    fn check(members: &[Member], expected: Option<&[&str]>) {
        let regained = match guard(members) {
            Guarded::AsPlanned => None,
            Guarded::FailOpen { regain, .. } => Some(regain.iter().map(|id| id.server.to_string()).collect::<Vec<_>>()),
        };
        let expected = expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(regained, expected, "{members:?}");
    }

    #[test]
    fn a_pool_with_one_server_left_in_any_tier_is_as_planned() {
        let ready = AdminState::Ready;
        check(&[member("a", 1, ready, 100, 0.0), member("b", 1, ready, 100, 0.1)], None);
        check(&[member("a", 1, ready, 100, 0.0), member("b", 2, ready, 100, 1.0)], None);
    }

    #[test]
    fn an_empty_pool_fails_open_for_all_but_maint_and_weightless() {
        let (ready, drain, maint) = (AdminState::Ready, AdminState::Drain, AdminState::Maint);
        let members = [
            member("a", 1, ready, 100, 0.0),
            member("b", 1, maint, 100, 1.0),
            member("c", 2, drain, 100, 1.0),
            member("d", 2, ready, 0, 1.0),
            member("e", 2, ready, 10, 0.0),
        ];
        check(&members, Some(&["a", "c", "e"]));
    }

    #[test]
    fn a_pool_that_the_operator_emptied_stays_empty() {
        check(&[], None);
        check(&[member("a", 1, AdminState::Maint, 100, 0.0), member("b", 1, AdminState::Drain, 100, 0.0)], None);
        check(&[member("a", 1, AdminState::Ready, 0, 0.0)], None);
    }
}
