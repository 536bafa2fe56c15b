//! A revision as a commit: whose, why, and its files, in the words of `git fast-import`.

use crate::store::{Manifest, Revision, RevisionOutcome, RevisionSource};
use crate::sys::redact;
use jiff::Timestamp;
use std::io::{self, Write};

/// Which revision a commit is, at the end of its message.
pub(super) const REVISION: &str = "Hapilot-Revision";
/// When that was made.
pub(super) const MADE: &str = "Hapilot-Made";
/// Longest subject, in characters.
const MAX_SUBJECT: usize = 100;
/// Lines of what was changed that are in a message.
const MAX_LINES: usize = 50;
/// What a commit replaces of the one before; other files are somebody else's.
const OWN: [&str; 6] = ["hapilot.toml", "haproxy.cfg", "keepalived.conf", "maps", "crt-lists", "hapilot-lua"];
/// What is of no use to who reads a history.
const LEFT_OUT: [&str; 1] = ["structure"];

/// A revision with what is committed of it.
#[derive(Clone, Debug)]
pub struct Commit {
    manifest: Manifest,
    files: Vec<(String, Vec<u8>)>,
}

impl Commit {
    /// Of a revision, which stores no secret; what a text has of one all the same is taken out. `more` are files that the
    /// revision does not store.
    pub fn of(revision: Revision, more: Vec<(String, Vec<u8>)>) -> Self {
        let Revision { manifest, files } = revision;
        let is_told = |path: &str| !LEFT_OUT.contains(&path) && is_plain(path);
        let all = files.into_iter().chain(more).filter(|(path, _)| is_told(path));
        let files = all.map(|(path, bytes)| (path, redact::redact_bytes(bytes))).collect();
        Self { manifest, files }
    }

    /// So many bytes.
    pub fn size(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Writes it for `git fast-import`. `from`: what it comes after, where that is not the commit before it in the stream.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        head: &str,
        node: &str,
        now: Timestamp,
        from: Option<&str>,
    ) -> io::Result<()> {
        let Manifest { actor, created, .. } = &self.manifest;
        let host = mail_word(node);
        let author = mail_word(actor);
        writeln!(out, "commit {head}")?;
        writeln!(out, "author {author} <{author}@{host}> {} +0000", created.as_second().max(0))?;
        writeln!(out, "committer hapilot <hapilot@{host}> {} +0000", now.as_second().max(0))?;
        data(out, redact::redact(self.message(node)).as_bytes())?;
        if let Some(from) = from {
            writeln!(out, "from {from}")?;
        }
        let tops = self.files.iter().map(|(path, _)| path.split('/').next().unwrap_or(path));
        let mut gone: Vec<&str> = OWN.into_iter().chain(tops).collect();
        gone.sort_unstable();
        gone.dedup();
        for path in gone {
            writeln!(out, "D {path}")?;
        }
        for (path, bytes) in &self.files {
            writeln!(out, "M 100644 inline {path}")?;
            data(out, bytes)?;
        }
        writeln!(out)
    }

    fn message(&self, node: &str) -> String {
        let Manifest { revision, created, actor, reason, source, outcome, plan, files: _, tags: _, standing: _ } =
            &self.manifest;
        let mut subject: String = reason.lines().next().unwrap_or_default().chars().take(MAX_SUBJECT).collect();
        if subject.trim().is_empty() {
            subject = format!("revision {revision}");
        }
        let whence = match source {
            RevisionSource::Edit => "an edit".to_owned(),
            RevisionSource::Rollback { of } => format!("a rollback to revision {of}"),
            RevisionSource::Start => "a start of the agent".to_owned(),
            RevisionSource::Adopt => "the first configuration".to_owned(),
        };
        let how = match outcome {
            Some(RevisionOutcome::Applied { how }) => format!(", by {how}"),
            Some(RevisionOutcome::Failed { .. }) | None => String::new(),
        };
        let mut lines = vec![subject.trim().to_owned(), String::new()];
        lines.push(format!("Revision {revision} of node {node}: {whence} by {actor}{how}"));
        let more = reason.lines().skip(1);
        lines.extend(more.map(str::to_owned));
        lines.extend(plan.iter().take(MAX_LINES).map(|line| format!("- {}", line.lines().next().unwrap_or_default())));
        if plan.len() > MAX_LINES {
            lines.push(format!("- and {} more", plan.len() - MAX_LINES));
        }
        lines.push(String::new());
        // Of two lines of that name the last one counts: a reason may not speak for another revision.
        let lines = lines.into_iter().map(|line| if line.starts_with("Hapilot-") { format!(" {line}") } else { line });
        let mut message = lines.collect::<Vec<_>>().join("\n");
        message.push_str(&format!("\n{REVISION}: {revision}\n{MADE}: {created}\n"));
        message
    }
}

fn data(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    writeln!(out, "data {}", bytes.len())?;
    out.write_all(bytes)?;
    writeln!(out)
}

/// A path that needs no quotes.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        && path
            .split('/')
            .all(|part| !part.is_empty() && !part.eq_ignore_ascii_case(".git") && part != "." && part != "..")
}

/// A name as it may stand in the head of a commit.
fn mail_word(name: &str) -> String {
    let word: String = name.chars().filter(|c| !c.is_control() && !"<>@\"".contains(*c)).take(64).collect();
    let word = word.trim().replace(' ', "-");
    if word.is_empty() { "unknown".to_owned() } else { word }
}

#[cfg(test)]
impl Commit {
    /// The same as another revision.
    pub(super) fn numbered(&self, revision: u32) -> Self {
        Self { manifest: Manifest { revision, ..self.manifest.clone() }, files: self.files.clone() }
    }
}
