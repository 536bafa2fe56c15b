//! How wide the terminal is on which an output is read.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Columns where nobody says otherwise.
const USUAL: usize = 80;
/// Narrower than this nothing can be shown in columns.
const LEAST: usize = 40;

/// Columns of an output: as `COLUMNS` says, as the terminal says, or 80.
pub fn columns(output: impl IsTerminal + AsFd) -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
    let seen = || {
        let size = output.is_terminal().then(|| rustix::termios::tcgetwinsize(&output).ok()).flatten()?;
        Some(usize::from(size.ws_col))
    };
    told.or_else(seen).filter(|columns| *columns > 0).unwrap_or(USUAL).max(LEAST)
}
