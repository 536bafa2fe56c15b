//! Where in the operator's file a value stands.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;

/// A place in the operator's file; both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and the place that it came from; no place means that it is a default.
///
/// Two are equal when their values are: moving a line in the file changes nothing that is served.
#[derive(Clone, Copy, Debug)]
pub struct Sourced<T> {
    /// The value itself.
    pub value: T,
    /// Its place, `None` for a default.
    pub origin: Option<Origin>,
}

impl<T> Sourced<T> {
    /// A value that the operator wrote.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin: Some(origin) }
    }

    /// A value that the operator left out.
    pub fn default_value(value: T) -> Self {
        Self { value, origin: None }
    }

    /// The key as a message names it where it knows the file's line and not the file: `` `haproxy.config` (line 6) ``.
    pub fn named(&self, key: &str) -> String {
        match self.origin {
            Some(origin) => format!("`{key}` (line {})", origin.line),
            None => format!("`{key}` (its default)"),
        }
    }

    /// Another value from the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: change(self.value), origin: self.origin }
    }
}

impl<T> Deref for Sourced<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Sourced<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Sourced<T> {}
