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
mod names;
mod quoting;
mod rendered;
mod reweighed;
mod routes;
mod scripts;
mod shape;
mod target;
mod template_lines;
mod templates;
mod value;

pub use dynamic::{ServerLine, server_lines};
pub use error::RenderError;
pub use header::{Inspection, inspect};
pub use keepalived::{keepalived, priority_of};
pub use maps::keys;
pub use maxconn::Maxconn;
pub use names::{KEYS_MAP, LIVE_RING, is_own_map, names_of, runtime_names};
pub use rendered::{LineOrigin, ListFile, MapFile, Rendered, RuntimeNames, Structure};
pub use reweighed::reweighed;
pub use scripts::moved;
pub use target::Target;
pub use templates::Templates;

use crate::desired::Desired;
use context::{ContextMaker, Pass};
use shape::Ids;
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
    let ids = shape::all_ids(&desired.config);
    let pass = |pass, marker: &str| fill(desired, templates, target, pass, &ids, marker);
    let masked = || pass(Pass::Masked, MARKER_PLACEHOLDER).map(|(text, _)| Structure::of(&text));
    if !templates.is_built_in() {
        // An operator's template may do anything with the marker, so that it must be the real one.
        let structure = masked()?;
        let filled = pass(Pass::Real, &marker(&structure))?;
        return gather(structure, filled, desired, &ids);
    }
    let (structure, real) = std::thread::scope(|scope| {
        let masked = scope.spawn(masked);
        let real = pass(Pass::Real, MARKER_PLACEHOLDER);
        (masked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), real)
    });
    let (structure, (body, lines)) = (structure?, real?);
    // Only `global`, at the top, bears it.
    let body = body.replacen(MARKER_PLACEHOLDER, &marker(&structure), 1);
    gather(structure, (body, lines), desired, &ids)
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
    let filled = fill(desired, templates, target, Pass::Real, &ids, &marker(&structure))?;
    gather(structure, filled, desired, &ids)
}

fn marker(structure: &Structure) -> String {
    format!("hapilot {}", structure.digest.short())
}

/// The text of one pass, and where each of its lines comes from.
type Filled = (String, Vec<LineOrigin>);

fn fill(
    desired: &Desired,
    templates: &Templates,
    target: Target,
    pass: Pass,
    ids: &Ids<'_>,
    marker: &str,
) -> Result<Filled, RenderError> {
    let (context, marks) = ContextMaker::new(desired, target, pass, ids).context(marker)?;
    Ok(marks::read_back(&templates.fill(&context, &marks)?, &marks, templates.line_marks()))
}

fn gather(
    structure: Structure,
    (body, mut lines): Filled,
    desired: &Desired,
    ids: &Ids<'_>,
) -> Result<Rendered, RenderError> {
    lines.insert(0, LineOrigin::default());
    let maps = maps::used(maps::all(desired)?, &body);
    let lists = lists::used(desired, &body);
    let scripts = scripts::used(&body);
    let haproxy_cfg = header::with_header(&body);
    let dynamic = dynamic::servers(ids, &haproxy_cfg);
    let maxconn = Maxconn::stated_in(&haproxy_cfg);
    let (maps, dynamic, lines, words) = (Arc::new(maps), Arc::new(dynamic), Arc::new(lines), OnceLock::new());
    Ok(Rendered { haproxy_cfg, structure, maps, lists, dynamic, words, maxconn, scripts, lines })
}
