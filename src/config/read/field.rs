//! One value of the file, checked against its kind.
//!
//! Every limit comes from the schema; every form from `model`. Refuses to know which key it reads.

use super::context::Context;
use super::hint::smallest;
use super::word::{closest, printable};
use crate::config::diagnostic::Found;
use crate::config::mask::{is_reference, is_relative_file};
use crate::config::schema::{RefusedChoice, ValueKind, listed};
use crate::model::{Digest, Name, Rate, Refused, Sourced, parse_duration, parse_size};
use jiff::Timestamp;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;
use toml::de::{DeInteger, DeValue};

/// What a threshold is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    Number(f64),
    Duration(Duration),
}

/// A value with its place and what it should be.
pub(super) struct Field<'t> {
    pub(super) context: &'t Context<'t>,
    pub(super) kind: &'static ValueKind,
    /// Its full name, for messages.
    pub(super) name: String,
    /// Where the key stands; for an item of a list the item.
    pub(super) key_span: Range<usize>,
    pub(super) span: Range<usize>,
    pub(super) value: &'t DeValue<'t>,
}

impl<'t> Field<'t> {
    pub(super) fn error(&self, code: &'static str, message: impl Into<String>) -> Found {
        Found::error(code, message, self.span.clone())
    }

    /// The value with its place.
    pub(super) fn sourced<T>(&self, value: T) -> Sourced<T> {
        Sourced::new(value, self.context.origin(&self.span))
    }

    /// Never shows the value again, if it may be a secret.
    fn hide_secret(&self) {
        if self.kind.is_secret() && !self.value.as_str().is_some_and(is_reference) {
            self.context.hide(self.span.clone());
        }
    }

    pub(super) fn wrong_type(&self) {
        self.hide_secret();
        let found = self.error("wrong-type", format!("`{}` wants {}", self.name, self.kind.wants()));
        let help = match (self.kind, self.value) {
            (ValueKind::List(of, ..), DeValue::String(text)) if !of.is_secret() && text.len() < 80 => {
                Some(format!("put it into brackets: [{text:?}]"))
            }
            (ValueKind::List(..), DeValue::String(_)) => Some("put it into brackets: [\"…\"]".to_owned()),
            (ValueKind::Duration(..), DeValue::Integer(number)) => {
                Some(format!("add a unit and quotes, such as \"{number}s\" or \"{number}ms\""))
            }
            (ValueKind::Size(..), DeValue::Integer(_)) => Some("add a unit and quotes, such as \"64KiB\"".to_owned()),
            (ValueKind::Integer(..), DeValue::String(text)) if text.parse::<i64>().is_ok() => {
                Some(format!("without quotes: {text}"))
            }
            (ValueKind::Bool, DeValue::String(text)) if ["true", "false"].contains(&&**text) => {
                Some(format!("without quotes: {text}"))
            }
            (ValueKind::Table(section), _) => smallest(section),
            (ValueKind::Named(section, _) | ValueKind::NamedBeside(section, ..), DeValue::Array(_)) => {
                Some(format!("every one has a name: `[{}]`, not `[[…]]`", section.name))
            }
            (ValueKind::Named(section, _) | ValueKind::NamedBeside(section, ..), _) => {
                Some(format!("write it as a section with a name: `[{}]`", section.name))
            }
            _ => None,
        };
        let found = found.label(format!("this is {}", found_type(self.value)));
        self.context.report(match help {
            Some(help) => found.help(help),
            None => found,
        });
    }

    fn string(&self) -> Option<&'t str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type();
                None
            }
        }
    }

    /// Text, by the rules of its kind.
    pub(super) fn text(&self) -> Option<Sourced<String>> {
        let text = self.string()?;
        match text_rule(self.kind, text) {
            Ok(()) => Some(self.sourced(text.to_owned())),
            Err((code, message)) => {
                self.context.report(self.error(code, format!("`{}`: {message}", self.name)));
                None
            }
        }
    }

    /// Text in the form of one of `model`'s words.
    pub(super) fn parse<T: FromStr<Err = Refused>>(&self) -> Option<Sourced<T>> {
        self.formed(T::from_str)
    }

    /// A moment, as a text or as TOML has it.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let read = |text: &str| {
            text.parse().map_err(|_| {
                Refused("a moment has a date, a time and a zone, such as \"2026-12-31T00:00:00Z\"".to_owned())
            })
        };
        if let DeValue::Datetime(moment) = self.value {
            return read(&moment.to_string()).map_err(|refused| self.refused(&refused)).ok();
        }
        self.formed(read).map(|moment| moment.value)
    }

    /// The SHA-256 of a key, which is never shown: a key may stand there by mistake.
    pub(super) fn sha256(&self) -> Option<Sourced<Digest>> {
        self.formed(|text| {
            let digits = text.chars().filter(char::is_ascii_hexdigit).count();
            let is_nearly = digits == text.len() || text.starts_with("sha256:");
            let told = |refused| {
                if is_nearly {
                    Refused(format!("a digest is 64 hexadecimal digits alone, this has {digits}"))
                } else {
                    refused
                }
            };
            text.parse().map_err(told)
        })
    }

    /// SHA-256 of certificates, as HAProxy says it or as `openssl x509 -fingerprint` does.
    pub(super) fn fingerprints(&self) -> Vec<Sourced<Digest>> {
        let ValueKind::Fingerprints(max) = *self.kind else { panic!("{} is not declared as fingerprints", self.name) };
        let read = |text: &str| {
            let digits = text.rsplit_once('=').map_or(text, |(_, digits)| digits).replace(':', "");
            digits.parse().map_err(|_| Refused("the SHA-256 of a certificate is 64 hexadecimal digits".to_owned()))
        };
        let one = |field: Self| field.formed(read);
        self.one_or_list(self.kind, max).into_iter().filter_map(one).collect()
    }

    /// One or two rates.
    pub(super) fn rates(&self) -> Vec<Sourced<Rate>> {
        self.one_or_list(&ValueKind::Rate, 2).iter().filter_map(Self::parse).collect()
    }

    /// One text, or a list of at most so many, each as a field of its own.
    fn one_or_list(&self, kind: &'static ValueKind, max: usize) -> Vec<Self> {
        let one = |value: &'t DeValue<'t>, span: Range<usize>| Self {
            context: self.context,
            kind,
            name: self.name.clone(),
            key_span: span.clone(),
            span,
            value,
        };
        match self.value {
            DeValue::Array(items) if (1..=max).contains(&items.len()) => {
                items.iter().map(|item| one(item.get_ref(), item.span())).collect()
            }
            DeValue::String(_) => vec![one(self.value, self.span.clone())],
            _ => {
                self.wrong_type();
                Vec::new()
            }
        }
    }

    /// An IP address.
    pub(super) fn ip(&self) -> Option<Sourced<IpAddr>> {
        self.formed(|text| {
            text.parse().map_err(|_| match text.split_once('%') {
                Some((ip, _)) if ip.parse::<IpAddr>().is_ok() => {
                    Refused(format!("{text:?} is an address of one interface: give one that is valid without it"))
                }
                _ => match text.split_once('/') {
                    Some((ip, _)) if ip.parse::<IpAddr>().is_ok() => {
                        Refused(format!("{text:?} is a network: write each address by itself"))
                    }
                    _ => {
                        Refused(format!("{text:?} is not an address, such as \"192.0.2.7\"; a name is not enough here"))
                    }
                },
            })
        })
    }

    /// A name.
    pub(super) fn name(&self) -> Option<Sourced<Name>> {
        self.formed(|text| Name::new(text))
    }

    fn formed<T>(&self, read: impl FnOnce(&str) -> Result<T, Refused>) -> Option<Sourced<T>> {
        let text = self.string()?;
        match read(text) {
            Ok(value) => Some(self.sourced(value)),
            Err(refused) => {
                self.refused(&refused);
                None
            }
        }
    }

    fn refused(&self, Refused(reason): &Refused) {
        let code = match self.kind {
            ValueKind::Secret => {
                self.hide_secret();
                "secret"
            }
            ValueKind::Sha256 => {
                self.hide_secret();
                "bad-digest"
            }
            ValueKind::Url => "bad-url",
            ValueKind::Bind => "bad-bind",
            ValueKind::Rate => "bad-rate",
            ValueKind::Pattern => "bad-pattern",
            ValueKind::Duration(..) => "bad-duration",
            ValueKind::Size(..) => "bad-size",
            ValueKind::Name | ValueKind::BackendName => "bad-name",
            _ => "bad-value",
        };
        let found = self.error(code, format!("`{}`: {reason}", self.name));
        let relative = self.value.as_str().filter(|text| self.kind.is_secret() && is_relative_file(text));
        if let Some(text) = relative {
            let path = text.trim_start_matches("file:").trim_start_matches(['.', '~', '/']);
            let is_of_root = ["etc/", "run/", "var/", "home/", "opt/", "srv/"].iter().any(|top| path.starts_with(top));
            let path = if is_of_root { format!("/{path}") } else { format!("/etc/hapilot/{path}") };
            let told = format!("`{}`: the path behind file: begins with '/'", self.name);
            let help = format!("write the whole path, such as \"file:{path}\"");
            return self.context.report(self.error("relative-path", told).help(help));
        }
        self.context.report(match self.kind {
            ValueKind::Secret if !self.value.as_str().is_some_and(is_reference) => found.help(
                "put the secret into a file that only hapilot can read and write \"file:/path\" here; \
                 a secret that stood in this file should be replaced",
            ),
            ValueKind::Sha256 => found.help(
                "the key itself does not stand here: `printf %s KEY | sha256sum` prints its digest; \
                 `hapilot client add NAME --plan PLAN` makes a key",
            ),
            ValueKind::Fingerprints(_) => found.help(
                "`openssl x509 -in FILE -noout -fingerprint -sha256` prints it; `hapilot client add NAME --plan PLAN \
                 --certificate FILE` writes it",
            ),
            _ => found,
        });
    }

    /// One word of a choice.
    pub(super) fn choice(&self) -> Option<Sourced<&'static str>> {
        let ValueKind::Choice(words, refused) = *self.kind else { panic!("{} is not declared as a choice", self.name) };
        let text = self.string()?;
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(self.sourced(*word));
        }
        let found = match refused.iter().find(|(word, _)| *word == text) {
            Some((word, RefusedChoice::Never(reason))) => self
                .error("bad-value", format!("`{}`: {word} is not offered: {reason}", self.name))
                .help(format!("one of {}", words.join(", "))),
            None => {
                let found = self.error("bad-value", format!("`{}` is one of {}", self.name, listed(words)));
                match closest(text, words.iter().copied()) {
                    Some(alike) => found.label(format!("did you mean \"{alike}\"?")),
                    None => found,
                }
            }
        };
        self.context.report(found);
        None
    }

    pub(super) fn duration(&self) -> Option<Sourced<Duration>> {
        let ValueKind::Duration(min, max) = *self.kind else { panic!("{} is not declared as a duration", self.name) };
        let text = self.string()?;
        self.in_range(text, (min, max), parse_duration)
    }

    /// Bytes.
    pub(super) fn size(&self) -> Option<Sourced<u64>> {
        let ValueKind::Size(min, max) = *self.kind else { panic!("{} is not declared as a size", self.name) };
        let text = self.string()?;
        self.in_range(text, (min, max), parse_size)
    }

    fn in_range<T: PartialOrd>(
        &self,
        text: &str,
        (min, max): (&str, &str),
        read: fn(&str) -> Result<T, Refused>,
    ) -> Option<Sourced<T>> {
        let value = match read(text) {
            Ok(value) => value,
            Err(refused) => {
                self.refused(&refused);
                return None;
            }
        };
        let limit = |text| read(text).expect("the schema's limits are right");
        if value < limit(min) || value > limit(max) {
            self.context.report(
                self.error("out-of-range", format!("`{}` lies between {min} and {max}", self.name))
                    .label(if value < limit(min) { format!("below {min}") } else { format!("above {max}") }),
            );
            return None;
        }
        Some(self.sourced(value))
    }

    pub(super) fn integer<T: TryFrom<i64>>(&self) -> Option<Sourced<T>> {
        let ValueKind::Integer(min, max) = *self.kind else { panic!("{} is not declared as a number", self.name) };
        let DeValue::Integer(number) = self.value else {
            self.wrong_type();
            return None;
        };
        let value = whole(number).filter(|value| (min..=max).contains(value)).and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            self.context.report(self.error("out-of-range", format!("`{}` lies between {min} and {max}", self.name)));
        }
        value.map(|value| self.sourced(value))
    }

    /// A number from 0 up to the schema's limit, with or without a fraction.
    pub(super) fn amount(&self) -> Option<f64> {
        let ValueKind::Amount(max) = *self.kind else { panic!("{} is not declared as an amount", self.name) };
        let value = match self.value {
            DeValue::Integer(number) => whole(number).map(|number| number as f64),
            DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
            _ => {
                self.wrong_type();
                return None;
            }
        };
        let value = value.filter(|value| (0.0..=f64::from(max)).contains(value));
        if value.is_none() {
            self.context.report(self.error("out-of-range", format!("`{}` lies between 0 and {max}", self.name)));
        }
        value
    }

    /// A number from 0 up, or a duration.
    pub(super) fn measure(&self) -> Option<Measure> {
        let number = match self.value {
            DeValue::Integer(number) => whole(number).map(|number| number as f64),
            DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::String(_) => return self.formed(parse_duration).map(|duration| Measure::Duration(duration.value)),
            _ => {
                self.wrong_type();
                return None;
            }
        };
        let number = number.filter(|number| (0.0..1e9).contains(number));
        if number.is_none() {
            self.context.report(self.error("out-of-range", format!("`{}` is a number from 0 up", self.name)));
        }
        number.map(Measure::Number)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type();
                None
            }
        }
    }

    /// Values under names of headers, which are given in lower case.
    pub(super) fn headers(&self) -> Vec<(String, Self)> {
        let ValueKind::Headers(of, max) = *self.kind else { panic!("{} is not declared as headers", self.name) };
        let DeValue::Table(table) = self.value else {
            self.wrong_type();
            return Vec::new();
        };
        if table.len() > max {
            let message = format!("`{}` has {} headers, at most {max} are allowed", self.name, table.len());
            self.context.report(Found::error("too-many", message, self.key_span.clone()));
        }
        let mut headers = Vec::new();
        for (key, value) in table.iter().take(max) {
            if let Err((code, message)) = text_rule(&ValueKind::HeaderName, key.get_ref()) {
                self.context.report(Found::error(code, format!("`{}`: {message}", self.name), key.span()));
                continue;
            }
            let field = Field {
                context: self.context,
                kind: of,
                name: format!("{}.{}", self.name, key.get_ref()),
                key_span: key.span(),
                span: value.span(),
                value: value.get_ref(),
            };
            headers.push((key.get_ref().to_ascii_lowercase(), field));
        }
        headers
    }

    /// The values of a table whose keys are names of nodes, in the order of the names.
    /// In the order of the file.
    pub(super) fn by_node(&self) -> Vec<(Name, Self)> {
        let ValueKind::ByNode(of, max) = *self.kind else { panic!("{} is not declared by node", self.name) };
        let DeValue::Table(values) = self.value else {
            self.wrong_type();
            return Vec::new();
        };
        if values.is_empty() {
            let mut found = self.error("empty-list", format!("`{}` is empty", self.name)).label("wants at least one");
            found.absence = true;
            self.context.report(found);
        }
        if values.len() > max {
            let message = format!("`{}` has {} nodes, at most {max} are allowed", self.name, values.len());
            self.context.report(self.error("too-many", message));
        }
        let mut fields = Vec::new();
        for (key, value) in values.iter().take(max) {
            let name = format!("{}.{}", self.name, printable(key.get_ref()));
            match Name::new(key.get_ref().as_ref()) {
                Ok(node) => fields.push((
                    node,
                    Field {
                        context: self.context,
                        kind: of,
                        name,
                        key_span: key.span(),
                        span: value.span(),
                        value: value.get_ref(),
                    },
                )),
                Err(Refused(reason)) => {
                    self.context.report(Found::error("bad-name", format!("`{name}`: {reason}"), key.span()));
                }
            }
        }
        fields.sort_by_key(|(_, field)| field.key_span.start);
        fields
    }

    pub(super) fn list(&self) -> Vec<Self> {
        let ValueKind::List(of, min, max) = *self.kind else { panic!("{} is not declared as a list", self.name) };
        let DeValue::Array(items) = self.value else {
            self.wrong_type();
            return Vec::new();
        };
        if items.len() < min {
            let mut found = self.error("empty-list", format!("`{}` is empty", self.name)).label("wants at least one");
            found.absence = true;
            self.context.report(found);
        }
        if items.len() > max {
            let message = format!("`{}` has {} items, at most {max} are allowed", self.name, items.len());
            self.context.report(self.error("too-many", message));
        }
        items
            .iter()
            .take(max)
            .map(|item| Field {
                context: self.context,
                kind: of,
                name: self.name.clone(),
                key_span: item.span(),
                span: item.span(),
                value: item.get_ref(),
            })
            .collect()
    }
}

/// The number, where it fits.
pub(super) fn whole(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn found_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Longest line of HAProxy's own language, in characters: its parser began with lines of 2048 bytes.
const MAX_RAW: usize = 2000;
/// Longest path of a UNIX socket, in bytes: 107 fit into an address, and HAProxy binds it under a temporary name that
/// is up to ten longer.
const MAX_SOCKET: usize = 97;
/// Longest path, in bytes (`PATH_MAX` with its NUL is 4096).
const MAX_PATH: usize = 4095;

/// Judges a text by its kind; the error is a code and a message.
fn text_rule(kind: &ValueKind, text: &str) -> Result<(), (&'static str, String)> {
    if let ValueKind::Raw = kind {
        return raw_rule(text);
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(("control-character", format!("the control character {control:?} is not allowed here")));
    }
    let bad = |message: &str| Err(("bad-value", message.to_owned()));
    let most = |limit: usize| match text.chars().count() > limit {
        true => Err(("out-of-range", format!("at most {limit} characters are allowed"))),
        false => Ok(()),
    };
    let blank = text.contains(char::is_whitespace);
    match *kind {
        ValueKind::Text(_) if text.is_empty() => bad("it is empty"),
        ValueKind::Text(limit) => most(limit),
        ValueKind::Word(_) if blank => bad("blanks are not allowed here"),
        ValueKind::Word(limit) => most(limit),
        ValueKind::Account if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) => {
            bad("a user or group takes letters, digits, '_', '.' and '-' only")
        }
        ValueKind::Account => most(32),
        ValueKind::DnsName if text.is_empty() || text.len() > 253 => bad("a DNS name has 1 to 253 characters"),
        ValueKind::DnsName if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) => {
            bad("a DNS name takes letters, digits, '.', '-' and '_' only")
        }
        ValueKind::HostHeader if text.is_empty() || text.len() > 253 => bad("a host has 1 to 253 characters"),
        ValueKind::HostHeader if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-:[]".contains(c)) => {
            bad("a host takes letters, digits, '.', '-', '_', ':', '[' and ']' only")
        }
        ValueKind::Path | ValueKind::Socket if !text.starts_with('/') => {
            Err(("relative-path", "the path must be absolute: it begins with '/'".to_owned()))
        }
        ValueKind::Socket if text.len() > MAX_SOCKET => {
            Err(("out-of-range", format!("the path of a socket has at most {MAX_SOCKET} bytes")))
        }
        ValueKind::Path if text.len() > MAX_PATH => {
            Err(("out-of-range", format!("a path has at most {MAX_PATH} bytes")))
        }
        ValueKind::Program if text.is_empty() => bad("it is empty"),
        ValueKind::Program if text.contains('/') && !text.starts_with('/') => {
            Err(("relative-path", "a program is a bare name or an absolute path".to_owned()))
        }
        ValueKind::UrlPath if !text.starts_with('/') => bad("a path begins with '/'"),
        ValueKind::UrlPath if blank || text.contains(['?', '#']) => bad("a path has no blank, no '?' and no '#'"),
        ValueKind::UrlPath => most(1024),
        ValueKind::ApiPath if !text.starts_with('/') => bad("a path begins with '/'"),
        ValueKind::ApiPath if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') => {
            bad("a path takes visible ASCII characters, and no '#'")
        }
        ValueKind::ApiPath if !text.replace("{model}", "").bytes().all(|b| !b"{}<>\"\\^`|".contains(&b)) => {
            bad("a path takes no braces but those of {model}, and none of < > \" \\ ^ ` |")
        }
        ValueKind::ApiPath => most(1024),
        ValueKind::ApiRoot if text.is_empty() => Ok(()),
        ValueKind::ApiRoot if !text.starts_with('/') || text.ends_with('/') => {
            bad("it is empty, or begins with '/' and does not end with one")
        }
        ValueKind::ApiRoot if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b)) => {
            bad("it takes letters, digits and / - . _ ~ only")
        }
        ValueKind::ApiRoot => most(256),
        ValueKind::HeaderName if text.is_empty() || !text.bytes().all(is_of_header) => {
            bad("the name of a header takes letters, digits, '-' and '_' only")
        }
        ValueKind::HeaderName => most(64),
        ValueKind::HeaderText(_) if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
            bad("the text of a header takes visible ASCII characters and blanks")
        }
        ValueKind::HeaderText(limit) => most(limit),
        ValueKind::Provider if text.is_empty() => bad("it is empty"),
        ValueKind::Provider => most(64),
        _ => Ok(()),
    }
}

/// What every header in use is made of; HTTP would allow some signs that mean something to HAProxy's parser.
fn is_of_header(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

fn raw_rule(text: &str) -> Result<(), (&'static str, String)> {
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some('\n' | '\r') => Err(("raw-line", "a raw line is one line: a line break would begin another".to_owned())),
        Some(control) => Err(("control-character", format!("the control character {control:?} is not allowed here"))),
        None if text.chars().count() > MAX_RAW => {
            Err(("out-of-range", format!("a raw line has at most {MAX_RAW} characters")))
        }
        None => Ok(()),
    }
}
