//! The templates that are built in, and the operator's own root template over them.
//!
//! Refuses to know files: the operator's text is handed in. Called by `agent` and `cli`, used by `render`.

use super::RenderError;
use super::error::from_tera;
use super::marks::{LineMarks, Marks, defect, without_marks};
use super::quoting;
use super::template_lines::with_line_marks;
use tera::{Context, Tera};

/// Name of the built-in root template.
const BUILT_IN: &str = "builtin/haproxy.cfg";

/// Every built-in template by the name under which templates include or extend it.
const SOURCES: [(&str, &str); 30] = [
    (BUILT_IN, include_str!("../../templates/haproxy.cfg")),
    ("parts/global.cfg", include_str!("../../templates/parts/global.cfg")),
    ("parts/defaults.cfg", include_str!("../../templates/parts/defaults.cfg")),
    ("parts/live.cfg", include_str!("../../templates/parts/live.cfg")),
    ("parts/resolvers.cfg", include_str!("../../templates/parts/resolvers.cfg")),
    ("parts/stats.cfg", include_str!("../../templates/parts/stats.cfg")),
    ("parts/limit.cfg", include_str!("../../templates/parts/limit.cfg")),
    ("parts/peers.cfg", include_str!("../../templates/parts/peers.cfg")),
    ("parts/clients.cfg", include_str!("../../templates/parts/clients.cfg")),
    ("parts/budget.cfg", include_str!("../../templates/parts/budget.cfg")),
    ("parts/canary.cfg", include_str!("../../templates/parts/canary.cfg")),
    ("parts/tokens.cfg", include_str!("../../templates/parts/tokens.cfg")),
    ("parts/usage.cfg", include_str!("../../templates/parts/usage.cfg")),
    ("parts/counted.cfg", include_str!("../../templates/parts/counted.cfg")),
    ("parts/key_headers.cfg", include_str!("../../templates/parts/key_headers.cfg")),
    ("parts/client_table.cfg", include_str!("../../templates/parts/client_table.cfg")),
    ("parts/refused.cfg", include_str!("../../templates/parts/refused.cfg")),
    ("parts/worker.cfg", include_str!("../../templates/parts/worker.cfg")),
    ("parts/redirect.cfg", include_str!("../../templates/parts/redirect.cfg")),
    ("parts/frontend.cfg", include_str!("../../templates/parts/frontend.cfg")),
    ("parts/routes.cfg", include_str!("../../templates/parts/routes.cfg")),
    ("parts/section.cfg", include_str!("../../templates/parts/section.cfg")),
    ("parts/backend.cfg", include_str!("../../templates/parts/backend.cfg")),
    ("parts/affinity.cfg", include_str!("../../templates/parts/affinity.cfg")),
    ("parts/attempt.cfg", include_str!("../../templates/parts/attempt.cfg")),
    ("parts/last_attempt.cfg", include_str!("../../templates/parts/last_attempt.cfg")),
    ("parts/attempts.cfg", include_str!("../../templates/parts/attempts.cfg")),
    ("parts/identity.cfg", include_str!("../../templates/parts/identity.cfg")),
    ("parts/server.cfg", include_str!("../../templates/parts/server.cfg")),
    ("parts/hop.cfg", include_str!("../../templates/parts/hop.cfg")),
];

/// Parsed templates, ready to render any number of times.
#[derive(Clone, Debug)]
pub struct Templates {
    tera: Tera,
    root: String,
    lines: LineMarks,
}

impl Templates {
    /// The built-in templates.
    ///
    /// # Errors
    /// Never for a released hapilot; a test holds that.
    pub fn built_in() -> Result<Self, RenderError> {
        Self::parse(None)
    }

    /// The operator's own root template; `name` is its path and appears in messages. It may include every built-in
    /// part and extend `builtin/haproxy.cfg`.
    ///
    /// # Errors
    /// Where the template does not parse, or extends or includes what is not there.
    pub fn with_root(name: &str, source: &str) -> Result<Self, RenderError> {
        Self::parse(Some((name, source)))
    }

    fn parse(own: Option<(&str, &str)>) -> Result<Self, RenderError> {
        let mut tera = Tera::default();
        quoting::register(&mut tera);
        let mut lines = LineMarks::default();
        let mut sources = Vec::with_capacity(SOURCES.len() + 1);
        if let Some((name, source)) = own {
            refuse_marks(name, source)?;
            // First, so that its lines get their marks whatever its length.
            sources.push((name, with_line_marks(name, source, &mut lines)));
        }
        for (name, source) in SOURCES {
            sources.push((name, with_line_marks(name, source, &mut lines)));
        }
        let root = own.map_or(BUILT_IN, |(name, _)| name);
        tera.add_raw_templates(sources).map_err(|error| from_tera(&error, root, |_| None, without_marks))?;
        Ok(Self { tera, root: root.to_owned(), lines })
    }

    /// The text of the root template in this context, marks and all.
    pub(super) fn fill(&self, context: &Context, marks: &Marks) -> Result<String, RenderError> {
        self.fill_part(&self.root, context, marks)
    }

    /// The text of one built-in part in this context, marks and all.
    pub(super) fn fill_part(&self, name: &str, context: &Context, marks: &Marks) -> Result<String, RenderError> {
        self.tera
            .render(name, context)
            .map_err(|error| from_tera(&error, name, |text| marks.origin_in(text), without_marks))
    }

    /// Whether no template of the operator's stands over them.
    pub(super) fn is_built_in(&self) -> bool {
        self.root == BUILT_IN
    }

    pub(super) fn line_marks(&self) -> &LineMarks {
        &self.lines
    }
}

fn refuse_marks(name: &str, source: &str) -> Result<(), RenderError> {
    for (line, text) in (1..).zip(source.lines()) {
        for (column, c) in (1..).zip(text.chars()) {
            if let Some(message) = defect(c.encode_utf8(&mut [0; 4])) {
                return Err(RenderError::Template {
                    file: name.to_owned(),
                    position: Some((line, column)),
                    message: message.to_owned(),
                    origin: None,
                });
            }
        }
    }
    Ok(())
}
