//! The sections that exist once: `node`, `haproxy`, `tls`, `history`, `api`.
//!
//! Called by `read`.

use super::table::TableReader;
use super::traffic::bind_of;
use crate::config::diagnostic::Found;
use crate::config::tls::{Tls, TlsProfile};
use crate::config::types::{Api, Apply, Haproxy, History, Node, Stats};
use crate::model::{BindAddress, BindHost, Name, Refused, SecretRef, Sourced, parse_size};
use camino::Utf8PathBuf;

pub(super) fn node(root: &TableReader<'_>, host_name: &str, chosen: Option<&Name>) -> Option<Node> {
    let table = root.table_or_default("node");
    let written = table.get("name");
    let is_written = written.is_some();
    let written = written.and_then(|field| field.name());
    let name = match (chosen, written) {
        (Some(chosen), _) => Some(Sourced::default_value(chosen.clone())),
        (None, Some(written)) => Some(written),
        (None, None) if is_written => None,
        (None, None) => match Name::new(host_name) {
            Ok(name) => Some(Sourced::default_value(name)),
            Err(Refused(reason)) => {
                root.context().report(
                    Found::of_file("bad-name", format!("the host name cannot name the node: {reason}"))
                        .help("give the node a name: [node] with name = \"lb1\""),
                );
                None
            }
        },
    };
    let state = path_or_default(&table, "state");
    let peers = super::vip::peers(&table);
    let heartbeat = super::vip::heartbeat(&table);
    let node = Node { name: name?, state, peers, heartbeat };
    if let (Some(bind), Some(field)) = (node.bind(), table.get("heartbeat")) {
        table.context().binds.borrow_mut().push((bind, field.span.clone(), field.name.clone()));
    }
    Some(node)
}

fn path_or_default(table: &TableReader<'_>, key: &'static str) -> Sourced<Utf8PathBuf> {
    table.text_or_default(key).map(Utf8PathBuf::from)
}

/// A socket's path has 107 bytes. HAProxy's own need `/peers-`, 12 digits, and at the bind `.PID.tmp`.
const MAX_OWN_DIRECTORY: usize = 107 - "/peers-".len() - 12 - ".4194304.tmp".len();

/// `buffer` where routes look at the model: prompts of some 60,000 tokens.
const BUFFER_BY_MODEL: &str = "256KiB";
/// `buffer` elsewhere: HAProxy copies a whole buffer for each request that it may have to repeat.
const BUFFER: &str = "32KiB";

pub(super) fn haproxy(root: &TableReader<'_>, routes_by_model: bool) -> Haproxy {
    let table = root.table_or_default("haproxy");
    // The schema's limits are far below.
    let bytes_of = |key: &'static str, default: &str| {
        let given = table
            .get(key)
            .and_then(|field| field.size())
            .unwrap_or_else(|| Sourced::default_value(parse_size(default).expect("the defaults are right")));
        given.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX))
    };
    let buffer = if routes_by_model { BUFFER_BY_MODEL } else { BUFFER };
    let haproxy = Haproxy {
        config: path_or_default(&table, "config"),
        admin_socket: path_or_default(&table, "admin_socket"),
        master_socket: path_or_default(&table, "master_socket"),
        binary: path_or_default(&table, "binary"),
        template: table.text("template").map(|path| path.map(Utf8PathBuf::from)),
        user: table.text_or_default("user"),
        group: table.text_or_default("group"),
        maxconn: table.integer_or_default("maxconn"),
        threads: table.integer("threads"),
        buffer_bytes: bytes_of("buffer", buffer),
        large_buffer_bytes: bytes_of("large_buffer", table.default_text("large_buffer")),
        hard_stop_after: table.duration_or_default("hard_stop_after"),
        reloads_per_hour: table.integer_or_default("reloads_per_hour").value,
        max_old_workers: table.integer_or_default("max_old_workers").value,
        log: table.text_or_default("log"),
        live: table.get("live").and_then(|field| field.boolean()).unwrap_or(true),
        stats: table.table("stats").and_then(|table| stats(&table)),
        raw: table.raw("raw"),
        raw_defaults: table.raw("raw_defaults"),
    };
    report_own_directory(&table, &haproxy);
    haproxy
}

/// HAProxy reaches itself over sockets in a directory of its own.
fn report_own_directory(table: &TableReader<'_>, haproxy: &Haproxy) {
    let (directory, _) = haproxy.own_directories();
    let name = if haproxy.chroot().is_some() { "raw" } else { "admin_socket" };
    let Some(field) = table.get(name) else { return };
    if !directory.starts_with('/') {
        table.context().report(
            field
                .error(
                    "bad-value",
                    format!("`{}`: HAProxy could not reach its own sockets in chroot {directory}", field.name),
                )
                .help("name an absolute path that exists before HAProxy starts, such as chroot /var/lib/haproxy"),
        );
    } else if directory.len() > MAX_OWN_DIRECTORY {
        table.context().report(
            field
                .error("out-of-range", format!("`{}`: the directory has at most {MAX_OWN_DIRECTORY} bytes", field.name))
                .help("HAProxy's own sockets lie there as well, and the path of a socket is short"),
        );
    }
}

fn stats(table: &TableReader<'_>) -> Option<Stats> {
    let field = table.get("bind");
    let bind = field.as_ref().and_then(bind_of);
    let user_field = table.get("user");
    let password_field = table.get("password");
    let user = user_field.as_ref().and_then(|field| field.text());
    let password = password_field.as_ref().and_then(|field| field.parse::<SecretRef>());
    if let (Some(field), Some(user)) = (&user_field, &user)
        && user.contains(':')
    {
        let message = format!("`{}`: the user of a basic login has no ':'", field.name);
        table.context().report(field.error("bad-value", message));
    }
    match (&user_field, &password_field) {
        (Some(user), None) => table.context().report(
            Found::error("missing-key", format!("`{}` without a password", user.name), user.span.clone())
                .help("add `password = \"file:/etc/hapilot/stats\"`")
                .absence(),
        ),
        (None, Some(password)) => table.context().report(
            Found::error("missing-key", format!("`{}` without a user", password.name), password.span.clone())
                .help("add `user = \"ops\"`")
                .absence(),
        ),
        (None, None) => {
            if let (Some(field), Some(bind)) = (&field, &bind)
                && !is_loopback(bind)
            {
                table.context().report(
                    field
                        .error(
                            "open-stats",
                            format!("`{}`: without a login the statistics are for loopback only", field.name),
                        )
                        .help("add `user` and `password`, or bind 127.0.0.1")
                        .absence(),
                );
            }
        }
        (Some(_), Some(_)) => {}
    }
    Some(Stats { bind: bind?, login: user.zip(password) })
}

/// Whether only this node can connect.
pub(in crate::config) fn is_loopback(bind: &BindAddress) -> bool {
    match bind.host {
        BindHost::Ip(ip) => ip.is_loopback(),
        BindHost::AnyV4 | BindHost::AnyBoth => false,
    }
}

pub(super) fn tls(root: &TableReader<'_>) -> Tls {
    let table = root.table_or_default("tls");
    let profile = table.get("profile").and_then(|field| field.choice());
    let profile = profile.unwrap_or_else(|| Sourced::default_value(table.default_text("profile")));
    Tls {
        profile: profile.map(|word| match word {
            "modern" => TlsProfile::Modern,
            "old" => TlsProfile::Old,
            _ => TlsProfile::Intermediate,
        }),
        certificate_expiry: table.duration_or_default("certificate_expiry"),
        ocsp: table.get("ocsp").and_then(|field| field.boolean()).unwrap_or(false),
    }
}

pub(super) fn apply(root: &TableReader<'_>) -> Apply {
    let table = root.table_or_default("apply");
    let order = table.get("order").and_then(|field| field.choice());
    let confirm = table.duration("confirm").map(|confirm| confirm.value);
    let soak = table.get("soak").and_then(|field| Some((field.duration()?.value, field)));
    let is_too_long = |(soak, _): &&(_, _)| confirm.is_some_and(|confirm| confirm <= *soak);
    if let Some((_, field)) = soak.as_ref().filter(is_too_long) {
        let message = format!("`{}`: `confirm` ends before it, and takes back what nobody has judged yet", field.name);
        root.context().report(
            field.error("bad-value", message).help("make `soak` shorter than `confirm`, or remove one of them"),
        );
    }
    Apply {
        backup_first: order.is_none_or(|order| order.value == "backup-first"),
        waits_on_save: table
            .get("on_save")
            .and_then(|field| field.choice())
            .is_some_and(|on_save| on_save.value == "plan"),
        confirm,
        soak: soak.map(|(soak, _)| soak),
    }
}

pub(super) fn history(root: &TableReader<'_>) -> History {
    let table = root.table_or_default("history");
    let git = table.text("git").map(|path| path.map(Utf8PathBuf::from));
    History { keep: table.integer_or_default("keep").value, git }
}

pub(super) fn api(root: &TableReader<'_>) -> Api {
    let table = root.table_or_default("api");
    let listen = table.get("listen").and_then(|field| bind_of(&field)).map(|bind| bind.value);
    Api { socket: path_or_default(&table, "socket"), listen }
}
