//! A section: what it is, what it is called and what it follows.

use super::words::words;
use std::borrow::Cow;

/// Sections of which nobody here knows more than that they are some. Those of all versions: what is none in an old
/// version is no keyword there either.
const OTHERS: [&str; 16] = [
    "peers",
    "resolvers",
    "cache",
    "userlist",
    "mailers",
    "http-errors",
    "ring",
    "program",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-store",
    "acme",
    "traces",
    "healthcheck",
    "namespace_list",
];

/// What a section is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Above the first section.
    #[default]
    Outside,
    /// `global`
    Global,
    /// `defaults`
    Defaults,
    /// `frontend`
    Frontend,
    /// `backend`
    Backend,
    /// `listen`: a frontend and a backend in one.
    Listen,
    /// Another one, by its keyword.
    Other(&'static str),
}

impl Kind {
    /// What a line's first word opens; `None` where it opens no section.
    pub fn opened_by(keyword: &str) -> Option<Self> {
        Some(match keyword {
            "global" => Self::Global,
            "defaults" => Self::Defaults,
            "frontend" => Self::Frontend,
            "backend" => Self::Backend,
            "listen" => Self::Listen,
            _ => Self::Other(OTHERS.into_iter().find(|other| *other == keyword)?),
        })
    }

    /// Whether connections come in or go out here.
    pub fn is_proxy(self) -> bool {
        self.has_binds() || self.has_servers()
    }

    /// Whether clients connect here.
    pub fn has_binds(self) -> bool {
        matches!(self, Self::Frontend | Self::Listen)
    }

    /// Whether requests leave here.
    pub fn has_servers(self) -> bool {
        matches!(self, Self::Backend | Self::Listen)
    }
}

/// A section, by its first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it is called; empty where it has no name, or only HAProxy can tell it.
    pub name: Cow<'a, str>,
    /// The `defaults` that it names after `from`.
    pub from: Option<Cow<'a, str>>,
}

impl<'a> Section<'a> {
    /// The section that a line opens, by what stands behind its keyword.
    pub(super) fn opened(kind: Kind, behind: &'a str) -> Self {
        let mut words = words(behind).map(|word| word.said);
        let name = words.next().flatten().unwrap_or_default();
        let behind_name = (words.next().flatten(), words.next().flatten());
        // `defaults from base` has no name.
        if kind == Kind::Defaults && name == "from" && behind_name.1.is_none() && behind_name.0.is_some() {
            return Self { kind, name: Cow::Borrowed(""), from: behind_name.0 };
        }
        let from = match behind_name {
            (Some(word), from) if word == "from" => from,
            _ => None,
        };
        Self { kind, name, from }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Section};

    #[track_caller]
    fn check(kind: Kind, behind: &str, name: &str, from: Option<&str>) {
        let Section { kind: _, name: found, from: found_from } = Section::opened(kind, behind);
        assert_eq!((found.as_ref(), found_from.as_deref()), (name, from), "{behind}");
    }

    #[test]
    fn names_and_what_is_followed_are_read_where_haproxy_reads_them() {
        check(Kind::Backend, " chat", "chat", None);
        check(Kind::Backend, " \"chat\"#x", "chat", None);
        check(Kind::Backend, " ch'at' from base # from other", "chat", Some("base"));
        check(Kind::Backend, " chat other from base", "chat", None);
        check(Kind::Backend, " from from base", "from", Some("base"));
        check(Kind::Defaults, "", "", None);
        check(Kind::Defaults, " base", "base", None);
        check(Kind::Defaults, " from base", "", Some("base"));
        check(Kind::Defaults, " from from base", "from", Some("base"));
        check(Kind::Backend, " \"${NAME}\" from base", "", Some("base"));
    }

    #[test]
    fn a_section_is_known_by_its_keyword() {
        assert_eq!(Kind::opened_by("listen"), Some(Kind::Listen));
        assert_eq!(Kind::opened_by("log-profile"), Some(Kind::Other("log-profile")));
        for word in ["", "server", "Backend", "backends", "peer"] {
            assert_eq!(Kind::opened_by(word), None, "{word}");
        }
    }
}
