//! How wide the terminal is on which standard output is read.

use std::io::{IsTerminal, stdout};

/// Columns where nobody says otherwise.
const USUAL: usize = 80;
/// Narrower than this nothing can be shown in columns.
const LEAST: usize = 40;

/// Columns of standard output: as `COLUMNS` says, as the terminal says, or 80.
pub fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
    let seen = || {
        let size = stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(stdout()).ok()).flatten()?;
        Some(usize::from(size.ws_col))
    };
    told.or_else(seen).filter(|columns| *columns > 0).unwrap_or(USUAL).max(LEAST)
}
