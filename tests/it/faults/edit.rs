//! The edit that is interrupted, and what must hold afterwards.

use crate::site::Site;
use crate::support::agent::LIMIT;
use crate::support::haproxy::Binary;
use crate::support::process::{Finished, run};
use crate::support::wait_for;
use camino::Utf8Path;
use hapilot::model::Digest;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Flip when the intent journal is in: a command that starts after a crash finishes or reverts what was under way
/// (invariant I4), even where the operator's file cannot be read. Without it the maps of one revision can lie beside
/// the haproxy.cfg of another until an apply of a good file comes by; only the assertions behind this constant fail.
pub(super) const HAS_INTENT_JOURNAL: bool = true;

/// Longest time that the apply after a fault may take.
const CONVERGENCE: Duration = Duration::from_secs(5);

/// A node that serves one revision, and the file of the next.
pub(super) struct Edit {
    pub(super) site: Site,
    versions: [String; 2],
    /// The live files of each version, once it has been applied.
    files: [Option<Files>; 2],
    serving: usize,
    /// Sets of live files that `haproxy -c` took: the same bytes need no second look.
    judged: RefCell<BTreeSet<Files>>,
}

/// What must never be, each counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// A live file is neither the old nor the new one, or is one of neither revision.
    StrangeFile,
    /// HAProxy refuses the live files.
    Refused,
    /// The files are of two revisions where they must be of one.
    TwoRevisions,
    /// A request through the frontend is not answered.
    NotServing,
    /// The next apply fails, leaves something to do, leaves other files, or takes too long.
    NotMended,
}

/// What was found wrong, each with its words.
pub(super) type Wrongs = Vec<(Wrong, String)>;

/// Live files by their path; what is in them as a digest.
pub(super) type Files = BTreeMap<String, Digest>;

impl Edit {
    /// Starts a node on the first of two versions, which differ in a timeout (a reload), the routes and the limit's
    /// number (two maps).
    pub(super) fn start(binary: &Binary) -> Self {
        let mut site = Site::new(binary);
        let text = |idle: u32, path: &str, burst: u32| {
            site.toml("")
                .replace("/v1/embeddings", path)
                .replace("provider = \"http\"\n", &format!("provider = \"http\"\ntimeout = {{ idle = \"{idle}s\" }}\n"))
                .replacen(
                    "[backend.",
                    &format!("[limit.address]\nrequests = \"100000/1m\"\nburst = {burst}\n[backend."),
                    1,
                )
        };
        let versions = [text(70, "/v1/embeddings", 7), text(90, "/v1/rerank", 9)];
        site.write(&versions[0]);
        site.start();
        let mut edit = Self { site, versions, files: [None, None], serving: 0, judged: RefCell::default() };
        edit.settle();
        // Learn the other one's bytes.
        edit.swap();
        edit.settle();
        edit
    }

    /// Writes the file of the version that does not serve; answers its number.
    pub(super) fn swap(&mut self) -> usize {
        self.serving = 1 - self.serving;
        self.site.write(&self.versions[self.serving]);
        self.serving
    }

    /// `hapilot apply` of the file, under a plan of faults.
    pub(super) fn apply_with(&self, faults: &str) -> Finished {
        let mut command = self.site.command(&["apply"]);
        command.env("HAPILOT_FAULTS", faults);
        run(command, LIMIT)
    }

    /// The points that an apply of the other version passes, in order, as `(point, pass, what)`.
    pub(super) fn points(&mut self) -> Vec<(String, u32, String)> {
        let log = self.site.directory().join("points");
        self.swap();
        let applied = self.apply_with(&format!("log={log}"));
        assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
        self.settle();
        let text = fs_err::read_to_string(log).unwrap();
        let read = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let (point, pass) = words.nth(1)?.split_once('@')?;
            Some((point.to_owned(), pass.parse().ok()?, words.next().unwrap_or_default().to_owned()))
        };
        text.lines().map(|line| read(line).unwrap_or_else(|| panic!("a line of the points: {line}"))).collect()
    }

    /// What must hold right after an apply was interrupted, whatever it was doing.
    pub(super) fn holds_after(&self, context: &str, is_whole: bool) {
        let wrongs = self.wrongs(is_whole);
        assert!(wrongs.is_empty(), "{context}: {wrongs:#?}");
    }

    /// What of that does not hold.
    pub(super) fn wrongs(&self, is_whole: bool) -> Wrongs {
        let mut wrongs = Wrongs::new();
        let now = live(self.site.haproxy_cfg().parent().unwrap());
        let is_of = |version: usize, path: &str| {
            self.files[version].as_ref().and_then(|files| files.get(path)) == now.get(path)
        };
        let paths: Vec<&String> = self.files.iter().flatten().flat_map(BTreeMap::keys).collect();
        for path in paths.iter().filter(|path| !is_of(0, path) && !is_of(1, path)) {
            wrongs.push((Wrong::StrangeFile, format!("{path} is neither the old file nor the new one")));
        }
        // A temporary file may be left by a death; it has a name that nobody reads.
        for path in now.keys().filter(|path| !paths.contains(path) && !is_temporary(path)) {
            wrongs.push((Wrong::StrangeFile, format!("{path} is of no revision")));
        }
        let read: Files = now.clone().into_iter().filter(|(path, _)| !is_temporary(path)).collect();
        if !self.judged.borrow().contains(&read) {
            let checked = self.site.check();
            if checked.code == Some(0) {
                self.judged.borrow_mut().insert(read);
            } else {
                wrongs.push((Wrong::Refused, format!("HAProxy refuses the live files:\n{}", checked.stderr)));
            }
        }
        if let Err(problem) = self.site.serves() {
            wrongs.push((Wrong::NotServing, format!("HAProxy does not serve: {problem}")));
        }
        if is_whole && ![0, 1].iter().any(|version| paths.iter().all(|path| is_of(*version, path))) {
            wrongs.push((Wrong::TwoRevisions, "the files are of two revisions".to_owned()));
        }
        wrongs
    }

    /// After a crash, a command that cannot even read the operator's file has finished or reverted what was under way.
    pub(super) fn a_start_makes_the_files_whole(&self, context: &str) {
        let wrongs = self.wrongs_after_a_start();
        assert!(wrongs.is_empty(), "{context}, after a start: {wrongs:#?}");
    }

    /// What of that is not so.
    pub(super) fn wrongs_after_a_start(&self) -> Wrongs {
        if !HAS_INTENT_JOURNAL {
            return Wrongs::new();
        }
        // It still tells where the state is; nothing else of it can be used.
        self.site.write(&format!("{}\nbroken\n", self.versions[self.serving]));
        let refused = self.site.apply();
        let mut wrongs = self.wrongs(true);
        if refused.code == Some(0) {
            wrongs.push((Wrong::NotMended, "a broken file is not refused".to_owned()));
        }
        self.site.write(&self.versions[self.serving]);
        wrongs
    }

    /// A plain apply ends well, in time, and leaves nothing to do. Answers how long it took.
    pub(super) fn converges(&mut self, context: &str) -> Duration {
        let (took, wrongs) = self.mend();
        assert!(wrongs.is_empty(), "{context}: {wrongs:#?}");
        took
    }

    /// A plain apply, how long it took, and what is wrong after it.
    pub(super) fn mend(&mut self) -> (Duration, Wrongs) {
        let began = Instant::now();
        let applied = self.site.apply();
        let took = began.elapsed();
        let mut problems = Vec::new();
        if applied.code != Some(0) {
            problems.push(format!("the next apply fails:\n{}{}", applied.stdout, applied.stderr));
        }
        if took >= CONVERGENCE {
            problems.push(format!("the next apply took {took:?}"));
        }
        let plan = self.site.run(&["plan"]);
        if !plan.stdout.contains("nothing to do") {
            problems.push(format!("something is left:\n{}{}", plan.stdout, plan.stderr));
        }
        let now = live(self.site.haproxy_cfg().parent().unwrap());
        let kept: Files = now.into_iter().filter(|(path, _)| !is_temporary(path)).collect();
        match &self.files[self.serving] {
            Some(files) if *files != kept => problems.push("the files are not those of the version".to_owned()),
            Some(_) => {}
            None => self.files[self.serving] = Some(kept),
        }
        let mut wrongs: Wrongs = problems.into_iter().map(|problem| (Wrong::NotMended, problem)).collect();
        if let Err(problem) = self.site.serves() {
            wrongs.push((Wrong::NotServing, format!("after the next apply: {problem}")));
        }
        (took, wrongs)
    }

    fn settle(&mut self) {
        self.converges("without a fault");
        self.sweep();
    }

    /// Removes temporary files that a death has left, so that they do not add up.
    pub(super) fn sweep(&self) {
        let etc = self.site.haproxy_cfg().parent().unwrap().to_owned();
        for path in live(&etc).keys().filter(|path| is_temporary(path)) {
            fs_err::remove_file(etc.join(path)).unwrap();
        }
    }

    /// Waits until no old worker is left, so that hundreds of reloads do not add up.
    pub(super) fn wait_for_old_workers(&self) {
        wait_for("the old workers' end", LIMIT, || {
            let children =
                fs_err::read_to_string(format!("/proc/{0}/task/{0}/children", self.site.master_pid())).ok()?;
            (children.split_whitespace().count() <= 2).then_some(())
        });
    }
}

/// Whether a file has a name that nobody reads, as one that is being written has.
fn is_temporary(path: &str) -> bool {
    path.contains("/.") || path.starts_with('.')
}

/// Every file below a directory, by its relative path.
fn live(directory: &Utf8Path) -> Files {
    let mut files = Files::new();
    for (prefix, directory) in [("", directory.to_owned()), ("maps/", directory.join("maps"))] {
        for entry in directory.read_dir_utf8().into_iter().flatten().flatten() {
            if entry.path().is_file() {
                let bytes = fs_err::read(entry.path()).unwrap();
                files.insert(format!("{prefix}{}", entry.file_name()), Digest::of(bytes));
            }
        }
    }
    files
}
