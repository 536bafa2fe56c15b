//! The file that `clients` names, as `client add` and the like change it: what an operator wrote there stays as it is.
//!
//! Pure. Called by `client`.

use crate::config::Client;
use crate::model::{Digest, Name};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use toml_edit::{DocumentMut, Item, Table, TomlError, value};

/// What keys begin with: some clients want `sk-`.
const PREFIX: &str = "sk-hap-";

/// A new key, of 256 random bits.
pub(super) fn new_key() -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// What a client shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownBy {
    Key,
    Certificate,
}

impl KnownBy {
    /// Where its digest stands.
    pub(super) fn toml_key(self) -> &'static str {
        match self {
            Self::Key => "key_sha256",
            Self::Certificate => "certificate_sha256",
        }
    }
}

/// A text with changes.
#[derive(Debug)]
pub(super) struct ClientFile(DocumentMut);

impl ClientFile {
    /// # Errors
    /// It is no TOML.
    pub(super) fn parse(text: &str) -> Result<Self, TomlError> {
        text.parse().map(Self)
    }

    /// The sections, by the clients' names.
    fn clients(&mut self) -> Option<&mut Table> {
        let mut all = Table::new();
        // Its members are the sections.
        all.set_implicit(true);
        self.0.entry("client").or_insert(Item::Table(all)).as_table_mut()
    }

    /// Adds one; `None` where clients are written in a way that has no place for it.
    pub(super) fn add(&mut self, name: &Name, plan: &Name, known_by: KnownBy, digest: &Digest) -> Option<()> {
        let mut client = Table::new();
        client.insert("plan", value(plan.as_str()));
        client.insert(known_by.toml_key(), value(digest.to_string()));
        self.clients()?.insert(name.as_str(), Item::Table(client));
        Some(())
    }

    /// Removes one.
    pub(super) fn remove(&mut self, name: &Name) -> Option<()> {
        self.clients()?.remove(name.as_str()).map(drop)
    }

    /// Gives one a new key; the key before, which `client` knows, is good `until` then.
    pub(super) fn rotate(&mut self, client: &Client, key: &Digest, until: Option<Timestamp>) -> Option<()> {
        let table = self.clients()?.get_mut(client.name.value.as_str())?.as_table_like_mut()?;
        table.insert("key_sha256", value(key.to_string()));
        match until {
            Some(until) => {
                if let Some(before) = &client.key {
                    table.insert("old_key_sha256", value(before.value.to_string()));
                    table.insert("old_key_until", value(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
                }
            }
            None => {
                table.remove("old_key_sha256");
                table.remove("old_key_until");
            }
        }
        Some(())
    }

    /// What one spent before counts no more.
    pub(super) fn forgive(&mut self, name: &Name, now: Timestamp) -> Option<()> {
        let table = self.clients()?.get_mut(name.as_str())?.as_table_like_mut()?;
        table.insert("budget_since", value(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        Some(())
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const OPERATORS: &str =
        "[frontend.api]\nbind = [\"*:80\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n[plan.free]\n";

    #[test]
    fn what_an_operator_wrote_stays_and_what_is_written_is_read() {
        let config = config::parse("hapilot.toml", OPERATORS, "node").unwrap();
        let read = |text: &str| config::parse_clients("clients.toml", text, &config).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let mut file = ClientFile::parse("# ours\n").unwrap();
        let (one, two) = (Digest::of("one"), Digest::of("two"));
        file.add(&name("acme"), &name("free"), KnownBy::Key, &one).unwrap();
        let text = format!(
            "{}# who pays\n[client.\"b.c\"]\nplan = 'free' # by hand\nkey_sha256 = '{}'\n",
            file.text(),
            Digest::of("b")
        );
        let mut file = ClientFile::parse(&text).unwrap();
        let client = read(&text)[0].clone();
        let until: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
        file.rotate(&client, &two, Some(until)).unwrap();
        let rotated = read(&file.text())[0].clone();
        assert_eq!(
            (rotated.key.unwrap().value, rotated.old_key.map(|(key, until)| (key.value, until))),
            (two, Some((one, until)))
        );
        file.rotate(&client, &one, None).unwrap();
        assert_eq!(read(&file.text())[0], client);
        file.remove(&name("acme")).unwrap();
        assert_eq!(file.remove(&name("acme")), None);
        let left =
            format!("# who pays\n[client.\"b.c\"]\nplan = 'free' # by hand\nkey_sha256 = '{}'\n", Digest::of("b"));
        assert!(file.text().ends_with(&left), "{}", file.text());
        file.remove(&name("b.c")).unwrap();
        assert!(read(&file.text()).is_empty());
    }

    #[test]
    fn a_key_has_256_bits_and_no_other_is_like_it() {
        let (one, other) = (new_key(), new_key());
        assert!(one.starts_with("sk-hap-") && one.len() == 50 && one != other);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}
