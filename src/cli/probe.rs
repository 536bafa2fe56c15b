//! `probe`: deep checks now, with a report like a load tool's.
//!
//! Asks each server one thing at a time, a few servers at once. What was asked until Ctrl-C is reported too.

use super::args;
use super::output::{Failure, Output, REFUSED, Tone, ms};
use super::table::Table;
use super::{last_results, target};
use crate::agent::{Errand, Place, Sources};
use crate::health::{Count, Observation, Outcome, ProbeKind};
use crate::model::ServerId;
use crate::probe::{Percentiles, ProbeReport, Prober};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Servers that are asked at once: enough to be done soon, too few to load this machine and so to measure it.
const SERVERS_AT_ONCE: usize = 4;
/// Kinds of failure that are shown of one row; a server that fails in more ways fails.
const MAX_FAILURES: usize = 8;

/// What is asked of one server, and what came of it.
struct Job {
    server: ServerId,
    kind: ProbeKind,
    errand: Errand,
    observations: Vec<Observation>,
}

#[derive(Serialize)]
struct Row {
    server: String,
    kind: ProbeKind,
    report: ProbeReport,
    /// The failures, the most frequent first.
    failures: Vec<Kinds>,
    last_failure: Option<String>,
    /// What the last success said.
    note: Option<String>,
}

/// Failures that are told in the same words.
#[derive(Serialize)]
struct Kinds {
    outcome: Outcome,
    count: usize,
    detail: String,
    /// The longest silence that they asked for, in seconds.
    retry_after_s: Option<f64>,
}

/// `hapilot probe`: exit code 1 where a probe failed.
pub(super) async fn probe(place: &Place, options: &args::Probe, out: Output) -> Result<(), Failure> {
    let sources = target::load_to_ask(place)?;
    if options.last {
        return last_results::show(&sources, options, out);
    }
    let mut jobs = choose(&sources, options)?;
    let wanted = jobs.len() * options.count as usize;
    let started = Instant::now();
    let done = run(&mut jobs, options.count, wanted).await;
    jobs.retain(|job| !job.observations.is_empty());
    let rows: Vec<Row> = jobs.iter().map(row).collect();
    if out.json {
        out.print_json(&rows);
    } else {
        print(&jobs, &rows, started, &out);
    }
    let all_well = rows.iter().all(|row| row.last_failure.is_none());
    match done < wanted {
        true => Err(Failure::refused(format!("stopped after {done} of {wanted} probes"))),
        false if all_well => Ok(()),
        false => Err(Failure::said(REFUSED)),
    }
}

fn choose(sources: &Sources, options: &args::Probe) -> Result<Vec<Job>, Failure> {
    let kinds = target::kinds(options);
    let mut jobs = Vec::new();
    let servers = target::servers(sources, options.target.as_deref())?;
    target::need(sources, servers.iter().filter_map(|(_, server)| server.keys.first()))?;
    for (backend, of_file) in servers {
        let server = ServerId::new(backend.name.clone(), of_file.name.clone());
        for kind in &kinds {
            let errand = Errand::new(sources, backend, of_file, *kind, 0, None);
            jobs.extend(errand.map(|errand| Job {
                server: server.clone(),
                kind: *kind,
                errand,
                observations: Vec::new(),
            }));
        }
    }
    if jobs.is_empty() {
        return Err(Failure::usage("no probe of this kind is configured; add it to [backend.NAME.check]"));
    }
    Ok(jobs)
}

/// Runs every job so many times; says how many probes came to their end.
async fn run(jobs: &mut [Job], count: u32, wanted: usize) -> usize {
    let prober = Arc::new(Prober::new());
    let gate = Arc::new(Semaphore::new(SERVERS_AT_ONCE));
    let (tell, mut told) = mpsc::channel(64);
    // Dropped at the end, and with it whatever still runs.
    let mut servers = JoinSet::new();
    let numbered: Vec<(usize, &Job)> = jobs.iter().enumerate().collect();
    for of_server in numbered.chunk_by(|(_, a), (_, b)| a.server == b.server) {
        let errands: Vec<(usize, Errand)> = of_server.iter().map(|(at, job)| (*at, job.errand.clone())).collect();
        let (prober, gate, tell) = (prober.clone(), gate.clone(), tell.clone());
        servers.spawn(async move {
            let Ok(_permit) = gate.acquire().await else { return };
            for (at, errand) in errands {
                for _ in 0..count {
                    let observation = errand.clone().run(prober.clone()).await;
                    if tell.send((at, observation)).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
    drop(tell);
    let mut done = 0;
    loop {
        progress(done, wanted, jobs);
        let (at, observation) = tokio::select! {
            told = told.recv() => match told {
                Some(told) => told,
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        };
        done += 1;
        jobs[at].observations.push(observation);
    }
    erase_progress();
    done
}

fn progress(done: usize, wanted: usize, jobs: &[Job]) {
    let mut err = std::io::stderr();
    if wanted <= 1 || !err.is_terminal() {
        return;
    }
    let is_failure = |o: &&Observation| o.outcome.count() != Count::Success;
    let failed = jobs.iter().flat_map(|job| &job.observations).filter(is_failure).count();
    let tokens: u64 = jobs.iter().flat_map(|job| &job.observations).map(|o| o.tokens).sum();
    let bar = "#".repeat(done * 20 / wanted);
    // A terminal that is gone needs no progress.
    let _ = write!(err, "\r\x1b[K[{bar:<20}] {done}/{wanted} probes, {failed} failed, {tokens} tokens")
        .and_then(|()| err.flush());
}

fn erase_progress() {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
    }
}

fn row(job: &Job) -> Row {
    let Job { server, kind, errand: _, observations } = job;
    let is_success = |o: &&Observation| o.outcome.count() == Count::Success;
    let mut failures: BTreeMap<(Outcome, &str), (usize, Option<f64>)> = BTreeMap::new();
    for failed in observations.iter().filter(|o| !is_success(o)) {
        let (count, pause_s) = failures.entry((failed.outcome, failed.detail.as_str())).or_default();
        *count += 1;
        let asked = failed.retry_after.map(|pause| pause.as_secs_f64());
        *pause_s = [*pause_s, asked].into_iter().flatten().reduce(f64::max);
    }
    let mut failures: Vec<Kinds> = failures
        .into_iter()
        .map(|((outcome, detail), (count, retry_after_s))| Kinds {
            outcome,
            count,
            detail: detail.to_owned(),
            retry_after_s,
        })
        .collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    let last = observations.iter().rev().find(|o| !is_success(o));
    let note = observations.iter().rev().find(is_success).map(|o| o.detail.clone());
    Row {
        server: server.to_string(),
        kind: *kind,
        report: ProbeReport::from(&observations[..]),
        failures,
        last_failure: last.map(|o| format!("{}: {}", o.outcome, o.detail)),
        note: note.filter(|note| !note.is_empty()),
    }
}

fn print(jobs: &[Job], rows: &[Row], started: Instant, out: &Output) {
    let table = match jobs.iter().all(|job| job.observations.len() == 1) {
        true => each_once(jobs),
        false => percentiles(rows),
    };
    out.print(&table.render(out));
    for row in rows {
        let name = format!("{} {}", row.server, row.kind);
        for Kinds { outcome, count, detail, retry_after_s } in row.failures.iter().take(MAX_FAILURES) {
            let times = if row.report.probes > 1 { format!("{count} × ") } else { String::new() };
            let pause = retry_after_s.map_or_else(String::new, |s| format!(" (asks for {s:.0} s of silence)"));
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            out.text(2, out.paint(tone(*outcome), format_args!("{name}: {times}{outcome}{detail}{pause}")));
        }
        if row.failures.len() > MAX_FAILURES {
            out.line(format_args!("{name}: and {} other kinds of failure", row.failures.len() - MAX_FAILURES));
        }
        if let Some(note) = &row.note {
            let tone = if note.starts_with("warning:") { Tone::Warn } else { Tone::Dim };
            out.text(2, out.paint(tone, format_args!("{name}: {note}")));
        }
    }
    let probes: usize = rows.iter().map(|row| row.report.probes).sum();
    if probes > 1 {
        let failed: usize = rows.iter().flat_map(|row| &row.failures).map(|failure| failure.count).sum();
        let tokens: u64 = rows.iter().map(|row| row.report.tokens).sum();
        let took = ms(started.elapsed().as_secs_f64() * 1e3);
        let spent = if tokens > 0 { format!(", {tokens} tokens spent") } else { String::new() };
        let line = format!("{probes} probes in {took}: {} ok, {failed} failed{spent}", probes - failed);
        out.line(out.paint(if failed == 0 { Tone::Good } else { Tone::Bad }, line));
    }
}

fn tone(outcome: Outcome) -> Tone {
    match outcome.count() {
        Count::Success => Tone::Good,
        Count::Limited | Count::Neutral => Tone::Warn,
        Count::HardFailure => Tone::Bad,
    }
}

fn dash_or(text: Option<String>) -> (Tone, String) {
    (Tone::Plain, text.unwrap_or_else(|| "-".to_owned()))
}

/// One probe of each kind: what it found.
fn each_once(jobs: &[Job]) -> Table {
    let mut table = Table::new(["SERVER", "PROBE", "OUTCOME", "TIME", "FIRST TOKEN", "TOKENS"]);
    for job in jobs {
        for o in &job.observations {
            let first = o.first_token.map(|first| ms(first.as_secs_f64() * 1e3));
            table.row([
                (Tone::Plain, job.server.to_string()),
                (Tone::Plain, job.kind.to_string()),
                (tone(o.outcome), o.outcome.to_string()),
                (Tone::Plain, ms(o.total.as_secs_f64() * 1e3)),
                dash_or(first),
                dash_or((o.tokens > 0).then(|| o.tokens.to_string())),
            ]);
        }
    }
    table
}

/// Many probes of each kind: how they are spread.
fn percentiles(rows: &[Row]) -> Table {
    let mut table =
        Table::new(["SERVER", "PROBE", "N", "OK", "MEAN", "P50", "P95", "P99", "MAX", "FIRST TOKEN P50/P95", "TOKENS"]);
    for Row { server, kind, report, .. } in rows {
        let tone = if report.success_rate.is_some_and(|rate| rate >= 1.0) { Tone::Good } else { Tone::Bad };
        let (total, first) = (report.total_ms, report.first_token_ms);
        let time = |of: Option<Percentiles>, pick: fn(Percentiles) -> f64| dash_or(of.map(|p| ms(pick(p))));
        table.row([
            (Tone::Plain, server.clone()),
            (Tone::Plain, kind.to_string()),
            (Tone::Plain, report.probes.to_string()),
            (tone, report.success_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0))),
            time(total, |p| p.mean),
            time(total, |p| p.p50),
            time(total, |p| p.p95),
            time(total, |p| p.p99),
            time(total, |p| p.max),
            dash_or(first.map(|p| format!("{} / {}", ms(p.p50), ms(p.p95)))),
            dash_or((report.tokens > 0).then(|| report.tokens.to_string())),
        ]);
    }
    table
}
