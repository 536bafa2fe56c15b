//! Desired → files: haproxy.cfg and its maps from Tera templates, with the provenance of each line; keepalived.conf.
//!
//! Pure but for the template text that is handed in. Refuses to know what runs now. Called by `agent` and `cli`.

mod caller;
mod context;
mod dynamic;
mod error;
mod header;
mod keepalived;
mod lists;
mod maps;
mod marks;
mod maxconn;
mod model_lists;
mod names;
mod nodes;
mod plain;
mod plans;
mod prices;
mod quoting;
mod rendered;
mod reweighed;
mod routes;
mod scripts;
mod sections;
mod shape;
mod target;
mod template_lines;
mod templates;
mod trust;
mod value;

pub use dynamic::{ServerLine, server_lines};
pub use error::RenderError;
pub use header::{Inspection, inspect};
pub use keepalived::{keepalived, priority_of};
pub use maps::{canaries, keys};
pub use maxconn::Maxconn;
pub use model_lists::{ModelsOfServers, model_lists};
pub use names::{
    CANARIES_MAP, CLIENTS_MAP, KEYS_MAP, LIMIT_MONEY as MONEY_TABLE, LISTS_MAP, LIVE_RING, SHARED_PEERS, SPENT_MAP,
    is_own_map, is_secret, names_of, runtime_names,
};
pub use plans::CERTIFICATE_MARK;
pub use rendered::{LineOrigin, ListFile, MapFile, Rendered, RuntimeNames, Structure};
pub use reweighed::reweighed;
pub use scripts::moved;
pub use sections::Before;
pub use target::Target;
pub use templates::Templates;
pub use trust::{SOCKET_RESERVE_BYTES, TrustBundle, trust_part};

use crate::desired::Desired;
use context::{ContextMaker, Pass};
use shape::Ids;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// What stands for the revision marker while its digest is not known yet: as long as the real one.
const MARKER_PLACEHOLDER: &str = "hapilot 000000000000";

/// Renders all files of one revision.
///
/// The templates run twice: once with everything masked that the runtime can set, for the structure and its digest,
/// and once for real. So "does this edit need a reload" is answered for an operator's own template too. With the
/// built-in ones both passes run side by side, each on a core of its own.
///
/// # Errors
/// A template that fails, or a value that no HAProxy file can carry; the operator mends it where the error points.
pub fn render(desired: &Desired, templates: &Templates, target: Target) -> Result<Rendered, RenderError> {
    render_after(None, desired, templates, target)
}

/// The same with less work: with the built-in templates, sections of backends that are as `before` are taken from there.
///
/// # Errors
/// As [`render`].
pub fn render_after(
    before: Option<Before<'_>>,
    desired: &Desired,
    templates: &Templates,
    target: Target,
) -> Result<Rendered, RenderError> {
    let ids = shape::all_ids(&desired.config);
    if templates.is_built_in() {
        let pass = |pass| sections::text(before, desired, templates, target, pass, &ids, MARKER_PLACEHOLDER);
        let (masked, real) = std::thread::scope(|scope| {
            let masked = scope.spawn(|| pass(Pass::Masked).map(|text| Structure::of(&text)));
            let real = pass(Pass::Real);
            (masked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), real)
        });
        if let (Ok(structure), Ok(mut body)) = (masked, real) {
            // Only `global`, at the top, bears it.
            if let Some(at) = body.find(MARKER_PLACEHOLDER) {
                body.replace_range(at..at + MARKER_PLACEHOLDER.len(), &marker(&structure));
            }
            return gather(structure, body, desired, &ids, target);
        }
        // What is wrong is told with its place.
    }
    let both = |ids: &Ids<'_>| {
        let pass = |pass, marker: &str| whole(desired, templates, target, pass, ids, marker).map(|(text, _)| text);
        let structure = Structure::of(&pass(Pass::Masked, MARKER_PLACEHOLDER)?);
        // An operator's template may do anything with the marker, so that it must be the real one.
        let body = pass(Pass::Real, &marker(&structure))?;
        gather(structure, body, desired, ids, target)
    };
    with_ids_told(&ids, templates, both)
}

/// The same where the structure is known: from a rendering of the same configuration and certificates, by the same
/// templates, for the same version. Nothing else is seen by the masked pass.
///
/// # Errors
/// As [`render`].
pub fn render_of(
    structure: Structure,
    desired: &Desired,
    templates: &Templates,
    target: Target,
) -> Result<Rendered, RenderError> {
    let ids = shape::all_ids(&desired.config);
    let filled = |ids: &Ids<'_>| {
        let body = whole(desired, templates, target, Pass::Real, ids, &marker(&structure))?.0;
        gather(structure.clone(), body, desired, ids, target)
    };
    with_ids_told(&ids, templates, filled)
}

/// Where each line of haproxy.cfg comes from: of line n + 1 of what [`render`] gives for this wish at the index n. Costs a
/// whole rendering. Empty where it cannot be rendered.
pub fn line_origins(desired: &Desired, templates: &Templates, target: Target) -> Vec<LineOrigin> {
    let ids = shape::all_ids(&desired.config);
    let filled = whole(desired, templates, target, Pass::Real, &ids, MARKER_PLACEHOLDER);
    let lines = filled.map(|(_, lines)| lines).unwrap_or_default();
    // The header has none.
    std::iter::once(LineOrigin::default()).chain(lines).collect()
}

/// What is rendered with the ids of the servers that can be added at runtime. Where an operator's template prints others or
/// none, nobody could tell servers of another shape apart: then all of them are structure.
fn with_ids_told(
    ids: &Ids<'_>,
    templates: &Templates,
    render: impl Fn(&Ids<'_>) -> Result<Rendered, RenderError>,
) -> Result<Rendered, RenderError> {
    let rendered = render(ids)?;
    let is_told = rendered.dynamic.len() == ids.values().map(BTreeMap::len).sum::<usize>();
    if is_told || templates.is_built_in() { Ok(rendered) } else { render(&Ids::new()) }
}

fn marker(structure: &Structure) -> String {
    format!("hapilot {}", structure.digest.short())
}

/// The text of one pass, and where each of its lines comes from.
fn whole(
    desired: &Desired,
    templates: &Templates,
    target: Target,
    pass: Pass,
    ids: &Ids<'_>,
    marker: &str,
) -> Result<(String, Vec<LineOrigin>), RenderError> {
    let (context, marks) = ContextMaker::new(desired, target, pass, ids).context(marker)?;
    Ok(marks::read_back(&templates.fill(&context, &marks)?, &marks, templates.line_marks()))
}

fn gather(
    structure: Structure,
    body: String,
    desired: &Desired,
    ids: &Ids<'_>,
    target: Target,
) -> Result<Rendered, RenderError> {
    let maps = maps::used(maps::all(desired)?, &body);
    let lists = lists::used(desired, &body);
    let trust = trust::used(desired, &body);
    let scripts = scripts::used(&body);
    let nodes = nodes::used(desired, &body)?;
    let haproxy_cfg = header::with_header(&body);
    let dynamic = dynamic::servers(ids, &haproxy_cfg);
    let maxconn = Maxconn::stated_in(&haproxy_cfg);
    let (maps, dynamic) = (Arc::new(maps), Arc::new(dynamic));
    let (words, digest) = (OnceLock::new(), OnceLock::new());
    Ok(Rendered { haproxy_cfg, structure, maps, lists, trust, dynamic, words, maxconn, scripts, nodes, target, digest })
}
