//! Everything that is judged before the first byte is written (I1, I9).
//!
//! Changes nothing but a staging directory that goes away. Called by `engine`.

use crate::agent::outcome::applied::{Prepared, Wish};
use crate::agent::sources::place::Sources;
use crate::agent::tell::explain::{explain, warning};
use crate::agent::tell::refusal::{At, Objection, Refusal};
use crate::cfg;
use crate::config::Config;
use crate::haproxy::{self, BinaryError, CheckReport, CheckVerdict, MessageLevel};
use crate::model::{BindAddress, Digest};
use crate::plan::{Action, Obstacle};
use crate::render::{MapFile, Rendered, moved};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// For `haproxy -c`: 10,000 servers with TLS take 3 s.
pub(in crate::agent) const CHECK_DEADLINE: Duration = Duration::from_secs(60);
/// For the question why the master does not answer.
const MASTER_DEADLINE: Duration = Duration::from_secs(2);

/// `haproxy -c` on the very bytes: staged in a directory of their own, where the relative paths lead to the staged maps
/// and crt-lists. It runs beside whoever began it, and ends with this value.
#[derive(Debug)]
pub(in crate::agent) struct Check {
    /// What its verdict holds for.
    pub judgement: Digest,
    begun: Instant,
    done: CancellationToken,
    running: AbortOnDropHandle<Result<CheckReport, BinaryError>>,
}

impl Check {
    /// Stages the files and starts it.
    pub fn begin(sources: &Sources, rendered: &Rendered, judgement: Digest) -> Result<Self, Refusal> {
        let binary = sources.config.haproxy.binary.value.clone();
        let staging = stage(rendered, &sources.config)
            .map_err(|e| Refusal::new(format_args!("the files cannot be staged: {e}")))?;
        let path = Utf8Path::from_path(staging.path()).map(|path| path.join("haproxy.cfg"));
        let path = path.ok_or_else(|| Refusal::new("the temporary directory's path is not UTF-8"))?;
        let mut variables = sys::redact::secret_variables();
        variables.retain(|name| rendered.haproxy_cfg.contains(name.as_str()));
        let done = CancellationToken::new();
        let done_guard = done.clone().drop_guard();
        let running = tokio::spawn(async move {
            let _done = done_guard;
            let report = haproxy::check(&binary, &path, &variables, CHECK_DEADLINE).await;
            drop(staging);
            report
        });
        Ok(Self { judgement, begun: Instant::now(), done, running: AbortOnDropHandle::new(running) })
    }

    /// Whether the verdict is there within this time.
    pub async fn ends_within(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.done.cancelled()).await.is_ok()
    }

    /// Tells when the verdict is there.
    pub fn done(&self) -> &CancellationToken {
        &self.done
    }

    /// The machine may be another one by now: names, files, interfaces.
    pub fn is_stale(&self) -> bool {
        self.begun.elapsed() > CHECK_DEADLINE + Duration::from_secs(15)
    }

    /// Waits for the verdict. Only what HAProxy rejects is refused; what it warns about comes back: it starts, and the
    /// cause may be the machine or a newer version, which no edit of the file made and none should wait for.
    pub async fn end(self, wish: Wish<'_>, rendered: &Rendered) -> Result<CheckRemarks, Refusal> {
        let sources = wish.sources;
        let binary = &sources.config.haproxy.binary;
        let failed = |why: String| {
            let what = format!("{}: `haproxy -c` cannot be run: {why}", binary.named("haproxy.binary"));
            Refusal::new(what).help("install HAProxy, or name its program: [haproxy] binary = \"/usr/sbin/haproxy\"")
        };
        let report = self.running.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(sys::chain(&e)))?;
        let verdict = CheckVerdict::parse(&report.stderr, rendered, || wish.line_origins(rendered));
        if !report.ok || verdict.worst() == Some(MessageLevel::Alert) {
            return Err(Refusal::of(explain(&verdict, sources.file.as_str(), &sources.toml)));
        }
        let mut said = CheckRemarks::default();
        for message in &verdict.messages {
            // From 3.0 on this is no more than a notice, and the server is without an address all the same.
            match (unresolved_server(&message.text), message.severity) {
                (Some(server), _) => said.unresolved.push(server),
                (None, MessageLevel::Warning) => {
                    said.warnings.push(warning(message, sources.file.as_str(), &sources.toml));
                }
                (None, MessageLevel::Notice | MessageLevel::Alert) => {}
            }
        }
        Ok(said)
    }
}

/// What HAProxy says of files that it takes.
#[derive(Clone, Debug, Default)]
pub struct CheckRemarks {
    /// Servers, as HAProxy calls them, whose names did not resolve just now: it would start without them.
    pub unresolved: Vec<String>,
    /// Everything else that it warns about, each at the operator's line where it has one.
    pub warnings: Vec<String>,
}

impl CheckRemarks {
    /// The same as the operator calls them.
    pub fn unresolved_servers(&self) -> impl Iterator<Item = String> {
        self.unresolved.iter().map(|name| as_operator_calls_it(name))
    }
}

/// `'server chat/openai-1' : could not resolve address 'api.openai.com', disabling server.`
fn unresolved_server(words: &str) -> Option<String> {
    let (server, rest) = words.strip_prefix("'server ")?.split_once('\'')?;
    rest.contains("could not resolve address").then(|| server.to_owned())
}

/// Servers that run with an address now and would have none after a reload.
pub(in crate::agent) fn check_names(unresolved: &[String], prepared: &Prepared) -> Result<(), Refusal> {
    let (Action::Reload(_), Some(runtime)) = (&prepared.plan.action, &prepared.observed.runtime) else { return Ok(()) };
    let has_address = |name: &&String| {
        let key = name.split_once('/').map(|(proxy, server)| (proxy.to_owned(), server.to_owned()));
        key.and_then(|key| runtime.servers.get(&key)).is_some_and(|server| !server.address.is_empty())
    };
    let lost: Vec<_> = unresolved.iter().filter(has_address).map(|name| as_operator_calls_it(name)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let what = format!(
        "DNS: the names of {} do not resolve now; a reload would take them out, while their last addresses still serve",
        lost.join(", ")
    );
    Err(Refusal::new(what).help("mend the resolver of this node, or give the servers by address"))
}

/// `chat/a`, also of the hop in front of it, which HAProxy calls `chat:a/a`.
fn as_operator_calls_it(server: &str) -> String {
    match server.split_once('/').map(|(proxy, name)| (proxy.split_once(':'), name)) {
        Some((Some((backend, _)), name)) => format!("{backend}/{name}"),
        _ => server.to_owned(),
    }
}

/// How the names of staging directories begin.
pub(in crate::agent) const STAGING: &str = "hapilot-check-";

/// Secret maps are staged with as many entries, and no secret: `-c` reads that they are maps, and a death in between
/// leaves nothing that could be read.
///
/// Where the disk of the history has no room, the system's directory for temporary files may have some.
fn stage(rendered: &Rendered, config: &Config) -> std::io::Result<tempfile::TempDir> {
    stage_in(&config.node.state, rendered, config).or_else(|full| {
        let temporary = Utf8PathBuf::try_from(std::env::temp_dir()).map_err(std::io::Error::other)?;
        stage_in(&temporary, rendered, config).map_err(|_| full)
    })
}

fn stage_in(directory: &Utf8Path, rendered: &Rendered, config: &Config) -> std::io::Result<tempfile::TempDir> {
    let staging = sys::directory::temporary(directory, STAGING)?;
    let root = Utf8Path::from_path(staging.path()).ok_or(std::io::ErrorKind::InvalidFilename)?;
    let placeholders = |map: &MapFile| (0..map.entries.len()).map(|at| format!("{at} -\n")).collect();
    let text = |map: &MapFile| if map.is_secret { placeholders(map) } else { map.text() };
    let maps = rendered.maps.iter().map(|(name, map)| (name.clone(), text(map).into_bytes()));
    let mut files: BTreeMap<String, Vec<u8>> = maps.collect();
    files.extend(rendered.beside());
    files.extend(rendered.lists.iter().map(|(name, list)| (name.clone(), list.text_below(root).into_bytes())));
    files.extend(rendered.scripts.iter().map(|(name, text)| (name.clone(), text.as_bytes().to_vec())));
    for (name, bytes) in files {
        let path = root.join(name);
        sys::directory::create_directory(&sys::files::directory_of(&path), 0o700)?;
        sys::directory::write_private(&path, &bytes)?;
    }
    let text = moved(rendered, &config.haproxy.config, root);
    sys::directory::write_private(&root.join("haproxy.cfg"), text.as_bytes())?;
    Ok(staging)
}

/// Judges what surrounds the files: whose the live file is, ports, the master socket, directories.
pub(in crate::agent) async fn check_surroundings(sources: &Sources, prepared: &Prepared) -> Result<(), Refusal> {
    let haproxy = &sources.config.haproxy;
    let mut objections: Vec<Objection> =
        prepared.plan.obstacles.iter().map(|obstacle| objection(*obstacle, &haproxy.config)).collect();
    let directory = haproxy.config.parent().unwrap_or(Utf8Path::new("/"));
    let needed = (prepared.rendered.haproxy_cfg.len() as u64 * 2).next_multiple_of(64 << 10);
    if !prepared.plan.files.is_empty() {
        let lack = sys::folders::lack_of(&haproxy.config).map(|lack| of_config(sources, lack.what).help(lack.help));
        let unwritable = || sys::space::writable(directory, needed).err().map(|e| of_config(sources, e));
        objections.extend(lack.or_else(unwritable));
    }
    match &prepared.plan.action {
        Action::Nothing | Action::Runtime(_) => {}
        Action::Reload(_) => {
            objections.extend(taken_ports(sources, prepared, &[]));
            objections.extend(super::start::objection(sources, prepared));
            let master = prepared.observed.runtime.as_ref().and_then(|runtime| runtime.master.as_ref());
            if master.is_none() {
                objections.push(mute_master(sources).await);
            }
        }
        // Once the files lie there, HAProxy may be starting at this very moment: leave it its ports.
        Action::Start if prepared.plan.files.is_empty() => {}
        Action::Start => {
            let own = own_processes(sources).await;
            let taken = taken_ports(sources, prepared, &own);
            objections.extend(taken);
        }
    }
    if objections.is_empty() { Ok(()) } else { Err(Refusal::of(objections)) }
}

/// Something about the live file, at the line that names it.
pub(super) fn of_config(sources: &Sources, what: impl std::fmt::Display) -> Objection {
    let config = &sources.config.haproxy.config;
    let key = if config.origin.is_some() { "`haproxy.config`" } else { "`haproxy.config` (its default)" };
    Objection::new(format_args!("{key}: {what}")).at(At::origin(&sources.file, config.origin))
}

/// The live file cannot be looked at.
pub(in crate::agent) fn unseen(sources: &Sources, error: std::io::Error) -> Objection {
    let config = &sources.config.haproxy.config;
    match sys::folders::lack_of(config) {
        Some(lack) => of_config(sources, lack.what).help(lack.help),
        None if config.is_dir() => {
            of_config(sources, error).help("give the path of a file: config = \"/etc/haproxy/haproxy.cfg\"")
        }
        None => of_config(sources, error),
    }
}

/// Why no master answers, and what to do: to start HAProxy anew helps only where nobody listens.
async fn mute_master(sources: &Sources) -> Objection {
    let haproxy = &sources.config.haproxy;
    let socket = &haproxy.master_socket.value;
    let asked = haproxy::processes(socket, MASTER_DEADLINE).await;
    let why = asked.as_ref().err().map(|e| format!(": {}", sys::chain(e))).unwrap_or_default();
    let mute =
        Objection::new(format_args!("a reload is needed, and HAProxy's master socket {socket} does not answer{why}"));
    match asked {
        Ok(_) => mute.help("it answers now: try again"),
        Err(haproxy::AdminError::Denied { .. }) => {
            mute.help(format_args!("let this user use {socket} (its group, level operator)"))
        }
        Err(_) => {
            let command = haproxy::start_command(&haproxy.binary, &haproxy.config, socket);
            mute.help(format_args!("start HAProxy with it once: {command}")).help(
                "where systemd starts HAProxy, put hapilot's drop-in (hapilot.conf) into \
                 /etc/systemd/system/haproxy.service.d/ and restart it: systemctl daemon-reload && systemctl restart haproxy",
            )
        }
    }
}

/// The processes of our own HAProxy where its admin socket is gone: its master still names them.
async fn own_processes(sources: &Sources) -> Vec<u32> {
    let master_socket = &sources.config.haproxy.master_socket;
    // To ask waits for one that is about to listen; nobody is, where HAProxy does not run.
    if std::os::unix::net::UnixStream::connect(&master_socket.value).is_err() {
        return vec![];
    }
    let Ok(found) = haproxy::processes(master_socket, MASTER_DEADLINE).await else { return vec![] };
    let haproxy::Processes { master, workers } = found;
    [master.pid].into_iter().chain(master.old_workers).chain(workers).collect()
}

/// Ports that the new configuration binds, the running one does not, and somebody else holds. HAProxy would notice
/// only in the middle of a reload, with its old listeners paused for two seconds.
fn taken_ports(sources: &Sources, prepared: &Prepared, own: &[u32]) -> Vec<Objection> {
    let (config, file) = (&sources.config, &sources.file);
    let bound = binds_in(&prepared.live_text);
    let runs = prepared.observed.runtime.is_some();
    let nodes = config.node.bind().filter(|bind| binds_in(&prepared.rendered.haproxy_cfg).contains(bind));
    let new: Vec<BindAddress> =
        config.binds().map(|bind| bind.value).chain(nodes).filter(|bind| !(runs && bound.contains(bind))).collect();
    let own: BTreeSet<u32> = prepared
        .observed
        .runtime
        .iter()
        .flat_map(|runtime| {
            let master =
                runtime.master.iter().flat_map(|master| master.old_workers.iter().copied().chain([master.pid]));
            master.chain([runtime.pid])
        })
        .chain(own.iter().copied())
        .collect();
    let taken = sys::ports::bind_test(&new)
        .into_iter()
        .filter(|taken| !taken.holder.as_ref().is_some_and(|holder| own.contains(&holder.pid)))
        // For other nodes it is bound whether or not the address is there yet.
        .filter(|taken| nodes != Some(taken.address) || taken.error.kind() != std::io::ErrorKind::AddrNotAvailable);
    let of_nodes = config.node.heartbeat.as_ref().and_then(|heartbeat| heartbeat.key.origin);
    let place = |at: BindAddress| match config.binds().find(|bind| bind.value == at) {
        Some(bind) => bind.origin,
        None => of_nodes,
    };
    let told = |taken: sys::ports::BindProblem| {
        let objection = Objection::new(&taken).at(At::origin(file, place(taken.address)));
        taken.help().into_iter().fold(objection, Objection::help)
    };
    taken.map(told).collect()
}

/// The addresses after `bind` in a haproxy.cfg, as far as they are plain and under no condition.
fn binds_in(text: &str) -> BTreeSet<BindAddress> {
    let binds = cfg::lines(text).filter(|line| line.keyword == "bind" && !line.is_conditional);
    let mut found = BTreeSet::new();
    for addresses in binds.filter_map(|bind| bind.arguments().next()?.said) {
        found.extend(addresses.split(',').filter_map(|address| address.parse::<BindAddress>().ok()));
    }
    found
}

/// What an apply with `--adopt` replaces, where hapilot did not write it.
pub fn replaced_file(sources: &Sources, prepared: &Prepared) -> Option<String> {
    let is_foreign = prepared.observed.config.as_ref().is_some_and(|file| !file.is_ours);
    is_foreign.then(|| objection(Obstacle::ForeignConfig, &sources.config.haproxy.config.value).to_string())
}

/// What is wrong and what to do.
fn objection(obstacle: Obstacle, config: &Utf8Path) -> Objection {
    match obstacle {
        Obstacle::ForeignConfig => Objection::new(format_args!("{config} was not written by hapilot"))
            .help(format_args!("`hapilot apply --adopt` keeps it beside as {config}.before-hapilot-… and replaces it")),
        Obstacle::EditedByHand => Objection::new(format_args!("{config} was edited by hand since hapilot wrote it"))
            .help(
                "move the change into the TOML file (`raw` lines take anything), or discard it with `hapilot apply \
                 --adopt`, which keeps the edited file beside",
            ),
    }
}

/// What a verdict of `haproxy -c` holds for. With the built-in template the masked text and the shapes of the servers
/// that are left out of it decide: two files that agree in both differ in typed numbers only. An operator's template may
/// do anything with a number, so there every byte counts. Certificates are read by `-c` as well.
pub(in crate::agent) fn judgement(sources: &Sources, rendered: &Rendered) -> Digest {
    let text = match &sources.config.haproxy.template {
        Some(_) => rendered.digest(),
        None => rendered.structure.digest,
    };
    let mut judged = text.to_string();
    for ((proxy, server), id) in &*rendered.dynamic {
        judged.extend([proxy, "/", server, " ", &id.to_string(), "\n"]);
    }
    for (list, file) in &rendered.lists {
        for certificate in &file.certificates {
            judged += &format!("{list} {} {}\n", certificate.path, certificate.digest);
        }
    }
    for (path, bundle) in &rendered.trust {
        judged += &format!("{path} {}\n", Digest::of(bundle.text()));
    }
    Digest::of(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_resolve_is_told_from_other_warnings() {
        let words = "'server chat/a' : could not resolve address 'x.example', disabling server.";
        assert_eq!(unresolved_server(words).as_deref(), Some("chat/a"));
        assert_eq!(unresolved_server("'server chat/a' : unknown keyword 'x'"), None);
        assert_eq!(["chat/a", "chat:a/a"].map(as_operator_calls_it), ["chat/a", "chat/a"]);
    }

    #[test]
    fn bound_addresses_are_found_in_a_configuration() {
        let text = "frontend a\n  bind *:443 ssl crt /x\n  bind 127.0.0.1:80,[::]:81\nlisten b\n  bind abns@x\n\
                    bind\t\"*:82\"\n  # bind *:83\n.if A\n  bind *:84\n.endif\n";
        let found: Vec<_> = binds_in(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["*:82", "*:443", "[::]:81", "127.0.0.1:80"]);
    }
}
