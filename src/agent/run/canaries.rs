//! Canaries in the loop: what was heard goes to them, what they decide goes to HAProxy, the history and the disk.

use super::body::Agent;
use super::request::Reply;
use crate::agent::history::spending::CanaryBook;
use crate::agent::node::Node;
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
            self.node.steering.keys_moved = true;
            self.follow_soon();
        }
        tell(&mut self.node, self.canaries.as_mut());
        if let Some(canaries) = &mut self.canaries {
            canaries.keep(|| self.node.steering.canaries.to_save(today)).await;
        }
    }

    /// Does what an operator says of a canary: HAProxy follows at once.
    pub(super) fn say_to_canary(&mut self, name: &Name, word: CanaryWord, actor: &str, reply: Reply) {
        let said = self.node.steering.canaries.say(name, word, actor, self.node.now(), SystemTime::now());
        let answer = said.map_err(Failed::refused).map(|()| {
            self.node.steering.keys_moved = true;
            self.follow_soon();
            Report::new(Applied::nothing(), self.node.revision(), String::new(), Duration::ZERO)
        });
        tell(&mut self.node, self.canaries.as_mut());
        let _ = reply.send(answer);
    }
}

/// Tells what has happened, and has it written down with the next look.
fn tell(node: &mut Node, book: Option<&mut CanaryBook>) {
    let news = node.steering.canaries.take_news();
    if let Some(book) = book.filter(|_| !news.is_empty()) {
        book.hurry();
    }
    news.into_iter().for_each(|event| node.bulletin.tell(event));
}
