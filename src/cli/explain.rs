//! `explain`: why a server has its weight, factor by factor.

use super::agent::how_to_start;
use super::output::{Failure, Output, Tone, span, whole_ms};
use super::status::{key_state, look};
use crate::agent::{Place, Refusal};
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
        return Err(Failure::refused(Refusal::new(format_args!("there is no server {id}")).help(known.join(", "))));
    };
    if out.json {
        let Backend { name, provider, balance, guard, .. } = backend;
        out.print_json(&Explanation { backend: name, provider, balance, guard, server, product: product(server) });
        return Ok(());
    }
    print(id, backend, server, status.agent.is_some(), &out);
    if status.agent.is_none() {
        let told = "the agent does not run: nobody probes, and the weight stays as HAProxy has it";
        let start = how_to_start(place);
        out.line("");
        out.text(0, out.paint(Tone::Warn, format_args!("{told}; start it: `{start}`")));
        let last = place.command(&format!("probe --last {id}"));
        out.text(0, out.paint(Tone::Dim, format_args!("what its last probes told: `{last}`")));
    }
    Ok(())
}

/// The first factor that counts: a guard begins anew with the base.
fn begins_at(server: &Server) -> usize {
    server.factors.iter().rposition(|factor| factor.name == "guard").unwrap_or(0)
}

/// What the factors make of the base weight, before it is rounded.
fn product(server: &Server) -> f64 {
    f64::from(server.base_weight)
        * server.factors[begins_at(server)..].iter().map(|factor| factor.value).product::<f64>()
}

/// The product, line by line: a value, its name, and why.
fn product_lines(server: &Server) -> Vec<(String, &str, &str)> {
    let base = server.base_weight.to_string();
    let mut lines = vec![(base.clone(), "base", "the weight in the file")];
    for (at, factor) in server.factors.iter().enumerate() {
        if at == begins_at(server) && at > 0 {
            lines.push((base.clone(), "base", "again: a guard sets aside what stands above"));
        }
        lines.push((format!("× {:.3}", factor.value), factor.name.as_str(), factor.why.as_str()));
    }
    if !server.factors.is_empty() {
        lines.push((format!("= {:.1}", product(server)), "", ""));
    }
    lines
}

fn print(id: &ServerId, backend: &Backend, server: &Server, is_watched: bool, out: &Output) {
    let title = out.paint(Tone::Strong, id);
    out.text(0, format_args!("{title}  {}, tier {}, {}", server.url, server.tier, backend.balance));
    let row = |name: &str, text: String| out.text(10, format_args!("{name:<10}{text}"));
    match (is_watched, server.runtime_weight) {
        (true, _) => row("weight", format!("{} of {}", server.weight, server.base_weight)),
        (false, Some(weight)) => row("weight", format!("{weight} in HAProxy, {} in the file", server.base_weight)),
        (false, None) => row("weight", format!("not known; {} in the file", server.base_weight)),
    }
    for (value, name, why) in product_lines(server).into_iter().filter(|_| is_watched) {
        let head = format!("  {value:>9}  {name:<10}");
        out.text(24, format!("{head} {}", out.paint(Tone::Dim, why)).trim_end());
    }
    if let Some(word) = &server.r#override {
        row("override", format!("{word}; it goes before health"));
    }
    if let Some(guard) = &backend.guard {
        row("guard", out.paint(Tone::Bad, guard));
    }
    let why = if server.reason.is_empty() { String::new() } else { format!(": {}", server.reason) };
    match is_watched {
        true => row("health", format!("{} for {}{why}", server.health, span(server.since_s))),
        false => row("health", "not known".to_owned()),
    }
    // An open circuit says the same.
    let is_told = server.circuit.as_ref().is_some_and(|circuit| circuit.starts_with("open"));
    if let Some(held_s) = server.held_s.filter(|_| !is_told) {
        row("held", format!("out for {} more at the least; then what its probes say decides", span(held_s)));
    }
    if let Some(circuit) = &server.circuit {
        row("circuit", circuit.clone());
    }
    if let Some(attention) = &server.attention {
        row("attention", out.paint(Tone::Bad, attention));
    }
    for key in &server.keys {
        let serves = if key.is_active { ", serves" } else { "" };
        let last = match (&key.last_outcome, key.last_age_s) {
            (Some(outcome), Some(age)) => format!(", last {outcome} {age:.0} s ago"),
            _ => String::new(),
        };
        let place = out.paint(Tone::Dim, &key.reference);
        let state = if is_watched { key_state(key) } else { format!("{} not known whether it works", key.id) };
        row("key", format!("{state}{serves}{last}  {place}"));
    }
    if server.probes.is_empty() && is_watched {
        row("probes", out.paint(Tone::Dim, "none yet"));
    }
    for probe in &server.probes {
        let first = probe.first_token_ms.map(|first| format!(", first token {}", whole_ms(first))).unwrap_or_default();
        let detail = if probe.detail.is_empty() { String::new() } else { format!(": {}", probe.detail) };
        row(
            "probe",
            format!(
                "{} {} in {}{first}, {:.0} s ago{detail}",
                probe.kind,
                probe.outcome,
                whole_ms(probe.total_ms),
                probe.age_s
            ),
        );
    }
    let haproxy = match (server.runtime_weight, &server.oper) {
        (Some(weight), Some(oper)) => {
            let differs =
                if weight == server.weight || server.admin != "ready" { "" } else { " (not yet what it should be)" };
            let why = match oper.as_str() {
                "unresolved" => "no address: its name does not resolve".to_owned(),
                oper => format!("its own check says {oper}"),
            };
            format!("weight {weight}{differs}, wanted {}, {why}", server.admin)
        }
        _ => "does not know it, or does not answer".to_owned(),
    };
    row("HAProxy", haproxy);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_what_its_lines_make() {
        let server = |factors: &str| -> Server {
            let text = format!(
                r#"{{"name":"a","url":"http://a","tier":1,"base_weight":10,"weight":10,"admin":"ready","health":"unhealthy",
                "reason":"","since_s":1,"factors":{factors},"probes":[]}}"#
            );
            serde_json::from_str(&text).expect("a server")
        };
        let health = r#"{"name":"health","value":0.0,"why":"refused"}"#;
        let guard = r#"{"name":"guard","value":1.0,"why":"the last one"}"#;
        let values = |factors: &str| -> Vec<String> {
            product_lines(&server(factors)).into_iter().map(|(value, ..)| value).collect()
        };
        assert_eq!(values(&format!("[{health}]")), ["10", "× 0.000", "= 0.0"]);
        assert_eq!(values(&format!("[{health},{guard}]")), ["10", "× 0.000", "10", "× 1.000", "= 10.0"]);
        assert_eq!(values(&format!("[{guard}]")), ["10", "× 1.000", "= 10.0"]);
    }
}
