//! Looks at what runs and at what is installed, for `engine`.

use super::apply::ApplyError;
use super::unanswered::Unanswered;
use crate::config::Config;
use crate::haproxy;
use crate::plan;
use crate::render::Rendered;

pub(super) async fn version_here(config: &Config, unanswered: &Unanswered) -> Result<plan::Version, ApplyError> {
    match observe(config, &[], false, unanswered).await? {
        Some(runtime) => Ok(runtime.version),
        None => installed_version(config).await,
    }
}

pub(super) async fn installed_version(config: &Config) -> Result<plan::Version, ApplyError> {
    haproxy::binary_version(&config.haproxy.binary).await.map_err(|e| ApplyError::unasked(&e))
}

pub(super) async fn observe(
    config: &Config,
    maps: &[String],
    asks_maxconn: bool,
    unanswered: &Unanswered,
) -> Result<Option<plan::Runtime>, ApplyError> {
    let haproxy = &config.haproxy;
    let master = Some(haproxy.master_socket.value.as_path());
    unanswered
        .on(haproxy::observe(&haproxy.admin_socket, master, maps, asks_maxconn))
        .await
        .map_err(|e| ApplyError::unasked(&e))
}

pub(super) async fn observe_certificates(
    config: &Config,
    rendered: &Rendered,
) -> Result<plan::RuntimeCertificates, ApplyError> {
    let lists: Vec<String> = rendered.lists.keys().cloned().collect();
    let paths = rendered.lists.values().flat_map(|list| &list.certificates);
    let paths: Vec<String> = paths.map(|certificate| certificate.path.to_string()).collect();
    haproxy::observe_certificates(&config.haproxy.admin_socket, &lists, &paths)
        .await
        .map_err(|e| ApplyError::unasked(&e))
}
