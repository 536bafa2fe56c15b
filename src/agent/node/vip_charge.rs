//! The loop's side of the virtual addresses: what their guardian is charged with, and what operators say of them.

use super::Node;
use crate::agent::alert::desk::AlertDesk;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::agent::vip::facts::Facts;
use crate::agent::vip::release::no_vips;
use crate::agent::vip::released::Released;
use crate::agent::vip::vips::Vips;
use crate::config::own_vips;
use crate::event::{Event, EventKind, Severity};
use crate::heartbeat::RefusedFile;
use crate::model::Name;
use crate::vip::Turn;
use std::time::Instant;

impl Node {
    /// [`Self::attend_vips`], a few times a second.
    pub fn look_at_vips(&mut self) {
        if self.vips.as_ref().is_none_or(|vips| vips.look_at() <= Instant::now()) {
            self.attend_vips();
        }
    }

    /// Starts the guardian where there is something to guard, and charges it with what is so now.
    pub fn attend_vips(&mut self) {
        let config = &self.serving.config;
        let is_wanted = own_vips(config).next().is_some() || config.node.heartbeat.is_some();
        if self.is_observer() || (self.vips.is_none() && !is_wanted) {
            return;
        }
        let before = self.vips.take();
        let facts = self.facts();
        let begin = || {
            let ledger = self.steering.ledger.clone();
            Vips::begin(&facts, &self.ledger.state, self.epoch, self.bulletin.clone(), ledger)
        };
        let mut vips = match before {
            Some(vips) if !vips.has_ended() => vips,
            Some(_) => {
                tracing::error!("the watch over the virtual addresses ended by a bug of ours; it begins anew");
                begin()
            }
            None => begin(),
        };
        let pace = vips.attend(&facts);
        let now = self.now();
        self.steering.fleet.set_pace(pace, now);
        self.vips = Some(vips);
    }

    /// What this node is now, for its addresses.
    fn facts(&self) -> Facts<'_> {
        let is_refused = self.file.order_wait.is_none() && self.file.waiting().is_none();
        let problem = self.file.problem.as_ref().filter(|_| is_refused);
        let refuses = problem
            .and_then(|problem| Some(RefusedFile { file: self.file.place.digest()?, why: problem.why().headline() }));
        let haproxy = self.troubles.of(Matter::Haproxy);
        Facts {
            serving: &self.serving,
            is_settled: self.is_settled,
            soaked: self.steering.soaking.watched(),
            revision: self.revision(),
            refuses,
            canaries: self.steering.canaries.news_of_stages(),
            backends: self.steering.soaking.news(),
            alerts: self.alerts.as_ref().map(AlertDesk::news).unwrap_or_default(),
            fleet: &self.steering.fleet,
            rendered: self.engine.last.as_ref().map(|(_, rendered)| &**rendered),
            problem: haproxy.map(Refusal::headline),
            is_behind: self.is_settled && haproxy.is_some() && !self.lacks,
        }
    }

    /// Whose turn it is to serve the file as it stands. One with mistakes waits for nobody.
    pub fn its_turn(&self) -> Turn {
        let (Some(file), Some(vips)) = (self.file.place.digest(), &self.vips) else { return Turn::Go };
        if self.is_settled && self.serving.digest == file {
            return Turn::Go;
        }
        match vips.turn(&self.serving, file) {
            Turn::Wait(_) | Turn::Stop(_) if self.file.order_wait.is_none() && self.file.place.load().is_err() => {
                Turn::Go
            }
            turn => turn,
        }
    }

    /// Moves addresses to other nodes: before this one is taken down. The answer waits for what is to be written down.
    ///
    /// # Errors
    /// No such VIP, or nobody else can take it, unless `force`.
    pub(in crate::agent) fn release(
        &mut self,
        names: &[Name],
        force: bool,
        actor: &str,
    ) -> Result<(Report, Released), Failed> {
        let vips = self.vips.as_mut().ok_or_else(no_vips)?;
        let list = vips.release(names, force, &self.serving.config)?;
        let kept = vips.kept();
        self.bulletin.tell(Event::once(EventKind::Vip, Severity::Info, &list, format!("{actor} released {list}")));
        self.attend_vips();
        Ok((Report::note(self.revision(), format!("{list}: released; other nodes take over")), kept))
    }

    /// Takes addresses back. The answer waits for what is to be written down.
    ///
    /// # Errors
    /// No such VIP.
    pub(in crate::agent) fn reclaim(&mut self, names: &[Name], actor: &str) -> Result<(Report, Released), Failed> {
        let vips = self.vips.as_mut().ok_or_else(no_vips)?;
        let list = vips.reclaim(names, &self.serving.config)?;
        let kept = vips.kept();
        self.bulletin.tell(Event::once(EventKind::Vip, Severity::Info, &list, format!("{actor} reclaimed {list}")));
        self.attend_vips();
        Ok((Report::note(self.revision(), format!("{list}: reclaimed")), kept))
    }
}
