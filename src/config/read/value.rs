//! The values of a table by their keys, with the schema's defaults.
//!
//! Called by every reader of a section.

use super::field::Field;
use super::table::TableReader;
use crate::model::{Sourced, parse_duration};
use std::time::Duration;

impl<'t> TableReader<'t> {
    pub(super) fn duration(&self, name: &'static str) -> Option<Sourced<Duration>> {
        self.get(name)?.duration()
    }

    /// With the schema's default.
    pub(super) fn duration_or_default(&self, name: &'static str) -> Sourced<Duration> {
        self.duration(name).unwrap_or_else(|| {
            let text = self.default_text(name);
            Sourced::default_value(parse_duration(text).expect("the schema's defaults are right"))
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

    /// With the schema's default.
    pub(super) fn amount_or_default(&self, name: &'static str) -> f64 {
        let given = self.get(name).and_then(|field| field.amount());
        given.unwrap_or_else(|| self.default_text(name).parse().expect("the schema's defaults are right"))
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
}
