//! Plan and apply: the only place that changes files and the running HAProxy.
//!
//! Order (I1, I2, I9): render → observe → decide → refuse or check (`haproxy -c` on the very bytes, ports,
//! master socket) → write files → runtime commands or a proven reload → observe again until nothing is left.
//! A failure before the writes has touched nothing; a failed reload puts the files back. Nothing else is ever undone:
//! the next round observes and plans again. Commands go to the worker that the plan was made for; where another serves
//! by then, they are not sent, and the next round plans for that one.

use super::haproxy_look;
use super::interim::Interim;
use super::maxconn_look::MaxconnLook;
use super::reloading::reload;
use super::renderer::Renderer;
use crate::agent::files::leaving_out::leave_out;
use crate::agent::files::live_files::{LiveFiles, Undo};
use crate::agent::history::ledger::Ledger;
use crate::agent::judge::checks::Checks;
use crate::agent::judge::preflight::{self, CheckRemarks};
use crate::agent::judge::start;
use crate::agent::outcome::applied::{Applied, ApplyError, How, Prepared, Wish};
use crate::agent::outcome::corrections::Corrections;
use crate::agent::outcome::limits::{RELOAD_GAP, ReloadLimits};
use crate::agent::sources::certificate_checks::check_certificates;
use crate::agent::sources::unread::Unread;
use crate::agent::tell::bulletin::Bulletin;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::unanswered::Unanswered;
use crate::event::{Event, EventKind, Severity};
use crate::haproxy;
use crate::model::Digest;
use crate::plan::{self, Action, Expectation, Observed, Step};
use crate::render::Rendered;
use crate::store::Journal;
use crate::sys;
use crate::sys::files::Stamp;
use camino::Utf8Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rounds of observe, decide, execute until the apply gives up: one change, its re-assertion after a reload, and one
/// more for what happened meanwhile.
const MAX_ROUNDS: usize = 4;
/// For runtime commands: 5,000 weights take 25 ms.
const EXECUTE_DEADLINE: Duration = Duration::from_secs(10);

/// For one question to an old worker.
const LOOK_DEADLINE: Duration = Duration::from_millis(500);
/// So many old workers are asked each time; more are only counted.
const MAX_LOOKS: usize = 32;

/// Carries changes out, one at a time.
#[derive(Debug)]
pub struct Engine {
    /// The HAProxy that was seen last.
    pub runtime: Option<plan::Runtime>,
    /// When it was asked for that.
    pub seen: Option<Instant>,
    /// Since when nobody listens on the admin socket.
    pub absent_since: Option<Instant>,
    /// The version that was rendered for last: the running one, else the installed one.
    pub version: Option<plan::Version>,
    /// What HAProxy said when files were last judged.
    pub said: CheckRemarks,
    /// Why the HAProxy that the last apply prepared may not start.
    pub doubts: Option<String>,
    /// What HAProxy warned about in the files that were last applied.
    pub warnings: Vec<String>,
    /// haproxy.cfg as it was before the last change (empty where HAProxy only followed), and what was rendered for it.
    pub last: Option<(String, Arc<Rendered>)>,
    /// The files as they were left, and what stood for haproxy.cfg then.
    pub(super) left: Option<(Stamp, Arc<Rendered>)>,
    pub(in crate::agent) renderer: Renderer,
    /// Digest of the last haproxy.cfg structure that passed `haproxy -c`, with the template that made it.
    pub(super) judged: Option<Digest>,
    /// A `haproxy -c` that runs already while HAProxy is looked at.
    pub(in crate::agent) checks: Checks,
    /// HAProxy refused to add or remove a server in this apply: its words.
    pub(super) reload_instead: Option<String>,
    pub(super) last_reload: Option<Instant>,
    /// Writes since the start: files, runtime commands, reloads.
    pub writes: u64,
    /// Reloads since the start.
    pub reloads: u64,
    /// How many reloads are too many.
    pub limits: ReloadLimits,
    /// Drift that was put right.
    pub corrections: Corrections,
    /// Tells them.
    pub bulletin: Bulletin,
    /// Nothing is changed: what would be, one line each, newest state. `None`: changes are made.
    pub would: Option<Vec<String>>,
    /// Where intents are written down; `None` where nothing is applied.
    pub(in crate::agent) journal: Option<Journal>,
    /// The last look brought HAProxy what it should have, and not its files.
    pub files_wait: bool,
    /// Whether HAProxy answers.
    pub unanswered: Unanswered,
    /// What was decided and sent beside the order that is carried out.
    pub(in crate::agent) news: Interim,
    /// The engine itself is away.
    pub(in crate::agent) stands_in: bool,
    pub(super) expected: Option<Expectation>,
    pub(super) maxconn_look: MaxconnLook,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine that has judged nothing yet.
    pub fn new() -> Self {
        Self {
            runtime: None,
            seen: None,
            absent_since: None,
            version: None,
            said: CheckRemarks::default(),
            doubts: None,
            warnings: vec![],
            last: None,
            left: None,
            renderer: Renderer::default(),
            judged: None,
            checks: Checks::default(),
            reload_instead: None,
            last_reload: None,
            writes: 0,
            reloads: 0,
            limits: ReloadLimits::default(),
            corrections: Corrections::default(),
            bulletin: Bulletin::log_only(),
            would: None,
            journal: None,
            files_wait: false,
            unanswered: Unanswered::default(),
            news: Interim::default(),
            stands_in: false,
            expected: None,
            maxconn_look: MaxconnLook::default(),
        }
    }

    /// Renders, observes and decides; changes nothing.
    ///
    /// # Errors
    /// [`ApplyError::Render`] and [`ApplyError::Observe`].
    pub async fn prepare(&mut self, wish: Wish<'_>, ledger: Option<&Ledger>) -> Result<Prepared, ApplyError> {
        let newer = self.news.over(wish.desired);
        let wish = Wish { desired: newer.as_ref().unwrap_or(wish.desired), ..wish };
        // Which maps to ask for follows from the files, and those from the version: nearly always the one seen last.
        let mut version = match &self.runtime {
            Some(runtime) => runtime.version,
            None => haproxy_look::version_here(&wish.sources.config, &self.unanswered).await?,
        };
        let live = LiveFiles::of(&wish.sources.config.haproxy.config);
        // The whole comparison of what serves trusts no stamp.
        let left = self.left.as_ref().filter(|_| !wish.is_serving);
        let looked = live.look(left);
        let mut files = looked.map_err(|e| ApplyError::Observe(preflight::unseen(wish.sources, e).into()))?;
        let digest = files.config.as_ref().map(|file| file.digest);
        self.left =
            self.left.take().filter(|(stamp, left)| files.stamp == Some(*stamp) && digest == Some(left.digest()));
        let (asked, rendered, runtime) = loop {
            let rendered = self.renderer.render(wish, version)?;
            self.check_ahead(wish, &rendered)?;
            let maps: Vec<String> = rendered.maps.keys().cloned().collect();
            let asks_maxconn = self.maxconn_look.is_due(&rendered, self.runtime.as_ref(), Instant::now());
            let asked = Instant::now();
            match haproxy_look::observe(&wish.sources.config, &maps, asks_maxconn, &self.unanswered).await? {
                // HAProxy was upgraded since the last look.
                Some(runtime) if runtime.version != version => version = runtime.version,
                // It has gone: the one that is installed will read the files.
                None if self.runtime.take().is_some() => {
                    version = haproxy_look::installed_version(&wish.sources.config).await?
                }
                runtime => break (asked, rendered, runtime),
            }
        };
        let rendered = leave_out(wish.sources, rendered, runtime.as_ref(), &live, &mut files);
        self.tell_replaced(runtime.as_ref());
        self.runtime.clone_from(&runtime);
        self.seen = Some(asked);
        self.absent_since = if runtime.is_some() { None } else { self.absent_since.or(self.seen) };
        self.limits.saw(self.runtime.as_ref(), Instant::now());
        self.version = Some(version);
        let wanted = plan::marker(&rendered.structure.digest);
        let is_loaded = runtime.as_ref().is_some_and(|runtime| runtime.description.as_ref() == Some(&wanted));
        // Only the reasons of a reload ask for it, and it is long.
        let loaded = if is_loaded { None } else { ledger.and_then(Ledger::current_structure) };
        let certificates = match &runtime {
            Some(_) => haproxy_look::observe_certificates(&wish.sources.config, &rendered).await?,
            None => plan::RuntimeCertificates::default(),
        };
        let observed = Observed {
            config: files.config,
            maps: files.maps,
            lists: files.lists,
            scripts: files.scripts,
            certificates,
            runtime,
        };
        let plan = plan::decide(&plan::Question {
            desired: wish.desired,
            rendered: &rendered,
            names: &self.renderer.names(&wish.desired.config),
            observed: &observed,
            loaded_structure: loaded.as_deref(),
            live_config: &files.text,
            may_replace_foreign_file: wish.may_replace_foreign_file,
            reload_instead: self.reload_instead.as_deref().or(may_run_an_edit(wish, &observed)),
        });
        Ok(Prepared { rendered, observed, plan, live_text: files.text, stamp: files.stamp })
    }

    /// A restart or a reload by somebody else is told, even where nothing is left to put right.
    fn tell_replaced(&self, runtime: Option<&plan::Runtime>) {
        let is_own = self.last_reload > self.seen;
        if let (Some(before), Some(now), false) = (&self.runtime, runtime, is_own)
            && before.pid != now.pid
        {
            let text = format!("another HAProxy worker serves, pid {} in the place of {}", now.pid, before.pid);
            let event = Event::once(EventKind::Haproxy, Severity::Warning, "haproxy", text).about("worker");
            self.bulletin.tell(event.because("it was restarted, or reloaded by somebody else"));
        }
    }

    /// Starts `haproxy -c` where it is sure to be needed: the structure is another than the one that was seen last.
    fn check_ahead(&mut self, wish: Wish<'_>, rendered: &Rendered) -> Result<(), ApplyError> {
        let is_other =
            |runtime: &plan::Runtime| runtime.description.as_deref() != Some(&plan::marker(&rendered.structure.digest));
        if wish.is_serving || self.would.is_some() || !self.runtime.as_ref().is_some_and(is_other) {
            return Ok(());
        }
        let judgement = preflight::judgement(wish.sources, rendered);
        let is_known = self.judged == Some(judgement);
        if !is_known && !self.checks.has(wish, judgement) {
            self.checks.keep(wish, preflight::Check::begin(wish.sources, rendered, judgement)?);
        }
        Ok(())
    }

    /// Says what an apply would do, judged as an apply would.
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`Self::judge`].
    pub(in crate::agent) async fn plan(&mut self, wish: Wish<'_>, ledger: &Ledger) -> Result<Prepared, ApplyError> {
        let prepared = self.prepare(wish, Some(ledger)).await?;
        self.judge(wish, &prepared).await?;
        Ok(prepared)
    }

    /// Judges a prepared change as an apply would, without carrying it out.
    ///
    /// # Errors
    /// [`ApplyError::Refused`] with everything that speaks against it.
    pub async fn judge(&mut self, wish: Wish<'_>, prepared: &Prepared) -> Result<(), ApplyError> {
        check_certificates(wish.sources, true)?;
        let judgement = preflight::judgement(wish.sources, &prepared.rendered);
        if self.judged != Some(judgement) {
            let ahead = self.checks.take(wish, judgement);
            let check =
                ahead.map_or_else(|| preflight::Check::begin(wish.sources, &prepared.rendered, judgement), Ok)?;
            if !self.checks.is_worth_waiting(&check).await {
                self.checks.keep(wish, check);
                return Err(ApplyError::TooSoon(Instant::now() + preflight::CHECK_DEADLINE));
            }
            let (said, other) =
                tokio::join!(check.end(wish, &prepared.rendered), start::other_binary(wish.sources, prepared));
            self.said = match (said, other) {
                (Ok(mut said), other) => {
                    said.warnings.extend(other.map(|other| other.to_string()));
                    said
                }
                // Whatever the wrong one dislikes: its words would lead astray.
                (Err(_), Some(other)) => return Err(Refusal::from(other).into()),
                (Err(refusal), None) => return Err(refusal.into()),
            };
        }
        preflight::check_names(&self.said.unresolved, prepared)?;
        preflight::check_surroundings(wish.sources, prepared).await?;
        self.checks.clear(wish);
        // Names may resolve the next time.
        self.judged = self.said.unresolved.is_empty().then_some(judgement);
        Ok(())
    }

    /// Makes what runs what should run.
    ///
    /// # Errors
    /// See [`ApplyError`]; each says what serves now.
    pub async fn apply(&mut self, wish: Wish<'_>, ledger: Option<&Ledger>) -> Result<Applied, ApplyError> {
        if let Some(told) = Unread::line(&wish.sources.unread).filter(|_| self.would.is_none()) {
            // Who looks only does not come here; nothing that stands for a secret may reach HAProxy.
            return Err(ApplyError::Refused(Refusal::new(told)));
        }
        if !wish.is_serving {
            check_certificates(wish.sources, wish.may_exceed_limits)?;
        }
        self.reload_instead = None;
        // What is sent beside from now on may be missing in what is observed, or be there: it is no drift either way.
        let taken = self.news.taken();
        let mut prepared = self.prepare(wish, ledger).await?;
        // What only followed health is no change to be shown.
        let before = if wish.is_serving { String::new() } else { prepared.live_text.clone() };
        self.last = Some((before, prepared.rendered.clone()));
        self.doubts = start::start_doubts(wish.sources, &prepared);
        let mut applied = Applied::nothing();
        if self.would.is_some() {
            self.only_observe(wish, &prepared).await;
            return Ok(applied);
        }
        // Known again when nothing is left to do: after a failure nobody can tell our own half from another's.
        let mut drift = match self.expected.take() {
            Some(mut expected) => {
                let mut later = expected.clone();
                expected.took(&taken);
                later.took(&self.news.taken());
                let mut drift = plan::drift(&expected, &prepared.observed, &prepared.plan);
                let since = plan::drift(&later, &prepared.observed, &prepared.plan);
                drift.retain(|line| since.contains(line));
                drift
            }
            None => vec![],
        };
        for _ in 0..MAX_ROUNDS {
            if prepared.plan.is_empty() {
                self.expected = Some(Expectation::of(&prepared.observed));
                self.left = prepared.stamp.map(|stamp| (stamp, prepared.rendered.clone()));
                return Ok(applied);
            }
            if let (true, Action::Runtime(steps)) = (prepared.plan.only_waits(), &prepared.plan.action) {
                if self.send(wish, steps, prepared.plan.based_on_pid).await?.is_some() {
                    self.corrections.note(drift, jiff::Timestamp::now(), &self.bulletin);
                    self.expected = Some(Expectation::of(&prepared.observed));
                    return Ok(applied);
                }
                prepared = self.prepare(wish, ledger).await?;
                continue;
            }
            let done = self.round(wish, &prepared, &mut applied).await;
            // What serves was put right also where its files wait for a verdict.
            let waits = wish.is_serving && matches!(done, Err(ApplyError::TooSoon(_)));
            if done.is_ok() || (waits && matches!(prepared.plan.action, Action::Runtime(_))) {
                self.corrections.note(std::mem::take(&mut drift), jiff::Timestamp::now(), &self.bulletin);
            }
            done?;
            if applied.how == How::Start {
                return Ok(applied);
            }
            prepared = self.prepare(wish, ledger).await?;
        }
        match prepared.plan.is_empty() || prepared.plan.only_waits() {
            true => {
                self.expected = Some(Expectation::of(&prepared.observed));
                Ok(applied)
            }
            // What was decided meanwhile is pushed, and its files follow.
            false if self.is_left_by_news(wish, &prepared.plan.action) => Ok(applied),
            false => Err(ApplyError::Execute(Refusal::new(format_args!(
                "after {MAX_ROUNDS} rounds HAProxy still differs: {}",
                plan::brief(&prepared.plan.described())
            )))),
        }
    }

    /// Whether a plan has nothing left but what was decided since its order began, in files or at HAProxy.
    fn is_left_by_news(&self, wish: Wish<'_>, left: &Action) -> bool {
        let is_news = |step: &Step| matches!(step, Step::SetWeight { .. } | Step::SetState { .. });
        let may_be = match left {
            Action::Nothing => true,
            Action::Runtime(steps) => steps.iter().all(is_news),
            Action::Start | Action::Reload(_) => false,
        };
        may_be && (self.news.over(wish.desired).is_some() || wish.is_serving && matches!(left, Action::Nothing))
    }

    async fn round(&mut self, wish: Wish<'_>, prepared: &Prepared, applied: &mut Applied) -> Result<(), ApplyError> {
        let plan = &prepared.plan;
        let written = match self.judge(wish, prepared).await {
            Ok(()) => {
                self.heed_warnings();
                match self.write(wish, prepared, applied) {
                    // Somebody else wrote haproxy.cfg since it was looked at: that is looked at first.
                    Ok(None) => return Ok(()),
                    Ok(Some(undo)) => Ok(undo),
                    Err(e) => Err(e),
                }
            }
            Err(refused) => Err(refused),
        };
        let undo = match written {
            Ok(undo) => undo,
            Err(e) => {
                let steps = match (wish.is_serving, &plan.action) {
                    (true, Action::Runtime(steps)) => steps.as_slice(),
                    (true, Action::Nothing) => &[],
                    _ => return Err(e),
                };
                // Certificates can wait until what speaks against them is mended.
                let steps: Vec<Step> =
                    steps.iter().filter(|step| !matches!(step, Step::Certificate(_))).cloned().collect();
                if !steps.is_empty() {
                    self.execute(wish, &steps, plan.based_on_pid, applied).await?;
                }
                return Err(e.of_files());
            }
        };
        let carried_out = self.carry_out(wish, prepared, &undo, applied).await;
        self.end_intent(&LiveFiles::of(&wish.sources.config.haproxy.config));
        carried_out
    }

    /// HAProxy's warnings hold nothing back; the log has each once, and `status` those of what serves.
    fn heed_warnings(&mut self) {
        for warning in self.said.warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.warnings.clone_from(&self.said.warnings);
    }

    /// What follows the files.
    async fn carry_out(
        &mut self,
        wish: Wish<'_>,
        prepared: &Prepared,
        undo: &Undo,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        match &prepared.plan.action {
            Action::Nothing => applied.how.raise(How::Files),
            Action::Start => applied.how = How::Start,
            Action::Runtime(steps) => self.execute(wish, steps, prepared.plan.based_on_pid, applied).await?,
            Action::Reload(reasons) => {
                self.writes += 1;
                self.reloads += 1;
                self.last_reload = Some(Instant::now());
                self.limits.made(Instant::now(), jiff::Timestamp::now());
                match reload(wish, prepared).await {
                    Ok(remarks) => applied.remarks.extend(remarks),
                    Err(e) => {
                        undo.put_back();
                        return Err(ApplyError::Reload(e));
                    }
                }
                self.reload_instead = None;
                applied.reload_reasons.extend(reasons.iter().cloned());
                applied.how = How::Reload;
            }
        }
        Ok(())
    }

    /// Tells what an apply would do.
    async fn only_observe(&mut self, wish: Wish<'_>, prepared: &Prepared) {
        let mut lines = prepared.plan.described();
        if !prepared.plan.is_empty()
            && let Err(refused) = self.judge(wish, prepared).await
            // A verdict that takes its time comes with one of the next looks.
            && !matches!(refused, ApplyError::TooSoon(_))
        {
            lines.insert(0, format!("refused: {refused}"));
        }
        if self.would.as_ref() != Some(&lines) {
            match lines.as_slice() {
                [] => tracing::info!("observe only: HAProxy runs what it should"),
                lines => tracing::info!("observe only, would change: {}", plan::brief(lines)),
            }
            self.would = Some(lines);
        }
    }

    /// Writes all files or none; `None` where haproxy.cfg is another than the one that the plan is for.
    fn write(
        &mut self,
        wish: Wish<'_>,
        prepared: &Prepared,
        applied: &mut Applied,
    ) -> Result<Option<Undo>, ApplyError> {
        let plan = &prepared.plan;
        if matches!(plan.action, Action::Reload(_))
            && let Some(last) = self.last_reload
            && last.elapsed() < RELOAD_GAP
        {
            return Err(ApplyError::TooSoon(last + RELOAD_GAP));
        }
        if matches!(plan.action, Action::Reload(_))
            && !wish.may_exceed_limits
            && let Some(objection) = self.limits.objection(&wish.sources.config.haproxy, Instant::now())
        {
            return Err(ApplyError::Refused(objection.into()));
        }
        let config = &wish.sources.config.haproxy.config;
        let failed = |e: std::io::Error| ApplyError::Write(Refusal::new(e));
        let files = LiveFiles::of(config);
        let undo = files.remember(&plan.files).map_err(failed)?;
        let replaces_config = plan.files.iter().any(|file| file.path() == "haproxy.cfg");
        if replaces_config && undo.config_digest(&files) != prepared.observed.config.as_ref().map(|file| file.digest) {
            return Ok(None);
        }
        if plan.overrules_an_obstacle(&prepared.observed) {
            applied.kept = Some(sys::files::keep_beside(config, "hapilot", jiff::Timestamp::now()).map_err(failed)?);
        }
        self.begin_intent(wish, prepared, &files, &undo);
        let written = files.write(&plan.files, &prepared.rendered);
        if let Err(e) = &written {
            undo.put_back();
            self.end_intent(&files);
            return Err(ApplyError::Write(Refusal::new(e).done("the files are as they were")));
        }
        self.left = written.ok().flatten().map(|stamp| (stamp, prepared.rendered.clone()));
        self.writes += plan.files.len() as u64;
        applied.files.extend(plan.files.iter().cloned());
        Ok(Some(undo))
    }

    async fn execute(
        &mut self,
        wish: Wish<'_>,
        steps: &[Step],
        seen: Option<u32>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let steps = &self.news.without(steps, &wish.desired.config);
        let Some(executed) = self.send(wish, steps, seen).await? else {
            applied.how.raise(How::Files);
            return Ok(());
        };
        self.writes += (executed.done + executed.waiting) as u64;
        let is_placement = |failure: &&haproxy::StepFailure| {
            failure.is_withheld || matches!(steps[failure.index], Step::AddServer { .. } | Step::RemoveServer { .. })
        };
        let (placements, others): (Vec<_>, Vec<_>) = executed.failures.iter().partition(is_placement);
        let words = |failures: &[&haproxy::StepFailure]| {
            failures.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        if !others.is_empty() {
            return Err(ApplyError::Execute(Refusal::new(words(&others))));
        }
        // What this version or this server cannot do at runtime, the next round does by a reload.
        self.reload_instead = (!placements.is_empty()).then(|| format!("HAProxy refused: {}", words(&placements)));
        let failed: Vec<usize> = placements.iter().map(|failure| failure.index).collect();
        let done = steps.iter().enumerate().filter(|(index, _)| !failed.contains(index));
        applied.steps.extend(done.map(|(_, step)| step.clone()));
        applied.how.raise(How::Runtime);
        Ok(())
    }

    /// Whether HAProxy runs what was rendered last, but for weights, maps and states.
    pub fn runs_the_last(&self) -> bool {
        let description = self.runtime.as_ref().and_then(|runtime| runtime.description.as_ref());
        let last = self.last.as_ref().map(|(_, rendered)| plan::marker(&rendered.structure.digest));
        last.is_some() && description == last.as_ref()
    }

    /// Asks each old worker what it still has, for whoever reads `status`.
    pub async fn look_at_old_workers(&mut self, master_socket: &Utf8Path) {
        let pids: Vec<u32> = self.limits.old_workers().keys().copied().take(MAX_LOOKS).collect();
        for pid in pids {
            let connections = haproxy::connections_of(master_socket, pid, LOOK_DEADLINE).await.ok().flatten();
            self.limits.looked_at(pid, connections, sys::process::resident_bytes(pid, "haproxy"));
        }
    }

    /// Sends steps to the worker that they were made for; `None` where another serves by now: it was sent nothing.
    async fn send(
        &self,
        wish: Wish<'_>,
        steps: &[Step],
        seen: Option<u32>,
    ) -> Result<Option<haproxy::Executed>, ApplyError> {
        let socket = &wish.sources.config.haproxy.admin_socket;
        match haproxy::execute(socket, steps, seen, EXECUTE_DEADLINE).await {
            Ok(executed) => Ok(Some(executed)),
            Err(stale) if stale.source.is_other_worker() => {
                tracing::info!(why = %stale.source, "the plan is for a worker of before");
                Ok(None)
            }
            Err(e) if sys::lack::is_ours_within(&e) => Err(ApplyError::unasked(&e)),
            Err(e) => Err(ApplyError::Execute(Refusal::new(sys::chain(&e)))),
        }
    }
}

/// Why what runs may not be what its marker says: the file was edited by hand, marker and all, and HAProxy loaded a file
/// since.
fn may_run_an_edit(wish: Wish<'_>, observed: &Observed) -> Option<&'static str> {
    let is_edited = observed.config.as_ref().is_some_and(|file| file.is_ours && !file.is_intact);
    if !is_edited || !wish.may_replace_foreign_file {
        return None;
    }
    let uptime = observed.runtime.as_ref().map(|runtime| Duration::from_secs(runtime.uptime_s))?;
    let path = &wish.sources.config.haproxy.config.value;
    let age = fs_err::metadata(path).and_then(|file| file.modified()).ok()?.elapsed().unwrap_or_default();
    (age >= uptime).then_some("haproxy.cfg was edited by hand, and HAProxy has loaded a file since")
}
