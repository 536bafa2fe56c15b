//! HTTP/3: where HAProxy can, it listens for QUIC beside TLS, says so, and does over a reload. What a real client gets is
//! in scripts/measure/http3.

use crate::certificates::{Node, made, replace};
use crate::support::agent;
use crate::support::haproxy::binaries;
use crate::support::stage::swapped;
use crate::support::tls::{TlsClient, VERSIONS};
use std::net::UdpSocket;
use std::time::Duration;

/// Whether somebody there speaks QUIC: it is asked in a version that nobody has, and must name those that it has.
fn speaks_quic(address: &str) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (ours, theirs) = ([1_u8; 8], [2_u8; 8]);
    let mut asked = [&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8][..], &theirs, &[8], &ours].concat();
    asked.resize(1200, 0);
    let mut answer = [0; 1500];
    (0..3).any(|_| {
        let sent = socket.send(&asked).is_ok();
        let got = if sent { socket.recv(&mut answer).unwrap_or(0) } else { 0 };
        let expected = [&[0, 0, 0, 0, 8][..], &ours, &[8], &theirs].concat();
        got > 23
            && answer[0] & 0x80 != 0
            && answer[1..23] == expected
            && answer[23..got].chunks(4).any(|one| one == [0, 0, 0, 1])
    })
}

#[test]
fn a_frontend_speaks_quic_beside_tls_and_says_so() {
    for binary in binaries() {
        let a = made("localhost");
        let node = Node::start(&binary, "\"@\"", |pem| replace(&pem.join("a.pem"), &a.pem));
        let text = fs_err::read_to_string(node.toml()).unwrap();
        let address = text.split('"').find(|word| word.starts_with("127.0.0.1:")).unwrap().to_owned();
        let port = address.rsplit(':').next().unwrap();
        assert!(!speaks_quic(&address));
        replace(node.toml().as_str().into(), &swapped(&text, "certificates = ", "http3 = true\ncertificates = "));
        let check = agent::run(&["-c", &node.toml(), "check"]);
        assert_eq!(check.code, Some(0), "{}", check.stderr);
        let is_old = check.stderr.contains("frontend api: http3 is not in force: HAProxy 2.6");
        assert_eq!(is_old, binary.version.major == 2, "{}", check.stderr);
        let how = node.apply()["how"].clone();
        let told = || TlsClient::new(None, &VERSIONS).answer(&address, "/v1/models", "").unwrap().0.to_lowercase();
        let header = format!("\r\nalt-svc: h3=\":{port}\"; ma=86400\r\n");
        if is_old {
            assert!(!speaks_quic(&address) && !told().contains("alt-svc"), "{}", told());
            continue;
        }
        assert_eq!(how, "reload", "{}", binary.version);
        assert!(speaks_quic(&address) && told().contains(&header), "{}: {}", binary.version, told());
        for _ in 0..3 {
            assert!(node.haproxy().reload().succeeded);
            assert!(speaks_quic(&address), "{}", binary.version);
        }
        // A renewed certificate is one for both.
        let renewed = made("localhost");
        node.put("a.pem", &renewed.pem);
        assert_eq!(node.apply()["how"], "runtime");
        assert_eq!(node.shown("localhost"), renewed.der);
        // What clients must show, and which names there are, is asked over both.
        let text = swapped(&text, "certificates = ", "http3 = true\nstrict_sni = true\ncertificates = ");
        let trust = format!("client_certificates = {{ ca = [\"{}/ca.pem\"] }}\ncertificates = ", node.place);
        replace(&node.place.join("ca.pem"), &crate::certificates::certificate(&renewed));
        replace(node.toml().as_str().into(), &swapped(&text, "certificates = ", &trust));
        assert_eq!(node.apply()["how"], "reload");
        let cfg = fs_err::read_to_string(node.place.join("haproxy.cfg")).unwrap();
        let binds: Vec<_> = cfg.lines().filter(|line| line.contains("alpn h")).collect();
        assert!(
            binds.len() == 2 && binds.iter().all(|bind| bind.contains(" strict-sni verify required ca-file ")),
            "{binds:?}"
        );
        assert!(speaks_quic(&address), "{}", binary.version);
    }
}
