//! A reload is proven by the new worker's own answer on every bind, and limits survive it.

use crate::haproxies::write_certificate;
use crate::site::Site;
use crate::support::haproxy::binaries;
use crate::support::http::{get, head};
use crate::support::port::free_port;
use crate::support::{PATIENCE, wait_for};
use camino::Utf8Path;
use hapilot::haproxy::{Question, Sockets, listeners, observe, prove_reload};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// Every kind of bind that hapilot makes: clear text, TLS, the redirect to it, the statistics page behind a login; and
/// one on an address of another node.
fn every_bind(site: &Site, tls: u16, redirect: u16, stats: u16, extra: &str) -> String {
    let certificate = site.directory().join("certs/api.pem");
    write_certificate(&certificate);
    let secret = site.directory().join("stats.secret");
    hapilot::sys::files::replace_file(&secret, b"hush\n", 0o600).unwrap();
    site.toml(&format!(
        "stats = {{ bind = \"127.0.0.1:{stats}\", user = \"ops\", password = \"file:{secret}\" }}\n\
         [frontend.secure]\nbind = [\"127.0.0.1:{tls}\"]\nbackend = \"chat\"\ncertificates = [\"{certificate}\"]\n\
         redirect_http = \"*:{redirect}\"\n{extra}"
    ))
}

async fn runtime(site: &Site) -> hapilot::plan::Runtime {
    observe(&site.admin(), Some(&site.master()), &[], false).await.unwrap().expect("HAProxy runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_worker_itself_answers_on_every_bind() {
    for binary in binaries() {
        let mut site = Site::new(&binary);
        let (tls, redirect, stats) = (free_port(), free_port(), free_port());
        site.write(&every_bind(&site, tls, redirect, stats, ""));
        site.start();
        let before = runtime(&site).await;
        let text = fs_err::read_to_string(site.haproxy_cfg()).unwrap();
        let found = listeners(&text);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|l| matches!(l.question, Question::Clear | Question::Tls)), "{found:?}");

        let began = Instant::now();
        site.write(&every_bind(&site, tls, redirect, stats, "raw = [\"http-response del-header Server\"]\n"));
        let applied = site.apply();
        let took = began.elapsed();
        assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
        assert!(applied.stdout.contains("proven reload"), "{}", applied.stdout);
        assert!(!applied.stdout.contains("provable"), "{}", applied.stdout);
        let after = runtime(&site).await;
        assert_ne!(before.pid, after.pid);

        // The same evidence against the wrong worker: each bind is named.
        let (admin, master) = (site.admin(), site.master());
        let sockets = Sockets { admin: &admin, master: Some(&master) };
        let text = fs_err::read_to_string(site.haproxy_cfg()).unwrap();
        let marker = after.description.clone().unwrap();
        let began = Instant::now();
        let proof = prove_reload(sockets, &before, &marker, &listeners(&text), PATIENCE).await.unwrap();
        assert_eq!(proof.remarks, [] as [&str; 0]);
        eprintln!("{}: apply {took:?}, proof of 4 binds alone {:?}", binary.version, began.elapsed());
        let own = head(&format!("127.0.0.1:{}", site.port()), "/.hapilot/worker").unwrap();
        assert!(own.header("x-hapilot-worker").is_some(), "this node may ask");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bind_that_another_process_answers_is_named() {
    for binary in binaries() {
        let mut site = Site::new(&binary);
        site.write(&site.toml(""));
        site.start();
        let mut before = runtime(&site).await;
        let marker = before.description.clone().unwrap();
        before.pid = 0;
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let text = format!(
            "{}frontend other\n    bind {}\n    http-request return if {{ path /.hapilot/worker }}\n",
            fs_err::read_to_string(site.haproxy_cfg()).unwrap(),
            silent.local_addr().unwrap()
        );
        let (admin, master) = (site.admin(), site.master());
        let sockets = Sockets { admin: &admin, master: Some(&master) };
        let found = listeners(&text);
        let failed = prove_reload(sockets, &before, &marker, &found, Duration::from_millis(2600)).await.unwrap_err();
        let words = failed.to_string();
        assert!(words.contains("of other did not answer"), "{words}");
        assert_eq!(failed.missing.len(), 1, "the frontend itself is proven: {words}");

        // An address of another node is no reason to doubt, and it is told.
        let text = text.replace(&silent.local_addr().unwrap().to_string(), "192.0.2.77:8443");
        let proof = prove_reload(sockets, &before, &marker, &listeners(&text), PATIENCE).await.unwrap();
        assert_eq!(
            proof.remarks,
            ["192.0.2.77:8443 of other is not provable here: the address is not on this node now"]
        );

        // A rule that refuses this very node leaves only that somebody accepts.
        site.write(&site.toml("raw = [\"tcp-request connection reject\"]\n"));
        let applied = site.apply();
        assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
        assert!(applied.stdout.contains("a tcp-request rule refuses connections from here"), "{}", applied.stdout);
    }
}

#[test]
fn the_address_limits_counters_survive_a_reload() {
    for binary in binaries() {
        let mut site = Site::new(&binary);
        let limit = "[limit.address]\nrequests = \"7/5m\"\nburst = 0\n";
        let text = |raw: &str| site.toml(raw).replacen("[backend.", &format!("{limit}[backend."), 1);
        let (first, second) = (text(""), text("raw = [\"http-response del-header Server\"]\n"));
        site.write(&first);
        site.start();
        let address = format!("127.0.0.1:{}", site.port());
        if !binary.version.at_least(3, 0) {
            // Before 3.0 a worker that nobody taught waits for ten seconds before it teaches.
            let admin = site.admin();
            wait_for("a worker of 2.6 that can teach", PATIENCE, || uptime_s(&admin).filter(|uptime| *uptime > 11));
        }
        let statuses = |count: usize| (0..count).map(|_| get(&address, "/").unwrap().status).collect::<Vec<_>>();
        assert_eq!(statuses(4), [200; 4], "{}", binary.version);
        site.write(&second);
        let began = Instant::now();
        let applied = site.apply();
        eprintln!("{}: apply with hand-over {:?}", binary.version, began.elapsed());
        assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
        assert!(applied.stdout.contains("proven reload"), "{}", applied.stdout);
        assert!(!applied.stdout.contains("stick-tables"), "{}", applied.stdout);
        assert_eq!(
            statuses(4),
            [200, 200, 429, 429],
            "{}: seven in five minutes, one of them at the start, whatever was reloaded",
            binary.version
        );
    }
}

fn uptime_s(admin: &Utf8Path) -> Option<u64> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(admin).ok()?;
    stream.write_all(b"show info\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    reply.lines().find_map(|line| line.strip_prefix("Uptime_sec: "))?.trim().parse().ok()
}
