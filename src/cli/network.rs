//! `__network`: makes the node's network what its virtual addresses need, once and without an agent.

use super::output::Failure;
use crate::agent::{Objection, Place, Refusal, SecretUse};
use crate::network;

/// `hapilot __network`: exit code 1 where something could not be done; the rest was.
pub(super) async fn settle(place: &Place) -> Result<(), Failure> {
    let sources = super::target::load(&place.using(SecretUse::Nothing))?;
    let problems = network::settle(&network::wanted(&sources.config)).await;
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(Refusal::of(problems.iter().map(Objection::new))))
}
