//! What a HAProxy has in memory after it has read its files: a reader of the *rendered* text alone. Whether the text is
//! good HAProxy, real HAProxies judge in other tests.

use camino::Utf8Path;
use std::collections::BTreeMap;

/// Proxy and server.
pub type Key = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    Ready,
    Drain,
    Maint,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub id: u32,
    pub weight: u16,
    pub admin: Admin,
    /// Empty while a name is unresolved.
    pub address: String,
    pub port: u16,
    /// The server is given by name.
    pub fqdn: Option<String>,
    /// 0 is no limit.
    pub maxconn: u32,
    /// HAProxy's own checks run, where the line has any.
    pub is_checked: bool,
    /// The rest of its line, in order.
    pub words: Vec<String>,
}

impl Server {
    /// What it gets of the traffic.
    pub fn share(&self) -> u16 {
        if self.admin == Admin::Ready { self.weight } else { 0 }
    }
}

/// The content of one map, in order.
pub type Map = Vec<(String, String)>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    pub description: String,
    /// Of the process.
    pub maxconn: u32,
    pub servers: BTreeMap<Key, Server>,
    pub maps: BTreeMap<String, Map>,
    /// Backends and listen sections, in order.
    pub proxies: Vec<String>,
    /// Everything but servers, maps and the process's maxconn.
    pub structure: Vec<String>,
}

impl Loaded {
    /// Reads haproxy.cfg and the maps that it names, as a start does.
    pub fn read(directory: &Utf8Path) -> Result<Self, String> {
        let text = fs_err::read_to_string(directory.join("haproxy.cfg")).map_err(|e| e.to_string())?;
        let mut loaded = Self::default();
        let (mut proxy, mut is_global) = (None, false);
        for line in text.lines() {
            let is_head = line.starts_with(|c: char| c.is_ascii_alphabetic());
            let words = words(line)?;
            let Some(first) = words.first() else { continue };
            for map in words.iter().flat_map(|word| maps_in(word)) {
                let path = directory.join(&map);
                let content = fs_err::read_to_string(&path).map_err(|e| format!("the file names a map: {e}"))?;
                loaded.maps.insert(map, entries(&content));
            }
            if is_head {
                is_global = first == "global";
                proxy = matches!(first.as_str(), "backend" | "listen").then(|| words[1].clone());
                loaded.proxies.extend(proxy.clone());
            }
            match (first.as_str(), &proxy) {
                ("description", _) => loaded.description = words[1].clone(),
                ("maxconn", _) if is_global => {
                    loaded.maxconn = words[1].parse().map_err(|e| format!("{line:?}: {e}"))?;
                }
                ("server", Some(proxy)) => {
                    let number = loaded.servers.keys().filter(|(of, _)| of == proxy).count() as u32 + 1;
                    let server = server(&words[2..], number)?;
                    loaded.servers.insert((proxy.clone(), words[1].clone()), server);
                }
                _ => loaded.structure.push(line.to_owned()),
            }
        }
        if loaded.description.is_empty() || loaded.proxies.is_empty() || loaded.maxconn == 0 {
            return Err("no description, no maxconn, or no backend".to_owned());
        }
        Ok(loaded)
    }
}

/// Reads a server's line behind its name: of the file and of `add server`.
pub fn server(line: &[String], number: u32) -> Result<Server, String> {
    let address = line.first().ok_or("a server without an address")?;
    let mut found = Server {
        id: number,
        weight: 1,
        admin: Admin::Ready,
        address: String::new(),
        port: 0,
        fqdn: None,
        maxconn: 0,
        is_checked: true,
        words: vec![],
    };
    if let Ok(at) = address.parse::<std::net::SocketAddr>() {
        (found.address, found.port) = (at.ip().to_string(), at.port());
    } else if address.starts_with("unix@") {
        found.words.push(address.clone());
    } else {
        let (name, port) = address.rsplit_once(':').ok_or_else(|| format!("the address is {address:?}"))?;
        (found.fqdn, found.port) = (Some(name.to_owned()), port.parse().map_err(|e| format!("{e}"))?);
    }
    let mut rest = line[1..].iter();
    while let Some(word) = rest.next() {
        let mut number = || rest.next().and_then(|n| n.parse::<u32>().ok()).ok_or_else(|| format!("{word} what?"));
        match word.as_str() {
            "id" => found.id = number()?,
            "maxconn" => found.maxconn = number()?,
            "weight" => found.weight = u16::try_from(number()?).ok().filter(|w| *w <= 256).ok_or("a weight")?,
            "disabled" => found.admin = Admin::Maint,
            _ => found.words.push(word.clone()),
        }
    }
    Ok(found)
}

/// Lines of a map's file or of a payload.
pub fn entries(text: &str) -> Map {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair =
        |line: &str| line.split_once(' ').map_or((line.to_owned(), String::new()), |(k, v)| (k.into(), v.into()));
    lines.map(pair).collect()
}

/// Paths of maps within a word of the configuration.
fn maps_in(word: &str) -> Vec<String> {
    let starts = word.match_indices("maps/").map(|(at, _)| &word[at..]);
    starts.filter_map(|rest| rest.find(".map").map(|end| rest[..end + 4].to_owned())).collect()
}

/// The words of a line: quotes keep blanks together, a backslash takes the meaning off the next character.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().push(chars.next().ok_or("a line ends in a backslash")?),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is open in {line:?}"));
    }
    words.extend(word);
    Ok(words)
}

#[test]
fn lines_are_read_with_their_quotes_and_escapes() {
    let read = |line: &str| words(line).unwrap();
    assert_eq!(read(r#"  a 'b c' "d\"e" f\ g # h"#), ["a", "b c", "d\"e", "f g"]);
    assert!(words("a 'b").is_err());
    let line: Vec<_> = read("192.0.2.1:80 id 7 weight 0 maxconn 9 check inter 2s disabled");
    let found = server(&line, 1).unwrap();
    assert_eq!((found.id, found.weight, found.admin, found.port), (7, 0, Admin::Maint, 80));
    assert_eq!(found.maxconn, 9);
    assert_eq!(found.words, ["check", "inter", "2s"]);
    assert_eq!(maps_in("path,map_reg(maps/a.map),x(maps/b.c.map)"), ["maps/a.map", "maps/b.c.map"]);
}
