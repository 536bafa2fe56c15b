//! Why a change is refused.

/// Everything that speaks against a change, one block of lines each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Objections(pub Vec<String>);
