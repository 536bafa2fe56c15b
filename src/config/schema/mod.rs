//! The operator's file as data: every section, every key, its kind, its limits, its default.
//!
//! The one source of truth for the reader (`read`), for "did you mean" and for the JSON Schema of editors. Refuses to
//! know how a value is stored. A test in `read` holds that every key here is read, and none that is not here.

mod alert;
mod backend;
mod caller;
mod canary;
mod check;
mod global;
mod json;
mod later;
mod provider;
#[cfg(test)]
mod tests;
mod traffic;
mod vip;

use backend::BACKEND;
pub(super) use caller::CLIENTS_FILE;
use check::CHECK;
pub(super) use global::ROOT;
pub use json::json_schema;
use provider::PROVIDER;
use traffic::{FRONTEND, LIMIT};

/// Largest file, in bytes.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;
/// Most servers of all backends together.
pub(super) const MAX_SERVERS: usize = 10_000;

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// How people write it: `backend.NAME.check`; empty for the file itself.
    pub(super) name: &'static str,
    /// One sentence for editors.
    pub(super) doc: &'static str,
    pub(super) keys: &'static [KeySpec],
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Whether any section has a key of this name.
pub(super) fn declares(name: &str) -> bool {
    fn below(section: &Section, name: &str) -> bool {
        section.keys.iter().any(|key| {
            key.name == name
                || match key.kind {
                    ValueKind::Table(inner)
                    | ValueKind::Switch(inner)
                    | ValueKind::Budget(inner)
                    | ValueKind::Named(inner, _)
                    | ValueKind::List(&ValueKind::Table(inner), ..) => below(inner, name),
                    ValueKind::NamedBeside(inner, _, _, &ValueKind::Named(beside, _)) => {
                        below(inner, name) || below(beside, name)
                    }
                    _ => false,
                }
        })
    }
    below(&ROOT, name)
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeySpec {
    pub(super) name: &'static str,
    pub(super) kind: ValueKind,
    /// One sentence for editors.
    pub(super) doc: &'static str,
    pub(super) default: Default,
    /// A right value in TOML's own spelling; empty where the kind has one that says enough.
    pub(super) example: &'static str,
    /// The feature that the key waits for, as the subject of "… not exist yet in this version".
    pub(super) not_yet: Option<&'static str>,
}

/// What holds where a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    /// Nothing.
    None,
    /// The section is refused.
    Required,
    /// This value, spelt as the kind reads it (text without quotes).
    Is(&'static str),
    /// A value that depends on something else; words for people.
    Says(&'static str),
}

impl KeySpec {
    const fn new(name: &'static str, kind: ValueKind, doc: &'static str) -> Self {
        Self { name, kind, doc, default: Default::None, example: "", not_yet: None }
    }

    /// A key whose feature does not exist yet: `feature` is the subject of "… not exist yet".
    const fn later(name: &'static str, feature: &'static str) -> Self {
        Self { not_yet: Some(feature), ..Self::new(name, ValueKind::Later, "") }
    }

    const fn required(self) -> Self {
        Self { default: Default::Required, ..self }
    }

    const fn is(self, default: &'static str) -> Self {
        Self { default: Default::Is(default), ..self }
    }

    const fn says(self, default: &'static str) -> Self {
        Self { default: Default::Says(default), ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum ValueKind {
    /// Text of one line without control characters, 1 to so many characters.
    Text(usize),
    /// Text without blanks and control characters, at most so many characters; may be empty.
    Word(usize),
    /// A name of a user or group of the system; may be empty.
    Account,
    /// A DNS name.
    DnsName,
    /// What stands in a `Host` header.
    HostHeader,
    /// `[A-Za-z0-9_.-]`, 1 to 64.
    Name,
    /// The name of a backend of this file.
    BackendName,
    /// An absolute path.
    Path,
    /// The absolute path of a UNIX socket.
    Socket,
    /// The name of a program, or its absolute path.
    Program,
    /// A path in a URL, from its `/`.
    UrlPath,
    /// A path in a URL, from its `/`, perhaps with a query and with `{model}` in it.
    ApiPath,
    /// A path in a URL without a slash at its end; may be empty.
    ApiRoot,
    /// The name of a header.
    HeaderName,
    /// The value of a header, at most so many characters; may be empty.
    HeaderText(usize),
    /// A regular expression.
    Pattern,
    /// The name of a provider, built in or of this file.
    Provider,
    /// A base URL.
    Url,
    /// `ADDRESS:PORT`
    Bind,
    /// A reference to a secret.
    Secret,
    /// `60/1m`
    Rate,
    /// A rate, or a list of one or two.
    Rates,
    /// The SHA-256 of a key.
    Sha256,
    /// The SHA-256 of a certificate, or a list of at most so many.
    Fingerprints(usize),
    /// A moment with its time zone.
    Time,
    /// What requests belong together by.
    Affinity,
    /// A duration between two.
    Duration(&'static str, &'static str),
    /// A size between two.
    Size(&'static str, &'static str),
    /// A whole number between two.
    Integer(i64, i64),
    /// A number from 0 up to this, with or without a fraction.
    Amount(u32),
    /// A number, or a duration.
    Limit,
    /// `50000 tokens/day` or `500 probes/day`, or a table of such limits.
    Budget(&'static Section),
    /// `true` or `false`.
    Bool,
    /// One of these words. The second list: words that are refused for now, each with the reason.
    Choice(&'static [&'static str], &'static [(&'static str, RefusedChoice)]),
    /// A line of HAProxy's own language.
    Raw,
    /// So many to so many of a kind.
    List(&'static Self, usize, usize),
    /// A table.
    Table(&'static Section),
    /// A table, or `false` to turn a default off.
    Switch(&'static Section),
    /// Tables under names that the operator gives, at most so many.
    Named(&'static Section, usize),
    /// The same, but for one name under which something else stands.
    NamedBeside(&'static Section, usize, &'static str, &'static Self),
    /// A number from 0 up, or a duration.
    Measure,
    /// The name of a network interface.
    Interface,
    /// An address with its prefix.
    InterfaceAddress,
    /// An IP address.
    Ip,
    /// A value for each node by its name, at most so many.
    ByNode(&'static Self, usize),
    /// Values of a kind under the names of headers, at most so many.
    Headers(&'static Self, usize),
    /// JSON pointers with the values that must stand there, at most so many.
    Pointers(usize),
    /// Names of models and what each of them is called elsewhere, at most so many.
    Models(usize),
    /// Whatever the feature will want that does not exist yet.
    Later,
}

/// Words that may be written: in quotes where one has a blank.
pub(super) fn listed(words: &[&str]) -> String {
    match words.iter().any(|word| word.contains(' ')) {
        true => words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "),
        false => words.join(", "),
    }
}

/// Why a word of a choice is refused though it means something.
#[derive(Clone, Copy, Debug)]
pub(super) enum RefusedChoice {
    /// It will not come: the reason, as a sentence without its full stop.
    Never(&'static str),
}

impl ValueKind {
    /// What it wants, to follow "wants".
    pub(super) fn wants(&self) -> String {
        match self {
            Self::Text(_) => "a text".to_owned(),
            Self::Word(_) => "a word without blanks".to_owned(),
            Self::Account => "the name of a user or group".to_owned(),
            Self::DnsName => "a DNS name".to_owned(),
            Self::HostHeader => "a name or an address, with or without a port".to_owned(),
            Self::Name => "a name".to_owned(),
            Self::BackendName => "the name of a backend".to_owned(),
            Self::Path | Self::Socket => "an absolute path in quotes".to_owned(),
            Self::Program => "a program's name or absolute path in quotes".to_owned(),
            Self::UrlPath => "a path such as \"/v1/embeddings\"".to_owned(),
            Self::ApiPath => "a path such as \"/chat/completions\"".to_owned(),
            Self::ApiRoot => "a path such as \"/v1\", or \"\"".to_owned(),
            Self::HeaderName => "the name of a header".to_owned(),
            Self::HeaderText(_) => "the text of a header".to_owned(),
            Self::Pattern => "a regular expression in quotes".to_owned(),
            Self::Provider => "the name of a provider".to_owned(),
            Self::Url => "a URL such as \"https://api.openai.com/v1\"".to_owned(),
            Self::Bind => "an address and a port such as \"*:443\"".to_owned(),
            Self::Secret => "the place of a secret: \"env:NAME\", \"file:/path\" or \"credential:NAME\"".to_owned(),
            Self::Rate => "a rate such as \"100/10s\"".to_owned(),
            Self::Rates => "a rate such as \"60/1m\", or a list of at most two: one up to 1h, one longer".to_owned(),
            Self::Sha256 => "the SHA-256 of the key: 64 hexadecimal digits in quotes".to_owned(),
            Self::Fingerprints(max) => {
                format!("the SHA-256 of a certificate: 64 hexadecimal digits in quotes; or a list of at most {max}")
            }
            Self::Affinity => "prompt, client or header:NAME, in quotes".to_owned(),
            Self::Time => "a moment such as \"2026-12-31T00:00:00Z\"".to_owned(),
            Self::Duration(..) => "a duration in quotes such as \"10s\"".to_owned(),
            Self::Size(..) => "a size in quotes such as \"64KiB\"".to_owned(),
            Self::Integer(min, max) => format!("a whole number between {min} and {max}"),
            Self::Amount(max) => format!("a number between 0 and {max}"),
            Self::Limit => "a number such as 0.05, or a duration in quotes such as \"3s\"".to_owned(),
            Self::Budget(_) => "a budget such as \"50000 tokens/day\", or a table".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Choice(words, _) => format!("one of {}", listed(words)),
            Self::Raw => "a line of HAProxy's configuration in quotes".to_owned(),
            Self::List(of, ..) => format!("a list; each of its items is {}", of.wants()),
            Self::Table(_) | Self::Named(..) | Self::NamedBeside(..) => "a table".to_owned(),
            Self::Measure => "a number, or a duration in quotes such as \"3s\"".to_owned(),
            Self::Switch(_) => "a table, or false to turn it off".to_owned(),
            Self::Interface => "the name of an interface such as \"eth0\"".to_owned(),
            Self::InterfaceAddress => "an address with its prefix such as \"192.0.2.100/24\"".to_owned(),
            Self::Ip => "an address such as \"198.51.100.12\"".to_owned(),
            Self::ByNode(of, _) => format!("a table by the names of nodes; each value is {}", of.wants()),
            Self::Headers(of, _) => format!("a table of headers; each of its values is {}", of.wants()),
            Self::Pointers(_) => "a table such as { \"/status\" = \"ok\" }".to_owned(),
            Self::Models(_) => "a table such as { \"gpt-4o\" = \"my-deployment\" }".to_owned(),
            Self::Later => "nothing yet".to_owned(),
        }
    }

    /// Whether its text may be a secret.
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Self::Secret | Self::Sha256 => true,
            Self::List(of, ..) => of.is_secret(),
            _ => false,
        }
    }
}

const RAW_LINES: ValueKind = ValueKind::List(&ValueKind::Raw, 0, 1000);
/// HAProxy's own limit for a timeout is 24 days; a day is more than any request takes.
const DAY: &str = "24h";
