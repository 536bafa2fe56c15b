//! hapilot.
fn main() {}
