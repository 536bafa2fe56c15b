//! HAProxy's configuration language: which section a line stands in, and which words it has.
//!
//! It reads as HAProxy itself reads. A section is known by its first word, whatever the indent; quotes, escapes and
//! comments mean what they mean there, and where only HAProxy's environment can tell a word, that is said. Pure: text in,
//! lines and words out. What a keyword means is for the callers. Each rule was tried on HAProxy 2.6, 3.0, 3.2 and 3.4.

mod lines;
mod section;
mod words;

pub use lines::{Line, Lines, is_header, lines};
pub use section::{Kind, Section};
pub use words::{Word, Words, words, words_of};
