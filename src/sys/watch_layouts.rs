//! Files behind links of many shapes, changed in many ways: each change is told.

use super::Watch;
use crate::sys::files::replace_file;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::symlink;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);
/// Comparing finds changes after two seconds: most must be told sooner, by the kernel.
const PROMPT: Duration = Duration::from_millis(1500);

/// A path that is asked for, and everything on the way to its file that can be changed.
struct Layout {
    root: Utf8PathBuf,
    path: Utf8PathBuf,
    file: Utf8PathBuf,
    links: Vec<Utf8PathBuf>,
    fresh: u32,
}

impl Layout {
    /// A file below a few directories, and a chain of links to it or to its directory, each in a place of its own.
    fn generate(root: &Utf8Path, random: &mut StdRng) -> Self {
        let mut layout = Self { root: root.to_owned(), path: root.into(), file: root.into(), links: vec![], fresh: 0 };
        let home = layout.new_directory(random);
        layout.file = home.join("file");
        replace_file(&layout.file, b"0", 0o600).unwrap();
        let leads_to_directory = random.random_bool(0.5);
        let mut target = if leads_to_directory { home } else { layout.file.clone() };
        for _ in 0..random.random_range(0..5) {
            let name = ["link", "..data", "file"][random.random_range(0..3)];
            let link = layout.new_directory(random).join(name);
            layout.link(&target, &link, random);
            layout.links.push(link.clone());
            target = link;
        }
        layout.path = if leads_to_directory { target.join("file") } else { target };
        layout
    }

    fn new_directory(&mut self, random: &mut StdRng) -> Utf8PathBuf {
        self.fresh += 1;
        let mut directory = self.root.join(format!("d{}", self.fresh));
        for _ in 0..random.random_range(0..3) {
            directory.push("sub");
        }
        fs_err::create_dir_all(&directory).unwrap();
        directory
    }

    /// Absolute, or with many `..`.
    fn link(&self, target: &Utf8Path, link: &Utf8Path, random: &mut StdRng) {
        if random.random_bool(0.5) {
            symlink(target, link).unwrap();
            return;
        }
        let depth = link.parent().unwrap().strip_prefix(&self.root).unwrap().components().count();
        let up = "../".repeat(depth);
        symlink(format!("{up}{}", target.strip_prefix(&self.root).unwrap()), link).unwrap();
    }

    /// Makes the path lead to this content; answers how.
    fn change(&mut self, content: &str, random: &mut StdRng) -> &'static str {
        match random.random_range(0..5) {
            0 => {
                let mut file = fs_err::OpenOptions::new().write(true).truncate(true).open(&self.file).unwrap();
                std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
                "written in place"
            }
            1 => {
                let beside = self.file.with_extension("swp");
                replace_file(&beside, content.as_bytes(), 0o600).unwrap();
                fs_err::rename(beside, &self.file).unwrap();
                "renamed over"
            }
            2 => {
                fs_err::remove_file(&self.file).unwrap();
                replace_file(&self.file, content.as_bytes(), 0o600).unwrap();
                "removed and made again"
            }
            3 => {
                let home = self.file.parent().unwrap().to_owned();
                let old = Utf8PathBuf::from(format!("{home}.old{content}"));
                let new = Utf8PathBuf::from(format!("{home}.new"));
                fs_err::create_dir(&new).unwrap();
                replace_file(&new.join("file"), content.as_bytes(), 0o600).unwrap();
                fs_err::rename(&home, old).unwrap();
                fs_err::rename(new, home).unwrap();
                "its directory replaced"
            }
            _ if self.links.is_empty() => self.change(content, random),
            _ => {
                let at = random.random_range(0..self.links.len());
                let link = self.links[at].clone();
                let leads_to_file = link.metadata().unwrap().is_file();
                let home = self.new_directory(random);
                self.file = home.join("file");
                replace_file(&self.file, content.as_bytes(), 0o600).unwrap();
                let swap = Utf8PathBuf::from(format!("{link}.swap"));
                let target = if leads_to_file { &self.file } else { &home };
                self.link(target, &swap, random);
                fs_err::rename(swap, link).unwrap();
                self.links.drain(..at);
                "a link swapped"
            }
        }
    }
}

#[tokio::test]
async fn every_change_of_every_layout_is_told() {
    let mut prompt = 0;
    let mut told = 0;
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let held = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(held.path()).unwrap().canonicalize_utf8().unwrap();
        let mut layout = Layout::generate(&root, &mut random);
        let (mut watch, mut changes) = Watch::new(std::slice::from_ref(&layout.path)).unwrap();
        for step in 1..=4 {
            let content = step.to_string();
            let how = layout.change(&content, &mut random);
            let began = std::time::Instant::now();
            let is_there = async {
                loop {
                    changes.recv().await.expect("still watching");
                    watch.set_paths(std::slice::from_ref(&layout.path));
                    if fs_err::read_to_string(&layout.path).is_ok_and(|text| text == content) {
                        return;
                    }
                }
            };
            let in_time = tokio::time::timeout(LONG, is_there).await;
            assert!(in_time.is_ok(), "seed {seed}, step {step}: {how}, {} links", layout.links.len());
            told += 1;
            prompt += u32::from(began.elapsed() < PROMPT);
        }
    }
    assert!(prompt * 10 >= told * 8, "{prompt} of {told} were told at once");
}
