//! Canaries in the loop: what was heard goes to them, what they decide goes to HAProxy, the history and the disk.

use super::body::Agent;
use super::event_loop::answer_when_kept;
use super::request::Reply;
use crate::agent::history::spending::CanaryBook;
use crate::agent::node::Node;
use crate::agent::outcome::applied::Applied;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::steering::CanaryWord;
use crate::agent::vip::vips::Vips;
use crate::heartbeat::CanaryNews;
use crate::model::Name;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

impl Agent {
    /// Lets canaries decide, where it is time.
    pub(super) async fn look_at_canaries(&mut self) {
        let (now, today) = (self.node.now(), SystemTime::now());
        // The loop comes by far more often.
        if self.node.steering.canaries.next().is_some_and(|at| at <= now) {
            let hears = self.node.listening.as_ref().is_some_and(|listening| listening.stats().workers > 0);
            let decided_elsewhere = self.node.vips.as_ref().and_then(of_owner);
            let steering = &mut self.node.steering;
            let is_moved = match decided_elsewhere {
                Some(told) => steering.canaries.follow(&told, now, today),
                None => steering.canaries.decide(&self.node.serving.config, &steering.fleet, hears, now, today),
            };
            if is_moved {
                self.node.steering.keys_moved = true;
                self.follow_soon();
            }
        }
        tell(&mut self.node, self.canaries.as_mut());
        if let Some(canaries) = &mut self.canaries {
            canaries.keep(|| self.node.steering.canaries.to_save(today)).await;
        }
    }

    /// Does what an operator says of a canary: HAProxy follows at once.
    pub(super) fn say_to_canary(&mut self, name: &Name, word: CanaryWord, actor: &str, reply: Reply) {
        let said = self.node.steering.canaries.say(name, word, actor, self.node.now(), SystemTime::now());
        tell(&mut self.node, self.canaries.as_mut());
        if let Err(why) = said {
            let _ = reply.send(Err(Failed::refused(why)));
            return;
        }
        self.node.steering.keys_moved = true;
        self.follow_soon();
        let report = Report::new(Applied::nothing(), self.node.revision(), String::new(), Duration::ZERO);
        let Some(book) = &mut self.canaries else { return drop(reply.send(Ok(report))) };
        let write = book.write(self.node.steering.canaries.to_save(SystemTime::now()));
        drop(tokio::spawn(answer_when_kept(report, write, reply)));
    }
}

/// Where canaries are at the node that has the clients, where that is another one and is heard.
fn of_owner(vips: &Vips) -> Option<BTreeMap<String, CanaryNews>> {
    let report = vips.report();
    let news = report.peers.values().filter(|peer| peer.is_heard).filter_map(|peer| peer.news.as_ref());
    let mut owners = news.filter(|news| news.vips.values().any(|vip| vip.owned_ms.is_some()));
    owners.next().filter(|_| report.owned() == 0).map(|owner| owner.canaries.clone())
}

/// Tells what has happened, and has it written down with the next look.
fn tell(node: &mut Node, book: Option<&mut CanaryBook>) {
    let news = node.steering.canaries.take_news();
    if let Some(book) = book.filter(|_| !news.is_empty()) {
        book.hurry();
    }
    news.into_iter().for_each(|event| node.bulletin.tell(event));
}
