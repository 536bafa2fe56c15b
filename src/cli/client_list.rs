//! `client list`: who may ask, with which plan, and what is spent of their budgets.

use super::agent::agent;
use super::output::{Failure, Output, Tone, span};
use super::table::Table;
use crate::agent::{Place, Sources, usage_ledger};
use crate::config::{Budget, Client};
use crate::model::Name;
use crate::usage::{Hour, Period, UsageLedger, money};
use jiff::Timestamp;
use serde::Serialize;

/// With `--json`, one element each.
#[derive(Serialize)]
struct Listed<'a> {
    client: &'a Name,
    plan: &'a Name,
    /// Missing where it has no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_sha256: Option<String>,
    /// Those that stand for a key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_sha256: Vec<String>,
    old_key_until: Option<String>,
    /// What it may spend; missing where that has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Spent>,
}

/// Of a budget.
#[derive(Serialize)]
struct Spent {
    nano_usd: u64,
    per: Period,
    spent_nano_usd: u64,
    when_spent: &'static str,
}

/// `hapilot client list`
pub(super) async fn list(place: &Place, sources: &Sources, out: Output) -> Result<(), Failure> {
    let has_budgets = sources.config.plans.iter().any(|plan| plan.budget.is_some());
    let ledger = has_budgets.then(|| usage_ledger(&sources.config.node.state.value, &sources.config));
    let spent = |client: &Client| spent(client, budget_of(sources, client)?, ledger.as_ref()?);
    let until = |client: &Client| client.old_key.as_ref().map(|(_, until)| *until);
    if out.json {
        let listed = |client: &'_ Client| until(client).map(|until| until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let rows: Vec<_> = sources
            .clients
            .iter()
            .map(|client| Listed {
                client: &client.name.value,
                plan: &client.plan.value,
                key_sha256: client.key.as_ref().map(|key| key.value.to_string()),
                certificate_sha256: client.certificates.iter().map(|one| one.value.to_string()).collect(),
                old_key_until: listed(client),
                budget: spent(client),
            })
            .collect();
        out.print_json(&rows);
        return Ok(());
    }
    if sources.clients.is_empty() {
        let nobody =
            if sources.config.has_clients() { "no client yet: nobody may ask" } else { "no clients: anybody may ask" };
        out.text(0, nobody);
        return Ok(());
    }
    let now = Timestamp::now();
    let mut table = Table::new(["CLIENT", "PLAN", "KEY'S SHA-256", "OLD KEY", "SPENT"]);
    let known_by = |client: &Client| match (&client.key, client.certificates.last()) {
        (Some(key), None) => key.value.short(),
        (Some(key), Some(_)) => format!("{} and a certificate", key.value.short()),
        (None, certificate) => {
            format!("certificate {}", certificate.map(|one| one.value.short()).unwrap_or_default())
        }
    };
    for client in sources.clients.iter() {
        let left = until(client).map(|until| until.duration_since(now).as_secs());
        let old = match left {
            None => "-".to_owned(),
            Some(left) if left > 0 => format!("good for {}", span(left.unsigned_abs())),
            Some(_) => "over".to_owned(),
        };
        table.row([
            (Tone::Plain, client.name.value.to_string()),
            (Tone::Plain, client.plan.value.to_string()),
            (Tone::Dim, known_by(client)),
            (Tone::Plain, old),
            spent(client).map_or((Tone::Plain, "-".to_owned()), |spent| told(&spent)),
        ]);
    }
    out.print(&table.render(&out));
    if has_budgets && !matches!(agent(place), Ok(Some(agent)) if agent.status().await.is_ok()) {
        out.note("no agent runs: SPENT is what the last one knew, and HAProxy counts on");
    }
    Ok(())
}

fn budget_of<'a>(sources: &'a Sources, client: &Client) -> Option<&'a Budget> {
    let plan = sources.config.plans.iter().find(|plan| plan.name.value == client.plan.value)?;
    plan.budget.as_ref()
}

fn spent(client: &Client, budget: &Budget, ledger: &UsageLedger) -> Option<Spent> {
    let (name, hour) = (client.name.value.as_str(), Hour::of(Timestamp::now()));
    let (window, _) = ledger.spent(name, budget.per, hour);
    let elsewhere = ledger.spent_elsewhere(name, budget.per, hour);
    Some(Spent {
        nano_usd: budget.nano_usd.value,
        per: budget.per,
        spent_nano_usd: window.nano_usd.saturating_add(elsewhere),
        when_spent: budget.when_spent.word(),
    })
}

fn told(spent: &Spent) -> (Tone, String) {
    let Spent { nano_usd, per, spent_nano_usd, when_spent } = spent;
    let (tone, end) = match *when_spent {
        _ if spent_nano_usd < nano_usd => (Tone::Plain, ""),
        "deny" => (Tone::Bad, ": refused"),
        "only" => (Tone::Warn, ": a few models only"),
        _ => (Tone::Warn, ": over"),
    };
    (tone, format!("${} of ${} a {}{end}", money::told(*spent_nano_usd), money::told(*nano_usd), per.word()))
}
