//! `status`: what serves and how healthy it is.

use super::apply::agent;
use super::output::{Failure, Output, Table, Tone, ms, span};
use crate::agent::{Node, Place, Snapshot};
use crate::api::wire::{Backend, Correction, Hearing, Key, Live, OldWorker, Server, Status, Trial};

/// `hapilot status`: exit code 1 where something is wrong.
pub(super) async fn status(place: &Place, out: Output) -> Result<(), Failure> {
    let status = look(place).await?;
    if out.json {
        out.print_json(&status);
    } else {
        print(&status, &out);
    }
    let is_out = |backend: &Backend| backend.servers.iter().all(|server| server.runtime_weight == Some(0));
    let is_well = status.problems.is_empty() && status.haproxy.is_some() && !status.backends.iter().any(is_out);
    if is_well { Ok(()) } else { Err(Failure { message: String::new(), exit_code: super::output::REFUSED }) }
}

/// What the agent says, or what can be seen without one.
pub(super) async fn look(place: &Place) -> Result<Status, Failure> {
    match agent(place)? {
        Some(agent) => agent.status().await.map_err(Failure::from),
        None => alone(place).await,
    }
}

/// Without an agent: HAProxy as it is, health unknown.
async fn alone(place: &Place) -> Result<Status, Failure> {
    let mut node = Node::open(place.clone()).await.map_err(Failure::from)?;
    // Looks at HAProxy; a plan changes nothing.
    let looked = node.plan().await;
    node.tell_certificates();
    let mut status = Status::from(&Snapshot::of(&node));
    status.agent = None;
    // Nobody has applied anything in this life; what was looked at says whether the file is what runs.
    status.config.is_serving = looked.as_ref().is_ok_and(|(prepared, _)| prepared.plan.is_empty());
    status.problems.push("the agent does not run: nobody probes, weights stay as they are".to_owned());
    status.warnings = node.engine.said.warnings.clone();
    if let Err(crate::agent::Attempt::Failed(failed)) = looked {
        status.problems.push(failed.message);
    }
    Ok(status)
}

fn print(status: &Status, out: &Output) {
    let revision = status.config.revision.map_or_else(|| "no revision yet".to_owned(), |n| format!("revision {n}"));
    out.line(format_args!(
        "{}  {}",
        out.paint(Tone::Strong, &status.node),
        out.paint(Tone::Dim, format_args!("hapilot {}", status.version))
    ));
    match &status.agent {
        Some(agent) => out.line(format_args!(
            "agent    {} pid {}, up {}, {} writes, {} reloads",
            out.paint(Tone::Good, "running"),
            agent.pid,
            span(agent.uptime_s),
            agent.writes,
            agent.reloads
        )),
        None => out.line(format_args!("agent    {}", out.paint(Tone::Warn, "not running"))),
    }
    let serving = match (status.config.is_serving, &status.haproxy) {
        (true, Some(_)) => out.paint(Tone::Good, "serves"),
        (true, None) => out.paint(Tone::Warn, "is ready, and no HAProxy runs it"),
        (false, _) => out.paint(Tone::Warn, "does not serve"),
    };
    out.line(format_args!("file     {} {serving}, {revision}", status.config.path));
    match &status.haproxy {
        Some(haproxy) => {
            let old = if haproxy.old_workers.is_empty() {
                String::new()
            } else {
                format!(", {} old workers finish", haproxy.old_workers.len())
            };
            out.line(format_args!(
                "haproxy  {} {} pid {}, up {}{old}",
                out.paint(Tone::Good, "running"),
                haproxy.version,
                haproxy.pid,
                span(haproxy.uptime_s)
            ));
        }
        None => out.line(format_args!("haproxy  {}", out.paint(Tone::Bad, "not running"))),
    }
    for vip in status.vips.iter().flat_map(|vips| &vips.vips) {
        let own = vip.nodes.iter().find(|part| part.node == status.node);
        let owner = vip.nodes.iter().find(|part| part.owned_s.is_some());
        let state = own.and_then(|part| part.state.clone()).unwrap_or_else(|| "unknown".to_owned());
        let (tone, text) = match owner {
            Some(part) if part.node == status.node => (Tone::Good, "owned here".to_owned()),
            Some(part) => (Tone::Plain, format!("owned by {}", part.node)),
            None => (Tone::Bad, "without an owner".to_owned()),
        };
        out.line(format_args!(
            "vip      {} {} ({}), {state} here",
            vip.name,
            out.paint(tone, text),
            vip.addresses.join(", ")
        ));
    }
    if let Some(next) = status.certificates.iter().min_by_key(|one| one.expires_in_s) {
        let (count, date) = (status.certificates.len(), next.not_after.get(..10).unwrap_or_default());
        let many = if count == 1 { "" } else { "s" };
        let verb = if next.expires_in_s < 0 { "expired" } else { "expires" };
        let tone = if next.problem.is_some() { Tone::Bad } else { Tone::Plain };
        let text = out.paint(tone, format_args!("{} {verb} on {date}", next.file)).to_string();
        out.line(format_args!("tls      {count} certificate{many}, {text}"));
    }
    for problem in &status.problems {
        let text = problem.trim_end().replace('\n', "\n         ");
        out.line(format_args!("{}  {text}", out.paint(Tone::Bad, "problem")));
    }
    for warning in &status.warnings {
        let text = warning.replace('\n', "\n         ");
        out.line(format_args!("{}  {text}", out.paint(Tone::Warn, "warning")));
    }
    print_hearing(status, out);
    print_safety(status, out);
    for backend in &status.backends {
        print_backend(backend, out);
    }
}

/// What is heard of live traffic, and the guards over all backends.
fn print_hearing(status: &Status, out: &Output) {
    if let Some(Hearing { lost, malformed, workers, .. }) = &status.hearing {
        if *workers == 0 {
            out.line(out.paint(Tone::Warn, "traffic  not heard: HAProxy does not run, or without our ring"));
        }
        if lost + malformed > 0 {
            let told = format_args!("traffic  {lost} requests went unheard, {malformed} could not be read");
            out.line(out.paint(Tone::Warn, told));
        }
    }
    for guard in status.guards.iter().filter(|guard| guard.backend.is_none()) {
        let told = format_args!("guard    {}: {}", guard.guard, guard.why);
        out.line(out.paint(Tone::Bad, told));
    }
}

/// Requests of the last minute: how many, how many failed, and how long nineteen of twenty waited at most.
fn live(live: &Live) -> String {
    let mut words = vec![format!("{}/min", live.requests)];
    let told = [(live.failed, "failed"), (live.hidden, "repeated")];
    words.extend(told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    words.extend(live.first_byte_ms.map(|first| format!("p95 {}", ms(first.p95))));
    words.join(", ")
}

/// What waits, what was put right, what would be done.
fn print_safety(status: &Status, out: &Output) {
    if let Some(Trial { revision, back_to, until, left_s }) = &status.trial {
        let left = span(left_s.ceil() as u64);
        out.line(out.paint(
            Tone::Warn,
            format_args!(
                "trial    revision {revision}: without `hapilot confirm` within {left} ({until}) revision {back_to} comes back"
            ),
        ));
    }
    if let Some(would) = &status.would {
        out.line(out.paint(Tone::Warn, "observes only: nothing is changed; it would"));
        let nothing = [String::from("do nothing: HAProxy runs what it should")];
        let lines = if would.is_empty() { &nothing[..] } else { would };
        lines.iter().for_each(|line| out.line(format_args!("  {line}")));
    }
    for worker in status.haproxy.iter().flat_map(|haproxy| &haproxy.finishing) {
        let OldWorker { pid, finishing_s, connections, resident_bytes } = worker;
        let connections = connections.map_or_else(String::new, |count| format!(", {count} connections left"));
        let memory = resident_bytes.map_or_else(String::new, |bytes| format!(", {} MB", bytes / 1_000_000));
        out.line(format_args!("worker   {pid} finishes its streams since {}{connections}{memory}", span(*finishing_s)));
    }
    if let Some(recovered) = &status.recovered {
        out.line(format_args!("start    {recovered}"));
    }
    for Correction { at, text } in status.corrections.iter().take(5) {
        out.line(format_args!("drift    {at} {text}"));
    }
}

fn print_backend(backend: &Backend, out: &Output) {
    let Backend { name, provider, balance, guard, outage, outage_since, servers } = backend;
    out.line(format_args!(
        "\n{}  {}",
        out.paint(Tone::Strong, name),
        out.paint(Tone::Dim, format_args!("{provider}, {balance}"))
    ));
    if outage.is_some() {
        let since = outage_since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        out.line(format_args!("  {}", out.paint(Tone::Bad, format_args!("CANNOT SERVE{since}"))));
    }
    if let Some(guard) = guard {
        out.line(format_args!("  {} {guard}", out.paint(Tone::Bad, "guard:")));
    }
    let mut table = Table::new(["  SERVER", "HEALTH", "FOR", "WEIGHT", "ADMIN", "HAPROXY", "TRAFFIC", "PROBES", "WHY"]);
    for server in servers {
        table.row(row(server));
    }
    out.print(&table.render(out));
}

fn row(server: &Server) -> [(Tone, String); 9] {
    let health = match server.health.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        "unknown" => Tone::Dim,
        _ => Tone::Warn,
    };
    let weight = match server.runtime_weight {
        Some(runtime) if runtime == server.weight => format!("{}/{}", server.weight, server.base_weight),
        Some(runtime) => format!("{}/{} (HAProxy: {runtime})", server.weight, server.base_weight),
        None => format!("{}/{}", server.weight, server.base_weight),
    };
    let admin = if server.admin == "ready" { Tone::Plain } else { Tone::Warn };
    let oper = match server.oper.as_deref() {
        Some("up") => (Tone::Good, "up".to_owned()),
        Some(other) => (Tone::Bad, other.to_owned()),
        None => (Tone::Dim, "-".to_owned()),
    };
    let probes = server.probes.iter().map(|probe| {
        let time = probe.first_token_ms.unwrap_or(probe.total_ms);
        format!("{} {} {}", probe.kind, probe.outcome, ms(time))
    });
    let mut why: Vec<String> = server.r#override.iter().chain(&server.attention).cloned().collect();
    if server.health != "healthy" {
        why.push(server.reason.clone());
    }
    why.extend(keys(&server.keys));
    [
        (Tone::Plain, format!("  {}", server.name)),
        (health, server.health.clone()),
        (Tone::Dim, span(server.since_s)),
        (Tone::Plain, weight),
        (admin, server.admin.clone()),
        oper,
        (Tone::Plain, server.live.as_ref().map_or_else(|| "-".to_owned(), live)),
        (Tone::Plain, probes.collect::<Vec<_>>().join(", ")),
        (Tone::Dim, why.join("; ")),
    ]
}

/// What is out of the ordinary: the first key serves and all others may.
fn keys(keys: &[Key]) -> Option<String> {
    let is_plain = |(index, key): (usize, &Key)| key.state == "in_service" && key.is_active == (index == 0);
    if keys.len() < 2 || keys.iter().enumerate().all(is_plain) || keys.iter().all(|key| key.is_active) {
        return None;
    }
    let active: Vec<&str> = keys.iter().filter(|key| key.is_active).map(|key| key.id.as_str()).collect();
    let verb = if active.len() == 1 { "serves" } else { "serve" };
    let serving = (!active.is_empty()).then(|| format!("{} of {} keys {verb}", active.join(", "), keys.len()));
    let out = keys.iter().filter(|key| key.state != "in_service").map(key_state);
    Some(serving.into_iter().chain(out).collect::<Vec<_>>().join(", "))
}

/// `k1 cooling, 3s left`
pub(super) fn key_state(key: &Key) -> String {
    let why = key.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let left = key.left_s.map(|left| format!(", {} left", span(left.max(0.0).ceil() as u64))).unwrap_or_default();
    format!("{} {}{why}{left}", key.id, key.state)
}
