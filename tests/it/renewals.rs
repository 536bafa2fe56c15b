//! Certificates that others renew: each goes its own way, the layouts of those who renew are taken as they are, and an
//! expiry is told in time.

use crate::certificates::{Made, Node, certificate, key, made, made_with, replace};
use crate::support::agent;
use crate::support::haproxy::binaries;
use crate::support::http::get;
use crate::support::port::free_port;
use crate::support::process::Background;
use crate::support::stage::swapped;
use crate::support::{PATIENCE, wait_for, write};
use camino::Utf8Path;
use fs_err::os::unix::fs::symlink;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn started(node: &Node) -> Background {
    let mut running = agent::start(&["-c", &node.toml(), "run"]);
    running.wait_for_output("serving");
    running
}

/// The problems that `status` shows; with any, its exit code is 1.
fn problems(node: &Node) -> String {
    let done = agent::run(&["-c", &node.toml(), "--json", "status"]);
    let status: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", done.stderr));
    let problems = status["problems"].as_array().unwrap().clone();
    assert!(problems.is_empty() || done.code == Some(1));
    Value::from(problems).to_string()
}

fn wait_until_shown(node: &Node, name: &str, wanted: &Made) {
    wait_for(&format!("the certificate of {name}"), PATIENCE, || (node.shown(name) == wanted.der).then_some(()));
}

fn edit(node: &Node, from: &str, to: &str) {
    let text = fs_err::read_to_string(node.toml()).unwrap();
    replace(Utf8Path::new(&node.toml()), &swapped(&text, from, to));
}

#[test]
fn a_bad_certificate_holds_nothing_back_and_haproxy_starts_with_the_last_good_one() {
    for binary in binaries() {
        let (a, b) = (made("a.test"), made("b.test"));
        let mut node = Node::start(&binary, "\"@a.pem\", \"@b.pem\"", |pem| {
            replace(&pem.join("a.pem"), &a.pem);
            replace(&pem.join("b.pem"), &b.pem);
        });
        let mut running = started(&node);
        let new_b = made("b.test");
        node.put("b.pem", &certificate(&new_b));
        running.wait_for_output("pem/b.pem cannot be served: it has no private key");
        let told = || problems(&node).contains("b.pem cannot be served: it has no private key");
        wait_for("the problem", PATIENCE, || told().then_some(()));
        let all = problems(&node);
        assert!(all.contains("the one before serves on") && all.contains("(since "), "{all}");

        // Another certificate, a weight, a reload and a rollback.
        let a = made("a.test");
        node.put("a.pem", &a.pem);
        wait_until_shown(&node, "a.test", &a);
        let worker = node.haproxy().worker_pid();
        edit(&node, "url = \"http://127.0.0.1:9\"", "url = \"http://127.0.0.1:9\"\nweight = 7");
        let weight = || node.haproxy().admin("get weight chat/one");
        wait_for("the weight", PATIENCE, || weight().starts_with("7 ").then_some(()));
        assert_eq!(node.haproxy().worker_pid(), worker);
        edit(&node, "maxconn = 100", "maxconn = 150");
        wait_for("a reload", PATIENCE, || (node.haproxy().worker_pid() != worker).then_some(()));
        assert!(node.shown("a.test") == a.der && node.shown("b.test") == b.der);
        let back = agent::run(&["-c", &node.toml(), "rollback", "1"]);
        assert_eq!(back.code, Some(0), "{}", back.stderr);
        wait_for("the weight of before", PATIENCE, || weight().starts_with("100 ").then_some(()));

        // A start of HAProxy, without an agent and with a new one.
        assert_eq!(running.stop(), Some(0));
        node.haproxy = Some(node.haproxy.take().unwrap().end().start());
        assert!(node.shown("a.test") == a.der && node.shown("b.test") == b.der);
        let running = started(&node);
        assert!(problems(&node).contains("b.pem cannot be served"), "{}", running.stderr());
        node.put("b.pem", &new_b.pem);
        wait_until_shown(&node, "b.test", &new_b);
        wait_for("no problem with it", PATIENCE, || (!problems(&node).contains("b.pem")).then_some(()));
        assert!(!running.stderr().contains("BEGIN"));
    }
}

/// Puts a link in the place of another one.
fn relink(target: &str, link: &Utf8Path) {
    let swap = camino::Utf8PathBuf::from(format!("{link}.swap"));
    symlink(target, &swap).unwrap();
    fs_err::rename(swap, link).unwrap();
}

/// What `certbot certonly` and `certbot renew` leave.
fn certbot(pem: &Utf8Path, name: &str, round: u32, new: &Made) {
    let (live, archive) = (pem.join("live").join(name), pem.join("archive").join(name));
    fs_err::create_dir_all(&live).unwrap();
    fs_err::create_dir_all(&archive).unwrap();
    write(pem.join("live/README"), "This directory contains your keys and certificates.\n");
    write(live.join("README"), "This directory contains your keys and certificates.\n");
    let authority = certificate(&made("authority.test"));
    let parts = [
        ("cert", certificate(new)),
        ("privkey", key(new)),
        ("chain", authority.clone()),
        ("fullchain", certificate(new) + &authority),
    ];
    for (part, text) in &parts {
        write(archive.join(format!("{part}{round}.pem")), text);
    }
    for (part, _) in &parts {
        relink(&format!("../../archive/{name}/{part}{round}.pem"), &live.join(format!("{part}.pem")));
    }
}

/// What a kubelet makes of a secret.
fn kubernetes(pem: &Utf8Path, round: u32, new: &Made) {
    let version = pem.join(format!("k8s/..v{round}"));
    fs_err::create_dir_all(&version).unwrap();
    write(version.join("tls.crt"), certificate(new));
    write(version.join("tls.key"), key(new));
    relink(&format!("..v{round}"), &pem.join("k8s/..data"));
    for name in ["tls.crt", "tls.key"] {
        if !pem.join("k8s").join(name).exists() {
            symlink(format!("..data/{name}"), pem.join("k8s").join(name)).unwrap();
        }
    }
}

/// What lego, and what acme.sh leaves: written in place.
fn lego_and_acme(pem: &Utf8Path, lego: &Made, acme: &Made) {
    fs_err::create_dir_all(pem.join("lego")).unwrap();
    fs_err::create_dir_all(pem.join("acme")).unwrap();
    for (name, text) in [
        ("lego/l.test.crt", certificate(lego)),
        ("lego/l.test.key", key(lego)),
        ("lego/l.test.issuer.crt", certificate(&made("authority.test"))),
        ("lego/l.test.json", "{}".to_owned()),
        ("acme/m.test.cer", certificate(acme)),
        ("acme/m.test.key", key(acme)),
        ("acme/m.test.conf", "Le_Domain='m.test'\n".to_owned()),
        ("acme/ca.cer", certificate(&made("authority.test"))),
        ("acme/fullchain.cer", certificate(acme)),
    ] {
        write(pem.join(name), text);
    }
}

#[test]
fn certbot_kubernetes_lego_and_acme_are_taken_as_they_are_and_their_renewals_are_seen() {
    for binary in binaries() {
        let names = ["c.test", "k.test", "l.test", "m.test"];
        let first = names.map(made);
        let prepare = |pem: &Utf8Path, round: u32, all: &[Made; 4]| {
            certbot(pem, "c.test", round, &all[0]);
            kubernetes(pem, round, &all[1]);
            lego_and_acme(pem, &all[2], &all[3]);
        };
        let list = "\"@live/c.test\", \"@k8s\", \"@lego\", \"@acme\"";
        let node = Node::start(&binary, list, |pem| prepare(pem, 1, &first));
        let is_served = |all: &[Made; 4]| names.iter().zip(all).all(|(name, made)| node.shown(name) == made.der);
        assert!(is_served(&first), "{}", binary.version);
        let check = agent::run(&["-c", &node.toml(), "check"]);
        assert!(check.code == Some(0) && !check.stderr.contains("pem/"), "{}", check.stderr);
        let mode = fs_err::metadata(node.copy("live/c.test/fullchain.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);

        let running = Told(started(&node));
        let worker = node.haproxy().worker_pid();
        let second = names.map(made);
        let began = std::time::Instant::now();
        prepare(&node.place.join("pem"), 2, &second);
        for (name, made) in names.iter().zip(&second) {
            wait_until_shown(&node, name, made);
        }
        println!("{}: renewed after {:?}", binary.version, began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(node.haproxy().worker_pid(), worker);

        // All of certbot's at once, and one more of them.
        node.write_toml(&binary, "\"@live\"");
        let more = made("d.test");
        certbot(&node.place.join("pem"), "d.test", 1, &more);
        wait_until_shown(&node, "d.test", &more);
        wait_until_shown(&node, "k.test", &second[0]);
        assert!(!running.0.stderr().contains("BEGIN"));
    }
}

/// An agent whose log is shown where its test fails.
struct Told(Background);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the agent said:\n{}", self.0.stderr());
        }
    }
}

#[test]
fn an_expiry_is_told_by_status_metrics_plan_and_once_by_the_log() {
    let binary = binaries().into_iter().next_back().expect("a HAProxy");
    let in_days = |days: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days + 1);
        move |params: &mut rcgen::CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2025, 1, 1);
            let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
            let (month, day) = (u8::try_from(date.month()).unwrap(), u8::try_from(date.day()).unwrap());
            params.not_after = rcgen::date_time_ymd(i32::from(date.year()), month, day);
        }
    };
    let node = Node::start(&binary, "\"@\"", |pem| {
        replace(&pem.join("fine.pem"), &made_with("fine.test", in_days(60)).pem);
        replace(&pem.join("soon.pem"), &made_with("soon.test", in_days(6)).pem);
        replace(&pem.join("gone.pem"), &made_with("gone.test", in_days(-3)).pem);
    });
    let address = format!("127.0.0.1:{}", free_port());
    edit(&node, "[api]\n", &format!("[api]\nlisten = \"{address}\"\n"));
    let mut running = started(&node);
    running.wait_for_output("gone.pem has expired");
    running.wait_for_output("soon.pem expires within 7 days");
    let done = agent::run(&["-c", &node.toml(), "--json", "status"]);
    let status: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done.code, Some(1));
    let all = status["certificates"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|one| one["file"].as_str().unwrap().ends_with(name)).unwrap();
    assert!(of("fine.pem")["problem"].is_null() && of("fine.pem")["names"][0] == "fine.test");
    assert!(of("soon.pem")["problem"].as_str().unwrap().contains("expires on"));
    assert!(of("gone.pem")["expires_in_s"].as_i64().unwrap() < -86_400);
    let told = status["problems"].to_string();
    assert!(told.contains("soon.pem expires on") && told.contains("gone.pem expired on"), "{told}");
    assert!(!told.contains("fine.pem"), "{told}");
    let plan = agent::run(&["-c", &node.toml(), "plan"]);
    assert!(format!("{}{}", plan.stdout, plan.stderr).contains("gone.pem expired on"), "{}", plan.stdout);
    let human = agent::run(&["-c", &node.toml(), "status"]).stdout;
    assert!(human.contains("3 certificates") && human.contains("gone.pem expired on"), "{human}");
    let metrics = get(&address, "/metrics").unwrap().text();
    let seconds = |name: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with("hapilot_certificate_expiry_seconds{") && line.contains(name));
        line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse::<i64>().ok())
    };
    assert!(seconds("gone.pem").unwrap() < 0 && seconds("soon.pem").unwrap() > 4 * 86_400, "{metrics}");

    // Once: looks repeat every five seconds.
    let looks = || get(&address, "/v1/status").unwrap().json()["agent"]["uptime_s"].as_u64().unwrap();
    wait_for("another look", PATIENCE, || (looks() >= 7).then_some(()));
    assert_eq!(running.stderr().matches("gone.pem has expired").count(), 1);
    let renewed = made("gone.test");
    node.put("gone.pem", &renewed.pem);
    wait_until_shown(&node, "gone.test", &renewed);
    wait_for("no problem with it", PATIENCE, || (!problems(&node).contains("gone.pem")).then_some(()));
}
