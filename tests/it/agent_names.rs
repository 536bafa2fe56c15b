//! A name that does not resolve any more: the last address serves on, and no reload takes it away, whatever the version.

use super::support::haproxy::{Binary, binaries};
use super::support::stage::{Stage, swapped};
use super::support::{skip_or_demand, write};
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;

/// A name that resolves without DNS: this machine's own.
fn own_name() -> Option<String> {
    let name = fs_err::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    let name = name.trim().to_lowercase();
    let resolves = (name.as_str(), 1).to_socket_addrs().is_ok();
    if !resolves {
        skip_or_demand("the name of this machine does not resolve");
    }
    resolves.then_some(name)
}

/// A node with a server by name, whose `haproxy -c` cannot resolve that name while there is a file `dead` beside it: a
/// real HAProxy judges the same file with a name that nobody has.
fn stage(binary: &Binary, name: &str) -> Stage {
    let real = binary.path.display().to_string();
    let mut stage = Stage::new(binary);
    let (script, dead) = (stage.path("haproxy-without-dns"), stage.path("dead"));
    let judged = format!("sed 's/ {name}:/ no-such-host.invalid:/' \"$3\" > \"$3.other\" && mv \"$3.other\" \"$3\"");
    let when = format!("[ \"$1\" = -c ] && [ -e {} ]", dead.display());
    write(&script, format!("#!/bin/sh\n{when} && {judged}\nexec {real} \"$@\"\n"));
    fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let line = format!("binary        = \"{real}\"");
    let text = swapped(&stage.text(), &line, &format!("binary = \"{}\"", script.display()));
    let address = stage.mock_address("b");
    let port = address.rsplit_once(':').expect("a port").1;
    stage.write_file(&format!(
        "{text}\n[backend.named.server.n]\nurl = \"http://{name}:{port}/v1\"\nkeys = [\"file:{}\"]\n",
        stage.path("key").display()
    ));
    stage.done(&["apply"]);
    stage.start_haproxy();
    stage.start_agent();
    stage.wait_for_health();
    stage
}

#[test]
fn no_reload_takes_the_last_address_of_a_name_that_does_not_resolve_now() {
    let Some(name) = own_name() else { return };
    for binary in binaries() {
        let stage = stage(&binary, &name);
        let worker = stage.worker();
        write(stage.path("dead"), "");
        stage.edit("idle = \"10s\"", "idle = \"12s\"");
        let refused = stage.cli(&["apply"]);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert_eq!(refused.code, Some(1), "{}: {said}", binary.path.display());
        assert!(said.contains("named/n") && said.contains("do not resolve now"), "{said}");
        assert_eq!(stage.worker(), worker, "HAProxy was reloaded");
        fs_err::remove_file(stage.path("dead")).expect("the file");
        stage.done(&["apply"]);
        assert_ne!(stage.worker(), worker);
    }
}

#[test]
fn a_server_whose_name_never_resolved_is_told_and_holds_nothing_back() {
    let Some(name) = own_name() else { return };
    for binary in binaries() {
        let stage = stage(&binary, &name);
        stage.edit(&format!("//{name}:"), "//no-such-host.invalid:");
        let said = stage.cli(&["check"]);
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(said.contains("named/n: its name does not resolve"), "{}: {said}", binary.path.display());
    }
}
