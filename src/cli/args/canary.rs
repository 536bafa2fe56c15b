//! `canary …`

use super::parse_name;
use crate::model::Name;
use clap::{Args, Subcommand};

/// `canary …`
#[derive(Clone, Debug, Subcommand)]
pub enum CanaryCommand {
    /// Show where canaries are: every number, its bound, and what each waits for
    Status {
        /// The name in `[canary.NAME]`; default: all
        #[arg(value_name = "NAME", value_parser = parse_name)]
        name: Option<Name>,
    },
    /// Go on to the next stage now; through a gate, or to the end
    Promote(CanaryTarget),
    /// Stay at this stage until `resume` or `promote`; its conditions go on
    Hold(CanaryTarget),
    /// Go on after `hold`
    Resume(CanaryTarget),
    /// Give all clients back to the control group, at once
    Abort(CanaryTarget),
    /// Begin anew with the first stage, after a rollback or the end
    Restart {
        /// Which
        #[command(flatten)]
        target: CanaryTarget,
        /// Also where the same was rolled back less than half an hour ago
        #[arg(long)]
        force: bool,
    },
}

/// Which canary.
#[derive(Clone, Debug, Args)]
pub struct CanaryTarget {
    /// The name in `[canary.NAME]`
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: Name,
}
