//! One event after the other: what changes, what goes wrong meanwhile, and what must hold when it is over.

use super::judge::{self, demand};
use super::model::Trouble;
use super::wanted::Worth;
use super::watch::each_is_old_or_new;
use super::world::{Ask, Broken, End, World};
use hapilot::agent::How;
use hapilot::health::Outcome;
use hapilot::model::{AdminState, ServerId, Weight};
use hapilot::plan::Step;

/// After a disturbance so many attempts at most. The longest way: a death in a reload and another in the start that
/// follows, a start that a guard keeps from serving the file (the revision before is loaded again), the operator who forces it within five seconds of
/// that, the next start, and the operator again.
const ATTEMPTS: usize = 6;

/// The slew of weights takes fewer looks than that from one end to the other.
const WEIGHT_MOVES: usize = 10;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Edit,
    Operator,
    Health,
    Drift,
    DriftOnDisk,
    EditOfConfig,
    ColdStart,
    AgentRestart,
}

impl World {
    /// The first contact: no files, no HAProxy.
    pub async fn begin(&mut self) -> Result<(), Broken> {
        self.save();
        let end = self.restart().await?;
        demand!(matches!(&end, End::Done(report) if report.applied.how == How::Start), "the first contact: {end:?}");
        self.start_haproxy().await?;
        self.haproxy.borrow_mut().begin(vec![]);
        self.settle_down(End::TooSoon).await
    }

    pub async fn step(&mut self) -> Result<(), Broken> {
        let event = match self.chance.below(20) {
            0..9 => Event::Edit,
            9..12 => Event::Operator,
            12..15 => Event::Health,
            15..17 => Event::Drift,
            17 => Event::DriftOnDisk,
            18 => Event::EditOfConfig,
            _ => *self.chance.pick(&[Event::ColdStart, Event::AgentRestart]),
        };
        self.told.push(format!("{event:?}"));
        let is_busy = self.chance.one_in(4);
        self.haproxy.borrow_mut().worker().is_busy = is_busy;
        match event {
            Event::Edit => self.edit().await,
            Event::Operator => {
                let (backend, name) = self.wanted.any(&mut self.chance);
                let state = [None, Some(AdminState::Ready), Some(AdminState::Drain), Some(AdminState::Maint)];
                let state = *self.chance.pick(&state);
                let weight = [None, Some(0), Some(17), Some(256)];
                let weight = self.chance.pick(&weight).map(|weight| Weight::new(weight).expect("in range"));
                self.tell(format!("{backend}/{name} {state:?} {weight:?}"));
                self.disturbed(Ask::Server(id(backend, &name), state, weight), Worth::Runtime).await
            }
            Event::Health => {
                for _ in 0..1 + self.chance.below(3) {
                    let (backend, name) = self.wanted.any(&mut self.chance);
                    let outcome = *self.chance.pick(&[Outcome::Ok, Outcome::Refused, Outcome::RateLimited]);
                    self.tell(format!("{backend}/{name} {outcome:?}"));
                    self.probe(&id(backend, &name), outcome);
                }
                self.disturbed(Ask::Reconcile, Worth::Runtime).await
            }
            Event::Drift => self.drift().await,
            Event::DriftOnDisk => self.drift_on_disk().await,
            Event::EditOfConfig => self.edit_of_config().await,
            Event::ColdStart => {
                self.stop_haproxy().await;
                let end = self.ask(&Ask::Reconcile).await;
                demand!(matches!(end, End::Done(_)), "while HAProxy is stopped: {end:?}");
                self.start_haproxy().await?;
                self.disturbed(Ask::Reconcile, Worth::Runtime).await
            }
            Event::AgentRestart => {
                self.haproxy.borrow_mut().begin(vec![]);
                let end = self.restart().await?;
                demand!(matches!(end, End::Done(_)), "a restart: {end:?}");
                let deeds = self.deeds();
                // What health took off a server that is out anyway is forgotten, and its weight is the operator's again.
                let is_out = |change: &str| {
                    let name = change.strip_prefix("set server ").and_then(|rest| rest.split_once(" weight "));
                    name.is_some_and(|(name, _)| self.haproxy.borrow_mut().worker().is_out(name))
                };
                let is_quiet = |change: &String| is_removal(change) || is_out(change);
                let is_mute = deeds.reloads == 0 && deeds.changes.iter().all(is_quiet);
                demand!(is_mute, "a restart of the agent changed something: {deeds:#?}");
                self.settle_down(end).await
            }
        }
    }

    pub fn tell(&mut self, what: String) {
        self.told.push(format!("  {what}"));
    }

    /// The operator's file is another now, and not yet saved.
    pub fn edited(&mut self) -> (Vec<&'static str>, Worth) {
        let most_maxconn = self.haproxy.borrow_mut().worker().most_maxconn;
        self.wanted.edit(&mut self.chance, most_maxconn)
    }

    async fn edit(&mut self) -> Result<(), Broken> {
        let (what, worth) = self.edited();
        self.tell(format!("{what:?}: {worth:?}"));
        self.save();
        self.haproxy.borrow_mut().begin(vec![]);
        if worth == Worth::Reload && self.chance.one_in(4) {
            return self.refused_by_check().await;
        }
        self.plan_is_a_value().await?;
        if worth.is_reload() && self.chance.one_in(3) {
            // In a life that has made no reload yet, none must wait, and this one comes to nothing.
            self.restart_quietly().await?;
            let ask = Ask::Apply { adopt: false, force: true };
            let is_executed = self.chance.one_in(3);
            let death = Trouble::DeathInReload { is_executed };
            let trouble = if self.chance.one_in(2) { death } else { Trouble::FailedReload };
            return self.troubled(ask, worth, vec![trouble]).await;
        }
        let force = self.chance.one_in(2);
        self.disturbed(Ask::Apply { adopt: false, force }, worth).await
    }

    /// The same inputs give the same plan, and making one changes nothing.
    async fn plan_is_a_value(&mut self) -> Result<(), Broken> {
        let before = self.files();
        let node = self.node.as_mut().expect("an agent runs");
        let mut plans = vec![];
        for _ in 0..2 {
            let planned = node.alone().plan().await.map_err(|e| format!("no plan: {e:?}"))?;
            plans.push(planned.prepared.plan);
        }
        demand!(plans[0] == plans[1], "two plans from the same inputs differ: {plans:#?}");
        let deeds = self.deeds();
        demand!(deeds.changes.is_empty() && deeds.reloads == 0 && self.files() == before, "a plan changed something");
        Ok(())
    }

    /// `haproxy -c` refuses: nothing is touched.
    async fn refused_by_check(&mut self) -> Result<(), Broken> {
        self.tell("`haproxy -c` refuses".to_owned());
        let before = self.files();
        let refuse = self.directory.join("refuse");
        crate::support::write(&refuse, "");
        let end = self.ask(&Ask::Apply { adopt: false, force: true }).await;
        fs_err::remove_file(&refuse).map_err(|e| e.to_string())?;
        demand!(matches!(&end, End::Failed(why) if why.contains("made up")), "`haproxy -c` refused: {end:?}");
        let deeds = self.deeds();
        let is_untouched = deeds.changes.is_empty() && deeds.reloads == 0 && self.files() == before;
        demand!(is_untouched, "a refused file changed something: {deeds:#?}");
        self.settle_down(end).await
    }

    /// The agent does its work while something may go wrong.
    async fn disturbed(&mut self, ask: Ask, worth: Worth) -> Result<(), Broken> {
        let troubles = self.troubles();
        self.troubled(ask, worth, troubles).await
    }

    /// A new life of the agent with the file that serves already.
    async fn restart_quietly(&mut self) -> Result<(), Broken> {
        let (file, wanted) =
            (self.place().file, fs_err::read_to_string(self.place().file).expect("the operator's file"));
        let served = self.node.as_ref().expect("an agent runs").serving.toml.clone();
        crate::support::write(&file, served);
        let end = self.restart().await?;
        crate::support::write(&file, wanted);
        demand!(matches!(end, End::Done(_)), "a restart: {end:?}");
        Ok(())
    }

    async fn troubled(&mut self, ask: Ask, worth: Worth, troubles: Vec<Trouble>) -> Result<(), Broken> {
        if !troubles.is_empty() {
            self.tell(format!("{troubles:?}"));
        }
        let usable = self.haproxy.borrow_mut().worker().usable();
        let (files, worker) = (self.files(), self.haproxy.borrow().serving);
        self.haproxy.borrow_mut().begin(troubles.clone());
        self.death_at_file = troubles.iter().find_map(|trouble| match trouble {
            Trouble::DeathAtFile { at } => Some(*at),
            _ => None,
        });
        let mut end = self.ask(&ask).await;
        self.tell(format!("-> {}", brief(&end)));
        let deeds = self.deeds();
        if matches!(end, End::Died) {
            each_is_old_or_new(&self.directory, &files)?;
        }
        if let End::Failed(why) = &end {
            let is_guard = why.contains("--force");
            demand!(is_guard || !troubles.is_empty(), "{ask:?} failed undisturbed: {why}");
            if is_guard {
                demand!(self.files() == files && deeds.changes.is_empty(), "a refused edit changed something");
                end = self.ask(&Ask::Apply { adopt: false, force: true }).await;
                self.tell(format!("forced -> {}", brief(&end)));
            }
            if troubles.contains(&Trouble::FailedReload) && self.deeds().reloads > 0 {
                demand!(self.files() == files, "after a failed reload the files are not as they were");
                demand!(self.haproxy.borrow().serving == worker, "after a failed reload another worker serves");
            }
        }
        if matches!(end, End::TooSoon) {
            demand!(self.files() == files || !worth.is_reload(), "a reload that must wait has written files");
        }
        self.settle_down(end).await?;
        let meddled = self.haproxy.borrow().meddled.clone();
        if !meddled.is_empty() {
            self.tell(format!("meanwhile by hand: {meddled:?}"));
            // Another worker from the same files is no reason for one more.
            let is_same = meddled.iter().all(|what| what == "a strange reload");
            let reloads = self.deeds().reloads;
            demand!(!is_same || worth.is_reload() || reloads == 0, "a needless reload: {:#?}", self.deeds());
            return Ok(());
        }
        let target = judge::target(self.node.as_ref().expect("an agent runs"));
        judge::traffic_was_safe(&usable, &target, &self.deeds())?;
        let reloads = self.deeds().reloads;
        let refuses = troubles.iter().any(|trouble| matches!(trouble, Trouble::Refuse { .. }));
        match worth {
            Worth::Raise | Worth::Reload if troubles.is_empty() => {
                demand!(reloads == 1, "{reloads} reloads for a change of structure");
            }
            Worth::Raise | Worth::Reload => demand!(reloads > 0, "no reload for a change of structure"),
            Worth::Runtime | Worth::Nothing => {
                demand!(reloads == 0 || refuses, "a reload for what the runtime takes over: {:#?}", self.deeds());
            }
        }
        Ok(())
    }

    fn troubles(&mut self) -> Vec<Trouble> {
        if self.chance.one_in(2) {
            return vec![];
        }
        let at = 1 + u32::try_from(self.chance.below(30)).expect("small");
        let for_ever = self.chance.one_in(2);
        vec![match self.chance.below(13) {
            0..2 => Trouble::Refuse { at, for_ever },
            2 => Trouble::HangUp { at },
            3..6 => Trouble::Death { at, is_executed: for_ever },
            9..13 => Trouble::DeathAtFile { at: 1 + at / 5 },
            6 => Trouble::Meddling { at },
            7 => Trouble::StrangeReload { at },
            _ => Trouble::FailedReload,
        }]
    }

    /// Without further disturbance everything becomes as it should be, and stays so.
    pub async fn settle_down(&mut self, mut end: End) -> Result<(), Broken> {
        self.haproxy.borrow_mut().troubles.clear();
        let mut has_died = false;
        for _ in 0..ATTEMPTS {
            end = match end {
                End::Done(_) => break,
                End::Died => {
                    self.haproxy.borrow_mut().is_agent_dead = false;
                    // The next life may end as early.
                    let dies_again = !std::mem::replace(&mut has_died, true) && self.chance.one_in(3);
                    self.death_at_file = dies_again.then(|| 1 + self.chance.below(8) as u32);
                    self.restart().await?
                }
                // Five seconds later, or in another life, it may.
                End::TooSoon => self.restart().await?,
                End::Failed(_) => self.ask(&Ask::Apply { adopt: false, force: true }).await,
            };
            self.tell(format!("then -> {}", brief(&end)));
        }
        let waits = self.deeds().refused.iter().any(|refused| is_removal(refused));
        if (waits || !self.haproxy.borrow().meddled.is_empty()) && matches!(end, End::Done(_)) {
            // A server that could not be removed waits for the next look; a meddler may have come after the last.
            end = self.ask(&Ask::Reconcile).await;
        }
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let End::Done(_) = end else { return Err(format!("it does not settle: {end:?}")) };
        let misdirected = self.deeds().misdirected;
        demand!(misdirected.is_empty(), "sent to a worker that was not looked at: {misdirected:?}");
        judge::converged(self).await?;
        self.rests().await
    }

    /// A look changes nothing, but for weights that go on moving by themselves.
    async fn rests(&mut self) -> Result<(), Broken> {
        for _ in 0..WEIGHT_MOVES {
            let (before, deeds) = (self.files(), self.deeds());
            let end = self.ask(&Ask::Reconcile).await;
            let End::Done(report) = &end else { return Err(format!("no rest: {end:?}")) };
            let steps = &report.applied.steps;
            if !steps.is_empty() && steps.iter().all(|step| matches!(step, Step::SetWeight { .. })) {
                judge::converged(self).await?;
                continue;
            }
            demand!(report.applied.how == How::Unchanged, "no rest: {report:?}");
            let after = self.deeds();
            let is_idle = after.changes[deeds.changes.len()..].iter().all(|change| is_removal(change));
            demand!(is_idle && after.reloads == deeds.reloads, "no rest: {after:#?}");
            demand!(self.files() == before, "a look wrote files");
            return Ok(());
        }
        Err("weights never rest".to_owned())
    }
}

fn id(backend: &str, name: &str) -> ServerId {
    format!("{backend}/{name}").parse().expect("an id")
}

/// A server that is out and finishes its requests is asked again each time.
pub fn is_removal(command: &str) -> bool {
    command.starts_with("del server ") || (command.starts_with("set server ") && command.ends_with(" state maint"))
}

pub fn brief(end: &End) -> String {
    match end {
        End::Done(report) => format!(
            "{:?}, {} steps, {} files",
            report.applied.how,
            report.applied.steps.len(),
            report.applied.files.len()
        ),
        End::Failed(why) => why.lines().take(3).collect::<Vec<_>>().join(" / "),
        other => format!("{other:?}"),
    }
}
