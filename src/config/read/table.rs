//! One table of the file, read by the names that its schema declares.
//!
//! Finds unknown keys and missing ones. Refuses to know TOML's scalars: that is `field`; `value` asks for them by key.

use super::context::Context;
use super::field::Field;
use super::hint;
use super::word::{printable, sections_with};
use crate::config::diagnostic::Found;
use crate::config::mask::is_secret_key;
use crate::config::schema::{Default, KeySpec, Section, ValueKind};
use crate::model::{Name, Origin, Refused, looks_like_key};
use serde_spanned::Spanned;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

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
pub(super) struct TableReader<'t> {
    context: &'t Context<'t>,
    section: &'static Section,
    /// As the operator wrote it: `backend.chat.check`.
    path: String,
    /// The place of its name, or of the table itself where it has none.
    span: Range<usize>,
    /// None where it was left out: every key has its default.
    table: Option<&'t DeTable<'t>>,
}

impl<'t> TableReader<'t> {
    pub(super) fn root(context: &'t Context<'t>, section: &'static Section, table: &'t DeTable<'t>) -> Self {
        Self::open(context, section, String::new(), 0..0, table)
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
                Some(KeySpec { not_yet: Some(feature), .. }) if section.name.is_empty() => {
                    this.later_section(name.get_ref(), feature, value.get_ref(), name.span());
                }
                Some(KeySpec { not_yet: Some(feature), .. }) => {
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

    /// The table that stands in a field.
    pub(super) fn of(field: &Field<'t>) -> Option<Self> {
        let (ValueKind::Table(section) | ValueKind::Switch(section) | ValueKind::Budget(section)) = field.kind else {
            panic!("{} is not declared as a table", field.name)
        };
        match field.value {
            DeValue::Table(table) => {
                Some(Self::open(field.context, section, field.name.clone(), field.key_span.clone(), table))
            }
            _ => {
                field.wrong_type();
                None
            }
        }
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
        let shown = if looks_like_key(name) { "…".to_owned() } else { printable(name) };
        if looks_like_key(name) {
            self.context.hide(span.clone());
        }
        let what = match self.path.is_empty() {
            true => format!("there is no section `[{shown}]`"),
            false => format!("{} has no key `{shown}`", self.title()),
        };
        let known = || self.section.keys.iter().filter(|key| key.not_yet.is_none()).map(|key| key.name);
        let alike = hint::meant(self.section, name).map(|key| key.name);
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
        let section = || hint::named_section(self.section, &self.path, &printable(name), value.get_ref());
        let section = if alike.is_none() { section() } else { None };
        if let Some(help) = section.or_else(|| hint::elsewhere(self.section, name).map(str::to_owned)) {
            return self.context.report(found.help(help));
        }
        if let Some(alike) = alike {
            found = found.label(format!("did you mean `{alike}`?"));
        }
        let elsewhere = sections_with(name);
        found = match (alike, elsewhere) {
            (None, Some((section, ValueKind::Named(..)))) if value.get_ref().is_table() => {
                found.help(format!("its place is below `[{section}]`: `[{section}.{name}.NAME]`"))
            }
            (None, Some((section, ValueKind::Table(_) | ValueKind::Switch(_)))) if value.get_ref().is_table() => {
                found.help(format!("its place is below `[{section}]`: `[{section}.{name}]`"))
            }
            (None, Some((section, _))) => found.help(format!("`{name}` is a key of `[{section}]`")),
            _ => {
                let alike = alike.and_then(|alike| self.section.key(alike));
                let example = alike.and_then(|key| match key.kind {
                    ValueKind::Named(..) => Some(format!("[{}.NAME]", self.name(key.name))),
                    _ => hint::example(key),
                });
                found.help(format!(
                    "{}{} {}",
                    example.map(|example| format!("such as `{example}`; ")).unwrap_or_default(),
                    if self.path.is_empty() { "the sections are" } else { "the keys here are" },
                    known().collect::<Vec<_>>().join(", ")
                ))
            }
        };
        self.context.report(found);
    }

    /// Whether a key stands here under another name, which is told: that it is missing as well is no news.
    pub(super) fn is_misspelt(&self, key: &str) -> bool {
        let mut unknown =
            self.table.into_iter().flatten().filter(|(name, _)| self.section.key(name.get_ref()).is_none());
        unknown.any(|(name, _)| hint::meant(self.section, name.get_ref()).is_some_and(|meant| meant.name == key))
    }

    /// The declaration of a key.
    ///
    /// # Panics
    /// When the schema does not declare it: our own bug, held off by a test that reads every section.
    fn declared(&self, name: &'static str) -> &'static KeySpec {
        #[cfg(test)]
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

    fn missing(&self, key: &KeySpec) {
        if self.is_misspelt(key.name) {
            return;
        }
        let example = match (key.kind, key.example) {
            (ValueKind::Named(..), example) => format!("add a section `[{}]`", self.name(example)),
            (_, "") => format!("add `{}`", key.name),
            (_, example) => format!("add `{} = {example}`", key.name),
        };
        let message = match key.kind {
            ValueKind::Named(section, _) if self.path.is_empty() => format!("the file has no `[{}]`", section.name),
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
            let (ValueKind::Table(section) | ValueKind::Switch(section)) = self.declared(name).kind else {
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
                _ => Self::of(&field).map_or(Switch::LeftOut, Switch::On),
            },
        }
    }

    pub(super) fn table(&self, name: &'static str) -> Option<Self> {
        Self::of(&self.get(name)?)
    }

    /// Tables under names that the operator gave, sorted by name; a bad name is reported and its table skipped.
    pub(super) fn named(&self, name: &'static str) -> Vec<(Name, Self)> {
        self.get(name).map(|field| named_tables(&field)).unwrap_or_default()
    }

    /// The same where one name has tables of another kind below it: those of the operator's names, and these.
    pub(super) fn named_beside(&self, name: &'static str) -> (NamedTables<'t>, NamedTables<'t>) {
        self.get(name).map(|field| tables_beside(&field)).unwrap_or_default()
    }

    /// Whether a key is written, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
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

/// Tables under names that the operator gave.
type NamedTables<'t> = Vec<(Name, TableReader<'t>)>;

/// The tables of a field under names that the operator gave, in the order of the file: of two that are alike the later
/// one is the mistake.
fn named_tables<'t>(field: &Field<'t>) -> NamedTables<'t> {
    let ValueKind::Named(section, max) = *field.kind else { panic!("{} is not declared by name", field.name) };
    let DeValue::Table(tables) = field.value else {
        field.wrong_type();
        return Vec::new();
    };
    tables_but(field, section, max, tables, None)
}

fn tables_beside<'t>(field: &Field<'t>) -> (NamedTables<'t>, NamedTables<'t>) {
    let ValueKind::NamedBeside(section, max, other, kind) = *field.kind else {
        panic!("{} is not declared by name", field.name)
    };
    let DeValue::Table(tables) = field.value else {
        field.wrong_type();
        return (Vec::new(), Vec::new());
    };
    let named = tables_but(field, section, max, tables, Some(other));
    let Some((key, value)) = tables.get_key_value(other) else { return (named, Vec::new()) };
    let name = format!("{}.{other}", field.name);
    // Somebody called one of the others so.
    let is_taken_for_other =
        value.get_ref().as_table().is_some_and(|table| table.keys().any(|key| section.key(key.get_ref()).is_some()));
    if is_taken_for_other {
        let message = format!("`[{name}]`: none can be called `{other}`: below it stand `[{name}.NAME]`");
        field.context.report(Found::error("bad-name", message, key.span()).help("give it another name"));
        return (named, Vec::new());
    }
    let (context, key_span, span) = (field.context, key.span(), value.span());
    let beside = Field { context, kind, name, key_span, span, value: value.get_ref() };
    (named, named_tables(&beside))
}

fn tables_but<'t>(
    field: &Field<'t>,
    section: &'static Section,
    max: usize,
    tables: &'t DeTable<'t>,
    but: Option<&str>,
) -> NamedTables<'t> {
    let count = tables.keys().filter(|key| Some(key.get_ref().as_ref()) != but).count();
    if count > max {
        let message = format!("`{}` has {count} sections, at most {max} are allowed", field.name);
        field.context.report(Found::error("too-many", message, field.key_span.clone()));
    }
    let mut named = Vec::new();
    for (key, value) in tables.iter().filter(|(key, _)| Some(key.get_ref().as_ref()) != but).take(max) {
        let path = format!("{}.{}", field.name, printable(key.get_ref()));
        let DeValue::Table(table) = value.get_ref() else {
            stray(field, section, key.get_ref(), &path, key.span());
            continue;
        };
        if is_nameless(section, key.get_ref(), table) {
            let message = format!("`{0}` wants tables with a name, such as `[{0}.ops]`", field.name);
            let help = format!("`{}` is a key of `[{}]`", key.get_ref(), section.name);
            field.context.report(Found::error("wrong-type", message, key.span()).help(help));
            continue;
        }
        let opened = TableReader::open(field.context, section, path.clone(), key.span(), table);
        match Name::new(key.get_ref().as_ref()) {
            Ok(name) => named.push((name, opened)),
            Err(Refused(reason)) => {
                field.context.report(Found::error("bad-name", format!("`[{path}]`: {reason}"), key.span()));
            }
        }
    }
    named.sort_by_key(|(_, table)| table.span().start);
    named
}

/// Whether a table has the keys of one that stands in the section, and none of the section: its name was forgotten.
fn is_nameless(section: &'static Section, key: &str, table: &DeTable<'_>) -> bool {
    let inner =
        section.key(key).and_then(|key| if let ValueKind::Table(inner) = key.kind { Some(inner) } else { None });
    let is_table = |kind: ValueKind| matches!(kind, ValueKind::Table(_));
    let fits = |of: &Section| {
        let mut keys = table.iter().map(|(key, value)| (of.key(key.get_ref()), value.get_ref().as_table().is_some()));
        !table.is_empty() && keys.all(|(key, value)| key.is_some_and(|key| is_table(key.kind) == value))
    };
    inner.is_some_and(|inner| fits(inner) && !fits(section))
}

/// A value where a table with a name should stand: mostly the name was forgotten.
fn stray(field: &Field<'_>, section: &'static Section, key: &str, path: &str, span: Range<usize>) {
    let found = Found::error("wrong-type", format!("`{path}` wants a table: it names a `[{}]`", section.name), span);
    field.context.report(match section.key(key) {
        Some(_) => found.help(format!("`{key}` is a key of `[{}]`: put it under a section with a name", section.name)),
        None => found,
    });
}
