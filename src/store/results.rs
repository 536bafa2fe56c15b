//! What the last probes told, kept over restarts: the last ones of each server and kind.
//!
//! Nothing depends on it: a file that is damaged or missing is begun anew, and one that cannot be written is told. Knows
//! no keys. Written by the agent, read by the agent's start and by `hapilot probe --last`.

use super::error::StoreError;
use crate::sys::files;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Results of one server and kind.
const MAX_PER_LINE: usize = 20;
/// Results in all: with thousands of servers each line keeps fewer, but at least one.
const MAX_RESULTS: usize = 20_000;
/// Longest detail, in characters.
const MAX_DETAIL: usize = 200;
/// Longest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// The form of the file. Another one is begun anew.
const FORM: u32 = 1;

/// One probe's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// When it ended.
    pub at: jiff::Timestamp,
    /// What it found, as in logs and metrics.
    pub outcome: Cow<'static, str>,
    /// From the first byte sent to the end.
    pub total_ms: u64,
    /// From the request to the first token.
    pub first_token_ms: Option<u64>,
    /// Tokens that it cost.
    pub tokens: u64,
    /// Which of the server's keys it was asked with: `k1` and so on; `None`: without.
    pub key: Option<String>,
    /// One line for people. Never a key.
    pub detail: Box<str>,
}

/// The last results by server (`BACKEND/SERVER`) and kind, the newest last. Copies share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results(BTreeMap<String, Arc<Lines>>);

/// Those of one server, by kind; mostly one or two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines(Vec<(Cow<'static, str>, Vec<ProbeRecord>)>);

impl Serialize for Lines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(kind, line)| (kind, line)))
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lines = BTreeMap::<String, Vec<ProbeRecord>>::deserialize(deserializer)?;
        Ok(Self(lines.into_iter().map(|(kind, line)| (Cow::Owned(kind), line)).collect()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    form: u32,
    servers: BTreeMap<String, Lines>,
}

#[derive(Serialize)]
struct FileRef<'a> {
    form: u32,
    servers: BTreeMap<&'a str, &'a Lines>,
}

impl Results {
    /// Adds one; the oldest of its line make room.
    pub fn push(&mut self, server: &str, kind: &'static str, mut record: ProbeRecord) {
        if record.detail.chars().count() > MAX_DETAIL {
            record.detail = record.detail.chars().take(MAX_DETAIL - 1).chain(['…']).collect();
        }
        if !self.0.contains_key(server) {
            self.0.insert(server.to_owned(), Arc::default());
        }
        let room = self.room();
        if let Some(lines) = self.0.get_mut(server) {
            let lines = &mut Arc::make_mut(lines).0;
            let at = lines.iter().position(|(known, _)| known == kind).unwrap_or_else(|| {
                lines.reserve_exact(1);
                lines.push((Cow::Borrowed(kind), Vec::new()));
                lines.len() - 1
            });
            let line = &mut lines[at].1;
            line.drain(..(line.len() + 1).saturating_sub(room));
            // Of thousands of servers each has one result: no room for more.
            line.reserve_exact(1);
            line.push(record);
        }
    }

    /// Forgets servers that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|server, _| is_there(server));
    }

    /// Every line: server, kind, and its results, the newest last.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str, &[ProbeRecord])> {
        self.0
            .iter()
            .flat_map(|(server, lines)| lines.0.iter().map(move |(kind, line)| (server.as_str(), &**kind, &**line)))
    }

    /// How many results a line may have. A server has two kinds or so; six at most.
    fn room(&self) -> usize {
        let lines = self.0.len() * 2;
        (MAX_RESULTS / lines.max(1)).clamp(1, MAX_PER_LINE)
    }
}

/// Reads `probes.json`; empty where there is none.
///
/// # Errors
/// Unreadable, damaged, or of another form. The caller begins anew and says so.
pub fn load_results(state: &Utf8Path) -> Result<Results, StoreError> {
    let path = path_in(state);
    let damaged = |problem: String| StoreError::Damaged { path: path.clone(), problem };
    let bytes = match files::read_limited(&path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Results::default()),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => return Err(damaged(e.to_string())),
        Err(source) => return Err(StoreError::io("read the last results of the probes")(source)),
    };
    let File { form, servers } = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if form != FORM {
        return Err(damaged(format!("it has form {form}, not {FORM}")));
    }
    Ok(Results(servers.into_iter().map(|(server, lines)| (server, Arc::new(lines))).collect()))
}

/// Writes `probes.json` whole.
///
/// # Errors
/// The directory is missing, full or not writable. Nothing is lost but what a restart would have known.
pub fn save_results(state: &Utf8Path, results: &Results) -> Result<(), StoreError> {
    let path = path_in(state);
    let servers = results.0.iter().map(|(server, lines)| (server.as_str(), &**lines)).collect();
    let file = FileRef { form: FORM, servers };
    let mut text =
        serde_json::to_vec(&file).map_err(|e| StoreError::Refused(format!("{path} cannot be written as JSON: {e}")))?;
    text.push(b'\n');
    if text.len() as u64 > MAX_BYTES {
        return Err(StoreError::Refused(format!("{path} would be longer than {MAX_BYTES} bytes")));
    }
    files::replace_own_file(&path, &text, 0o640).map_err(StoreError::io("write the last results of the probes"))
}

fn path_in(state: &Utf8Path) -> Utf8PathBuf {
    state.join("probes.json")
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, MAX_PER_LINE, ProbeRecord, Results, load_results, save_results};
    use crate::sys::files::replace_file;
    use camino::Utf8Path;

    fn record(number: u64) -> ProbeRecord {
        ProbeRecord {
            at: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
            outcome: "ok".into(),
            total_ms: number,
            first_token_ms: None,
            tokens: 16,
            key: Some("k1".to_owned()),
            detail: "x".repeat(300).into(),
        }
    }

    #[test]
    fn the_last_ones_come_back_and_the_oldest_make_room() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        assert_eq!(load_results(state).unwrap(), Results::default());
        let mut results = Results::default();
        (0..30).for_each(|number| results.push("chat/a", "models", record(number)));
        results.push("chat/gone", "models", record(1));
        results.retain(|server| server == "chat/a");
        save_results(state, &results).unwrap();
        let back = load_results(state).unwrap();
        assert_eq!(back, results);
        let lines: Vec<_> = back.lines().collect();
        let [("chat/a", "models", line)] = lines[..] else { panic!("{lines:?}") };
        let took: Vec<u64> = line.iter().map(|record| record.total_ms).collect();
        assert_eq!(took, (10..30).collect::<Vec<_>>());
        assert_eq!((line.len(), line[0].detail.chars().count()), (MAX_PER_LINE, 200));
    }

    #[test]
    fn ten_thousand_servers_stay_within_the_file() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        let mut results = Results::default();
        for number in 0..3 {
            (0..10_000).for_each(|server| results.push(&format!("chat/server-{server}"), "models", record(number)));
        }
        save_results(state, &results).unwrap();
        let size = fs_err::metadata(state.join("probes.json")).unwrap().len();
        assert!(size < MAX_BYTES, "{size}");
        assert!(load_results(state).unwrap().lines().all(|(_, _, line)| line.last().unwrap().total_ms == 2));
    }

    #[test]
    fn damage_is_named() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        for content in ["{\"form\":1,\"servers\":{\"chat/a\"", "", "[]", "{\"form\":7,\"servers\":{}}"] {
            replace_file(&state.join("probes.json"), content.as_bytes(), 0o640).unwrap();
            let error = load_results(state).unwrap_err().to_string();
            assert!(error.contains("probes.json is damaged"), "{content}: {error}");
        }
    }
}
