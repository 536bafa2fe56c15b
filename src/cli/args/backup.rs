//! `backup` and `restore`.

use camino::Utf8PathBuf;
use clap::Args;

/// `backup`
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// What is written: a name that ends in .tar.zst, say; `-`: standard output
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
}

/// `restore`
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// What `hapilot backup` wrote
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// Also where this node has a file or a history already, which are kept beside
    #[arg(long)]
    pub force: bool,
}
