//! Plans and clients: of the operator's file, and of the clients' own.

use super::field::Field;
use super::money;
use super::table::TableReader;
use super::word::closest;
use crate::config::caller::{Client, LONGEST_BUCKET, Plan, TokenWeights, has_plan, sustained};
use crate::config::diagnostic::Found;
use crate::model::{Digest, Name, Rate, Sourced, looks_like_key};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most requests a second of one client that can be told apart: the clock of the buckets ticks as often.
const MOST_A_SECOND: u64 = 20_000;
/// Longest time in which a full bucket may run out.
const LONGEST_REFILL: Duration = Duration::from_secs(12 * 3600);
/// Whose digests stand in examples, or come of a variable that is not set.
const GUESSED: [&str; 10] = ["", "\n", "KEY", "KEY\n", "key", "test", "secret", "password", "changeme", "1234"];
/// So many names are told.
const MAX_NAMES: usize = 8;

pub(super) fn plans(root: &TableReader<'_>) -> Vec<Plan> {
    let mut plans: Vec<_> = root.named("plan").into_iter().map(|(name, table)| plan(name, &table)).collect();
    plans.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    plans
}

fn plan(name: Name, table: &TableReader<'_>) -> Plan {
    let texts = |name| table.list(name).iter().filter_map(Field::text).collect();
    let plan = Plan {
        name: Sourced::new(name, table.origin()),
        requests: table.get("requests").map(|field| field.rates()).unwrap_or_default(),
        burst: table.integer_or_default("burst"),
        delays: table.get("over").and_then(|field| field.choice()).is_some_and(|word| word.value == "delay"),
        tokens: table.get("tokens").map(|field| field.rates()).unwrap_or_default(),
        token_weights: token_weights(table),
        budget: money::budget(table, table.get("only").is_some()),
        only: texts("only"),
        reserve: table.get("reserve").and_then(|field| field.boolean()).unwrap_or(false),
        concurrent: table.integer("concurrent"),
        models: texts("models"),
        routes: texts("routes"),
    };
    if let (Some(field), true, None) = (table.get("over"), plan.delays, sustained(&plan.requests))
        && !table.is_misspelt("requests")
    {
        let message = format!("`{}` needs a rate up to an hour in `requests`", field.name);
        let found = field.error("missing-key", message).help("such as `requests = \"60/1m\"`");
        table.context().report(found.absence());
    }
    for field in table.list("routes") {
        let is_glob = |text: &str| text.contains(['*', '?']) || text.contains(char::is_whitespace);
        if let Some(text) = field.text().filter(|text| is_glob(&text.value)) {
            let begin = text.value.split(['*', '?', ' ']).next().unwrap_or_default().to_owned();
            let message = format!("`{}`: a begin of a path, without `*`, `?` and blanks", field.name);
            field
                .context
                .report(field.error("bad-value", message).help(format!("{begin:?} stands for all that begins so")));
        }
    }
    if let Some(field) = table.get("requests") {
        judge_rates(&field, &plan.requests);
        judge_bucket(&field, &plan);
    }
    if let Some(field) = table.get("tokens") {
        judge_rates(&field, &plan.tokens);
    }
    if let (Some(field), None) = (table.get("burst"), sustained(&plan.requests))
        && !table.is_misspelt("requests")
    {
        let message = format!("`{}` needs a rate up to an hour in `requests`", field.name);
        table
            .context()
            .report(field.error("burst-without-rate", message).help("such as `requests = \"60/1m\"`").absence());
    }
    let lacks = |name, has: bool, what: &str, example: &str| {
        if let Some(field) = table.get(name)
            && !has
            && !table.is_misspelt("tokens")
            && !table.is_misspelt("budget")
        {
            let message = format!("`{}` needs {what}", field.name);
            table.context().report(field.error("missing-key", message).help(format!("such as `{example}`")).absence());
        }
    };
    lacks("token_weights", !plan.tokens.is_empty(), "a rate in `tokens`", "tokens = \"100000/1m\"");
    lacks("reserve", plan.counts(), "a rate in `tokens`, or a `budget`", "tokens = \"100000/1m\"");
    plan
}

fn token_weights(table: &TableReader<'_>) -> TokenWeights {
    let table = table.table_or_default("token_weights");
    let part = |name| {
        let weight = table.amount_or_default(name);
        let part = (weight * 10_000.0).round();
        if (weight * 10_000.0 - part).abs() > 1e-6
            && let Some(field) = table.get(name)
        {
            let message = format!("`{}` is finer than 0.0001", field.name);
            field.context.report(field.error("out-of-range", message).help("four digits behind the point at most"));
        }
        part as u32
    };
    let weights = TokenWeights { prompt: part("prompt"), cached: part("cached"), completion: part("completion") };
    if weights == (TokenWeights { prompt: 0, cached: 0, completion: 0 }) {
        let message = format!("`{}`: where no token counts, `tokens` limits nothing", table.path());
        table.context().report(Found::error("out-of-range", message, table.span()).help("leave `tokens` out"));
    }
    weights
}

fn judge_rates(field: &Field<'_>, rates: &[Sourced<Rate>]) {
    if let [one, other] = rates
        && (one.value.window <= LONGEST_BUCKET) == (other.value.window <= LONGEST_BUCKET)
    {
        let message = format!("`{}`: of two rates one has a window up to 1h, and the other a longer one", field.name);
        field.context.report(field.error("out-of-range", message).help("such as [\"60/1m\", \"5000/24h\"]"));
    }
}

fn judge_bucket(field: &Field<'_>, plan: &Plan) {
    let error = |message: String, help: &str| field.context.report(field.error("out-of-range", message).help(help));
    let Some(Rate { count, window }) = sustained(&plan.requests) else { return };
    if u64::from(count) > MOST_A_SECOND * window.as_secs() {
        error(
            format!("`{}`: at most {MOST_A_SECOND} requests a second can be counted", field.name),
            "leave it out where there is no limit",
        );
    }
    let refill = window.mul_f64(f64::from(count.saturating_add(plan.burst.value)) / f64::from(count));
    if refill > LONGEST_REFILL {
        error(
            format!(
                "`{}`: with `burst` it would take more than 12h until a client that used all may ask for as much again",
                field.name
            ),
            "a smaller `burst`, or a higher rate",
        );
    }
}

pub(super) fn clients_file(root: &TableReader<'_>) -> Option<Sourced<Utf8PathBuf>> {
    root.text("clients").map(|path| path.map(Utf8PathBuf::from))
}

/// The clients of a file. `plans` are those of the operator's; `others` are clients that stand elsewhere, and where.
pub(super) fn clients(root: &TableReader<'_>, plans: &[Plan], others: &[Client], elsewhere: &str) -> Vec<Client> {
    let mut names: BTreeMap<Name, String> = BTreeMap::new();
    let mut keys: BTreeMap<Digest, String> = BTreeMap::new();
    for other in others {
        names.insert(other.name.value.clone(), elsewhere.to_owned());
        let digests = other.key.iter().chain(other.old_key.iter().map(|(digest, _)| digest)).chain(&other.certificates);
        keys.extend(digests.map(|digest| (digest.value, format!("[client.{}] of {elsewhere}", other.name.value))));
    }
    let mut clients = Vec::new();
    for (name, table) in root.named("client") {
        // The access log writes it for nobody.
        if name.as_str() == "-" {
            table.context().report(Found::error("bad-name", "a client is not called `-`", table.span()));
        }
        if let Some(place) = names.insert(name.clone(), "this file".to_owned()) {
            let message = format!("`[{}]` stands in {place} as well", table.path());
            table.context().report(Found::error("duplicate", message, table.span()).help("two clients have two names"));
        }
        clients.extend(client(name, &table, plans, &mut keys));
    }
    clients.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    clients
}

fn client(name: Name, table: &TableReader<'_>, plans: &[Plan], keys: &mut BTreeMap<Digest, String>) -> Option<Client> {
    let plan_field = table.get("plan");
    let plan = plan_field.as_ref().and_then(Field::name);
    if let (Some(field), Some(plan)) = (&plan_field, &plan)
        && !has_plan(plans, plan)
    {
        unknown_plan(field, plan, plans);
    }
    let mut digest_of = |key: &'static str| {
        let field = table.get(key)?;
        let digest = field.sha256()?;
        if let Some(of) = GUESSED.iter().find(|guess| Digest::of(guess) == digest.value) {
            let of =
                if of.is_empty() { "an empty text".to_owned() } else { format!("`{of}`, which anybody can guess") };
            let message = format!("`{}` is the SHA-256 of {of}", field.name);
            field
                .context
                .report(field.error("weak-key", message).help("`hapilot client add NAME --plan PLAN` makes a key"));
        }
        let place = format!("`[{}]`", table.path());
        match keys.insert(digest.value, place.clone()) {
            Some(other) if other == place => {
                field.context.report(field.error("duplicate", format!("{place} has this key twice")));
            }
            Some(other) => {
                let message = format!("`{}`: {other} has the same key", field.name);
                field.context.report(field.error("duplicate", message).help("each client has a key of its own"));
            }
            None => {}
        }
        Some(digest)
    };
    let key = digest_of("key_sha256");
    let old_key = digest_of("old_key_sha256");
    let certificate_field = table.get("certificate_sha256");
    let certificates = certificate_field.as_ref().map(Field::fingerprints).unwrap_or_default();
    for (at, one) in certificates.iter().enumerate() {
        let place = format!("`[{}]`", table.path());
        let other = keys.insert(one.value, place.clone());
        if let (Some(other), Some(field)) = (other, &certificate_field) {
            let is_twice = certificates[..at].iter().any(|before| before.value == one.value);
            let message = if is_twice {
                format!("{place} has this certificate twice")
            } else {
                format!("`{}`: {other} has the same certificate", field.name)
            };
            field.context.report(field.error("duplicate", message).help("each client has a certificate of its own"));
        }
    }
    let names_key =
        ["key_sha256", "certificate_sha256"].iter().any(|key| table.get(key).is_some() || table.is_misspelt(key));
    if !names_key {
        let message = format!("`[{}]` lacks `key_sha256`", table.path());
        let help = "add it, or `certificate_sha256` where the client shows a certificate; `hapilot client add NAME --plan PLAN` \
                    makes a key";
        table.context().report(Found::error("missing-key", message, table.span()).help(help).absence());
    }
    let until_field = table.get("old_key_until");
    let until = until_field.as_ref().and_then(|field| field.time());
    let lacks = |has: &str, lacks: &str| {
        let message = format!("`[{}]` has `{has}` and lacks `{lacks}`", table.path());
        table
            .context()
            .report(Found::error("missing-key", message, table.span()).help("both together, or none").absence());
    };
    match (table.get("old_key_sha256").is_some(), until_field.is_some()) {
        (true, false) => lacks("old_key_sha256", "old_key_until"),
        (false, true) => lacks("old_key_until", "old_key_sha256"),
        (true, true) | (false, false) => {}
    }
    let budget_since = table.get("budget_since").and_then(|field| field.time());
    let (name, old_key) = (Sourced::new(name, table.origin()), old_key.zip(until));
    if key.is_none() && certificates.is_empty() {
        return None;
    }
    Some(Client { name, plan: plan?, key, certificates, old_key, budget_since })
}

pub(super) fn unknown_plan(field: &Field<'_>, plan: &Name, plans: &[Plan]) {
    let names = || plans.iter().map(|plan| plan.name.value.as_str());
    if looks_like_key(plan.as_str()) {
        field.context.hide(field.span.clone());
        let message = format!("`{}` is the name of a plan, and no key", field.name);
        return field
            .context
            .report(field.error("unknown-plan", message).help("a key that stood in a file should be replaced"));
    }
    let found = field.error("unknown-plan", format!("there is no plan `{plan}`")).absence();
    field.context.report(match closest(plan.as_str(), names()) {
        Some(alike) => found.label(format!("did you mean \"{alike}\"?")),
        None if plans.is_empty() => {
            found.help(format!("add a section `[plan.{plan}]` to the operator's file; an empty one limits nothing"))
        }
        None => found.help(format!(
            "the plans of the operator's file are {}",
            names().take(MAX_NAMES).collect::<Vec<_>>().join(", ")
        )),
    });
}
