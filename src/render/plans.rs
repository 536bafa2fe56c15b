//! What the running HAProxy knows of plans and clients, as data: an edit of them is no reload.

use super::names::PlansMap;
use super::routes::{is_plain, model_expression};
use crate::config::{Budget, Client, Plan, TokenWeights, long, sustained};
use crate::model::{Digest, Rate, Sourced};
use crate::usage::money;

/// The clock of the buckets ticks so often a second. It begins anew after 59 hours; a bucket holds 12
/// at most, and an entry of the table is gone after 25, so that past and future can be told apart.
const TICKS: u64 = 20_000;
/// How long a request waits for its turn at the most, in seconds.
const PATIENCE_S: u64 = 5;
/// What stands before the digest of a certificate in the map of clients.
pub const CERTIFICATE_MARK: &str = "certificate:";
/// What stands for "no limit": more than HAProxy ever counts.
const NONE: u64 = u32::MAX as u64;
/// The window that stands where there is none, in seconds.
const DAY_S: u64 = 86_400;

/// The window of a bucket of tokens where there is none, in milliseconds.
const SECOND_MS: u128 = 1_000;

/// The entry of a plan: what its clients may do, in the order in which the template takes it apart. CONCURRENT, then of
/// the bucket: ticks for a request, ticks of the whole, requests of the whole, its rate; then requests in the long window,
/// its seconds, its rate. Of tokens: those of the bucket, its milliseconds, whether there is one, its rate; those of the
/// long window, its seconds, its rate; what counts, or `none`; whether it reserves. Of money: the budget in billionths of a
/// dollar, or `none`; for how long; what then; and in words.
/// Last, for how many ticks a request may wait for its turn.
pub(super) fn numbers(plan: &Plan) -> String {
    let patience = if plan.delays { PATIENCE_S * TICKS } else { 0 };
    format!("{} {} {} {patience}", requests(plan), tokens(plan), budget(plan))
}

fn budget(plan: &Plan) -> String {
    let Some(Budget { nano_usd, per, when_spent, alert_at: _ }) = &plan.budget else {
        return "none month deny -".to_owned();
    };
    let (nano_usd, per) = (nano_usd.value, per.word());
    format!("{nano_usd} {per} {} ${}/{per}", when_spent.word(), money::shortest(nano_usd))
}

fn tokens(plan: &Plan) -> String {
    let (most, window_ms, is_told, rate) = match sustained(&plan.tokens) {
        None => (NONE, SECOND_MS, 0, "-".to_owned()),
        Some(rate) => (u64::from(rate.count), rate.window.as_millis(), 1, rate.to_string()),
    };
    let (long_most, long_window, long_rate) = longer(&plan.tokens);
    let TokenWeights { prompt, cached, completion } = plan.token_weights;
    let counting = if plan.counts() { format!("{prompt}:{cached}:{completion}") } else { "none".to_owned() };
    let reserves = u8::from(plan.reserve);
    format!("{most} {window_ms} {is_told} {rate} {long_most} {long_window} {long_rate} {counting} {reserves}")
}

/// Of a window longer than a bucket's: how many, its seconds, its rate.
fn longer(rates: &[Sourced<Rate>]) -> (u64, u64, String) {
    match long(rates) {
        None => (NONE, DAY_S, "-".to_owned()),
        Some(rate) => (u64::from(rate.count), rate.window.as_secs(), rate.to_string()),
    }
}

fn requests(plan: &Plan) -> String {
    let concurrent = plan.concurrent.as_ref().map_or(NONE, |most| u64::from(most.value));
    let (step, room, whole, rate) = match sustained(&plan.requests) {
        None => (0, NONE, 0, "-".to_owned()),
        Some(rate) => {
            let whole = u64::from(rate.count) + u64::from(plan.burst.value);
            let step = (ticks(rate) / u64::from(rate.count)).max(1);
            (step, step * whole, whole, rate.to_string())
        }
    };
    let (most, window, long_rate) = longer(&plan.requests);
    format!("{concurrent} {step} {room} {whole} {rate} {most} {window} {long_rate}")
}

fn ticks(rate: Rate) -> u64 {
    rate.window.as_secs() * TICKS + u64::from(rate.window.subsec_millis()) * TICKS / 1000
}

/// The entries of a client: `NAME PLAN` by the digest of its key as HAProxy spells it; behind it the second since 1970
/// until which an old key is good. The same by the digest of its certificate, which no key can have: the text before it
/// is no digit.
pub(super) fn entries(client: &Client) -> impl Iterator<Item = (String, String)> {
    let who = format!("{} {}", client.name.value, client.plan.value);
    let old = client.old_key.as_ref();
    let old = old.map(|(digest, until)| (digest.to_string().to_uppercase(), format!("{who} {}", until.as_second())));
    let spelt = |digest: &Sourced<Digest>| digest.to_string().to_uppercase();
    let key = client.key.iter().map(spelt);
    let certificates = client.certificates.iter().map(move |one| format!("{CERTIFICATE_MARK}{}", spelt(one)));
    key.chain(certificates).map(move |digest| (digest, who.clone())).chain(old)
}

/// What plans include, each as `PLAN/MODEL` or `PLAN/PATH`. A plan that names none includes all.
pub(super) fn included(plans: &[Plan], which: PlansMap) -> Vec<(String, String)> {
    // What is left where the budget is spent is that of another plan, whose name nobody can give.
    let left = plans.iter().filter(|plan| !plan.only.is_empty() && which != PlansMap::Paths);
    let left = left.flat_map(|plan| {
        let name = format!("only:{}", plan.name.value);
        plan.only.iter().filter_map(move |text| include(&name, &text.value, which))
    });
    let of = |plan: &Plan| -> Vec<String> {
        let name = &plan.name.value;
        let texts = match which {
            PlansMap::Paths => &plan.routes,
            PlansMap::Models | PlansMap::Prefixes | PlansMap::Expressions => &plan.models,
        };
        let all = texts.is_empty() && matches!(which, PlansMap::Paths | PlansMap::Prefixes);
        let fitting = texts.iter().filter_map(|text| include(name.as_str(), &text.value, which));
        fitting.chain(all.then(|| format!("{name}/"))).collect()
    };
    plans.iter().flat_map(of).chain(left).map(|key| (key, "1".to_owned())).collect()
}

fn include(plan: &str, text: &str, which: PlansMap) -> Option<String> {
    let is_exact = !text.contains(['*', '?']) && is_plain(text);
    let prefix =
        text.strip_suffix('*').filter(|begin| !begin.contains(['*', '?']) && (begin.is_empty() || is_plain(begin)));
    match which {
        PlansMap::Paths => Some(format!("{plan}{text}")),
        PlansMap::Models => is_exact.then(|| format!("{plan}/{text}")),
        PlansMap::Prefixes => prefix.map(|begin| format!("{plan}/{begin}")),
        PlansMap::Expressions => (!is_exact && prefix.is_none()).then(|| model_expression(plan, text)),
    }
}
