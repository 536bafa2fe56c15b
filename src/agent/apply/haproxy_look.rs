//! Looks at what runs and at what is installed, for `engine`.

use crate::agent::files::live_files::MAX_FILE;
use crate::agent::outcome::applied::ApplyError;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::unanswered::Unanswered;
use crate::cfg::{self, Line};
use crate::config::Config;
use crate::haproxy;
use crate::plan;
use crate::render::Rendered;
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};

pub(super) async fn version_here(config: &Config, unanswered: &Unanswered) -> Result<plan::Version, ApplyError> {
    match observe(config, &[], false, unanswered).await? {
        Some(runtime) => Ok(runtime.version),
        None => installed_version(config).await,
    }
}

pub(in crate::agent) async fn installed_version(config: &Config) -> Result<plan::Version, ApplyError> {
    let binary = &config.haproxy.binary;
    haproxy::binary_version(binary).await.map_err(|e| match e {
        haproxy::BinaryError::Process(ref process) if !sys::lack::is_ours_at_start(&process.source) => {
            let what = format!("{}: {}", binary.named("haproxy.binary"), sys::chain(&e));
            let help = "install HAProxy, or name its program: [haproxy] binary = \"/usr/sbin/haproxy\"";
            ApplyError::Observe(Refusal::new(what).help(help))
        }
        e => ApplyError::unasked(&e),
    })
}

pub(super) async fn observe(
    config: &Config,
    maps: &[String],
    asks_maxconn: bool,
    unanswered: &Unanswered,
) -> Result<Option<plan::Runtime>, ApplyError> {
    let haproxy = &config.haproxy;
    let master = Some(haproxy.master_socket.value.as_path());
    let ask = async |socket: &Utf8Path| {
        unanswered.on(haproxy::observe(socket, master, maps, asks_maxconn)).await.map_err(|e| ApplyError::unasked(&e))
    };
    let admin = haproxy.admin_socket.value.as_path();
    match ask(admin).await? {
        Some(runtime) => Ok(Some(runtime)),
        // The operator's file may name another socket than the HAProxy that runs has: that one is where its own file says.
        None => match admin_socket_in(&haproxy.config).filter(|former| former != admin) {
            Some(former) => ask(&former).await,
            None => Ok(None),
        },
    }
}

/// The first admin socket of a haproxy.cfg.
fn admin_socket_in(haproxy_cfg: &Utf8Path) -> Option<Utf8PathBuf> {
    let bytes = sys::files::read_limited(haproxy_cfg, MAX_FILE).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let socket = |line: Line<'_>| {
        let words: Vec<String> = line.arguments().filter_map(|word| word.said.map(|said| said.to_string())).collect();
        let is_admin = words.windows(2).any(|pair| pair == ["level", "admin"]);
        match words.as_slice() {
            [socket, path, ..] if is_admin && socket == "socket" && path.starts_with('/') => Some(path.into()),
            _ => None,
        }
    };
    cfg::lines(&text).filter(|line| line.keyword == "stats").find_map(socket)
}

pub(super) async fn observe_certificates(
    config: &Config,
    rendered: &Rendered,
) -> Result<plan::RuntimeCertificates, ApplyError> {
    let lists: Vec<String> = rendered.lists.keys().cloned().collect();
    let paths = rendered.lists.values().flat_map(|list| &list.certificates);
    let paths: Vec<String> = paths.map(|certificate| certificate.path.to_string()).collect();
    let trust: Vec<_> = rendered.trust.values().filter(|bundle| bundle.is_data).collect();
    haproxy::observe_certificates(&config.haproxy.admin_socket, &lists, &paths, &trust)
        .await
        .map_err(|e| ApplyError::unasked(&e))
}
