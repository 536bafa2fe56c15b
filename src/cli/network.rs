//! `__network`: makes the node's network what its virtual addresses need, once and without an agent.

use super::output::{Failure, Output};
use crate::agent::{Place, SecretUse};
use crate::network;

/// `hapilot __network`: exit code 1 where something could not be done; the rest was.
pub(super) async fn settle(place: &Place, out: Output) -> Result<(), Failure> {
    let sources = super::target::load(&place.using(SecretUse::Nothing), out.color_err)?;
    let problems = network::settle(&network::wanted(&sources.config)).await;
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("error: {problem}")).collect();
    Err(Failure::refused(lines.join("\n")))
}
