//! What an apply is asked for, what it was decided from, and how it ended: values between `engine` and who calls it.

use super::limits::RELOAD_GAP;
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::Refusal;
use crate::desired::Desired;
use crate::plan::{self, FileChange, Observed, Plan, Step};
use crate::render::{self, LineOrigin, Rendered};
use crate::sys;
use crate::sys::files::Stamp;
use camino::Utf8PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What is wanted, as values and as the text that it stems from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The operator's file and what it refers to.
    pub sources: &'a Sources,
    /// The decision.
    pub desired: &'a Desired,
    /// The operator allows to replace a file that is not ours.
    pub may_replace_foreign_file: bool,
    /// Nothing but weights, states and drift: the revision serves already. Its runtime commands are sent even where
    /// its files cannot be written, because a broken server must go out whatever the disk says.
    pub is_serving: bool,
    /// A forced change or a rollback: neither the budget of reloads nor the cap on old workers holds it back.
    pub may_exceed_limits: bool,
}

impl Wish<'_> {
    /// Where each line of its haproxy.cfg comes from.
    pub(in crate::agent) fn line_origins(&self, rendered: &Rendered) -> Vec<LineOrigin> {
        render::line_origins(self.desired, &self.sources.templates, rendered.target)
    }
}

/// A decision with everything that it was made from.
#[derive(Debug)]
pub struct Prepared {
    /// The files.
    pub rendered: Arc<Rendered>,
    /// What was there.
    pub observed: Observed,
    /// The change.
    pub plan: Plan,
    /// haproxy.cfg as it was, empty where there was none or where it is not text.
    pub live_text: String,
    /// What stood for it.
    pub stamp: Option<Stamp>,
}

/// What an apply did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The way that was taken.
    pub how: How,
    /// Runtime commands that were sent, in order.
    pub steps: Vec<Step>,
    /// Why a reload was needed.
    pub reload_reasons: Vec<plan::ReloadReason>,
    /// Files that were written.
    pub files: Vec<FileChange>,
    /// A foreign haproxy.cfg was kept here.
    pub kept: Option<Utf8PathBuf>,
    /// What the proof of the reload leaves open.
    pub remarks: Vec<String>,
}

impl Applied {
    /// Everything is as it was.
    pub fn nothing() -> Self {
        Self { how: How::Unchanged, steps: vec![], reload_reasons: vec![], files: vec![], kept: None, remarks: vec![] }
    }
}

/// The way that an apply took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Everything was as it should be: no write at all.
    Unchanged,
    /// Files only; the running HAProxy already had it.
    Files,
    /// Commands on the admin socket.
    Runtime,
    /// A proven reload.
    Reload,
    /// Files were written; HAProxy does not run yet.
    Start,
}

impl How {
    /// A reload outranks runtime commands, which outrank files.
    pub(in crate::agent) fn raise(&mut self, to: Self) {
        let rank = |how: Self| match how {
            Self::Unchanged => 0,
            Self::Files => 1,
            Self::Runtime => 2,
            Self::Reload | Self::Start => 3,
        };
        if rank(to) > rank(*self) {
            *self = to;
        }
    }
}

impl ApplyError {
    /// HAProxy could not be asked.
    pub(in crate::agent) fn unasked(error: &(dyn std::error::Error + 'static)) -> Self {
        let why = Refusal::new(sys::chain(error));
        if sys::lack::is_ours_within(error) { Self::Own(why) } else { Self::Observe(why) }
    }

    /// What kept the files of a revision that serves already from being written.
    pub(in crate::agent) fn of_files(self) -> Self {
        match self {
            // Something was done: health steers HAProxy.
            Self::Refused(why) | Self::Write(why) => Self::Files(why),
            other => other,
        }
    }

    /// Why, what serves now, and what to do.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Render(why) | Self::Observe(why) | Self::Refused(why) => why.clone().nothing_changed(),
            Self::Own(why) => {
                let help =
                    "this agent lacks descriptors, memory or processes (LimitNOFILE, TasksMax): HAProxy may be well";
                why.clone().help(help).nothing_changed()
            }
            Self::TooSoon(_) => Refusal::new(format_args!(
                "the last reload was less than {} s ago; the next one follows by itself",
                RELOAD_GAP.as_secs()
            )),
            Self::Write(why) => why.clone().done("HAProxy was not touched"),
            Self::Files(why) => why.clone().done(
                "weights and states reach HAProxy all the same; its files follow by themselves when this is mended",
            ),
            Self::Unwritten(why) | Self::Reload(why) => why.clone(),
            Self::Execute(why) => why
                .clone()
                .done("the files hold the new revision; the agent tries again by itself, or run `hapilot apply` again"),
        }
    }
}

/// Why an apply ended early.
#[derive(Debug)]
pub enum ApplyError {
    /// The desired state could not be rendered.
    Render(Refusal),
    /// The running HAProxy or the files could not be looked at.
    Observe(Refusal),
    /// This process lacks descriptors, memory or the like: nothing is known of HAProxy.
    Own(Refusal),
    /// A check found the revision unfit.
    Refused(Refusal),
    /// The last reload was too recent; try again at this moment.
    TooSoon(Instant),
    /// Its trial could not be written down or guarded; nothing was changed.
    Unwritten(Refusal),
    /// A file could not be written; what was written before it has been put back.
    Write(Refusal),
    /// What serves already could not be written into its files; health steers HAProxy all the same.
    Files(Refusal),
    /// HAProxy refused the reload or the new worker could not be proven; the files have been put back.
    Reload(Refusal),
    /// Runtime commands failed; files are new, the next round tries again.
    Execute(Refusal),
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.refusal())
    }
}

impl std::error::Error for ApplyError {}

impl From<Refusal> for ApplyError {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}
