//! A reload and its proof (invariant I7).
//!
//! Called by `engine`, which puts the files back where it fails.

use crate::agent::outcome::applied::{Prepared, Wish};
use crate::agent::tell::explain::explain;
use crate::agent::tell::refusal::{Objection, Refusal};
use crate::haproxy;
use crate::plan;
use crate::sys;
use std::time::Duration;

/// For a reload; as `haproxy -c`, plus 2 s of bind retries.
const RELOAD_DEADLINE: Duration = Duration::from_secs(60);
/// For its proof: the new worker is there when the master says so, and answers within 20 ms.
const PROOF_DEADLINE: Duration = Duration::from_secs(20);

/// Reloads and proves it; answers what could not be proven.
pub(super) async fn reload(wish: Wish<'_>, prepared: &Prepared) -> Result<Vec<String>, Refusal> {
    let haproxy = &wish.sources.config.haproxy;
    let before = prepared.observed.runtime.as_ref().ok_or_else(|| Refusal::new("no HAProxy runs"))?;
    let listeners = haproxy::listeners(&prepared.rendered.haproxy_cfg);
    let report = haproxy::reload(&haproxy.master_socket, before.version, RELOAD_DEADLINE).await.map_err(|e| {
        Refusal::new(format_args!("the reload failed: {}", sys::chain(&e))).done("the files are as they were")
    })?;
    if !report.ok {
        let verdict =
            haproxy::CheckVerdict::parse(&report.log, &prepared.rendered, || wish.line_origins(&prepared.rendered));
        let head = "HAProxy refused the reload; the old worker serves on, the files are as they were";
        let said = explain(&verdict, wish.sources.file.as_str(), &wish.sources.toml);
        return Err(Refusal::of([Objection::new(head)].into_iter().chain(said)));
    }
    let marker = plan::marker(&prepared.rendered.structure.digest);
    let sockets = haproxy::Sockets { admin: &haproxy.admin_socket, master: Some(&haproxy.master_socket) };
    let proof = haproxy::prove_reload(sockets, before, &marker, &listeners, PROOF_DEADLINE).await;
    proof.map(|proof| proof.remarks).map_err(|e| {
        Refusal::new(e)
            .done("the files are as they were; HAProxy may run the new ones already")
            .help("mend what is missing and run `hapilot apply` again")
    })
}
