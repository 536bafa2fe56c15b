//! The result of rendering.

use super::{Maxconn, Target, dynamic, server_lines};
use crate::model::{CERTIFICATES, Certificate, Digest, Origin, PrivatePem};
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The files of one revision, and what their lines stem from.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// haproxy.cfg.
    pub haproxy_cfg: String,
    /// What differs here needs a reload.
    pub structure: Structure,
    /// The maps, by path relative to the configuration's directory (`maps/routes.api.map`), which is also their
    /// identifier on the admin socket.
    pub maps: Arc<BTreeMap<String, MapFile>>,
    /// Servers that the runtime can add and remove, by (proxy, server): their `id`, which stands for everything in a line
    /// that cannot be changed at runtime.
    pub dynamic: Arc<BTreeMap<(String, String), u32>>,
    /// The words of their lines; read where one is to be added.
    pub(super) words: OnceLock<BTreeMap<(String, String), Vec<String>>>,
    /// How many connections the file allows the process and each server.
    pub maxconn: Maxconn,
    /// The crt-lists, by path relative to the configuration's directory (`crt-lists/api.list`), which is also their
    /// identifier on the admin socket.
    pub lists: BTreeMap<String, ListFile>,
    /// Programs in Lua, by path relative to the configuration's directory (`hapilot-lua/model.DIGEST.lua`). Their names carry their
    /// digests: another program is another structure.
    pub scripts: BTreeMap<String, &'static str>,
    /// What HAProxy shows other nodes, by path relative to the configuration's directory: certificates, one with its key.
    pub nodes: BTreeMap<String, PrivatePem>,
    /// For which HAProxy.
    pub target: Target,
    /// Of haproxy.cfg; known where it was asked for.
    pub(super) digest: OnceLock<Digest>,
}

/// haproxy.cfg with everything masked that the runtime can set (weights, states, addresses and maxconn of
/// servers, maxconn of the process). Copies share the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The masked text, compressed: it is half a kilobyte for each server, and asked for with an edit alone.
    packed: Arc<[u8]>,
    /// Of the text: the revision marker `hapilot <first 12 digits>` in `description`, which `show info` prints, begins
    /// with it.
    pub digest: Digest,
}

impl Structure {
    /// Of a masked text.
    pub fn of(text: &str) -> Self {
        Self { packed: lz4_flex::compress_prepend_size(text.as_bytes()).into(), digest: Digest::of(text) }
    }

    /// The masked text.
    pub fn text(&self) -> String {
        let bytes = lz4_flex::decompress_size_prepended(&self.packed).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFile {
    /// Keys and values in their order: the first match of a regex map wins.
    pub entries: Vec<(String, String)>,
    /// Holds secrets: mode 0640, never in history, diff, log or JSON.
    pub is_secret: bool,
}

impl Rendered {
    /// A file that no template made, with these maps.
    #[cfg(test)]
    pub fn of_text(haproxy_cfg: &str, maps: BTreeMap<String, MapFile>) -> Self {
        Self {
            haproxy_cfg: haproxy_cfg.to_owned(),
            structure: Structure::of(""),
            maps: maps.into(),
            dynamic: Arc::default(),
            words: OnceLock::new(),
            maxconn: Maxconn::stated_in(haproxy_cfg),
            lists: BTreeMap::new(),
            scripts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            target: Target::OLDEST,
            digest: OnceLock::new(),
        }
    }

    /// The words of the line of a server that can be added at runtime, behind the name, as they stand in the file, without
    /// their quotes; `add server` takes the same ones.
    pub fn words_of(&self, name: &(String, String)) -> &[String] {
        let words = self.words.get_or_init(|| dynamic::words_of_servers(&self.haproxy_cfg));
        words.get(name).filter(|_| self.dynamic.contains_key(name)).map_or(&[], Vec::as_slice)
    }

    /// Whether haproxy.cfg has a line for a server.
    pub fn has_server(&self, (backend, server): &(String, String)) -> bool {
        server_lines(&self.haproxy_cfg).any(|line| line.backend == *backend && line.name == *server)
    }

    /// The digest of haproxy.cfg.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of(&self.haproxy_cfg))
    }

    /// Whether nothing differs from `before` but weights and states in haproxy.cfg, as far as that is plain to see.
    pub fn differs_in_numbers_alone(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.dynamic, &before.dynamic)
            && Arc::ptr_eq(&self.maps, &before.maps)
            && self.structure.digest == before.structure.digest
            && self.lists == before.lists
    }

    /// The crt-lists, the certificates that they name, and those for other nodes, by path relative to the configuration's directory, in the
    /// order of writing: no list without its certificates.
    pub fn beside(&self) -> BTreeMap<String, Vec<u8>> {
        let certificates = self.lists.values().flat_map(|list| &list.certificates);
        let files = certificates.flat_map(Certificate::files);
        let files =
            files.filter_map(|(path, bytes)| Some((format!("{CERTIFICATES}/{}", path.file_name()?), bytes.to_vec())));
        let lists = self.lists.iter().map(|(path, list)| (path.clone(), list.text().into_bytes()));
        let nodes = self.nodes.iter().map(|(path, pem)| (path.clone(), pem.expose().as_bytes().to_vec()));
        lists.chain(files).chain(nodes).collect()
    }
}

impl MapFile {
    /// The file's text: a line per entry, key, one blank, value.
    pub fn text(&self) -> String {
        self.entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect()
    }
}

/// One crt-list: the certificates of a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// In their order, each once: the first is served to clients that name no host or an unknown one.
    pub certificates: Vec<Certificate>,
}

impl ListFile {
    /// The file's text: a path per line, which knows no quotes.
    pub fn text(&self) -> String {
        self.certificates.iter().map(|certificate| format!("{}\n", certificate.path)).collect()
    }

    /// The same where the certificates lie below another directory.
    pub fn text_below(&self, directory: &Utf8Path) -> String {
        let names = self.certificates.iter().filter_map(|certificate| certificate.path.file_name());
        names.map(|name| format!("{directory}/{CERTIFICATES}/{name}\n")).collect()
    }
}

/// Where a rendered line comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineOrigin {
    /// Places in the operator's file of the values in this line, in the order in which they stand in it; where it has
    /// none, the place of the nearest value above it in the same section.
    pub toml: Vec<Origin>,
    /// File and line of the template.
    pub template: Option<(Arc<str>, u32)>,
}

/// What one server is called in HAProxy: (proxy, server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeNames {
    /// Where weight and administrative state are set.
    pub weight: (String, String),
    /// Where the address is set; another one behind a hop.
    pub address: (String, String),
}
