//! What is gathered while the file is read: mistakes, places of secrets, names and addresses that must fit together.
//!
//! Refuses to judge. Called by every reader.

use crate::config::diagnostic::Found;
use crate::config::mask::is_reference;
use crate::config::source::SourceText;
use crate::model::{BindAddress, Name, Origin};
use serde_spanned::Spanned;
use std::cell::{Cell, RefCell};
#[cfg(test)]
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::DeValue;

/// Most mistakes that are gathered; a file with more of them is no hapilot file at all.
const MAX_FOUND: usize = 10_000;

/// The state of one run.
pub(super) struct Context<'a> {
    pub(super) source: &'a SourceText<'a>,
    found: RefCell<Vec<Found>>,
    secrets: RefCell<Vec<Range<usize>>>,
    /// Names of the declared backends, right or not; the first says where.
    pub(super) backends: RefCell<Vec<(String, Range<usize>)>>,
    /// Where a backend is named.
    pub(super) references: RefCell<Vec<(Name, Range<usize>)>>,
    /// Every address that HAProxy or the agent is to listen on, with the words for its key.
    pub(super) binds: RefCell<Vec<(BindAddress, Range<usize>, String)>>,
    /// Servers of all backends.
    pub(super) servers: Cell<usize>,
    /// Keys that were asked for: section and key. A test holds that the schema declares no other.
    #[cfg(test)]
    pub(super) asked: RefCell<BTreeSet<(&'static str, &'static str)>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(source: &'a SourceText<'a>) -> Self {
        Self {
            source,
            found: RefCell::default(),
            secrets: RefCell::default(),
            backends: RefCell::default(),
            references: RefCell::default(),
            binds: RefCell::default(),
            servers: Cell::new(0),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub(super) fn report(&self, found: Found) {
        let mut list = self.found.borrow_mut();
        if list.len() < MAX_FOUND {
            list.push(found);
        }
    }

    /// Says that these bytes must never be shown.
    pub(super) fn hide(&self, span: Range<usize>) {
        self.secrets.borrow_mut().push(span);
    }

    /// Says that a value must never be shown, nor anything in it, unless it only says where a secret is.
    pub(super) fn hide_unless_reference(&self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.values().for_each(|inner| self.hide_unless_reference(inner)),
            DeValue::Array(items) => items.iter().for_each(|inner| self.hide_unless_reference(inner)),
            DeValue::String(text) if is_reference(text) => {}
            _ => self.hide(value.span()),
        }
    }

    pub(super) fn origin(&self, span: &Range<usize>) -> Origin {
        self.source.origin(span.start)
    }

    pub(super) fn into_found(self) -> (Vec<Found>, Vec<Range<usize>>) {
        (self.found.into_inner(), self.secrets.into_inner())
    }
}
