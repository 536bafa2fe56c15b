//! Clients and their plans as the templates see them: which rules are needed at all. The numbers are in maps.

use super::ContextMaker;
use crate::config::{Config, Plan, TokenWeights, long, sustained};
use crate::model::Origin;
use crate::render::names::{
    CLIENTS_MAP, LIMIT_CLIENT, LIMIT_MONEY, MONTHS_MAP, PLANS_MAP, PRICES_MAP, PlansMap, REFUSED, SPENT_MAP, plans_map,
};
use crate::render::value::ContextMap;
use tera::Value;

impl ContextMaker<'_> {
    /// `None` where nobody is asked. The first plan with a limit of a kind, and the first that names models or routes, are
    /// reloads.
    pub(super) fn clients(&mut self) -> Option<Value> {
        let config = &self.desired.config;
        let origin = origin(config)?;
        let has = |of: fn(&Plan) -> bool| config.plans.iter().any(of);
        let map = |which| plans_map(which).to_owned();
        let clients = ContextMap::default()
            .with("map", self.marks.text(CLIENTS_MAP, origin))
            .with("plans", PLANS_MAP)
            .with("table", LIMIT_CLIENT)
            .with("money", LIMIT_MONEY)
            .with("refused", REFUSED)
            .with("has_limits", has_limits(config))
            .with("has_concurrent", has(|plan| plan.concurrent.is_some()))
            .with("has_buckets", has(|plan| sustained(&plan.requests).is_some()))
            .with("has_delays", self.target.pauses() && has(|plan| plan.delays))
            .with("has_windows", has(|plan| long(&plan.requests).is_some()))
            .with("has_requests", has(|plan| !plan.requests.is_empty()))
            .with("counts", has(Plan::counts))
            .with("has_tokens", has(|plan| !plan.tokens.is_empty()))
            .with("has_budgets", has(|plan| plan.budget.is_some()))
            .with("has_only", has(|plan| !plan.only.is_empty()))
            .with("has_prices", has_prices(config))
            .with("has_model_prices", !config.prices.is_empty())
            .with("has_server_model_prices", config.prices.iter().any(|price| price.server.is_some()))
            .with("has_server_prices", config.servers().any(|(_, server)| server.price.is_some()))
            .with("prices", PRICES_MAP)
            .with("spent", SPENT_MAP)
            .with("months", MONTHS_MAP)
            .with("has_token_buckets", has(|plan| sustained(&plan.tokens).is_some()))
            .with("has_token_windows", has(|plan| long(&plan.tokens).is_some()))
            .with("weighs_tokens", has(|plan| plan.token_weights != TokenWeights::ONE))
            .with("reserves", has(|plan| plan.reserve))
            .with("has_routes", has(|plan| !plan.routes.is_empty()))
            .with("has_models", has(|plan| !plan.models.is_empty()))
            .with("paths", map(PlansMap::Paths))
            .with("models", map(PlansMap::Models))
            .with("prefixes", map(PlansMap::Prefixes))
            .with("expressions", map(PlansMap::Expressions));
        Some(clients.into())
    }
}

/// Where the file says that clients are asked.
fn origin(config: &Config) -> Option<Option<Origin>> {
    let first = config.clients_file.as_ref().map(|path| path.origin);
    first.or(config.plans.first().map(|plan| plan.name.origin))
}

/// Whether a client is counted.
pub(super) fn has_limits(config: &Config) -> bool {
    let limits = |plan: &Plan| !plan.requests.is_empty() || plan.counts() || plan.concurrent.is_some();
    config.has_clients() && config.plans.iter().any(limits)
}

/// Where the first plan says that answers are counted, if it counts.
pub(super) fn origin_of_counting(config: &Config) -> Option<Option<Origin>> {
    let of = |plan: &Plan| {
        let rate = plan.tokens.first().map(|rate| rate.origin);
        rate.or(plan.budget.as_ref().map(|budget| budget.nano_usd.origin))
    };
    asks(config).then(|| config.plans.iter().find_map(of)).flatten()
}

/// Whether any token has a price.
pub(super) fn has_prices(config: &Config) -> bool {
    !config.prices.is_empty() || config.servers().any(|(_, server)| server.price.is_some())
}

/// Whether a frontend asks its clients.
fn asks(config: &Config) -> bool {
    config.has_clients() && config.frontends.iter().any(|frontend| !frontend.open)
}

/// Where the first plan needs to know the model, if it counts.
pub(super) fn origin_of_models(config: &Config) -> Option<Option<Origin>> {
    let mut plans = config.plans.iter().filter(|plan| plan.reads_models(!config.prices.is_empty()));
    let origin =
        |plan: &Plan| plan.models.iter().chain(&plan.only).next().map_or(plan.name.origin, |model| model.origin);
    asks(config).then(|| plans.next().map(origin)).flatten()
}
