//! `explain`: why a server has its weight, factor by factor.

use super::output::{Failure, Output, Tone, ms, span};
use super::status::{key_state, look};
use crate::agent::Place;
use crate::api::wire::{Backend, Server};
use crate::model::ServerId;
use serde::Serialize;

/// `hapilot explain --json`
#[derive(Serialize)]
struct Explanation<'a> {
    backend: &'a str,
    provider: &'a str,
    balance: &'a str,
    guard: &'a Option<String>,
    server: &'a Server,
    product: f64,
}

/// `hapilot explain BACKEND/SERVER`
pub(super) async fn explain(place: &Place, id: &ServerId, out: Output) -> Result<(), Failure> {
    let status = look(place).await?;
    let backend = status.backends.iter().find(|backend| backend.name == id.backend.as_str());
    let found = backend.and_then(|backend| {
        let server = backend.servers.iter().find(|server| server.name == id.server.as_str())?;
        Some((backend, server))
    });
    let Some((backend, server)) = found else {
        let known = status
            .backends
            .iter()
            .flat_map(|backend| backend.servers.iter().map(move |server| format!("{}/{}", backend.name, server.name)));
        let known: Vec<_> = known.take(20).collect();
        return Err(Failure::refused(format!("error: there is no server {id}\n  help: {}", known.join(", "))));
    };
    if out.json {
        let Backend { name, provider, balance, guard, .. } = backend;
        out.print_json(&Explanation { backend: name, provider, balance, guard, server, product: product(server) });
        return Ok(());
    }
    print(id, backend, server, &out);
    if status.agent.is_none() {
        out.line(out.paint(Tone::Warn, "\nthe agent does not run: nobody probes, the weight stays as it is"));
    }
    Ok(())
}

/// What the factors make of the base weight, before it is rounded.
fn product(server: &Server) -> f64 {
    // A guard begins anew with the base.
    let from = server.factors.iter().rposition(|factor| factor.name == "guard").unwrap_or(0);
    f64::from(server.base_weight) * server.factors[from..].iter().map(|factor| factor.value).product::<f64>()
}

fn print(id: &ServerId, backend: &Backend, server: &Server, out: &Output) {
    let title = out.paint(Tone::Strong, id);
    out.line(format_args!("{title}  {}, tier {}, {}", server.url, server.tier, backend.balance));
    let row = |name: &str, text: String| out.line(format_args!("{name:<10}{text}"));
    row("weight", format!("{} of {}", server.weight, server.base_weight));
    let line = |value: String, name: &str, why: &str| {
        let head = format!("  {value:>9}  {name:<10}");
        out.line(format!("{head} {}", out.paint(Tone::Dim, why)).trim_end());
    };
    line(server.base_weight.to_string(), "base", "the weight in the file");
    for factor in &server.factors {
        line(format!("× {:.3}", factor.value), &factor.name, &factor.why);
    }
    if !server.factors.is_empty() {
        line(format!("= {:.1}", product(server)), "", "");
    }
    if let Some(word) = &server.r#override {
        row("override", format!("{word}; it goes before health"));
    }
    if let Some(guard) = &backend.guard {
        row("guard", out.paint(Tone::Bad, guard));
    }
    let why = if server.reason.is_empty() { String::new() } else { format!(": {}", server.reason) };
    row("health", format!("{} for {}{why}", server.health, span(server.since_s)));
    if let Some(circuit) = &server.circuit {
        row("circuit", circuit.clone());
    }
    if let Some(attention) = &server.attention {
        row("attention", out.paint(Tone::Bad, attention));
    }
    for key in &server.keys {
        let serves = if key.is_active { ", serves" } else { "" };
        let last = match (&key.last_outcome, key.last_age_s) {
            (Some(outcome), Some(age)) => format!(", last {outcome} {age:.0}s ago"),
            _ => String::new(),
        };
        let place = out.paint(Tone::Dim, &key.reference);
        row("key", format!("{}{serves}{last}  {place}", key_state(key)));
    }
    if server.probes.is_empty() {
        row("probes", out.paint(Tone::Dim, "none yet"));
    }
    for probe in &server.probes {
        let first = probe.first_token_ms.map(|first| format!(", first token {}", ms(first))).unwrap_or_default();
        let detail = if probe.detail.is_empty() { String::new() } else { format!(": {}", probe.detail) };
        row(
            "probe",
            format!(
                "{} {} in {}{first}, {:.0}s ago{detail}",
                probe.kind,
                probe.outcome,
                ms(probe.total_ms),
                probe.age_s
            ),
        );
    }
    let haproxy = match (server.runtime_weight, &server.oper) {
        (Some(weight), Some(oper)) => {
            let differs = if weight == server.weight { "" } else { " (not yet what it should be)" };
            format!("weight {weight}{differs}, wanted {}, its own check says {oper}", server.admin)
        }
        _ => "does not know it, or does not answer".to_owned(),
    };
    row("HAProxy", haproxy);
}
