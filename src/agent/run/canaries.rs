//! Canaries in the loop: what was heard goes to them, what they decide goes to HAProxy, the history and the disk.

use super::body::Agent;
use super::request::Reply;
use crate::agent::history::spending::CanaryBook;
use crate::agent::outcome::applied::Applied;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::steering::CanaryWord;
use crate::model::Name;
use std::time::{Duration, SystemTime};

impl Agent {
    /// Lets canaries decide, where it is time.
    pub(super) async fn look_at_canaries(&mut self) {
        let (now, today) = (self.node.now(), SystemTime::now());
        let hears = self.node.listening.as_ref().is_some_and(|listening| listening.stats().workers > 0);
        let steering = &mut self.node.steering;
        if steering.canaries.decide(&self.node.serving.config, &steering.fleet, hears, now, today) {
            self.canaries_moved();
        }
        self.tell_canaries();
        if let Some(canaries) = &mut self.canaries {
            canaries.keep(|| self.node.steering.canaries.to_save(today)).await;
        }
    }

    /// Does what an operator says of a canary: HAProxy follows at once.
    pub(super) fn say_to_canary(&mut self, name: &Name, word: CanaryWord, actor: &str, reply: Reply) {
        let said = self.node.steering.canaries.say(name, word, actor, self.node.now(), SystemTime::now());
        let answer = said.map_err(Failed::refused).map(|()| {
            self.canaries_moved();
            Report::new(Applied::nothing(), self.node.revision(), String::new(), Duration::ZERO)
        });
        self.tell_canaries();
        let _ = reply.send(answer);
    }

    fn canaries_moved(&mut self) {
        self.node.steering.keys_moved = true;
        self.follow_soon();
        self.canaries.iter_mut().for_each(CanaryBook::hurry);
    }

    fn tell_canaries(&mut self) {
        let news = self.node.steering.canaries.take_news();
        if !news.is_empty() {
            self.canaries.iter_mut().for_each(CanaryBook::hurry);
        }
        news.into_iter().for_each(|event| self.node.bulletin.tell(event));
    }
}
