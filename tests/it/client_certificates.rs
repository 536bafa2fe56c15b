//! Certificates that clients show: who is let in, who is which client, and what follows when an authority or a list of
//! revoked certificates is renewed; on every binary, over TLS 1.2 and 1.3.

use crate::support::haproxy::{Binary, binaries};
use crate::support::port::free_port;
use crate::support::stage::{LENIENT, Stage, swapped};
use crate::support::tls::{Authority, Identity, TlsClient, VERSIONS};
use crate::support::{wait_for, write};
use camino::{Utf8Path, Utf8PathBuf};
use hapilot::model::Digest;
use std::io::{Read, Write};

const MODELS: &str = "/v1/models";

/// A stage with TLS, and the files that it judges clients by.
struct Gate {
    stage: Stage,
    held: tempfile::TempDir,
    ours: Authority,
    /// A second frontend, which trusts another authority.
    other_port: u16,
}

impl Gate {
    fn new(binary: &Binary, client_certificates: &str, more: &str) -> Self {
        let held = tempfile::tempdir().unwrap();
        let gate = Utf8Path::from_path(held.path()).unwrap().to_owned();
        let (ours, others) = (Authority::new("Ours"), Authority::new("Others"));
        let served = crate::certificates::made("localhost");
        write(gate.join("served.pem"), &served.pem);
        write(gate.join("ours.pem"), ours.pem());
        write(gate.join("others.pem"), others.pem());
        write(gate.join("none.pem"), ours.revokes(&[], 2036));
        let other_port = free_port();
        let tls = format!("backend = \"chat\"\ncertificates = [\"{gate}/served.pem\"]\n");
        let stage = Stage::running(binary, |file| {
            let client_certificates = client_certificates.replace('@', &format!("{gate}/"));
            let file = swapped(
                &file,
                "backend = \"chat\"\nroutes",
                &format!("{tls}client_certificates = {client_certificates}\nroutes"),
            );
            format!(
                "{file}\n[frontend.other]\nbind = [\"127.0.0.1:{other_port}\"]\n{tls}\
                 client_certificates = {{ ca = [\"{gate}/others.pem\"] }}\n{more}"
            )
        });
        Self { stage, held, ours, other_port }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.held.path()).unwrap().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        crate::certificates::replace(&self.path(name), text);
    }

    /// The status that each version gets, or how the handshake ended.
    fn all(&self, identity: Option<&Identity>, lines: &str) -> Vec<Result<u16, String>> {
        let one = |version| TlsClient::new(identity, &[version]).ask(&self.stage.address, MODELS, lines);
        VERSIONS.into_iter().map(|version| one(version).map(|(status, _)| status)).collect()
    }

    #[track_caller]
    fn gets(&self, identity: Option<&Identity>, lines: &str, status: u16) {
        let all = self.all(identity, lines);
        assert!(all.iter().all(|one| *one == Ok(status)), "{all:?} in the place of {status}");
    }

    #[track_caller]
    fn turns_away(&self, identity: Option<&Identity>, alert: &str) {
        let all = self.all(identity, "");
        let is_alert = |one: &Result<u16, String>| one.as_ref().is_err_and(|told| told.contains(alert));
        assert!(all.iter().all(is_alert), "{all:?} in the place of {alert}");
    }

    fn problems(&self) -> String {
        self.stage.json(&["status"])["problems"].to_string()
    }
}

#[test]
fn whom_no_good_certificate_speaks_for_is_turned_away_in_the_handshake() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], revoked = [\"@none.pem\"] }", "");
        let alice = gate.ours.signs("alice", 1);
        gate.gets(Some(&alice), "", 200);
        for version in VERSIONS {
            // rustls tells of it in its own words.
            let told = TlsClient::new(None, &[version]).ask(&gate.stage.address, MODELS, "").unwrap_err();
            assert!(told.contains("CertificateRequired") || told.contains("HandshakeFailure"), "{told}");
        }
        let date = rcgen::date_time_ymd;
        gate.turns_away(
            Some(&gate.ours.signs_with("late", 2, |late| late.not_after = date(2021, 1, 1))),
            "CertificateExpired",
        );
        gate.turns_away(
            Some(&gate.ours.signs_with("early", 3, |early| early.not_before = date(2035, 1, 1))),
            "BadCertificate",
        );
        // Another authority of the same name, and one of another.
        gate.turns_away(Some(&Authority::new("Ours").signs("alice", 1)), "DecryptError");
        gate.turns_away(Some(&Authority::new("Else").signs("alice", 1)), "UnknownCA");
        let odd = "o'dd\" {} %[env(HOME)] $(x) \\ \r\n<&> ü ".repeat(3);
        gate.gets(Some(&gate.ours.signs(&odd, 4)), "", 200);
    }
}

#[test]
fn a_renewed_authority_and_a_new_list_hold_at_the_next_connection_without_a_reload() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], revoked = [\"@none.pem\"] }", "");
        let (alice, bob) = (gate.ours.signs("alice", 1), gate.ours.signs("bob", 2));
        let worker = gate.stage.worker();
        // Each has been here before, and could cut the next handshake short.
        let before: Vec<_> = VERSIONS.iter().map(|version| TlsClient::new(Some(&bob), &[version])).collect();
        for client in before.iter().chain(&before) {
            assert_eq!(client.ask(&gate.stage.address, MODELS, ""), Ok((200, false)), "{}", binary.version);
        }
        gate.put("none.pem", &gate.ours.revokes(&[&bob], 2036));
        let is_out = || gate.all(Some(&bob), "").iter().all(Result::is_err);
        wait_for("bob's end", LENIENT, || is_out().then_some(()));
        gate.turns_away(Some(&bob), "CertificateRevoked");
        for client in &before {
            assert!(client.ask(&gate.stage.address, MODELS, "").is_err(), "{}", binary.version);
        }
        gate.gets(Some(&alice), "", 200);

        let next = Authority::new("Next");
        gate.turns_away(Some(&next.signs("alice", 1)), "UnknownCA");
        gate.put("ours.pem", &(gate.ours.pem() + &next.pem()));
        gate.put("none.pem", &(gate.ours.revokes(&[&bob], 2036) + &next.revokes(&[], 2036)));
        let is_in = || gate.all(Some(&next.signs("alice", 1)), "").iter().all(|one| *one == Ok(200));
        wait_for("the next authority", LENIENT, || is_in().then_some(()));
        gate.gets(Some(&alice), "", 200);
        gate.turns_away(Some(&bob), "CertificateRevoked");
        assert_eq!(gate.stage.worker(), worker);
        // What a start would read is the same.
        assert!(gate.stage.private().reload().succeeded);
        gate.gets(Some(&alice), "", 200);
        gate.turns_away(Some(&bob), "CertificateRevoked");
    }
}

#[test]
fn a_broken_file_holds_nothing_back_and_what_it_said_before_holds_on() {
    for binary in binaries() {
        let mut gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], revoked = [\"@none.pem\"] }", "");
        let (alice, bob) = (gate.ours.signs("alice", 1), gate.ours.signs("bob", 2));
        gate.put("none.pem", &gate.ours.revokes(&[&bob], 2036));
        wait_for("bob's end", LENIENT, || gate.all(Some(&bob), "").iter().all(Result::is_err).then_some(()));
        let good = (gate.ours.pem(), gate.ours.revokes(&[&bob], 2036));
        for (name, text, why) in [
            ("ours.pem", good.0[..60].to_owned(), "truncated"),
            ("ours.pem", "hello\n".to_owned(), "it has no certificate"),
            ("none.pem", good.0.clone(), "it has no list of revoked certificates"),
            ("none.pem", gate.ours.revokes(&[], 2021), "good no longer"),
        ] {
            gate.put(name, &text);
            wait_for(why, LENIENT, || gate.problems().contains(why).then_some(()));
            let told = gate.problems();
            assert!(told.contains(&format!("{name} cannot be taken")) && told.contains("holds on"), "{told}");
            gate.gets(Some(&alice), "", 200);
            gate.turns_away(Some(&bob), "CertificateRevoked");
            let weight = gate.stage.weight("a");
            gate.stage.edit(&format!("weight = {weight} # a"), &format!("weight = {} # a", weight - 1));
            wait_for("a weight", LENIENT, || (gate.stage.weight("a") == weight - 1).then_some(()));
            gate.put("ours.pem", &good.0);
            gate.put("none.pem", &good.1);
            wait_for("no problem", LENIENT, || (!gate.problems().contains("cannot be taken")).then_some(()));
        }
        // The same where the agent is started anew beside a broken one.
        gate.put("none.pem", "nonsense");
        assert_eq!(gate.stage.agent().stop(), Some(0));
        gate.stage.start_agent();
        assert!(gate.problems().contains("none.pem cannot be taken"));
        gate.turns_away(Some(&bob), "CertificateRevoked");
        // A list of nobody's.
        gate.put("none.pem", &Authority::new("Nobody").revokes(&[], 2036));
        wait_for("the lack", LENIENT, || gate.problems().contains("has a list of CN=Ours").then_some(()));
    }
}

#[test]
fn a_list_that_the_admin_socket_cannot_take_comes_with_a_reload() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], revoked = [\"@none.pem\"] }", "");
        let (alice, bob) = (gate.ours.signs("alice", 1), gate.ours.signs("bob", 2));
        let many: Vec<Identity> = (10..2000).map(|serial| Identity { serial, ..bob.clone() }).collect();
        let all: Vec<&Identity> = many.iter().collect();
        let worker = gate.stage.worker();
        gate.put("none.pem", &gate.ours.revokes(&all, 2036));
        wait_for("a reload", LENIENT, || (gate.stage.worker() != worker).then_some(()));
        gate.gets(Some(&bob), "", 200);
        let worker = gate.stage.worker();
        let with_bob: Vec<&Identity> = all.into_iter().chain([&bob]).collect();
        gate.put("none.pem", &gate.ours.revokes(&with_bob, 2036));
        wait_for("another", LENIENT, || (gate.stage.worker() != worker).then_some(()));
        gate.turns_away(Some(&bob), "CertificateRevoked");
        gate.gets(Some(&alice), "", 200);
    }
}

#[test]
fn a_session_of_one_frontend_opens_no_other() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], required = false }", "");
        let alice = gate.ours.signs("alice", 1);
        let other = format!("127.0.0.1:{}", gate.other_port);
        for version in VERSIONS {
            for identity in [Some(&alice), None] {
                let client = TlsClient::new(identity, &[version]);
                assert_eq!(client.ask(&gate.stage.address, MODELS, "").map(|(status, _)| status), Ok(200));
                assert!(client.ask(&other, MODELS, "").is_err(), "{}", binary.version);
            }
        }
    }
}

fn client(name: &str, key: &str, identity: &Identity) -> String {
    let (key, certificate) = (Digest::of(key), Digest::of(&identity.der));
    format!("[client.{name}]\nplan = \"free\"\nkey_sha256 = \"{key}\"\ncertificate_sha256 = \"{certificate}\"\n")
}

#[test]
fn a_certificate_names_the_client_where_no_key_does() {
    for binary in binaries() {
        let ours = Authority::new("Clients");
        let (alice, bob) = (ours.signs("alice", 1), ours.signs("bob", 2));
        let colons = Digest::of(&bob.der)
            .to_string()
            .as_bytes()
            .chunks(2)
            .map(|two| String::from_utf8_lossy(two).to_uppercase())
            .collect::<Vec<_>>()
            .join(":");
        let more = format!(
            "[plan.free]\nrequests = \"100/1m\"\n[plan.small]\nconcurrent = 9\n{}[client.bob]\nplan = \"small\"\ncertificate_sha256 = \"{colons}\"\n",
            client("alice", "sk-alice-0123456789", &alice)
        );
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], required = false }", &more);
        gate.put("ours.pem", &ours.pem());
        wait_for("their authority", LENIENT, || {
            let all = gate.all(Some(&bob), "");
            all.iter().all(|one| *one == Ok(200)).then_some(())
        });
        gate.gets(Some(&alice), "", 200);
        // A key wins, for good and ill; an empty one is one.
        gate.gets(Some(&bob), "Authorization: Bearer sk-alice-0123456789\r\n", 200);
        for key in [
            "Authorization: Bearer wrong",
            "Authorization: Bearer",
            "Authorization:",
            "Authorization: Basic Ym9i",
            "x-api-key: wrong",
            "x-api-key:",
            "api-key: wrong",
            "x-goog-api-key: wrong",
        ] {
            gate.gets(Some(&bob), &format!("{key}\r\n"), 401);
        }
        // Nobody's certificate, and none with what HAProxy would say of bob's.
        gate.gets(Some(&ours.signs("carol", 3)), "", 401);
        let digest = Digest::of(&bob.der).to_string().to_uppercase();
        for line in [
            format!("X-SSL-Client-SHA256: {digest}"),
            format!("x-api-key: {digest}"),
            format!("x-api-key: certificate:{digest}"),
            format!("Authorization: Bearer certificate:{digest}"),
            "X-SSL-Client-Verify: 0\r\nX-SSL-Client-Used: 1".to_owned(),
        ] {
            gate.gets(None, &format!("{line}\r\n"), 401);
            gate.gets(Some(&ours.signs("bob", 2)), &format!("{line}\r\n"), 401);
        }
        // One that the frontend does not verify is none, also where its digest is a client's.
        gate.turns_away(Some(&Authority::new("Else").signs("bob", 2)), "UnknownCA");

        // Over one connection of HTTP/2 each request is judged for itself.
        let two = TlsClient::new(Some(&bob), &VERSIONS).speaking(&["h2"]);
        let statuses =
            over_one_connection(&two, &gate.stage.address, &[None, Some("wrong"), None, Some("sk-alice-0123456789")]);
        assert_eq!(statuses, ["200", "401", "200", "200"]);

        // A client that is gone is refused at its next request, on a connection that it has as well.
        let mut kept = TlsClient::new(Some(&bob), &VERSIONS).connect(&gate.stage.address).unwrap();
        let mut again = || {
            kept.write_all(format!("GET {MODELS} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            let mut answer = [0; 16_384];
            let read = kept.read(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..read]).split(' ').nth(1).map(str::to_owned)
        };
        assert_eq!(again().as_deref(), Some("200"));
        let worker = gate.stage.worker();
        gate.stage.edit(
            &format!("certificate_sha256 = \"{colons}\""),
            &format!("key_sha256 = \"{}\"", Digest::of("another")),
        );
        wait_for("bob's end", LENIENT, || gate.all(Some(&bob), "").iter().all(|one| *one == Ok(401)).then_some(()));
        assert_eq!((again().as_deref(), gate.stage.worker()), (Some("401"), worker));
    }
}

/// Requests with these keys, one behind the other over one connection of HTTP/2; the status of each.
fn over_one_connection(client: &TlsClient, address: &str, keys: &[Option<&str>]) -> Vec<String> {
    let mut stream = client.connect(address).unwrap();
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    let mut statuses = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let mut block = [
            literal(":method", "GET"),
            literal(":scheme", "https"),
            literal(":path", MODELS),
            literal(":authority", "localhost"),
        ]
        .concat();
        block.extend(key.iter().flat_map(|key| literal("x-api-key", key)));
        let id = u32::try_from(at).unwrap() * 2 + 1;
        stream.write_all(&frame(1, 5, id, &block)).unwrap();
        let mut header = [0; 9];
        loop {
            stream.read_exact(&mut header).unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
            stream.read_exact(&mut payload).unwrap();
            match (header[3], header[4]) {
                // `:status: 200` has a number of its own; HAProxy spells others.
                (1, _) if payload[0] == 0x88 => statuses.push("200".to_owned()),
                (1, _) => statuses.push(String::from_utf8_lossy(&payload[2..5]).into_owned()),
                (4, 0) => stream.write_all(&frame(4, 1, 0, &[])).unwrap(),
                _ => {}
            }
            if header[3] <= 1 && header[4] & 1 == 1 {
                break;
            }
        }
    }
    statuses
}

#[test]
fn the_command_takes_a_certificate_in_the_place_of_a_key() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], required = false }", "[plan.free]\n");
        let clients = gate.path("clients.toml");
        write(&clients, "");
        gate.stage.write_file(&format!("clients = \"{clients}\"\n{}", gate.stage.text()));
        wait_for("the clients", LENIENT, || (gate.stage.json(&["status"])["clients"].is_object()).then_some(()));
        let alice = gate.ours.signs("alice", 1);
        // As some have it: the key first.
        gate.put("alice.pem", &(alice.key.clone() + &alice.pem + &gate.ours.pem()));
        let path = gate.path("alice.pem");
        let made = gate.stage.json(&["client", "add", "alice", "--plan", "free", "--certificate", path.as_str()]);
        let digest = Digest::of(&alice.der).to_string();
        assert_eq!(
            (made["certificate_sha256"].as_str(), made["is_live"].as_bool()),
            (Some(digest.as_str()), Some(true)),
            "{made}"
        );
        assert!(made["key"].is_null(), "{made}");
        gate.gets(Some(&alice), "", 200);
        assert!(gate.stage.done(&["client", "list"]).contains(&format!("certificate {}", &digest[..12])));
        let rotated = gate.stage.cli(&["client", "rotate", "alice"]);
        assert!(rotated.code == Some(1) && rotated.stderr.contains("known by its certificate"), "{}", rotated.stderr);
        let twice = gate.stage.cli(&["client", "add", "bob", "--plan", "free", "--certificate", path.as_str()]);
        assert!(twice.code != Some(0) && twice.stderr.contains("same certificate"), "{}", twice.stderr);
        gate.put("key.pem", &alice.key);
        let key = gate.path("key.pem");
        let bare = gate.stage.cli(&["client", "add", "bob", "--plan", "free", "--certificate", key.as_str()]);
        assert!(bare.code == Some(1) && bare.stderr.contains("it has no certificate"), "{}", bare.stderr);
        gate.stage.done(&["client", "revoke", "alice"]);
        gate.gets(Some(&alice), "", 401);
    }
}

#[test]
fn an_edit_that_names_a_file_of_which_nothing_is_known_is_refused() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"] }", "");
        let text = gate.stage.text();
        let typo = text.replace("/ours.pem\"]", "/typo.pem\"]");
        gate.stage.write_file(&typo);
        let check = gate.stage.cli(&["check"]);
        assert!(check.code == Some(1) && check.stderr.contains("typo.pem cannot be taken"), "{}", check.stderr);
        assert!(check.stderr.contains("hapilot.toml:") && check.stderr.contains("BEGIN X509 CRL"), "{}", check.stderr);
        let forced = gate.stage.cli(&["apply", "--force"]);
        assert!(forced.code == Some(1) && forced.stderr.contains("typo.pem"), "{}", forced.stderr);
        gate.gets(Some(&gate.ours.signs("alice", 1)), "", 200);
    }
}

#[test]
fn the_names_of_strict_frontends_alone_are_served() {
    for binary in binaries() {
        let gate = Gate::new(&binary, "{ ca = [\"@ours.pem\"], required = false }\nstrict_sni = true", "");
        for version in VERSIONS {
            let client = || TlsClient::new(None, &[version]);
            assert_eq!(client().ask(&gate.stage.address, MODELS, "").map(|(status, _)| status), Ok(200));
            for name in ["other.test", "127.0.0.1"] {
                let told = client().naming(name).ask(&gate.stage.address, MODELS, "").unwrap_err();
                assert!(
                    told.contains("UnrecognisedName")
                        || told.contains("HandshakeFailure")
                        || told.contains("HandshakeNotComplete"),
                    "{told}"
                );
            }
        }
    }
}
