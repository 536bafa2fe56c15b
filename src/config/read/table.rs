//! One table of the file, read by the names that its schema declares.
//!
//! Finds unknown keys and missing ones. Refuses to know TOML's scalars: that is `field`.

use super::context::Context;
use super::field::Field;
use crate::config::diagnostic::Found;
use crate::config::mask::is_secret_key;
use crate::config::schema::{Default, Key, Kind, ROOT, Section};
use crate::model::{Name, Origin, Sourced};
use serde_spanned::Spanned;
use std::ops::Range;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// How alike two words must be for "did you mean" (Jaro-Winkler; 1 is equal).
const ALIKE: f64 = 0.8;

/// What stands where a table may be turned off.
pub(super) enum Switch<T> {
    /// Nothing: the default holds.
    LeftOut,
    /// `false`
    Off,
    /// The table.
    On(T),
}

/// A table that is being read.
#[derive(Clone)]
pub(super) struct Table<'t> {
    context: &'t Context<'t>,
    section: &'static Section,
    /// As the operator wrote it: `backend.chat.check`.
    path: String,
    /// The place of its name, or of the table itself where it has none.
    span: Range<usize>,
    /// None where it was left out: every key has its default.
    table: Option<&'t DeTable<'t>>,
}

impl<'t> Table<'t> {
    pub(super) fn root(context: &'t Context<'t>, table: &'t DeTable<'t>) -> Self {
        Self::open(context, &ROOT, String::new(), 0..0, table)
    }

    /// Opens a table and reports the keys that it should not have.
    pub(super) fn open(
        context: &'t Context<'t>,
        section: &'static Section,
        path: String,
        span: Range<usize>,
        table: &'t DeTable<'t>,
    ) -> Self {
        let this = Self { context, section, path, span, table: Some(table) };
        for (name, value) in table {
            match section.key(name.get_ref()) {
                None => this.unknown(name.get_ref(), name.span(), value),
                Some(Key { not_yet: Some(feature), .. }) if section.name.is_empty() => {
                    this.later_section(name.get_ref(), feature, value.get_ref(), name.span());
                }
                Some(Key { not_yet: Some(feature), .. }) => {
                    if is_secret_key(name.get_ref()) {
                        context.hide_unless_reference(value);
                    }
                    context.report(
                        Found::error(
                            "not-yet",
                            format!(
                                "`{}`: {feature} not exist yet in this version of hapilot",
                                this.name(name.get_ref())
                            ),
                            name.span(),
                        )
                        .help(format!("remove `{}`", name.get_ref())),
                    );
                }
                Some(_) => {}
            }
        }
        this
    }

    pub(super) fn context(&self) -> &'t Context<'t> {
        self.context
    }

    pub(super) fn origin(&self) -> Origin {
        self.context.origin(&self.span)
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// As the operator wrote it: `backend.chat.check`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A key's full name: `backend.chat.retries`.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// How a message calls this table.
    fn title(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("`[{}]`", self.path) }
    }

    fn later_section(&self, name: &str, feature: &str, value: &DeValue<'_>, span: Range<usize>) {
        let not_yet = |path: String, span: Range<usize>| {
            self.context.report(
                Found::error(
                    "not-yet",
                    format!("`[{path}]`: {feature} not exist yet in this version of hapilot"),
                    span,
                )
                .help("remove the section"),
            );
        };
        match value {
            DeValue::Table(tables) if !tables.is_empty() && tables.values().all(|v| v.get_ref().is_table()) => {
                for inner in tables.keys() {
                    not_yet(format!("{name}.{}", inner.get_ref()), inner.span());
                }
            }
            _ => not_yet(name.to_owned(), span),
        }
    }

    fn unknown(&self, name: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let what = match self.path.is_empty() {
            true => format!("there is no section `[{}]`", printable(name)),
            false => format!("{} has no key `{}`", self.title(), printable(name)),
        };
        let known = || self.section.keys.iter().filter(|key| key.not_yet.is_none()).map(|key| key.name);
        let alike = closest(name, known());
        // What it was meant to be may be a secret, unless it is a number or the like. In a broken file the name may even be a piece of another.
        let is_harmless = |key: &str| self.section.key(key).is_some_and(|key| !key.kind.is_secret());
        let has_secrets = self.section.keys.iter().any(|key| key.kind.is_secret());
        let is_text = !matches!(
            value.get_ref(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_)
        );
        let is_broken = self.context.source.is_broken();
        let doubtful = (is_broken || (has_secrets && is_text)) && !alike.is_some_and(is_harmless);
        if is_secret_key(name) || (doubtful && !self.path.is_empty()) {
            self.context.hide_unless_reference(value);
        }
        let mut found = Found::error("unknown-key", what, span);
        if let Some(alike) = alike {
            found = found.label(format!("did you mean `{alike}`?"));
        }
        let elsewhere = sections_with(name);
        found = match (alike, elsewhere) {
            (None, Some(section)) => found.help(format!("`{name}` is a key of `[{section}]`")),
            _ => found.help(format!(
                "{} {}",
                if self.path.is_empty() { "the sections are" } else { "the keys here are" },
                known().collect::<Vec<_>>().join(", ")
            )),
        };
        self.context.report(found);
    }

    /// The declaration of a key.
    ///
    /// # Panics
    /// When the schema does not declare it: our own bug, held off by a test that reads every section.
    fn declared(&self, name: &'static str) -> &'static Key {
        self.context.asked.borrow_mut().insert((self.section.name, name));
        self.section.key(name).unwrap_or_else(|| panic!("{}.{name} is read but not declared", self.section.name))
    }

    /// A key's value, if it is there. Reports a required one that is not.
    pub(super) fn get(&self, name: &'static str) -> Option<Field<'t>> {
        let key = self.declared(name);
        let table = self.table?;
        let Some((written, value)) = table.get_key_value(name) else {
            if key.default == Default::Required {
                self.missing(key);
            }
            return None;
        };
        Some(Field {
            context: self.context,
            kind: &key.kind,
            name: self.name(name),
            key_span: written.span(),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    fn missing(&self, key: &Key) {
        let example = match (key.kind, key.example) {
            (Kind::Named(..), example) => format!("add a section `[{}]`", self.name(example)),
            (_, "") => format!("add `{}`", key.name),
            (_, example) => format!("add `{} = {example}`", key.name),
        };
        let message = match key.kind {
            Kind::Named(section, _) if self.path.is_empty() => format!("the file has no `[{}]`", section.name),
            _ => format!("{} lacks `{}`", self.title(), key.name),
        };
        let mut found = Found::error("missing-key", message, self.span()).help(example).absence();
        if self.path.is_empty() {
            found.span = None;
        }
        self.context.report(found);
    }

    /// Whether the operator wrote it.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Whether a key is there with an empty table.
    pub(super) fn has_empty(&self, name: &'static str) -> bool {
        let value = self.table.and_then(|table| table.get(name));
        value.is_some_and(|value| value.get_ref().as_table().is_some_and(DeTable::is_empty))
    }

    /// A table below this one; where it is left out, one whose keys all have their defaults.
    pub(super) fn table_or_default(&self, name: &'static str) -> Self {
        self.table(name).unwrap_or_else(|| {
            let (Kind::Table(section) | Kind::Switch(section)) = self.declared(name).kind else {
                panic!("{}.{name} is not declared as a table", self.section.name)
            };
            self.absent(name, section)
        })
    }

    fn absent(&self, name: &'static str, section: &'static Section) -> Self {
        Self { context: self.context, section, path: self.name(name), span: self.span(), table: None }
    }

    /// A table that `false` turns off.
    pub(super) fn switch(&self, name: &'static str) -> Switch<Self> {
        match self.get(name) {
            None => Switch::LeftOut,
            Some(field) => match field.value {
                DeValue::Boolean(false) => Switch::Off,
                _ => field.table().map_or(Switch::LeftOut, Switch::On),
            },
        }
    }

    pub(super) fn table(&self, name: &'static str) -> Option<Self> {
        self.get(name)?.table()
    }

    /// Tables under names that the operator gave, sorted by name; a bad name is reported and its table skipped.
    pub(super) fn named(&self, name: &'static str) -> Vec<(Name, Self)> {
        self.get(name).map(|field| field.named_tables()).unwrap_or_default()
    }

    pub(super) fn duration(&self, name: &'static str) -> Option<Sourced<Duration>> {
        self.get(name)?.duration()
    }

    /// With the schema's default.
    pub(super) fn duration_or_default(&self, name: &'static str) -> Sourced<Duration> {
        self.duration(name).unwrap_or_else(|| {
            let text = self.default_text(name);
            Sourced::default_value(crate::model::parse_duration(text).expect("the schema's defaults are right"))
        })
    }

    pub(super) fn integer<T: TryFrom<i64>>(&self, name: &'static str) -> Option<Sourced<T>> {
        self.get(name)?.integer()
    }

    /// With the schema's default.
    pub(super) fn integer_or_default<T: TryFrom<i64>>(&self, name: &'static str) -> Sourced<T> {
        self.integer(name).unwrap_or_else(|| {
            let number: Option<i64> = self.default_text(name).parse().ok();
            let number = number.and_then(|number| T::try_from(number).ok());
            Sourced::default_value(number.expect("the schema's defaults are right"))
        })
    }

    pub(super) fn text(&self, name: &'static str) -> Option<Sourced<String>> {
        self.get(name)?.text()
    }

    /// With the schema's default.
    pub(super) fn text_or_default(&self, name: &'static str) -> Sourced<String> {
        self.text(name).unwrap_or_else(|| Sourced::default_value(self.default_text(name).to_owned()))
    }

    /// The items of a list; none where it is left out.
    pub(super) fn list(&self, name: &'static str) -> Vec<Field<'t>> {
        self.get(name).map(|field| field.list()).unwrap_or_default()
    }

    /// Lines of HAProxy's own language.
    pub(super) fn raw(&self, name: &'static str) -> Vec<Sourced<String>> {
        self.list(name).iter().filter_map(Field::text).collect()
    }

    /// The schema's default of a key.
    ///
    /// # Panics
    /// When it has none: our own bug, held off by a test.
    pub(super) fn default_text(&self, name: &'static str) -> &'static str {
        match self.declared(name).default {
            Default::Is(text) => text,
            _ => panic!("{}.{name} has no default", self.section.name),
        }
    }
}

/// The most alike of some words.
pub(super) fn closest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_ascii_lowercase();
    words
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A name as a message may show it: short, on one line.
pub(super) fn printable(name: &str) -> String {
    let shown: String = name.chars().take(Name::MAX).flat_map(char::escape_debug).collect();
    if name.chars().count() > Name::MAX { format!("{shown}…") } else { shown }
}

/// The one section that has a key of this name, if there is one.
fn sections_with(name: &str) -> Option<&'static str> {
    fn search(section: &'static Section, name: &str, found: &mut Vec<&'static str>) {
        for key in section.keys {
            if key.name == name && !section.name.is_empty() {
                found.push(section.name);
            }
            match key.kind {
                Kind::Table(inner)
                | Kind::Switch(inner)
                | Kind::Named(inner, _)
                | Kind::Budget(inner)
                | Kind::List(&Kind::Table(inner), ..) => search(inner, name, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    search(&ROOT, name, &mut found);
    match found[..] {
        [section] => Some(section),
        _ => None,
    }
}
