//! Certificates of the running HAProxy: renewed, added and removed under real handshakes, on every binary.

use crate::support::agent;
use crate::support::haproxy::{Binary, Place, Private, binaries};
use crate::support::port::free_port;
use crate::support::tls::Anything;
use crate::support::{PATIENCE, wait_for, write};
use camino::{Utf8Path, Utf8PathBuf};
use hapilot::haproxy::{execute, read_certificate};
use hapilot::plan::{CertificateStep, ListEntry, Step};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde_json::Value;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A PEM text and the certificate that a client sees of it.
pub struct Made {
    /// Certificate and key.
    pub pem: String,
    /// What a client is shown.
    pub der: Vec<u8>,
}

/// A certificate for one name.
pub fn made(name: &str) -> Made {
    made_with(name, |_| ())
}

/// The same, changed before it is signed.
pub fn made_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Made { pem: certificate.pem() + &key.serialize_pem(), der: certificate.der().to_vec() }
}

/// A node of its own: HAProxy, the operator's file, a directory of certificates.
pub struct Node {
    /// The running HAProxy.
    pub haproxy: Option<Private>,
    /// Its directory.
    pub place: Utf8PathBuf,
    port: u16,
}

impl Node {
    /// Serves `certificates` (as in the operator's file) after `prepare` made the files.
    pub fn start(binary: &Binary, certificates: &str, prepare: impl FnOnce(&Utf8Path)) -> Self {
        let place = Place::new(binary);
        let directory = Utf8PathBuf::from_path_buf(place.dir().to_owned()).unwrap();
        fs_err::create_dir(directory.join("pem")).unwrap();
        prepare(&directory.join("pem"));
        let mut node = Self { haproxy: None, place: directory, port: free_port() };
        node.write_toml(binary, certificates);
        assert_eq!(node.apply()["how"], "start");
        node.haproxy = Some(place.start());
        assert_eq!(node.apply()["how"], "unchanged", "{}", binary.version);
        node
    }

    /// Writes the operator's file; `@` stands for the directory of certificates.
    pub fn write_toml(&self, binary: &Binary, certificates: &str) {
        let (dir, port) = (&self.place, self.port);
        let certificates = certificates.replace("@", &format!("{dir}/pem/"));
        let text = format!(
            "[node]\nname = \"lb1\"\nstate = \"{dir}/state\"\n[haproxy]\nconfig = \"{dir}/haproxy.cfg\"\n\
             admin_socket = \"{dir}/admin.sock\"\nmaster_socket = \"{dir}/master.sock\"\nbinary = \"{}\"\n\
             user = \"\"\ngroup = \"\"\nlog = \"\"\nmaxconn = 100\nbuffer = \"32KiB\"\n\
             [api]\nsocket = \"{dir}/hapilot.sock\"\n\
             [frontend.api]\nbind = [\"127.0.0.1:{port}\"]\ncertificates = [{certificates}]\nbackend = \"chat\"\n\
             [backend.chat.server.one]\nurl = \"http://127.0.0.1:9\"\n",
            binary.path.display()
        );
        write(dir.join("hapilot.toml"), text);
    }

    /// The operator's file.
    pub fn toml(&self) -> String {
        self.place.join("hapilot.toml").into_string()
    }

    /// Replaces a file in the directory of certificates.
    pub fn put(&self, name: &str, text: &str) {
        replace(&self.place.join("pem").join(name), text);
    }

    fn remove(&self, name: &str) {
        fs_err::remove_file(self.place.join("pem").join(name)).unwrap();
    }

    /// The copy that HAProxy reads.
    pub fn copy(&self, name: &str) -> Utf8PathBuf {
        hapilot::model::Certificate::copy_of(&self.place.join("pem").join(name), &self.place)
    }

    /// The running HAProxy.
    pub fn haproxy(&self) -> &Private {
        self.haproxy.as_ref().unwrap()
    }

    /// `hapilot apply --json`.
    pub fn apply(&self) -> Value {
        let done = agent::run(&["-c", &self.toml(), "--json", "apply"]);
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// Applies without a reload; answers the steps.
    #[track_caller]
    fn follows(&self) -> Vec<String> {
        let worker = self.haproxy().worker_pid();
        let applied = self.apply();
        assert_eq!(applied["how"], "runtime", "{applied}");
        assert_eq!(self.haproxy().worker_pid(), worker);
        assert_eq!(self.apply()["how"], "unchanged");
        texts(&applied["steps"], &self.place)
    }

    /// Applies with a reload; answers its reasons.
    #[track_caller]
    fn reloads(&self) -> Vec<String> {
        let worker = self.haproxy().worker_pid();
        let applied = self.apply();
        assert_eq!(applied["how"], "reload", "{applied}");
        assert_ne!(self.haproxy().worker_pid(), worker);
        assert_eq!(self.apply()["how"], "unchanged");
        texts(&applied["reload_reasons"], &self.place)
    }

    /// What `hapilot apply` refuses with.
    #[track_caller]
    fn refuses(&self) -> String {
        let done = agent::run(&["-c", &self.toml(), "apply"]);
        assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
        done.stderr
    }

    /// The certificate that a client is shown who asks for this name.
    pub fn shown(&self, name: &str) -> Vec<u8> {
        shown(self.port, name)
    }
}

fn texts(list: &Value, place: &Utf8Path) -> Vec<String> {
    let texts = list.as_array().unwrap().iter().filter_map(Value::as_str);
    texts.map(|text| text.replace(place.as_str(), "")).collect()
}

/// Replaces a file as editors do.
pub fn replace(path: &Utf8Path, text: &str) {
    hapilot::sys::files::replace_file(path, text.as_bytes(), 0o600).unwrap();
}

fn shown(port: u16, name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anything)).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    client.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn certificates_of_a_directory_are_renewed_added_and_removed_without_a_reload() {
    for binary in binaries() {
        let (a, b) = (made("a.test"), made("b.test"));
        let node = Node::start(&binary, "\"@\"", |pem| {
            replace(&pem.join("a.pem"), &a.pem);
            replace(&pem.join("b.pem"), &b.pem);
        });
        assert!(node.shown("a.test") == a.der && node.shown("b.test") == b.der && node.shown("x.test") == a.der);

        let (a, c) = (made("a.test"), made("c.test"));
        node.put("a.pem", &a.pem);
        let steps = node.follows();
        assert!(steps.len() == 1 && steps[0].starts_with("certificate renew /pem/a.pem, valid until "), "{steps:?}");
        assert!(node.shown("a.test") == a.der && node.shown("x.test") == a.der);

        node.put("c.pem", &c.pem);
        let steps = node.follows();
        assert!(steps[0].starts_with("certificate load /pem/c.pem"), "{steps:?}");
        assert_eq!(steps[1..], ["certificate serve /pem/c.pem in crt-lists/api.list"]);
        assert_eq!(node.shown("c.test"), c.der);

        node.remove("b.pem");
        let gone = ["certificate remove /pem/b.pem from crt-lists/api.list", "certificate forget /pem/b.pem"];
        assert_eq!(node.follows(), gone);
        assert_eq!(node.shown("b.test"), a.der, "the default");

        // What serves after a start is the same.
        assert!(node.haproxy().reload().succeeded);
        assert!(node.shown("c.test") == c.der && node.shown("b.test") == a.der);
        assert_eq!(node.apply()["how"], "unchanged");
    }
}

#[test]
fn a_chain_is_served_whole_and_its_change_alone_is_a_renewal() {
    for binary in binaries() {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let root = CertifiedIssuer::self_signed(authority("Root"), KeyPair::generate().unwrap()).unwrap();
        let middle = |name| CertifiedIssuer::signed_by(authority(name), KeyPair::generate().unwrap(), &root).unwrap();
        let (first, second) = (middle("Middle 1"), middle("Middle 2"));
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().signed_by(&key, &first).unwrap();
        let pem = |middle: &str| leaf.pem() + middle + &root.pem() + &key.serialize_pem();
        let node = Node::start(&binary, "\"@a.pem\"", |dir| replace(&dir.join("a.pem"), &pem(&first.pem())));
        node.put("a.pem", &pem(&second.pem()));
        assert_eq!(node.follows().len(), 1);
        assert_eq!(node.shown("a.test"), leaf.der().to_vec());
    }
}

#[test]
fn the_list_in_the_file_is_edited_without_a_reload_but_for_its_default() {
    for binary in binaries() {
        let (a, b) = (made("a.test"), made("*.b.test"));
        let node = Node::start(&binary, "\"@a.pem\"", |pem| {
            replace(&pem.join("a.pem"), &a.pem);
            // The key in a file of its own, an empty line and words around the blocks.
            let (certificate, key) = b.pem.split_once("-----BEGIN PRIVATE").unwrap();
            replace(&pem.join("b.pem"), &format!("subject=b\n\n{}", certificate.replace('\n', "\r\n")));
            replace(&pem.join("b.pem.key"), &format!("-----BEGIN PRIVATE{key}"));
        });
        node.write_toml(&binary, "\"@a.pem\", \"@b.pem\"");
        assert_eq!(node.follows().len(), 2);
        assert_eq!(node.shown("x.b.test"), b.der);
        node.write_toml(&binary, "\"@b.pem\", \"@a.pem\"");
        let reasons = node.reloads();
        assert!(reasons[0].contains("the default certificate of crt-lists/api.list becomes /pem/b.pem"), "{reasons:?}");
        assert_eq!(node.shown("other.test"), b.der);
        node.write_toml(&binary, "\"@b.pem\"");
        node.follows();
        assert_eq!(node.shown("a.test"), b.der);
    }
}

#[test]
fn a_certificate_that_the_admin_socket_cannot_take_is_loaded_by_a_reload() {
    for binary in binaries() {
        let a = made("a.test");
        let node = Node::start(&binary, "\"@a.pem\"", |pem| replace(&pem.join("a.pem"), &a.pem));
        let behind: String = (0..60).map(|i| made(&format!("authority-{i}.test")).pem).collect();
        let behind: String = behind
            .split_inclusive("-----END CERTIFICATE-----\n")
            .map(|part| part.rfind("-----BEGIN CERTIFICATE").map_or("", |at| &part[at..]))
            .collect();
        let large = made("a.test");
        node.put("a.pem", &(large.pem.clone() + &behind));
        let reasons = node.reloads();
        assert!(reasons[0].contains("/pem/a.pem has") && reasons[0].contains("takes at once"), "{reasons:?}");
        assert_eq!(node.shown("a.test"), large.der);
    }
}

#[test]
fn a_broken_certificate_is_told_by_name_and_the_old_one_serves() {
    for binary in binaries() {
        let a = made("a.test");
        let node = Node::start(&binary, "\"@a.pem\"", |pem| replace(&pem.join("a.pem"), &a.pem));
        let worker = node.haproxy().worker_pid();
        let (one, other) = (made("a.test"), made("a.test"));
        let expired = made_with("a.test", |params| params.not_after = rcgen::date_time_ymd(2020, 2, 1));
        for (text, why) in [
            (certificate(&one) + &key(&other), "its private key is not the one of its certificate"),
            (certificate(&one), "it has no private key, and none of a.pem.key, a.key lies beside it"),
            (key(&one), "it has no certificate"),
            (one.pem[..one.pem.len() - 40].to_owned(), "does not end: the file is truncated"),
            (one.pem.replace("MII", "MI!"), "it cannot be read"),
            (String::new(), "it has no certificate"),
            (expired.pem.clone(), "the new one expired on 2020-02-01"),
        ] {
            node.put("a.pem", &text);
            assert_eq!(node.apply()["how"], "unchanged", "{why}");
            let check = agent::run(&["-c", &node.toml(), "check"]);
            let said = format!("{}{}", check.stdout, check.stderr);
            assert_eq!(check.code, Some(0), "{said}");
            assert!(said.contains("hapilot.toml:") && said.contains("pem/a.pem cannot be served"), "{said}");
            assert!(said.contains(why) && said.contains("the one before serves on, valid until"), "{why}: {said}");
            assert!(!said.contains("BEGIN"), "{said}");
            assert_eq!(node.shown("a.test"), a.der);
        }
        node.put("a.pem", &one.pem);
        node.follows();
        assert_eq!((node.shown("a.test"), node.haproxy().worker_pid()), (one.der, worker));
    }
}

/// The certificate alone.
pub fn certificate(made: &Made) -> String {
    made.pem.split_once("-----BEGIN PRIVATE").unwrap().0.to_owned()
}

/// The key alone.
pub fn key(made: &Made) -> String {
    made.pem[certificate(made).len()..].to_owned()
}

#[test]
fn a_file_that_was_never_served_is_refused_where_it_is_named_and_left_out_of_a_directory() {
    for binary in binaries() {
        let a = made("a.test");
        let node = Node::start(&binary, "\"@\"", |pem| replace(&pem.join("a.pem"), &a.pem));
        // What lies beside a certificate and is none, and one that is not whole yet.
        node.put("README", "Do not touch.\n");
        node.put(
            "authority.pem",
            &certificate(&made_with("Root", |params| {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            })),
        );
        assert_eq!(node.apply()["how"], "unchanged");
        node.put("late.pem", "-----BEGIN CERTIFICATE-----\n");
        let applied = node.apply();
        assert_eq!(applied["how"], "unchanged", "{applied}");
        assert!(applied.to_string().contains("late.pem cannot be served"), "{applied}");

        node.write_toml(&binary, "\"@a.pem\", \"@typo.pem\"");
        let said = node.refuses();
        assert!(said.contains("hapilot.toml:") && said.contains("typo.pem"), "{said}");
        assert!(said.contains("name the directory of certbot"), "{said}");
        let check = agent::run(&["-c", &node.toml(), "check"]);
        assert!(check.code == Some(1) && check.stderr.contains("typo.pem"), "{}", check.stderr);
        assert_eq!(node.shown("a.test"), a.der);
    }
}

#[test]
fn what_somebody_else_did_to_the_certificates_is_mended_and_their_open_transaction_left_alone() {
    for binary in binaries() {
        let (a, b) = (made("a.test"), made("b.test"));
        let node = Node::start(&binary, "\"@\"", |pem| {
            replace(&pem.join("a.pem"), &a.pem);
            replace(&pem.join("b.pem"), &b.pem);
        });
        node.haproxy().admin(&format!("del ssl crt-list crt-lists/api.list {}", node.copy("b.pem")));
        assert_eq!(node.shown("b.test"), a.der);
        assert_eq!(node.follows(), ["certificate serve /pem/b.pem in crt-lists/api.list"]);
        assert_eq!(node.shown("b.test"), b.der);

        let lines: String = a.pem.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
        let open = node.copy("a.pem");
        let said = node.haproxy().admin(&format!("set ssl cert {open} <<\n{lines}"));
        assert!(said.contains("Transaction created"), "{said}");
        let new = made("b.test");
        node.put("b.pem", &new.pem);
        let said = node.refuses();
        assert!(said.contains(&format!("`abort ssl cert {open}` ends it")), "{said}");
        assert_eq!(node.shown("b.test"), b.der);
        node.haproxy().admin(&format!("abort ssl cert {open}"));
        node.follows();
        assert_eq!(node.shown("b.test"), new.der);
    }
}

#[tokio::test]
async fn where_one_step_fails_nothing_is_taken_away_and_nothing_is_left_open() {
    for binary in binaries() {
        let (a, b) = (made("a.test"), made("b.test"));
        let node = Node::start(&binary, "\"@\"", |pem| {
            replace(&pem.join("a.pem"), &a.pem);
            replace(&pem.join("b.pem"), &b.pem);
        });
        // HAProxy does not know it, and so refuses to replace it.
        node.put("c.pem", &made("c.test").pem);
        let read = read_certificate(&node.place.join("pem/c.pem"), &node.copy("c.pem"), None).unwrap();
        let store = CertificateStep::Store { certificate: Box::new(read), is_new: false };
        let list = "crt-lists/api.list".to_owned();
        let entry = ListEntry { path: node.copy("b.pem").into_string(), line: 2 };
        let steps = [store, CertificateStep::Remove { list, entry }].map(Step::Certificate);
        let done = execute(&node.place.join("admin.sock"), &steps, None, PATIENCE).await.unwrap();
        let reasons: Vec<_> = done.failures.iter().map(|failure| failure.reason.as_str()).collect();
        let why = "Can't replace a certificate which is not referenced by the configuration!";
        assert_eq!(reasons, [why, "not sent, because a step about a certificate before it failed"]);
        assert!(!node.haproxy().admin("show ssl cert").contains('*'), "{}", binary.version);
        assert_eq!(node.shown("b.test"), b.der);
    }
}

#[test]
fn the_running_agent_takes_a_renewed_certificate_over_within_two_seconds() {
    for binary in binaries() {
        let (a, b) = (made("a.test"), made("b.test"));
        let node = Node::start(&binary, "\"@\"", |pem| replace(&pem.join("a.pem"), &a.pem));
        let mut running = agent::start(&["-c", &node.toml(), "run"]);
        running.wait_for_output("serving");
        let worker = node.haproxy().worker_pid();
        let a = made("a.test");
        let began = Instant::now();
        node.put("a.pem", &a.pem);
        wait_for("the renewed certificate", PATIENCE, || (node.shown("a.test") == a.der).then_some(()));
        println!("{}: renewed after {:?}", binary.version, began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        node.put("b.pem", &b.pem);
        wait_for("the added certificate", PATIENCE, || (node.shown("b.test") == b.der).then_some(()));
        node.put("a.pem", "nonsense");
        running.wait_for_output("pem/a.pem cannot be served");
        assert_eq!(node.shown("a.test"), a.der);
        // An agent that is started now steers what it can.
        assert_eq!(running.stop(), Some(0));
        let mut running = agent::start(&["-c", &node.toml(), "run"]);
        running.wait_for_output("pem/a.pem cannot be served");
        assert_eq!(node.shown("a.test"), a.der);
        node.put("a.pem", &a.pem);
        node.remove("b.pem");
        wait_for("the certificate's end", PATIENCE, || (node.shown("b.test") == a.der).then_some(()));
        assert_eq!(node.haproxy().worker_pid(), worker);
        assert_eq!(running.stop(), Some(0));
    }
}

#[test]
fn check_warns_of_certificates_that_expire_or_share_a_name() {
    for binary in binaries() {
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(240);
        let date = soon.strftime("%Y-%m-%d").to_string();
        let mut parts = date.split('-').map(|part| part.parse::<i32>().unwrap());
        let (year, month, day) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let a = made_with("a.test", |params| {
            params.not_after = rcgen::date_time_ymd(year, u8::try_from(month).unwrap(), u8::try_from(day).unwrap());
        });
        let b = made_with("a.test", |params| params.not_after = rcgen::date_time_ymd(2020, 2, 1));
        let node = Node::start(&binary, "\"@a.pem\", \"@b.pem\"", |pem| {
            replace(&pem.join("a.pem"), &a.pem);
            replace(&pem.join("b.pem"), &b.pem);
        });
        let done = agent::run(&["-c", &node.toml(), "check"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let said = done.stderr.replace(node.place.as_str(), "");
        for warning in [
            format!("warning: the certificate /pem/a.pem expires on {date}"),
            "warning: the certificate /pem/b.pem expired on 2020-02-01".to_owned(),
            "warning: frontend api: /pem/a.pem and /pem/b.pem are both for a.test; the first one is served".to_owned(),
        ] {
            assert!(said.contains(&warning), "{warning}\n{said}");
        }
    }
}
