//! `alert`: who is told.

use clap::Subcommand;

/// `alert …`
#[derive(Clone, Debug, Subcommand)]
pub enum AlertCommand {
    /// How it goes with each sink: what it took last, what waits, why it does not deliver
    List,
    /// Send one test notification now, and say what the sink answered
    Test {
        /// The sink: NAME of `[alert.NAME]`
        #[arg(value_name = "NAME")]
        name: String,
    },
}
