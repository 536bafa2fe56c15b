//! `check` and `render`: what can be judged and shown without touching anything.

use super::output::{Failure, Output, Tone, counted};
use crate::agent::{
    At, Engine, Failed, Intent, Objection, Place, Refusal, SecretUse, Sources, SourcesError, Unread, Wish,
    check_certificates, render_files, replaced_file, start_doubts, vrrp_change,
};
use crate::config::{Config, Diagnostics, own_vips};
use crate::desired::Desired;
use crate::model::Sourced;
use crate::render::{self, ListFile, Target};
use crate::store::git;
use crate::sys;
use camino::Utf8PathBuf;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Judgement {
    ok: bool,
    diagnostics: Diagnostics,
    warnings: Vec<String>,
    refused: Option<String>,
}

/// `hapilot check`: exit code 2 for mistakes of the file, 1 where something around it speaks against an apply.
pub(super) async fn check(place: &Place, out: Output) -> Result<(), Failure> {
    let mut sources = match place.using(SecretUse::Compared).load() {
        Ok(sources) => sources,
        Err(e) => {
            let failed = Failed::from_sources(&e);
            if !out.json {
                return Err(Failure::from(failed));
            }
            let (diagnostics, refused) = match e {
                SourcesError::Mistakes { diagnostics } => (*diagnostics, None),
                _ => (Diagnostics::none(place.file.as_str()), Some(failed.refusal.to_string())),
            };
            out.print_json(&Judgement { ok: false, diagnostics, warnings: vec![], refused });
            return Err(Failure::said(failed.exit_code));
        }
    };
    let desired = by_file(&sources);
    let mut wish = Wish {
        sources: &sources,
        desired: &desired,
        may_replace_foreign_file: false,
        is_serving: false,
        may_exceed_limits: true,
    };
    let mut engine = Engine::new();
    let (mut doubts, mut replaced) = (None, None);
    let result = match engine.prepare(wish, None).await {
        Ok(mut prepared) => {
            doubts = start_doubts(&sources, &prepared);
            // The first apply of a node says `--adopt`: a file of the distribution speaks against nothing.
            replaced = replaced_file(&sources, &prepared);
            if replaced.is_some() {
                prepared.plan.obstacles.clear();
                wish.may_replace_foreign_file = true;
            }
            engine.judge(wish, &prepared).await
        }
        Err(e) => Err(e),
    };
    let result = result.and_then(|()| Ok(check_certificates(&sources, false)?));
    let refused = match result {
        Ok(()) => {
            let intent = Intent { adopt: true, force: true, ..Intent::default() };
            vrrp_change(&sources.config, &intent).await.err().map(|failed| failed.refusal)
        }
        Err(e) => Some(e.refusal()),
    };
    let mut unmakeable = unmakeable(&sources);
    unmakeable.extend(without_git(&sources).await);
    let refused = match (refused, unmakeable) {
        (Some(refused), unmakeable) => {
            Some(unmakeable.into_iter().fold(refused, |all, one| all.besides("\n", one.into())))
        }
        (None, unmakeable) => (!unmakeable.is_empty()).then(|| Refusal::of(unmakeable)),
    };
    sources.warnings.append(&mut engine.said.warnings);
    // What refuses the file is told once, as that.
    let is_told = |told: &Objection| refused.as_ref().is_some_and(|refused| refused.has(told));
    let problems = sources.certificate_problems.iter().map(|problem| &problem.told);
    sources.warnings.extend(problems.filter(|told| !is_told(told)).map(ToString::to_string));
    sources.warnings.extend(doubts);
    sources.warnings.extend(unfit_git(&sources));
    let insistence = super::insistence::wanted(place, &sources).await;
    sources.warnings.extend(insistence);
    sources.warnings.extend(replaced);
    let unresolved = engine.said.unresolved_servers();
    sources.warnings.extend(unresolved.map(|server| format!("{server}: its name does not resolve on this node now")));
    if let Some(version) = engine.version {
        let target = Target::new(version.major, version.minor);
        sources.warnings.extend(target.degradations().iter().map(|lost| format!("HAProxy {version}: {lost}")));
        sources.warnings.extend(target.not_in_force(&sources.config));
    }
    let unread = Unread::line(&sources.unread);
    if out.json {
        sources.warnings.extend(unread);
        let Sources { lint, warnings, .. } = sources;
        let ok = refused.is_none();
        let refused = refused.map(|refused| refused.to_string());
        out.print_json(&Judgement { ok, diagnostics: lint, warnings, refused });
        return if ok { Ok(()) } else { Err(Failure::said(super::output::REFUSED)) };
    }
    if !sources.lint.is_empty() {
        out.note(sources.lint.render(out.color_err).trim_end());
    }
    sources.warnings.iter().for_each(|warning| out.note(format_args!("warning: {warning}")));
    unread.iter().for_each(|line| out.note(line));
    match refused {
        Some(refused) => Err(Failure::refused(refused)),
        None => {
            let servers = sources.config.servers().count();
            out.text(
                3,
                format_args!(
                    "{} {}: {}, {}, {}; HAProxy accepts it",
                    out.paint(Tone::Good, "ok"),
                    place.file,
                    counted(sources.config.frontends.len(), "frontend"),
                    counted(sources.config.backends.len(), "backend"),
                    counted(servers, "server"),
                ),
            );
            out.text(3, buffers(&sources.config));
            Ok(())
        }
    }
}

/// Folders that the agent makes by itself where there are none, and cannot make: whoever runs `check` may have other
/// rights, but a file in the way is one for everybody.
fn unmakeable(sources: &Sources) -> Vec<Objection> {
    let config = &sources.config;
    let socket = &config.api.socket;
    let state = (&config.node.state, "node.state", config.node.state.value.clone());
    let folders = [state, (socket, "api.socket", sys::files::directory_of(socket))];
    let objection = |(path, key, folder): (&Sourced<Utf8PathBuf>, &str, Utf8PathBuf)| {
        let lack = sys::folders::barrier(&folder)?;
        let at = At::origin(&sources.file, path.origin);
        Some(Objection::new(format_args!("`{key}`: {}", lack.what)).at(at).help(lack.help))
    };
    folders.into_iter().filter_map(objection).collect()
}

/// `[history] git` without the program.
async fn without_git(sources: &Sources) -> Option<Objection> {
    let path = sources.config.history.git.as_ref()?;
    let why = git::git_is_there().await.err()?;
    let at = At::origin(&sources.file, path.origin);
    Some(Objection::new(format_args!("`history.git`: {}", sys::chain(&why))).at(at))
}

/// `[history] git` where no repository can be: revisions serve without it, and none is committed.
fn unfit_git(sources: &Sources) -> Option<String> {
    let path = sources.config.history.git.as_ref()?;
    let why = git::fits(path).err()?;
    let at = At::origin(&sources.file, path.origin);
    Some(format!("{at}: `history.git`: {}: no revision is committed there", sys::chain(&why)))
}

/// What `buffer` may cost, in words: a request in flight holds one whole.
fn buffers(config: &Config) -> String {
    let (buffer, connections) = (config.haproxy.buffer_bytes.value, config.haproxy.maxconn.value);
    let most = u64::from(buffer) * u64::from(connections);
    let memory = match most {
        0..100_000_000 => format!("{} MB", most.div_ceil(1_000_000)),
        _ => format!("{:.1} GB", most as f64 / 1e9),
    };
    format!(
        "   requests up to {} KiB are repeated; at maxconn {connections} their buffers take up to {memory} of memory",
        buffer / 1024,
    )
}

#[derive(Serialize)]
struct Files {
    haproxy_cfg: String,
    maps: BTreeMap<String, Vec<(String, String)>>,
    crt_lists: BTreeMap<String, Vec<String>>,
}

/// `hapilot render`: haproxy.cfg with the weights of the file. Secret maps are never printed.
pub(super) async fn render(place: &Place, out: Output) -> Result<(), Failure> {
    let sources = super::target::load(&place.using(SecretUse::Nothing))?;
    let desired = by_file(&sources);
    let rendered = render_files(&sources, &desired).await.map_err(|e| Failure::refused(e.refusal()))?;
    if out.json {
        let maps = rendered.maps.iter().filter(|(_, map)| !map.is_secret);
        let maps = maps.map(|(name, map)| (name.clone(), map.entries.clone())).collect();
        let paths = |list: &ListFile| list.certificates.iter().map(|one| one.path.to_string()).collect();
        let crt_lists = rendered.lists.iter().map(|(name, list)| (name.clone(), paths(list))).collect();
        out.print_json(&Files { haproxy_cfg: rendered.haproxy_cfg, maps, crt_lists });
    } else {
        out.print(&rendered.haproxy_cfg);
    }
    Ok(())
}

/// `hapilot render keepalived`: keepalived.conf of this node.
pub(super) fn render_keepalived(place: &Place, out: Output) -> Result<(), Failure> {
    let sources = super::target::load(&place.using(SecretUse::Nothing))?;
    if own_vips(&sources.config).next().is_none() {
        let node = &sources.config.node.name.value;
        return Err(Failure::usage(format!("the file gives node {node} no part in a [vip.NAME]")));
    }
    let text = render::keepalived(&sources.config).map_err(|e| Failure::refused(Refusal::new(e)))?;
    if out.json {
        out.print_json(&serde_json::json!({ "keepalived_conf": text }))
    } else {
        out.print(&text)
    }
    Ok(())
}

/// The desired state as the file alone gives it.
fn by_file(sources: &Sources) -> Desired {
    let (weights, words) = (BTreeMap::new(), BTreeMap::new());
    let (secrets, certificates) = (sources.secrets.clone(), sources.certificates.clone());
    let desired = Desired::new(sources.config.clone(), &weights, &words, secrets, certificates);
    Desired { clients: sources.clients.clone(), trust: sources.trust.clone(), ..desired }
}
