//! `demo`: a complete local setup without root: three mock backends, a private HAProxy, the agent.
//!
//! Everything lives in one directory and ends with Ctrl-C, with the terminal, with whoever started it and with whoever
//! reads its output; a guard ends it where the demo itself is killed.

use super::args;
use super::demo_guard::DemoGuard;
use super::output::{Failure, Output, Tone};
use crate::agent::{Agent, Attempt, Node, Place, SecretUse};
use crate::api;
use crate::haproxy;
use crate::mock::{Mock, MockConfig};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// What the demo's servers are called; their ports follow each other, with each one's fault switch beside it.
const MOCKS: [&str; 3] = ["alpha", "beta", "gamma"];
/// The key that the mocks want. Clients never see it: HAProxy puts it in.
const KEY: &str = "sk-demo-provider-key";
/// How its file begins.
const FIRST_LINE: &str = "# The demo's operator file.";
/// HAProxy is there long before, or never.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// `hapilot demo`: until Ctrl-C.
pub(super) async fn demo(options: &args::Demo, out: Output) -> Result<(), Failure> {
    super::run::log_to_stderr(false);
    let mut audience = sys::audience::Audience::new().map_err(refused)?;
    let held = tempfile::Builder::new().prefix("hapilot-demo-").tempdir().map_err(refused)?;
    let temporary = Utf8PathBuf::from_path_buf(held.path().to_owned())
        .map_err(|path| Failure::refused(format!("{} is not UTF-8", path.display())))?;
    let mut guard = DemoGuard::start(&temporary).map_err(refused)?;
    let dir = options.dir.clone().unwrap_or(temporary);
    refuse_file_of_others(&dir.join("hapilot.toml"))?;
    sys::directory::create_directory(&dir, 0o755).map_err(refused)?;
    let mocks = start_mocks(options.mock_port).await?;
    let place =
        Place { file: dir.join("hapilot.toml"), node: None, socket: None, state: None, secrets: SecretUse::Handed };
    sys::files::replace_file(&dir.join("provider-key"), KEY.as_bytes(), 0o600).map_err(refused)?;
    sys::files::replace_file(&dir.join("stats-password"), b"demo", 0o600).map_err(refused)?;
    sys::files::replace_file(&place.file, toml(options, &dir).as_bytes(), 0o644).map_err(refused)?;

    let mut node = Node::open(place.clone()).await.map_err(Failure::from)?;
    node.owns_haproxy = true;
    node.alone().settle().await.map_err(|attempt| match attempt {
        Attempt::Failed(failed) => Failure::from(failed).help("--listen and --stats choose the demo's other ports"),
        Attempt::TooSoon(_) => Failure::refused("a HAProxy runs in this directory already"),
    })?;
    let mut running = start_haproxy(options, &node, &dir, &mut guard).await?;
    let listener = api::Listener::bind(&node.serving.config.api.socket).map_err(refused)?;
    node.tell_socket();
    let (agent, handle) = Agent::new(node);
    let server = tokio::spawn(api::serve(listener, handle));
    introduce(options, &dir, &mocks, &out);
    let result = tokio::select! {
        result = agent.run() => result.map_err(Failure::from),
        why = audience.gone() => {
            tracing::info!("the demo ends: {why}");
            Ok(())
        }
        status = running.wait() => Err(Failure::refused(format!("HAProxy ended ({}); see {dir}/haproxy.log",
            status.map_or_else(|e| e.to_string(), |status| status.to_string())))),
    };
    server.abort();
    let _ = server.await;
    stop_haproxy(&mut running).await;
    for mock in mocks {
        mock.stop().await;
    }
    let left = match &options.dir {
        Some(dir) => format!("its files are in {dir}"),
        None => {
            held.close().map_or_else(|e| format!("its directory stays: {e}"), |()| "nothing is left behind".to_owned())
        }
    };
    guard.end().await;
    out.line(format_args!("the demo has ended; {left}"));
    result
}

fn refused(error: std::io::Error) -> Failure {
    Failure::refused(error)
}

async fn start_mocks(first_port: u16) -> Result<Vec<Mock>, Failure> {
    let mut mocks = Vec::new();
    for (at, name) in (0u16..).zip(MOCKS) {
        let port = first_port.saturating_add(at * 10);
        let config = MockConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], port)),
            control: SocketAddr::from(([127, 0, 0, 1], port.saturating_add(1))),
            models: vec!["gpt-4o".to_owned(), "gpt-4o-mini".to_owned()],
            tokens_per_second: 50.0,
            name: (*name).to_owned(),
            key: Some(KEY.to_owned()),
            // Each has its own temper, so that weights have something to say.
            first_token: Duration::from_millis(40 + 40 * u64::from(at)),
            ..MockConfig::default()
        };
        let wanted = [config.bind, config.control];
        let mock = Mock::start(config).await.map_err(|e| {
            let why = sys::ports::why_not(&wanted, &e);
            Failure::refused(format!("the mock {name} cannot listen: {why}"))
                .help("choose other ports with --mock-port")
        })?;
        mocks.push(mock);
    }
    Ok(mocks)
}

/// The demo writes its own file over that of a demo before it, and over no other.
fn refuse_file_of_others(file: &Utf8Path) -> Result<(), Failure> {
    match fs_err::read_to_string(file) {
        Ok(text) if !text.starts_with(FIRST_LINE) => {
            let told = format!("{file} is there, and the demo did not write it: nothing was changed");
            Err(Failure::refused(told).help("give the demo a folder of its own: --dir DIR, or none at all"))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(refused(e)),
    }
}

fn toml(options: &args::Demo, dir: &Utf8Path) -> String {
    let (listen, stats, binary) = (options.listen, options.stats, &options.haproxy);
    let servers: String = (0u16..)
        .zip(MOCKS)
        .map(|(at, name)| {
            let port = options.mock_port.saturating_add(at * 10);
            format!("[backend.chat.server.{name}]\nurl  = \"http://127.0.0.1:{port}/v1\"\nkeys = [\"file:{dir}/provider-key\"]\n\n")
        })
        .collect();
    format!(
        r#"{FIRST_LINE} Edit it while the demo runs: a weight, a state, a timeout, a mistake.

[node]
name  = "demo"
state = "{dir}/state"

[haproxy]
config        = "{dir}/haproxy.cfg"
admin_socket  = "{dir}/admin.sock"
master_socket = "{dir}/master.sock"
binary        = "{binary}"
user          = ""
group         = ""
log           = ""
maxconn       = 1000
stats         = {{ bind = "{stats}", user = "demo", password = "file:{dir}/stats-password" }}

[api]
socket = "{dir}/hapilot.sock"

[frontend.api]
bind    = ["{listen}"]
backend = "chat"

[limit.address]
requests = "1000/10s"
burst    = 200

[backend.chat]
provider  = "openai"
balance   = "roundrobin"
weighting = "static"
retries   = 2
timeout   = {{ connect = "2s", first_byte = "30s", idle = "30s" }}

[backend.chat.check]
interval = "1s"
fall     = 2
rise     = 2
ramp     = "10s"
models   = {{ expect = ["gpt-4o"] }}
chat     = {{ model = "gpt-4o-mini", every = "5s", first_token = "3s", stall = "3s", total = "10s" }}

{servers}"#
    )
}

async fn start_haproxy(
    options: &args::Demo,
    node: &Node,
    dir: &Utf8Path,
    guard: &mut DemoGuard,
) -> Result<Child, Failure> {
    let haproxy = &node.serving.config.haproxy;
    let log = fs_err::File::create(dir.join("haproxy.log")).map_err(refused)?;
    let mut child = Command::new(options.haproxy.as_std_path())
        .args(["-W", "-S", haproxy.master_socket.as_str(), "-f", haproxy.config.as_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.into_parts().0)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Failure::refused(format!("{} cannot be started: {e}", options.haproxy)))?;
    guard.watch(child.id());
    let deadline = tokio::time::Instant::now() + START_DEADLINE;
    loop {
        if matches!(haproxy::observe(&haproxy.admin_socket, None, &[], false).await, Ok(Some(_))) {
            return Ok(child);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = fs_err::read_to_string(dir.join("haproxy.log")).unwrap_or_default();
            return Err(Failure::refused(format!("HAProxy ended at once ({status})\n{said}")));
        }
        if tokio::time::Instant::now() > deadline {
            stop_haproxy(&mut child).await;
            return Err(Failure::refused("HAProxy does not answer on its admin socket"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// SIGTERM ends master and workers at once; the group gets SIGKILL after it in any case.
async fn stop_haproxy(child: &mut Child) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    let group = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGTERM);
    let _ = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    let _ = child.wait().await;
}

fn introduce(options: &args::Demo, dir: &Utf8Path, mocks: &[Mock], out: &Output) {
    let me = std::env::current_exe().map_or_else(|_| "hapilot".to_owned(), |path| path.display().to_string());
    let (listen, stats) = (options.listen, options.stats);
    let title = |text: &str| out.paint(Tone::Strong, text);
    let beta = mocks.get(1).map(Mock::control_url).unwrap_or_default();
    out.line(format_args!(
        r#"
{ready} HAProxy serves on http://{listen}, steered by
  {file}

{ask}
  curl -i http://{listen}/v1/chat/completions \
    -H 'content-type: application/json' \
    -d '{{"model":"gpt-4o","messages":[{{"role":"user","content":"hello"}}]}}'
  # the same as a stream
  curl -N http://{listen}/v1/chat/completions \
    -H 'content-type: application/json' \
    -d '{{"model":"gpt-4o","stream":true,
         "messages":[{{"role":"user","content":"hello"}}]}}'
  curl -i http://{listen}/health

{look}
  {me} -c {file} status
  # the statistics page, login demo, password demo: http://{stats}/
  curl -u demo:demo http://{stats}/metrics

{break_it}
  # beta fails: its traffic moves away
  curl -X PUT {beta}/fault \
    -d '{{"kind":"status","code":500}}'
  # mended: it comes back with a ramp
  curl -X DELETE {beta}/fault

{edit}
  # live without a reload
  sed -i '/server.alpha/a weight = 10' {file}
  # one proven reload
  sed -i 's/retries   = 2/retries   = 3/' {file}
  # a mistake: reported, nothing changes
  echo 'wieght = 5' >> {file}
  # the slip is mended
  sed -i '/wieght/d' {file}
  {me} -c {file} plan
  {me} -c {file} history
  {me} -c {file} rollback

Ctrl-C ends all of it.
"#,
        file = dir.join("hapilot.toml"),
        ready = out.paint(Tone::Good, "ready:"),
        ask = title("Ask for completions:"),
        look = title("Look:"),
        break_it = title("Break and mend a backend:"),
        edit = title("Edit the file:"),
    ));
}
