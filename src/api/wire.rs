//! What goes over the agent's socket and out of `--json`: a stable shape, apart from the inner types.
//!
//! Fields are only ever added. Durations are numbers with the unit in their name, times are RFC 3339.

pub use super::wire_alert::AlertSink;
pub use super::wire_canary::{Canary, CanaryCondition, CanaryGroup, CanaryRequest};
pub use super::wire_live::{Guard, Hearing, Live, Percentiles};
pub use super::wire_soak::{Soak, SoakBackend};
pub use super::wire_vip::{Event, Vip, VipNode, VipPart, VipRequest, Vips};
use serde::{Deserialize, Serialize};

/// `GET /v1/status`. Whoever writes it may give the servers in a form of his own that reads the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status<S = Vec<Server>> {
    /// This node's name.
    pub node: String,
    /// hapilot's version.
    pub version: String,
    /// The agent, `None` when it does not run and the command line looked for itself.
    pub agent: Option<Agent>,
    /// The operator's file.
    pub config: ConfigFile,
    /// The file was saved and waits for `apply`, because the one that serves says so; nothing is wrong.
    #[serde(default)]
    pub waits: Option<Waits>,
    /// The running HAProxy, `None` when none answers.
    pub haproxy: Option<Haproxy>,
    /// What is wrong right now, in one line each; empty when all is well.
    pub problems: Vec<String>,
    /// What HAProxy warned about in the files that serve: it may matter some day, nothing is wrong now.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Backends in the order of their names.
    pub backends: Vec<Backend<S>>,
    /// The revision on trial, `None` where none is.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// What the agent found of an interrupted apply when it started, and did about it.
    #[serde(default)]
    pub recovered: Option<String>,
    /// The last corrections of drift, newest first, at most 20.
    #[serde(default)]
    pub corrections: Vec<Correction>,
    /// How many corrections there were since the agent's start.
    #[serde(default)]
    pub corrections_total: u64,
    /// The agent only observes; what it would do, one line each.
    #[serde(default)]
    pub would: Option<Vec<String>>,
    /// How well live traffic is heard; `None`: nobody listens.
    #[serde(default)]
    pub hearing: Option<Hearing>,
    /// The guards that hold back weights now, the oldest first.
    #[serde(default)]
    pub guards: Vec<Guard>,
    /// The certificates that frontends serve, in the order of their files.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Who may ask; `None`: anybody.
    #[serde(default)]
    pub clients: Option<Clients>,
    /// The virtual addresses; `None`: the file has none, or no agent watches them.
    #[serde(default)]
    pub vips: Option<Vips>,
    /// The canaries, in the order of their names.
    #[serde(default)]
    pub canaries: Vec<Canary>,
    /// Who is told what happens, in the order of their names.
    #[serde(default)]
    pub alerts: Vec<AlertSink>,
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// How many there are.
    pub count: usize,
    /// The beginning of a digest of those in the file `clients`: another one when any of them has changed.
    pub file_digest: String,
}

/// What an `apply` of the file that waits would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waits {
    /// When it was saved, in UTC; `None` where the file does not tell.
    pub saved: Option<String>,
    /// How many changes it is for the running HAProxy.
    pub changes: usize,
    /// Whether they take a reload.
    pub is_reload: bool,
}

/// A certificate that a frontend serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The operator's file.
    pub file: String,
    /// The names that it is served for.
    pub names: Vec<String>,
    /// When it expires.
    pub not_after: String,
    /// Seconds until then; negative afterwards.
    pub expires_in_s: i64,
    /// What is wrong with it, `None` where all is well.
    pub problem: Option<String>,
}

/// A revision that goes away by itself unless it is confirmed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub revision: u32,
    /// The revision that comes back.
    pub back_to: u32,
    /// Until when, by the wall clock. Where nobody has to confirm it (`soak.keeps`) its soak may last longer.
    pub until: String,
    /// Seconds that are left.
    pub left_s: f64,
    /// How it compares with what was before it, where it soaks.
    #[serde(default)]
    pub soak: Option<Soak>,
}

/// Something that somebody else changed and that was put right.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Correction {
    /// When.
    pub at: String,
    /// Who differed and where.
    pub text: String,
}

/// An old worker that still finishes its streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OldWorker {
    /// Its process id.
    pub pid: u32,
    /// Seconds since it was seen to be on its way out.
    pub finishing_s: u64,
    /// Client connections that it still has; `None` before it was asked.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Its resident memory in bytes; `None` where its process cannot be seen from here.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
}

/// The running agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Writes (files, runtime commands, reloads) since it started.
    pub writes: u64,
    /// Reloads since it started.
    pub reloads: u64,
}

/// The operator's file and what serves of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Its path.
    pub path: String,
    /// The revision that serves, `None` before the first apply.
    pub revision: Option<u32>,
    /// Whether the file as it stands now is what serves.
    pub is_serving: bool,
    /// Why it is about to be served, and is not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// The state directory: history, events, what was learnt.
    #[serde(default)]
    pub state: Option<String>,
}

/// The running HAProxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Haproxy {
    /// Its version.
    pub version: String,
    /// The worker's process id.
    pub pid: u32,
    /// Seconds since the worker started.
    pub uptime_s: u64,
    /// The revision marker in its `description`.
    pub structure: Option<String>,
    /// Old workers that still finish their streams.
    pub old_workers: Vec<u32>,
    /// The same with their ages.
    #[serde(default)]
    pub finishing: Vec<OldWorker>,
    /// Seconds since which it owes an answer on its admin socket: it hangs. `None` while it answers.
    #[serde(default)]
    pub silent_s: Option<f64>,
}

impl Haproxy {
    /// Whether it answers.
    pub fn answers(&self) -> bool {
        self.silent_s.is_none()
    }
}

/// One backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backend<S = Vec<Server>> {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Its algorithm.
    pub balance: String,
    /// Why the pool guard keeps servers in that health would take out.
    pub guard: Option<String>,
    /// Why it can serve no request; `None` where it can. Without a running HAProxy none can, and none says so here.
    #[serde(default)]
    pub outage: Option<String>,
    /// Since when, as far as the agent has seen it.
    #[serde(default)]
    pub outage_since: Option<String>,
    /// The tier whose servers take its requests: 2 while none of tier 1 can.
    #[serde(default)]
    pub tier: u8,
    /// Its servers in the order of their names.
    pub servers: S,
}

/// One server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its base URL.
    pub url: String,
    /// Its tier.
    pub tier: u8,
    /// The weight in the operator's file.
    pub base_weight: u16,
    /// The weight that it should have now.
    pub weight: u16,
    /// The weight that HAProxy says it has.
    pub runtime_weight: Option<u16>,
    /// Administrative state: ready, drain, maint.
    pub admin: String,
    /// Operational state by HAProxy's own check.
    pub oper: Option<String>,
    /// Health: unknown, healthy, degraded, unhealthy, probation.
    pub health: String,
    /// Why it is in this state.
    pub reason: String,
    /// Seconds in this state.
    pub since_s: u64,
    /// Something that the operator should mend: a rejected key, a wrong probe.
    pub attention: Option<String>,
    /// Seconds for which it stays out at the least, however well it does; `None` where nothing holds it.
    #[serde(default)]
    pub held_s: Option<u64>,
    /// The circuit that failures of real requests open, in words; nothing where it was always closed.
    #[serde(default)]
    pub circuit: Option<String>,
    /// The product that the weight is made of.
    pub factors: Vec<Factor>,
    /// The last result of each probe.
    pub probes: Vec<ProbeResult>,
    /// What an operator set by command.
    pub r#override: Option<String>,
    /// What the requests of clients told of it; `None`: nothing was heard.
    #[serde(default)]
    pub live: Option<Live>,
    /// Its keys in the order of the file, never with a value. Servers of a backend that share them show the same.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// How often another key was chosen since the agent's start.
    #[serde(default)]
    pub key_rotations: u64,
}

/// One key of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// `k1`, `k2` and so on: its place in the file, and what HAProxy's log calls it.
    pub id: String,
    /// Where it is kept, as the file says.
    pub reference: String,
    /// Whether HAProxy puts this one in.
    pub is_active: bool,
    /// in_service, cooling (429), retired, or unknown where no agent runs.
    pub state: String,
    /// Why it is retired: credential or billing.
    pub why: Option<String>,
    /// Seconds in this state; `None`: since the agent's start.
    pub since_s: Option<u64>,
    /// Seconds until its pause ends, or until it is asked again.
    pub left_s: Option<f64>,
    /// What was said of it last: a probe's outcome or a client's.
    pub last_outcome: Option<String>,
    /// How long ago.
    pub last_age_s: Option<f64>,
    /// Client requests that were seen to use it since the agent's start.
    pub uses: u64,
}

/// One factor of a weight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Factor {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Why.
    pub why: String,
}

/// One probe's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeResult {
    /// models, chat or http.
    pub kind: String,
    /// The outcome's name.
    pub outcome: String,
    /// From the first byte sent to the end.
    pub total_ms: f64,
    /// From the request to the first token.
    pub first_token_ms: Option<f64>,
    /// How long ago.
    pub age_s: f64,
    /// One line for people.
    pub detail: String,
}

/// `POST /v1/apply`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// Replace a haproxy.cfg that is not ours.
    pub adopt: bool,
    /// Neither a guard nor the limits of reloads hold it back.
    #[serde(default)]
    pub force: bool,
    /// It goes away again unless it is confirmed within so many milliseconds; `None`: as the file says.
    #[serde(default)]
    pub confirm_ms: Option<u64>,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// `POST /v1/rollback`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// To which revision; `None`: the last good one before the current one.
    pub revision: Option<u32>,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// `POST /v1/confirm`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConfirmRequest {
    /// Who asks.
    pub actor: String,
}

/// `POST /v1/tag`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TagRequest {
    /// Which revision.
    pub revision: u32,
    /// Its name, which stays.
    pub name: String,
    /// Who asks.
    #[serde(default)]
    pub actor: String,
}

/// `POST /v1/server`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerRequest {
    /// BACKEND/SERVER
    pub server: String,
    /// ready (which ends every override), drain or maint.
    pub state: Option<String>,
    /// 0 to 256.
    pub weight: Option<u16>,
    /// Ends by itself after so many seconds, fractions too.
    pub for_s: Option<f64>,
    /// Who asks.
    pub actor: String,
}

/// The answer to every `POST`, and what `plan --json` and `apply --json` print.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// unchanged, runtime, reload, start (HAProxy does not run yet) or planned.
    pub how: String,
    /// The revision that serves now, where one was made.
    pub revision: Option<u32>,
    /// Runtime commands, one line each, without secrets.
    pub steps: Vec<String>,
    /// Why a reload was or is needed.
    pub reload_reasons: Vec<String>,
    /// Files written or to write.
    pub files: Vec<String>,
    /// A unified diff of haproxy.cfg.
    pub diff: String,
    /// What the operator should know or do next.
    pub notes: Vec<String>,
    /// How long it took.
    pub took_ms: f64,
}

/// The body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, what was done about it, what to do; several lines, as they are to be printed.
    pub error: String,
    /// The command line's exit code.
    pub exit_code: u8,
}

/// `hapilot history --json`, one element each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revision {
    /// Its number, from 1.
    pub revision: u32,
    /// When it was applied.
    pub created: String,
    /// Who applied it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// runtime, reload or start.
    pub how: String,
    /// confirmed, provisional, `rolled-back: WHY`, `failed: WHY` or unfinished.
    pub outcome: String,
    /// Whether it serves now.
    pub is_current: bool,
    /// What it changed, one line each.
    pub summary: Vec<String>,
    /// Names that operators gave it.
    #[serde(default)]
    pub tags: Vec<String>,
}
