//! `status`: what serves and how healthy it is.

use super::agent::{agent, how_to_start};
use super::output::{Failure, Output, Tone, counted, span, whole_ms};
use super::table::Table;
use crate::agent::{Node, Place, Refusal, SecretUse, SnapshotParts, Waiting};
use crate::api::wire::{Backend, Correction, Hearing, Key, Live, OldWorker, Server, Status, Trial, Waits};
use crate::model::format_duration;
use std::time::Duration;

/// What goes on stands below what it belongs to.
const HANG: usize = 9;

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
    if is_well { Ok(()) } else { Err(Failure::said(super::output::REFUSED)) }
}

/// What the agent says, or what can be seen without one.
pub(super) async fn look(place: &Place) -> Result<Status, Failure> {
    match agent(place)? {
        Some(agent) => agent.status().await.map_err(Failure::from),
        None => alone(place).await.map_err(|failure| match place.digest() {
            Some(_) => failure,
            None => failure.help(format_args!(
                "no agent answers on {}; where one runs, give its socket: --socket PATH",
                place.agent_socket()
            )),
        }),
    }
}

/// Without an agent: HAProxy as it is, health unknown.
async fn alone(place: &Place) -> Result<Status, Failure> {
    let mut node = Node::open(place.using(SecretUse::Nothing)).await.map_err(Failure::from)?;
    // Looks at HAProxy; a plan changes nothing.
    node.alone().lets_the_file_wait().await;
    let looked = node.alone().plan().await;
    node.tell_certificates();
    let (mut status, _) = Status::of(&SnapshotParts::alone(&node));
    unwatch(&mut status);
    let kept = crate::store::load_canaries(&place.state_directory()).unwrap_or_default().canaries;
    status.canaries.retain(|canary| kept.keys().any(|name| name.as_str() == canary.name));
    // Nobody has applied anything in this life; what was looked at says whether the file is what runs.
    status.config.is_serving = looked.as_ref().is_ok_and(|planned| planned.prepared.plan.is_empty());
    let told = "the agent does not run: nobody probes, health is not known, and weights stay as HAProxy has them";
    let told = Refusal::notice(told).help(format_args!("start it: {}", how_to_start(place)));
    let told =
        told.help(format_args!("what it saw last: `{}`, `{}`", place.command("events"), place.command("probe --last")));
    status.problems.push(told.to_string());
    let admin_socket = &node.serving.config.haproxy.admin_socket.value;
    if status.haproxy.is_none() && std::os::unix::net::UnixStream::connect(admin_socket).is_err() {
        status.problems.push("HAProxy does not run, or does not answer: nobody is served".to_owned());
    }
    status.problems.extend(node.serving.unread.iter().filter(|one| one.is_mistake).map(|one| one.told.to_string()));
    status.warnings = node.engine.said.warnings.clone();
    if let Err(crate::agent::Attempt::Failed(failed)) = looked {
        status.problems.push(failed.to_string());
    }
    Ok(status)
}

/// Takes out what only an agent knows: a value made up in its place would read as what somebody saw.
fn unwatch(status: &mut Status) {
    status.agent = None;
    status.guards.clear();
    for server in status.backends.iter_mut().flat_map(|backend| &mut backend.servers) {
        "unknown".clone_into(&mut server.health);
        server.reason.clear();
        server.since_s = 0;
        (server.attention, server.held_s, server.circuit) = (None, None, None);
        server.factors.clear();
        server.probes.clear();
        // What HAProxy has stays so; what it should have is nobody's to say but the operator's.
        if server.r#override.is_none() {
            server.weight = server.runtime_weight.unwrap_or(server.base_weight);
        }
        for key in &mut server.keys {
            "unknown".clone_into(&mut key.state);
            (key.is_active, key.why, key.left_s) = (false, None, None);
        }
    }
    status.backends.iter_mut().for_each(|backend| backend.guard = None);
}

fn print(status: &Status, out: &Output) {
    out.line(format_args!(
        "{}  {}",
        out.paint(Tone::Strong, &status.node),
        out.paint(Tone::Dim, format_args!("hapilot {}", status.version))
    ));
    print_alarms(status, out);
    match &status.agent {
        Some(agent) => row(
            out,
            "agent",
            format_args!(
                "{} pid {}, up {}, {}, {}",
                out.paint(Tone::Good, "running"),
                agent.pid,
                span(agent.uptime_s),
                counted(agent.writes, "write"),
                counted(agent.reloads, "reload")
            ),
        ),
        None => row(out, "agent", out.paint(Tone::Warn, "not running")),
    }
    let revision = status.config.revision.map_or_else(|| "no revision yet".to_owned(), |n| format!("revision {n}"));
    let serving = match (status.config.is_serving, &status.haproxy) {
        (true, Some(_)) => out.paint(Tone::Good, "serves"),
        (true, None) => out.paint(Tone::Warn, "is ready, and no HAProxy runs it"),
        (false, _) => out.paint(Tone::Warn, "is not what serves"),
    };
    match &status.waits {
        Some(Waits { saved, changes, is_reload }) => {
            let saved = saved.as_ref().map(|saved| format!(" at {saved}")).unwrap_or_default();
            let what = Waiting::in_words(*changes, *is_reload);
            let path = &status.config.path;
            let next = "see hapilot plan, then hapilot apply";
            row(out, "file", format_args!("{path} was saved{saved} and waits: {what}; {next}"));
            row(out, "serves", revision);
        }
        None if status.config.pending.is_some() => {
            let pending = status.config.pending.as_deref().unwrap_or_default();
            row(out, "file", format_args!("{} is about to be served: {pending}", status.config.path));
            row(out, "serves", revision);
        }
        None if status.config.is_serving || status.config.revision.is_none() => {
            row(out, "file", format_args!("{} {serving}, {revision}", status.config.path));
        }
        None => {
            row(out, "file", format_args!("{} {serving}", status.config.path));
            row(out, "serves", revision);
        }
    }
    match &status.haproxy {
        Some(haproxy) => {
            let old = match haproxy.old_workers.len() {
                0 => String::new(),
                1 => ", 1 old worker finishes".to_owned(),
                many => format!(", {many} old workers finish"),
            };
            let running = match haproxy.answers() {
                true => out.paint(Tone::Good, "running"),
                false => out.paint(Tone::Bad, "DOES NOT ANSWER"),
            };
            let up = span(haproxy.uptime_s);
            row(out, "haproxy", format_args!("{running} {} pid {}, up {up}{old}", haproxy.version, haproxy.pid));
        }
        None => row(out, "haproxy", out.paint(Tone::Bad, "not running, or it does not answer")),
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
        let (text, addresses) = (out.paint(tone, text), vip.addresses.join(", "));
        row(out, "vip", format_args!("{} {text} ({addresses}), {state} here", vip.name));
    }
    if let Some(clients) = &status.clients {
        let many = if clients.count == 1 { "" } else { "s" };
        let place = if status.agent.is_some() { "" } else { " in the file" };
        let nobody = if clients.count == 0 { ": nobody may ask" } else { "" };
        row(out, "clients", format_args!("{} client{many} with a key of their own{place}{nobody}", clients.count));
    }
    if let Some(next) = status.certificates.iter().min_by_key(|one| one.expires_in_s) {
        let (count, date) = (status.certificates.len(), next.not_after.get(..10).unwrap_or_default());
        let many = if count == 1 { "" } else { "s" };
        let verb = if next.expires_in_s < 0 { "expired" } else { "expires" };
        let tone = if next.problem.is_some() { Tone::Bad } else { Tone::Plain };
        let text = out.paint(tone, format_args!("{} {verb} on {date}", next.file));
        row(out, "tls", format_args!("{count} certificate{many}, {text}"));
    }
    for canary in &status.canaries {
        match status.agent.is_some() {
            true => row(out, "canary", super::canary::in_one_line(canary, out)),
            false => row(out, "canary", super::canary::head(canary, out)),
        }
    }
    print_hearing(status, out);
    print_safety(status, out);
    for backend in &status.backends {
        print_backend(backend, status.agent.is_some(), out);
    }
}

/// One line of the head, as many lines as it takes.
fn row(out: &Output, label: &str, text: impl std::fmt::Display) {
    out.text(HANG, format_args!("{label:<HANG$}{text}"));
}

/// What comes before all else: backends that cannot serve, and every other problem.
fn print_alarms(status: &Status, out: &Output) {
    let outages: Vec<_> = status.backends.iter().filter(|backend| backend.outage.is_some()).collect();
    for backend in &outages {
        let since = backend.outage_since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        let why = backend.outage.as_deref().unwrap_or_default();
        let told = format_args!("{:<HANG$}backend {} cannot serve{since}: {why}", "OUTAGE", backend.name).to_string();
        out.text(HANG, out.paint(Tone::Bad, told));
    }
    let is_told = |problem: &String| {
        outages.iter().any(|backend| problem.starts_with(&format!("backend {} cannot serve: ", backend.name)))
    };
    for problem in status.problems.iter().filter(|problem| !is_told(problem)) {
        let text = problem.trim_end().replace('\n', "\n         ");
        row(out, "problem", out.paint(Tone::Bad, text));
    }
    for warning in &status.warnings {
        row(out, "warning", out.paint(Tone::Warn, warning.trim_end().replace('\n', "\n         ")));
    }
}

/// What is heard of live traffic, and the guards over all backends.
fn print_hearing(status: &Status, out: &Output) {
    if let Some(Hearing { lost, malformed, workers, .. }) = &status.hearing {
        if *workers == 0 {
            row(out, "traffic", out.paint(Tone::Warn, "not heard: HAProxy does not run, or without our ring"));
        }
        if lost + malformed > 0 {
            let told = format_args!("{lost} requests went unheard, {malformed} could not be read");
            row(out, "traffic", out.paint(Tone::Warn, told));
        }
    }
    for guard in status.guards.iter().filter(|guard| guard.backend.is_none()) {
        row(out, "guard", out.paint(Tone::Bad, format_args!("{}: {}", guard.guard, guard.why)));
    }
}

/// A revision that is not confirmed yet.
fn print_trial(trial: &Trial, out: &Output) {
    let Trial { revision, back_to, until, left_s: _, soak } = trial;
    let keeps = soak.as_ref().is_some_and(|soak| soak.keeps);
    if !keeps {
        let told = format!("revision {revision}: without `hapilot confirm`, revision {back_to} comes back at {until}");
        row(out, "trial", out.paint(Tone::Warn, told));
    }
    let Some(soak) = soak else { return };
    let seconds = |seconds: f64| format_duration(Duration::from_secs(seconds.max(0.0) as u64));
    let (time, lasts) = (seconds(soak.time_s), seconds(soak.lasts_s));
    let told = format!("revision {revision}, for {time} of {lasts}; where it is worse, revision {back_to} comes back");
    row(out, "soak", out.paint(Tone::Warn, told));
    let so_far = match soak.verdict.as_str() {
        "clean" => "so far not worse: ",
        "quiet" => "so far ",
        other => &format!("so far {other}: "),
    };
    row(out, "", format!("{so_far}{}", soak.words));
}

/// What waits, what was put right, what would be done.
fn print_safety(status: &Status, out: &Output) {
    if let Some(trial) = &status.trial {
        print_trial(trial, out);
    }
    if let Some(would) = &status.would {
        out.line(out.paint(Tone::Warn, "observes only: nothing is changed; it would"));
        let nothing = [String::from("do nothing: HAProxy runs what it should")];
        let lines = if would.is_empty() { &nothing[..] } else { would };
        lines.iter().for_each(|line| out.text(4, format_args!("  {line}")));
    }
    for worker in status.haproxy.iter().flat_map(|haproxy| &haproxy.finishing) {
        let OldWorker { pid, finishing_s, connections, resident_bytes } = worker;
        let connections = connections.map_or_else(String::new, |count| {
            let many = if count == 1 { "" } else { "s" };
            format!(", {count} connection{many} left")
        });
        let memory = resident_bytes.map_or_else(String::new, |bytes| format!(", {} MB", bytes / 1_000_000));
        let since = span(*finishing_s);
        row(out, "worker", format_args!("{pid} finishes its streams, for {since} so far{connections}{memory}"));
    }
    if let Some(recovered) = &status.recovered {
        row(out, "start", recovered);
    }
    for Correction { at, text } in status.corrections.iter().take(5) {
        row(out, "drift", format_args!("{at}: put right: {text}"));
    }
}

fn print_backend(backend: &Backend, is_watched: bool, out: &Output) {
    let Backend { name, provider, balance, guard, outage, outage_since: _, tier, servers } = backend;
    let alarm = outage.as_ref().map(|_| out.paint(Tone::Bad, "  CANNOT SERVE")).unwrap_or_default();
    out.line(format_args!(
        "\n{}  {}{alarm}",
        out.paint(Tone::Strong, name),
        out.paint(Tone::Dim, format_args!("{provider}, {balance}"))
    ));
    let better = servers.iter().map(|server| server.tier).min().filter(|first| outage.is_none() && first < tier);
    if let Some(first) = better {
        let words = format!("no server of tier {first} can take requests: tier {tier} serves");
        out.text(4, format_args!("  {} {words}", out.paint(Tone::Warn, "fallback:")));
    }
    if let Some(guard) = guard {
        out.text(4, format_args!("  {} {guard}", out.paint(Tone::Bad, "guard:")));
    }
    let mut table = Table::new(["  SERVER", "HEALTH", "FOR", "WEIGHT", "STATE", "REQ/MIN", "P95", "PROBE"]);
    for server in servers {
        table.row(cells(server, is_watched));
        for (tone, note) in notes(server) {
            table.note(tone, out.with_clocks(&note));
        }
    }
    out.print(&table.render(out));
}

/// What a healthy server shows, in one line.
fn cells(server: &Server, is_watched: bool) -> [(Tone, String); 8] {
    let health = match server.health.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        "unknown" => Tone::Dim,
        _ => Tone::Warn,
    };
    // The operator's word on it, or else what HAProxy's own check says.
    let state = match (server.admin.as_str(), server.oper.as_deref()) {
        ("ready", Some("up")) => (Tone::Good, "up".to_owned()),
        ("ready", Some(other)) => (Tone::Bad, other.to_owned()),
        ("ready", None) => (Tone::Dim, "-".to_owned()),
        (other, _) => (Tone::Warn, other.to_owned()),
    };
    let none = || "-".to_owned();
    let (since, weight) = match is_watched {
        true => (span(server.since_s), server.weight.to_string()),
        false => (none(), server.runtime_weight.map_or_else(none, |weight| weight.to_string())),
    };
    let live = server.live.as_ref();
    // The probe that says most: a completion rather than a list of models.
    let deepest = server.probes.iter().max_by_key(|probe| {
        (probe.first_token_ms.is_some(), !matches!(probe.kind.as_str(), "certificate" | "metrics"))
    });
    let took = deepest.map(|probe| whole_ms(probe.first_token_ms.unwrap_or(probe.total_ms)));
    [
        (Tone::Plain, format!("  {}", server.name)),
        (health, server.health.clone()),
        (Tone::Dim, since),
        (Tone::Plain, format!("{weight}/{}", server.base_weight)),
        state,
        (Tone::Plain, live.map_or_else(none, |live| live.requests.to_string())),
        (Tone::Plain, live.and_then(|live| live.first_byte_ms).map_or_else(none, |first| whole_ms(first.p95))),
        (Tone::Plain, took.unwrap_or_else(none)),
    ]
}

/// What is out of the ordinary, a line each.
fn notes(server: &Server) -> Vec<(Tone, String)> {
    let mut notes = Vec::new();
    notes.extend(server.r#override.iter().map(|word| (Tone::Warn, format!("by command: {word}"))));
    if let Some(live) = server.live.as_ref().filter(|_| server.admin != "ready") {
        notes.push((
            Tone::Plain,
            match live.in_flight {
                0 => "nothing is in flight any more".to_owned(),
                1 => "1 request is still in flight".to_owned(),
                many => format!("{many} requests are still in flight"),
            },
        ));
    }
    notes.extend(server.attention.iter().map(|attention| (Tone::Warn, attention.clone())));
    if server.health != "healthy" && !server.reason.is_empty() {
        notes.push((Tone::Dim, server.reason.clone()));
    }
    if server.oper.as_deref() == Some("unresolved") {
        notes.push((Tone::Warn, "its name does not resolve: it gets no request until it does".to_owned()));
    }
    let serves = server.admin == "ready";
    if let Some(runtime) = server.runtime_weight.filter(|runtime| serves && *runtime != server.weight) {
        notes.push((Tone::Warn, format!("HAProxy runs weight {runtime}, not yet {}", server.weight)));
    }
    if let Some(Live { requests, failed, hidden, .. }) =
        server.live.as_ref().filter(|live| live.failed + live.hidden > 0)
    {
        let told = [(*failed, "failed"), (*hidden, "failed here and were repeated")];
        let words = told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let words = words.collect::<Vec<_>>().join(", ");
        notes.push((
            Tone::Warn,
            format!("last minute: {requests} request{}; {words}", if *requests == 1 { "" } else { "s" }),
        ));
    }
    let told = |detail: &str| !detail.is_empty() && server.reason.contains(detail);
    for probe in server.probes.iter().filter(|probe| probe.outcome != "ok" && !told(&probe.detail)) {
        let detail = if probe.detail.is_empty() { String::new() } else { format!(": {}", probe.detail) };
        notes.push((Tone::Dim, format!("{} probe: {}{detail}", probe.kind, probe.outcome)));
    }
    notes.extend(keys(&server.keys).map(|keys| (Tone::Dim, keys)));
    notes
}

/// What is out of the ordinary: the first key serves and all others may.
fn keys(keys: &[Key]) -> Option<String> {
    let is_plain = |(index, key): (usize, &Key)| key.state == "in_service" && key.is_active == (index == 0);
    let is_unknown = keys.iter().all(|key| key.state == "unknown");
    if keys.len() < 2 || is_unknown || keys.iter().enumerate().all(is_plain) || keys.iter().all(|key| key.is_active) {
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
