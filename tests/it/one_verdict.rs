//! Certificates as people make them: HAProxy and the probe have one verdict over each, in every version.

use crate::support::haproxy::{Place, Private, binaries};
use crate::support::net::has;
use crate::support::port::free_port;
use crate::support::process::{Background, run};
use crate::support::{PATIENCE, http, skip_or_demand};
use hapilot::config::{HttpProbe, ProxyProtocol, profile};
use hapilot::health::Outcome;
use hapilot::model::Provider;
use hapilot::probe::{ClientCertificate, Limits, Probe, Prober, Target};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Makes `CASE.pem`, `CASE.key` and `CASE.ca` in its directory for each case, all for `localhost`.
const MAKE: &str = r#"
set -e
exec 2>make.log
san=subjectAltName=DNS:localhost
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
# root NAME [openssl's words]: an authority
root() { n=$1; shift; key "$n"; openssl req -x509 -key "$n.key" -subj "/CN=$n" -days 30 -out "$n.pem" "$@"; }
# leaf NAME SUBJECT ROOT [extensions, one a word]: signed by ROOT; without extensions it is of version 1
leaf() {
  n=$1; s=$2; r=$3; shift 3; key "$n"; openssl req -new -key "$n.key" -subj "$s" -out "$n.csr"
  if [ $# = 0 ]; then openssl x509 -req -in "$n.csr" -CA "$r.pem" -CAkey "$r.key" -CAcreateserial -days 30 -out "$n.pem"
  else printf '%s\n' "$@" > "$n.ext"
    openssl x509 -req -in "$n.csr" -CA "$r.pem" -CAkey "$r.key" -CAcreateserial -days 30 -extfile "$n.ext" -out "$n.pem"; fi
  cp "$r.pem" "$n.ca"
}
root ca
leaf plain /CN=x ca $san
leaf common-name /CN=localhost ca basicConstraints=CA:FALSE
leaf common-name-beside /CN=localhost ca subjectAltName=DNS:other.example
leaf version-1 /CN=localhost ca
leaf version-1-other /CN=other ca
leaf other-name /CN=other ca subjectAltName=DNS:other.example
leaf is-authority /CN=x ca $san basicConstraints=CA:TRUE
leaf for-clients /CN=x ca $san extendedKeyUsage=clientAuth
leaf for-clients-common-name /CN=localhost ca basicConstraints=CA:TRUE extendedKeyUsage=clientAuth
leaf unknown-critical /CN=x ca $san 1.2.3.4=critical,DER:0500
leaf by-address /CN=x ca subjectAltName=IP:127.0.0.1
root self -addext $san; cp self.pem self.ca
root self-plain -addext $san -addext basicConstraints=CA:FALSE; cp self-plain.pem self-plain.ca
root self-other -addext subjectAltName=DNS:other.example; cp self-other.pem self-other.ca
root stranger -addext $san; cp ca.pem stranger.ca
key self-1; openssl req -new -key self-1.key -subj /CN=localhost -out self-1.csr
openssl x509 -req -in self-1.csr -signkey self-1.key -days 30 -out self-1.pem; cp self-1.pem self-1.ca
key old; openssl req -new -key old.key -subj /CN=old -out old.csr
openssl x509 -req -in old.csr -signkey old.key -days 30 -out old.pem
leaf root-of-version-1 /CN=x old $san
root no-signer -addext keyUsage=digitalSignature
leaf root-may-not-sign /CN=x no-signer $san
leaf between /CN=between ca basicConstraints=critical,CA:TRUE
leaf below /CN=x between $san
cp below.pem only-between.pem; cp below.key only-between.key; cp between.pem only-between.ca
cat between.pem ca.pem > below.ca
cp plain.pem pinned-leaf.pem; cp plain.key pinned-leaf.key; cp plain.pem pinned-leaf.ca
key ended; openssl req -new -key ended.key -subj /CN=ended -out ended.csr
printf 'basicConstraints=critical,CA:TRUE\n' > ended.ext
openssl x509 -req -in ended.csr -signkey ended.key -days -1 -extfile ended.ext -out ended.pem
leaf root-ended /CN=x ended $san
"#;

/// Whether it is taken, where we know; what HAProxy says counts for all.
const CASES: [(&str, Option<bool>); 20] = [
    ("plain", Some(true)),
    ("common-name", Some(true)),
    ("common-name-beside", Some(true)),
    ("version-1", Some(true)),
    ("version-1-other", Some(false)),
    ("other-name", Some(false)),
    ("is-authority", None),
    ("for-clients", Some(false)),
    ("for-clients-common-name", Some(false)),
    ("unknown-critical", Some(false)),
    ("by-address", Some(false)),
    ("self", Some(true)),
    ("self-plain", None),
    ("self-other", Some(false)),
    ("stranger", Some(false)),
    ("self-1", Some(true)),
    ("root-of-version-1", None),
    ("root-may-not-sign", Some(false)),
    ("below", Some(true)),
    ("root-ended", Some(false)),
];
/// Certificates of which the file of authorities has no root.
const ROOTLESS: [&str; 2] = ["only-between", "pinned-leaf"];

fn page() -> Probe {
    Probe::Http(HttpProbe { path: "/".into(), status: vec![200], headers: vec![], json: vec![], body: None })
}

fn prober() -> Prober {
    Prober::with_limits(Limits { connect: PATIENCE, cheap_total: PATIENCE, lag: PATIENCE })
}

fn target(port: u16) -> Target {
    let mut target = Target::new(format!("https://127.0.0.1:{port}").parse().unwrap(), profile(Provider::OpenAi));
    target.tls.server_name = Some("localhost".into());
    target
}

/// `openssl s_server`, which answers each GET with a page; ready.
fn serve(dir: &Path, case: &str, words: &[&str]) -> (Background, u16) {
    let port = free_port();
    let mut command = Command::new("openssl");
    command.current_dir(dir).args([
        "s_server",
        "-www",
        "-cert",
        &format!("{case}.pem"),
        "-key",
        &format!("{case}.key"),
    ]);
    command.args(["-accept", &format!("127.0.0.1:{port}")]).args(words);
    let mut server = Background::start(command);
    server.wait_for_output("ACCEPT");
    (server, port)
}

fn make(dir: &Path) {
    let mut command = Command::new("sh");
    command.current_dir(dir).args(["-c", MAKE]);
    let made = run(command, Duration::from_secs(60));
    let log = fs_err::read_to_string(dir.join("make.log")).unwrap_or_default();
    assert_eq!(made.code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_and_the_probe_have_one_verdict_over_each_certificate() {
    if !has("openssl") {
        return skip_or_demand("needs `openssl`");
    }
    let made = tempfile::tempdir().unwrap();
    let dir = made.path();
    make(dir);
    let names = CASES.iter().map(|(case, _)| *case).chain(ROOTLESS);
    let mut servers: Vec<_> = names.map(|case| (case.to_owned(), serve(dir, case, &[]))).collect();
    servers.push(("version-1-in-tls12".into(), serve(dir, "version-1", &["-tls1_2"])));
    fs_err::copy(dir.join("ca.pem"), dir.join("version-1-in-tls12.ca")).unwrap();
    let mut probed = Vec::new();
    for (case, (_, port)) in &servers {
        let mut target = target(*port);
        target.tls.ca_pem = Some(fs_err::read_to_string(dir.join(format!("{case}.ca"))).unwrap());
        probed.push(prober().probe(&target, &page()).await);
    }
    for binary in binaries() {
        let front = free_port();
        let _haproxy = Private::start(&binary, |place: &Place| {
            let mut text = place.preamble();
            write!(text, "  retries 0\nfrontend f\n  bind 127.0.0.1:{front}\n  use_backend %[path,field(2,/)]\n")
                .unwrap();
            for (case, (_, port)) in &servers {
                let ca = dir.join(format!("{case}.ca"));
                let ca = ca.display();
                writeln!(
                    text,
                    "backend {case}\n  server s 127.0.0.1:{port} ssl verify required ca-file {ca} sni str(localhost)"
                )
                .unwrap();
            }
            text
        });
        let address = format!("127.0.0.1:{front}");
        let mut differ = Vec::new();
        for ((case, _), probed) in servers.iter().zip(&probed) {
            let taken = http::get(&address, &format!("/{case}")).unwrap().status == 200;
            let known = CASES.iter().find(|(known, _)| known == case).and_then(|(_, taken)| *taken);
            if taken != (probed.outcome == Outcome::Ok) || known.is_some_and(|known| known != taken) {
                differ.push(format!("{case}: HAProxy takes it: {taken}, the probe: {}", probed.detail));
            }
        }
        assert!(differ.is_empty(), "{}:\n{}", binary.version, differ.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_shows_our_certificate_where_the_server_asks_for_one() {
    if !has("openssl") {
        return skip_or_demand("needs `openssl`");
    }
    let made = tempfile::tempdir().unwrap();
    let dir = made.path();
    make(dir);
    let (_server, port) = serve(dir, "plain", &["-Verify", "1", "-CAfile", "ca.pem", "-verify_return_error"]);
    let read = |name: &str| fs_err::read_to_string(dir.join(name)).unwrap();
    let mut target = target(port);
    target.tls.ca_pem = Some(read("ca.pem"));
    let refused = prober().probe(&target, &page()).await;
    assert_ne!(refused.outcome, Outcome::Ok);
    target.tls.certificate = Some(ClientCertificate(read("self.pem")));
    let broken = prober().probe(&target, &page()).await;
    assert_eq!(broken.outcome, Outcome::SelfCaused, "{broken:?}");
    target.tls.certificate = Some(ClientCertificate(read("common-name.pem") + &read("common-name.key")));
    let found = prober().probe(&target, &page()).await;
    assert_eq!(found.outcome, Outcome::Ok, "{found:?}");
}

/// HAProxy itself is the server that wants the header.
#[tokio::test(flavor = "multi_thread")]
async fn the_probe_says_who_calls_where_the_server_wants_to_know() {
    for binary in binaries() {
        let front = free_port();
        let _haproxy = Private::start(&binary, |place: &Place| {
            format!(
                "{}frontend f\n  bind 127.0.0.1:{front} accept-proxy\n  http-request return status 200 if {{ src 127.0.0.1 }}\n",
                place.preamble()
            )
        });
        let mut target = Target::new(format!("http://127.0.0.1:{front}").parse().unwrap(), profile(Provider::OpenAi));
        assert_ne!(prober().probe(&target, &page()).await.outcome, Outcome::Ok);
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            target.proxy_protocol = Some(version);
            let found = prober().probe(&target, &page()).await;
            assert_eq!(found.outcome, Outcome::Ok, "{} {version:?}: {found:?}", binary.version);
        }
    }
}
