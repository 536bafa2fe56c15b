//! Renders the wish, and remembers the last rendering: most looks want the same files again, to compare.
//!
//! Called by `engine`, and by commands that print files.

use super::haproxy_look;
use crate::agent::outcome::applied::{ApplyError, Wish};
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::unanswered::Unanswered;
use crate::config::Config;
use crate::desired::Desired;
use crate::model::{Secret, SecretRef, ServerId};
use crate::plan;
use crate::render::{self, Before, Rendered, RuntimeNames, Structure, Target};
use std::collections::BTreeMap;
use std::sync::Arc;

type Names = BTreeMap<ServerId, RuntimeNames>;
/// By (proxy, server) as HAProxy calls them.
pub(in crate::agent) type Servers = BTreeMap<(String, String), ServerId>;

/// Makes the files of a wish.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Renderer {
    kept: Option<Arc<Kept>>,
    /// What the servers of the configuration that was asked for last are called, and the other way round.
    names: Option<(Arc<Config>, Arc<Names>, Arc<Servers>)>,
}

/// A rendering, and what it was made from.
#[derive(Debug)]
struct Kept {
    desired: Desired,
    target: Target,
    rendered: Arc<Rendered>,
}

impl Kept {
    /// Whether a rendering now would give the same. The templates belong to the configuration that was read with them.
    fn is_of(&self, desired: &Desired, target: Target) -> bool {
        let Desired {
            config: _,
            servers,
            secrets,
            certificates: _,
            trust: _,
            clients,
            spent,
            lists,
            canaries,
            active_keys,
            spread_keys,
        } = desired;
        self.structure_of(desired, target).is_some()
            && self.desired.servers == *servers
            && self.desired.secrets == *secrets
            && Arc::ptr_eq(&self.desired.clients, clients)
            && self.desired.spent == *spent
            && self.desired.lists == *lists
            && self.desired.canaries == *canaries
            && self.desired.active_keys == *active_keys
            && self.desired.spread_keys == *spread_keys
    }

    /// The structure, where it is the same: weights, states and secrets are no part of it, but for the key that nodes share.
    fn structure_of(&self, desired: &Desired, target: Target) -> Option<Structure> {
        let Desired {
            config,
            servers: _,
            secrets,
            certificates,
            trust,
            clients: _,
            spent: _,
            lists: _,
            canaries: _,
            active_keys: _,
            spread_keys: _,
        } = desired;
        let is_same = self.target == target
            && Arc::ptr_eq(&self.desired.config, config)
            && shared_key(&self.desired.config, &self.desired.secrets) == shared_key(config, secrets)
            && self.desired.certificates == *certificates
            && self.desired.trust == *trust;
        is_same.then(|| self.rendered.structure.clone())
    }
}

/// The key of the heartbeat, from which certificates of HAProxy are made.
fn shared_key<'a>(config: &Config, secrets: &'a BTreeMap<SecretRef, Secret>) -> Option<&'a Secret> {
    config.node.heartbeat.as_ref().and_then(|heartbeat| secrets.get(&heartbeat.key.value))
}

impl Renderer {
    pub fn names(&mut self, config: &Arc<Config>) -> Arc<Names> {
        self.both(config).0
    }

    /// The same for who only looks.
    pub fn names_seen(&self, config: &Arc<Config>) -> Arc<Names> {
        match &self.names {
            Some((of, names, _)) if Arc::ptr_eq(of, config) => names.clone(),
            Some(_) | None => Arc::new(render::runtime_names(config)),
        }
    }

    /// Which server has a name in HAProxy.
    pub fn servers(&mut self, config: &Arc<Config>) -> Arc<Servers> {
        self.both(config).1
    }

    fn both(&mut self, config: &Arc<Config>) -> (Arc<Names>, Arc<Servers>) {
        match &self.names {
            Some((of, names, servers)) if Arc::ptr_eq(of, config) => (names.clone(), servers.clone()),
            Some(_) | None => {
                let names = Arc::new(render::runtime_names(config));
                let servers = Arc::new(names.iter().map(|(id, names)| (names.weight.clone(), id.clone())).collect());
                self.names = Some((config.clone(), Arc::clone(&names), Arc::clone(&servers)));
                (names, servers)
            }
        }
    }

    pub fn render(&mut self, wish: Wish<'_>, version: plan::Version) -> Result<Arc<Rendered>, ApplyError> {
        let target = Target::new(version.major, version.minor);
        match &self.kept {
            Some(kept) if kept.is_of(wish.desired, target) => Ok(kept.rendered.clone()),
            kept => {
                let alike = kept.as_ref().and_then(|kept| Some((kept, kept.structure_of(wish.desired, target)?)));
                let reweighed = alike.as_ref().and_then(|(kept, _)| {
                    render::reweighed(&kept.rendered, &kept.desired, wish.desired, &wish.sources.templates, target)
                });
                let rendered = match reweighed {
                    Some(rendered) => rendered.map_err(|e| ApplyError::Render(Refusal::new(e)))?,
                    None => {
                        let structure = alike.map(|(_, structure)| structure);
                        let before =
                            kept.as_ref().map(|kept| Before { rendered: &kept.rendered, desired: &kept.desired });
                        render_for(wish.sources, wish.desired, version, structure, before)?
                    }
                };
                let rendered = Arc::new(rendered);
                let kept = Kept { desired: wish.desired.clone(), target, rendered: rendered.clone() };
                self.kept = Some(Arc::new(kept));
                Ok(rendered)
            }
        }
    }
}

impl Renderer {
    /// Whether other keys serve than when the files were rendered last.
    pub fn has_other_keys(&self, desired: &Desired) -> bool {
        self.kept.as_ref().is_some_and(|kept| {
            (&kept.desired.active_keys, &kept.desired.spread_keys) != (&desired.active_keys, &desired.spread_keys)
        })
    }

    /// Whether canaries have other parts than when it rendered last.
    pub fn has_other_canaries(&self, desired: &Desired) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.desired.canaries != desired.canaries)
    }
}

/// The files alone, for the HAProxy that runs here or is installed here.
///
/// # Errors
/// The desired state cannot be rendered.
pub async fn render_files(sources: &Sources, desired: &Desired) -> Result<Rendered, ApplyError> {
    let version = haproxy_look::version_here(&sources.config, &Unanswered::default()).await?;
    render_for(sources, desired, version, None, None)
}

fn render_for(
    sources: &Sources,
    desired: &Desired,
    version: plan::Version,
    structure: Option<Structure>,
    before: Option<Before<'_>>,
) -> Result<Rendered, ApplyError> {
    let target = Target::new(version.major, version.minor);
    if !target.is_supported() {
        let Target { major, minor } = Target::OLDEST;
        let what = format!("HAProxy {version} is too old: {major}.{minor} is the oldest");
        return Err(ApplyError::Render(Refusal::new(what)));
    }
    let rendered = match structure {
        Some(structure) => render::render_of(structure, desired, &sources.templates, target),
        None => render::render_after(before, desired, &sources.templates, target),
    };
    rendered.map_err(|e| ApplyError::Render(Refusal::new(e)))
}
