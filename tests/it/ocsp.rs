//! OCSP stapling, with a real responder: who has one gets its answer to clients, and nobody else is the worse for it.

use crate::certificates::{Made, Node, made, replace};
use crate::support::haproxy::binaries;
use crate::support::net::has;
use crate::support::port::free_port;
use crate::support::process::{Background, run};
use crate::support::stage::{LENIENT, swapped};
use crate::support::tls::{Authority, Identity};
use crate::support::{agent, skip_or_demand, wait_for, write};
use camino::Utf8Path;
use rcgen::{CertificateParams, CustomExtension, SanType};
use std::process::Command;
use std::time::Duration;

/// That the issuer answers at an address of this node.
fn responder_at(port: u16) -> CustomExtension {
    let url = format!("http://127.0.0.1:{port}");
    let length = |length: usize| u8::try_from(length).unwrap();
    let place = [&[0x86, length(url.len())][..], url.as_bytes()].concat();
    let method = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
    let access = [&[0x30, length(method.len() + place.len())][..], &method, &place].concat();
    let all = [&[0x30, length(access.len())][..], &access].concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], all)
}

fn signed(authority: &Authority, name: &str, serial: u64, port: u16) -> Identity {
    authority.signs_with(name, serial, |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        params.custom_extensions.push(responder_at(port));
    })
}

/// `openssl ocsp`, which knows these numbers as good.
fn responder(dir: &Utf8Path, authority: &Authority, port: u16) -> Background {
    write(dir.join("ca.pem"), authority.pem());
    write(dir.join("ca.key"), authority.key());
    let good = |serial: u64| format!("V\t361231000000Z\t\t{serial:04X}\tunknown\t/CN=x\n");
    write(dir.join("index"), [good(0x1001), good(0x1002)].concat());
    write(dir.join("index.attr"), "unique_subject = no\n");
    let mut command = Command::new("openssl");
    command.current_dir(dir).args([
        "ocsp",
        "-index",
        "index",
        "-port",
        &port.to_string(),
        "-rsigner",
        "ca.pem",
        "-rkey",
        "ca.key",
    ]);
    command.args(["-CA", "ca.pem", "-ndays", "1", "-ignore_err"]);
    let mut responder = Background::start(command);
    responder.wait_for_output("ACCEPT");
    responder
}

/// What a client is told of a certificate.
fn stapled(address: &str, name: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address, "-servername", name, "-status"]);
    run(command, Duration::from_secs(20)).stdout
}

#[test]
fn what_the_authority_says_is_handed_to_clients_and_who_has_none_is_none_the_worse() {
    if !has("openssl") {
        return skip_or_demand("needs `openssl`");
    }
    for binary in binaries() {
        let held = tempfile::tempdir().unwrap();
        let authority = Authority::new("Staples");
        let port = free_port();
        let _responder = responder(Utf8Path::from_path(held.path()).unwrap(), &authority, port);
        let a = signed(&authority, "a.test", 0x1001, port);
        let b: Made = made("b.test");
        let chained = |one: &Identity| format!("{}{}{}", one.pem, authority.pem(), one.key);
        let node = Node::start(&binary, "\"@\"", |pem| {
            replace(&pem.join("a.pem"), &chained(&a));
            replace(&pem.join("b.pem"), &b.pem);
        });
        let text = fs_err::read_to_string(node.toml()).unwrap();
        let address = text.split('"').find(|word| word.starts_with("127.0.0.1:")).unwrap().to_owned();
        assert!(stapled(&address, "a.test").contains("no response sent"));
        replace(node.toml().as_str().into(), &swapped(&text, "[frontend.api]", "[tls]\nocsp = true\n[frontend.api]"));
        let check = agent::run(&["-c", &node.toml(), "check"]);
        assert_eq!(check.code, Some(0), "{}", check.stderr);
        let is_old = check.stderr.contains("`[tls] ocsp` is not in force: HAProxy 2.6");
        assert_eq!(is_old, binary.version.major == 2, "{}", check.stderr);
        if is_old {
            assert_eq!(node.apply()["how"], "unchanged");
            continue;
        }
        assert_eq!(node.apply()["how"], "reload");
        let is_good = || stapled(&address, "a.test").contains("Cert Status: good");
        wait_for("the authority's answer", LENIENT, || is_good().then_some(()));
        assert!(stapled(&address, "b.test").contains("no response sent"));

        // Renewed while it runs, it has an answer of its own.
        let renewed = signed(&authority, "a.test", 0x1002, port);
        node.put("a.pem", &chained(&renewed));
        assert_eq!(node.apply()["how"], "runtime", "{}", binary.version);
        assert_eq!(node.shown("a.test"), renewed.der);
        let is_its = || {
            let told = stapled(&address, "a.test");
            (told.contains("Cert Status: good") && told.contains("Serial Number: 1002")).then_some(())
        };
        wait_for("the answer on the renewed one", LENIENT, is_its);

        // HAProxy would not start with one whose issuer it cannot find.
        let bare = signed(&authority, "a.test", 0x1001, port);
        node.put("a.pem", &(bare.pem.clone() + &bare.key));
        let applied = node.apply();
        assert_eq!(applied["how"], "unchanged", "{applied}");
        assert!(applied.to_string().contains("a.pem cannot be served: it names an OCSP responder"), "{applied}");
        assert!(node.haproxy().reload().succeeded);
        assert_eq!(node.shown("a.test"), renewed.der);
    }
}
