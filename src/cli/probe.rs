//! `probe`: deep checks now, with a report like a load tool's.

use super::args::{self, Kind};
use super::output::{Failure, Output, Table, Tone, ms};
use super::{last_results, target};
use crate::agent::{Errand, Place, Sources};
use crate::config::{Backend, Server};
use crate::health::{Count, Observation, ProbeKind};
use crate::probe::{Percentiles, ProbeReport, Prober};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

#[derive(Serialize)]
struct Row {
    server: String,
    kind: ProbeKind,
    report: ProbeReport,
    last_failure: Option<String>,
}

/// `hapilot probe`: exit code 1 where a probe failed.
pub(super) async fn probe(place: &Place, options: &args::Probe, out: Output) -> Result<(), Failure> {
    let sources = target::load(place, out.color_err)?;
    if options.last {
        return last_results::show(&sources, options, out);
    }
    let chosen = choose(&sources, options)?;
    let prober = Arc::new(Prober::new());
    let mut rows = Vec::new();
    for (backend, server, kind) in chosen {
        let name = format!("{}/{}", backend.name, server.name);
        let Some(errand) = Errand::new(&sources, backend, server, kind, 0, None) else { continue };
        let mut observations: Vec<Observation> = Vec::new();
        for done in 0..options.count {
            progress(&name, kind, done, options.count);
            observations.push(errand.clone().run(prober.clone()).await);
        }
        progress(&name, kind, options.count, options.count);
        let is_failure = |o: &&Observation| o.outcome.count() != Count::Success;
        let last_failure = observations.iter().rev().find(is_failure).map(|o| format!("{}: {}", o.outcome, o.detail));
        rows.push(Row { server: name, kind, report: ProbeReport::from(&observations[..]), last_failure });
    }
    let all_well = rows.iter().all(|row| row.last_failure.is_none());
    if out.json {
        out.print_json(&rows)
    } else {
        print(&rows, &out)
    }
    if all_well { Ok(()) } else { Err(Failure { message: String::new(), exit_code: super::output::REFUSED }) }
}

/// The kinds that are asked for.
pub(super) fn kinds(options: &args::Probe) -> &'static [ProbeKind] {
    match options.kind {
        None => &ProbeKind::ALL,
        Some(Kind::Models) => &[ProbeKind::Models],
        Some(Kind::Http) => &[ProbeKind::Http],
        Some(Kind::Chat) => &[ProbeKind::Chat],
    }
}

fn choose<'a>(
    sources: &'a Sources,
    options: &args::Probe,
) -> Result<Vec<(&'a Backend, &'a Server, ProbeKind)>, Failure> {
    let kinds = kinds(options);
    let servers = target::servers(sources, options.target.as_deref())?;
    let has = |backend: &Backend, kind: ProbeKind| match kind {
        ProbeKind::Models => backend.check.models.is_some(),
        ProbeKind::Http => backend.check.http.is_some(),
        ProbeKind::Chat => backend.check.chat.is_some(),
        ProbeKind::Embeddings | ProbeKind::Metrics | ProbeKind::Certificate => false,
    };
    let chosen: Vec<_> = servers
        .into_iter()
        .flat_map(|(backend, server)| kinds.iter().map(move |kind| (backend, server, *kind)))
        .filter(|(backend, _, kind)| has(backend, *kind))
        .collect();
    if chosen.is_empty() {
        return Err(Failure::usage("error: no probe of this kind is configured; add it to [backend.NAME.check]"));
    }
    Ok(chosen)
}

fn progress(name: &str, kind: ProbeKind, done: u32, of: u32) {
    let mut err = std::io::stderr();
    if of > 1 && err.is_terminal() {
        let end = if done == of { "\r\x1b[K" } else { "" };
        // A terminal that is gone needs no progress.
        let _ = write!(err, "\r\x1b[K{name} {kind} {done}/{of}{end}").and_then(|()| err.flush());
    }
}

fn print(rows: &[Row], out: &Output) {
    let mut table = Table::new([
        "SERVER",
        "PROBE",
        "N",
        "OK",
        "MEAN",
        "P50",
        "P95",
        "P99",
        "FIRST TOKEN P50/P95",
        "TOKENS",
        "OUTCOMES",
    ]);
    for Row { server, kind, report, .. } in rows {
        let tone = if report.success_rate.is_some_and(|rate| rate >= 1.0) { Tone::Good } else { Tone::Bad };
        let time =
            |of: Option<Percentiles>, pick: fn(Percentiles) -> f64| of.map_or_else(|| "-".to_owned(), |p| ms(pick(p)));
        let (total, first) = (report.total_ms, report.first_token_ms);
        let outcomes: Vec<_> = report.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        table.row([
            (Tone::Plain, server.clone()),
            (Tone::Plain, kind.to_string()),
            (Tone::Plain, report.probes.to_string()),
            (tone, report.success_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0))),
            (Tone::Plain, time(total, |p| p.mean)),
            (Tone::Plain, time(total, |p| p.p50)),
            (Tone::Plain, time(total, |p| p.p95)),
            (Tone::Plain, time(total, |p| p.p99)),
            (Tone::Plain, format!("{} / {}", time(first, |p| p.p50), time(first, |p| p.p95))),
            (Tone::Plain, report.tokens.to_string()),
            (Tone::Plain, outcomes.join(", ")),
        ]);
    }
    out.print(&table.render(out));
    for Row { server, kind, last_failure, .. } in rows {
        if let Some(failure) = last_failure {
            out.line(out.paint(Tone::Bad, format_args!("{server} {kind}: {failure}")));
        }
    }
}
