//! Somebody else's hand: in the running HAProxy, in a map's file, in haproxy.cfg.

use super::history::{brief, is_removal};
use super::judge::demand;
use super::wanted::Worth;
use super::world::{Ask, Broken, End, World};

impl World {
    /// Somebody changes the running HAProxy by hand: it is named and put right.
    pub async fn drift(&mut self) -> Result<(), Broken> {
        if self.chance.one_in(4) {
            return self.hidden_limit().await;
        }
        let mut found = vec![];
        for _ in 0..1 + self.chance.below(3) {
            found.extend(self.haproxy.borrow_mut().meddle());
        }
        self.tell(format!("{found:?}"));
        self.haproxy.borrow_mut().begin(vec![]);
        let end = self.ask(&Ask::Reconcile).await;
        demand!(matches!(end, End::Done(_)), "drift: {end:?}");
        demand!(self.deeds().reloads == 0, "a reload for drift: {:#?}", self.deeds());
        self.is_named(&found)?;
        self.settle_down(end).await
    }

    /// Somebody limits a server where the file limits none: it costs too much to be looked for all the time, and is
    /// noticed at the next start at the latest.
    async fn hidden_limit(&mut self) -> Result<(), Broken> {
        let (backend, name) = self.wanted.any(&mut self.chance);
        self.tell(format!("a limit for {backend}/{name}"));
        let key = (backend.to_owned(), name);
        self.haproxy.borrow_mut().begin(vec![]);
        if let Some(server) = self.haproxy.borrow_mut().worker().loaded.servers.get_mut(&key) {
            server.maxconn = 7;
        }
        let end = self.restart().await?;
        demand!(matches!(end, End::Done(_)), "a restart over a limit that nobody wants: {end:?}");
        demand!(self.deeds().reloads == 0, "a reload for a limit that was set by hand: {:#?}", self.deeds());
        self.settle_down(end).await
    }

    fn is_named(&self, found: &[String]) -> Result<(), Broken> {
        let node = self.node.as_ref().expect("an agent runs");
        let said: Vec<&str> = node.engine.corrections.newest().take(8).map(|c| c.text.as_str()).collect();
        let name = |text: &str| text.split([' ', ':']).nth(1).map(str::to_owned);
        // A server that is out and waits for its last request is nobody's any more.
        let is_ours = |text: &str| {
            let key = name(text).and_then(|name| name.split_once('/').map(|(b, s)| (b.to_owned(), s.to_owned())));
            let is_wanted = |(b, s): &(String, String)| self.wanted.servers.keys().any(|key| (key.0, &key.1) == (b, s));
            text.contains("maps/")
                || text.starts_with("maxconn of the process")
                || text.ends_with("added it")
                || key.as_ref().is_some_and(is_wanted)
        };
        for what in found.iter().filter(|what| is_ours(what)) {
            // What was changed twice may be back where it was, or gone.
            let is_alone = found.iter().filter(|other| name(other) == name(what)).count() == 1;
            let is_said = said.iter().any(|said| said.contains(what.as_str()));
            demand!(!is_alone || is_said, "{what:?} is not named in {said:#?}");
        }
        Ok(())
    }

    pub async fn drift_on_disk(&mut self) -> Result<(), Broken> {
        let files = self.files().into_keys();
        let maps: Vec<_> = files.filter(|path| path.extension() == Some("map")).collect();
        let map = self.chance.pick(&maps).strip_prefix(&self.directory).expect("in it").to_string();
        let path = self.directory.join(&map);
        match self.chance.below(3) {
            0 => crate::support::write(&path, "by hand\n"),
            1 => fs_err::remove_file(&path).map_err(|e| e.to_string())?,
            _ => crate::support::write(self.directory.join("maps/routes.strange.map"), "x y\n"),
        }
        let what = if self.directory.join("maps/routes.strange.map").exists() {
            "maps/routes.strange.map"
        } else {
            map.as_str()
        };
        let what = format!("file {what}");
        self.tell(what.clone());
        self.haproxy.borrow_mut().begin(vec![]);
        let end = self.ask(&Ask::Reconcile).await;
        demand!(matches!(end, End::Done(_)), "drift on disk: {end:?}");
        let deeds = self.deeds();
        let is_untouched = deeds.reloads == 0 && deeds.changes.iter().all(|change| is_removal(change));
        demand!(is_untouched, "HAProxy was touched: {deeds:#?}");
        self.is_named(&[what])?;
        self.settle_down(end).await
    }

    /// haproxy.cfg is edited by hand, or replaced by another: it stays until somebody says that it may go.
    pub async fn edit_of_config(&mut self) -> Result<(), Broken> {
        let path = self.directory.join("haproxy.cfg");
        let text = fs_err::read_to_string(&path).expect("haproxy.cfg");
        let edited = match self.chance.below(3) {
            0 => text.clone() + "# by hand\n",
            1 => text[..text.len() / 2].to_owned(),
            _ => "global\n    description 'ours'\nbackend b\n".to_owned(),
        };
        crate::support::write(&path, &edited);
        let worth = if self.chance.one_in(2) {
            let (what, worth) = self.edited();
            self.tell(format!("{what:?}"));
            self.save();
            worth
        } else {
            Worth::Nothing
        };
        self.haproxy.borrow_mut().begin(vec![]);
        for ask in [Ask::Reconcile, Ask::Apply { adopt: false, force: true }, Ask::Reconcile] {
            let end = self.ask(&ask).await;
            demand!(matches!(end, End::Failed(_)), "{ask:?} over a file that is not ours: {end:?}");
            let now = fs_err::read_to_string(&path).expect("haproxy.cfg");
            demand!(now == edited, "{ask:?} overwrote a file that is not ours");
        }
        demand!(self.deeds().reloads == 0, "a reload onto a file that is not ours");
        let end = self.ask(&Ask::Apply { adopt: true, force: true }).await;
        self.tell(format!("adopted -> {}", brief(&end)));
        if let End::Done(report) = &end {
            let kept = report.applied.kept.as_ref().ok_or("nothing was kept")?;
            demand!(
                fs_err::read_to_string(kept).is_ok_and(|text| text == edited),
                "{kept} is not the file that was there"
            );
            fs_err::remove_file(kept).map_err(|e| e.to_string())?;
            demand!((self.deeds().reloads > 0) == worth.is_reload(), "{worth:?}: {} reloads", self.deeds().reloads);
            return self.settle_down(end).await;
        }
        demand!(matches!(end, End::TooSoon), "adopted: {end:?}");
        crate::support::write(&path, &text);
        self.settle_down(end).await
    }
}
