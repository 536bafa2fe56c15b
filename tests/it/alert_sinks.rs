//! Sinks that are down, slow, hostile, and real ones.

use super::support::agent;
use super::support::port::free_port;
use super::support::process::{self, Background, Finished};
use super::support::sink::{Manner, Sink};
use super::support::tls::Authority;
use super::support::{PATIENCE, skip_or_demand, wait_for, write};
use hapilot::alert::{Delivery, Fault, deliver};
use hapilot::alerts::{Change, Notification};
use hapilot::config::{AlertSink, parse};
use hapilot::model::Secret;
use jiff::Timestamp;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whether an answer was understood.
type Expectation = Box<dyn Fn(&Delivery) -> bool>;

/// The file's beginning.
const FILE: &str = "[frontend.api]\nbind = [\"*:8080\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n";

/// `[alert.x]` with this line in it.
fn sink(line: &str) -> AlertSink {
    let text = format!("{FILE}[alert.x]\n{line}\n");
    let config = parse("f", &text, "lb1").unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)));
    config.alerts.sinks[0].clone()
}

fn told(change: Change) -> Notification {
    Notification::test("lb1", Timestamp::now(), change)
}

fn send(sink: &AlertSink, secret: Option<&str>, told: &Notification) -> Delivery {
    let secret = secret.map(|secret| Secret::new(secret.to_owned()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(deliver(sink, secret.as_ref(), told))
}

#[test]
fn whatever_a_sink_answers_ends_soon_and_means_what_it_should() {
    let again = |after: Option<u64>| move |delivery: &Delivery| matches!(delivery, Delivery::Again { after: found, .. } if *found == after.map(Duration::from_secs));
    let refused = |wanted: Fault| move |delivery: &Delivery| matches!(delivery, Delivery::Refused { fault, .. } if *fault == wanted);
    let done = |delivery: &Delivery| matches!(delivery, Delivery::Done(_));
    let says = |text: &str| Manner::Says(text.to_owned());
    let cases: Vec<(&str, Manner, Expectation)> = vec![
        ("ok", Manner::well(), Box::new(done)),
        ("no content", Manner::status(204, "", ""), Box::new(done)),
        ("too fast", Manner::status(429, "Retry-After: 7\r\n", "slow down"), Box::new(again(Some(7)))),
        ("far too fast", Manner::status(429, "Retry-After: 999999999\r\n", ""), Box::new(again(Some(300)))),
        ("nonsense", Manner::status(429, "Retry-After: tomorrow\r\n", ""), Box::new(again(None))),
        ("broken", Manner::status(503, "", "x"), Box::new(again(None))),
        ("bad", Manner::status(400, "", "invalid"), Box::new(refused(Fault::Message))),
        ("a wrong key", Manner::status(403, "", "no"), Box::new(refused(Fault::Sink))),
        ("elsewhere", Manner::status(302, "Location: http://169.254.169.254/\r\n", ""), Box::new(refused(Fault::Sink))),
        ("garbage", says("\u{0}\u{1}garbage\r\n\r\n"), Box::new(again(None))),
        ("nothing", says(""), Box::new(again(None))),
        ("half a head", says("HTTP/1.1 200 OK\r\nX: "), Box::new(again(None))),
        // Its status is known; what follows is not waited for.
        ("endless body", Manner::Endless, Box::new(done)),
        ("endless head", says(&format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(1 << 20))), Box::new(again(None))),
        ("endless interim answers", Manner::Interim, Box::new(again(None))),
    ];
    for (name, manner, is_right) in cases {
        let there = Sink::start(manner);
        let hook = sink(&format!("webhook = {{ url = \"http://{}/hook\" }}", there.address));
        let began = Instant::now();
        let delivery = send(&hook, None, &told(Change::Trigger));
        assert!(is_right(&delivery), "{name}: {delivery:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: {:?}", began.elapsed());
    }
    let hook = sink(&format!("webhook = {{ url = \"http://127.0.0.1:{}/hook\" }}", free_port()));
    assert!(again(None)(&send(&hook, None, &told(Change::Trigger))), "nobody listens");
}

#[test]
fn a_sink_that_is_silent_is_left_after_its_time() {
    let there = Sink::start(Manner::Silent);
    let hook = sink(&format!("webhook = {{ url = \"http://{}/\" }}", there.address));
    let began = Instant::now();
    let delivery = send(&hook, None, &told(Change::Trigger));
    assert!(matches!(delivery, Delivery::Again { .. }), "{delivery:?}");
    let took = began.elapsed();
    assert!((19..25).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn slack_is_sent_text_without_markup_and_its_url_is_never_repeated() {
    let there = Sink::start(Manner::well());
    let slack = sink("slack = { webhook = \"env:SLACK\" }");
    let url = format!("http://{}/services/T0/B0/hunter2-hunter2", there.address);
    let mut page = told(Change::Trigger);
    page.lines[0].text = "<!channel> & *you*".into();
    assert!(matches!(send(&slack, Some(&url), &page), Delivery::Done(_)));
    let heard = there.heard();
    assert_eq!(heard[0].path, "/services/T0/B0/hunter2-hunter2");
    let text = heard[0].json()["text"].as_str().unwrap().to_owned();
    assert!(text.contains("&lt;!channel&gt; &amp; *you*"), "{text}");
    for (manner, wanted) in [
        (Manner::status(404, "", "no_service"), Fault::Sink),
        (Manner::status(200, "", "<html>Please log in"), Fault::Sink),
        (Manner::status(400, "", "invalid_payload"), Fault::Message),
    ] {
        there.answers(manner);
        let delivery = send(&slack, Some(&url), &page);
        assert!(
            matches!(&delivery, Delivery::Refused { fault, why } if *fault == wanted && !why.contains("hunter2")),
            "{delivery:?}"
        );
    }
    // What only happened and is long over is nothing to be read again.
    send(&slack, Some(&url), &told(Change::Expire));
    assert_eq!(there.heard().len(), 4);
}

#[test]
fn pagerduty_gets_a_trigger_its_end_and_changes_each_where_it_belongs() {
    let there = Sink::start(Manner::status(202, "", r#"{"status":"success","message":"Event processed"}"#));
    let pager = sink(&format!("pagerduty = {{ routing_key = \"env:PD\", url = \"http://{}\" }}", there.address));
    let key = "0123456789abcdef0123456789abcdef";
    for change in [Change::Trigger, Change::Resolve, Change::Applied] {
        let delivery = send(&pager, Some(key), &told(change));
        assert!(matches!(delivery, Delivery::Done(_)), "{delivery:?}");
    }
    let heard = there.heard();
    let paths: Vec<&str> = heard.iter().map(|heard| heard.path.as_str()).collect();
    assert_eq!(paths, ["/v2/enqueue", "/v2/enqueue", "/v2/change/enqueue"]);
    let (trigger, resolve) = (heard[0].json(), heard[1].json());
    assert_eq!((&trigger["event_action"], &resolve["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!((&trigger["dedup_key"], &trigger["routing_key"]), (&resolve["dedup_key"], &key.into()));
    // Somebody else's 200 is none of PagerDuty's.
    there.answers(Manner::well());
    assert!(matches!(send(&pager, Some(key), &told(Change::Trigger)), Delivery::Refused { fault: Fault::Sink, .. }));
}

#[test]
fn a_webhook_is_signed_over_its_timestamp_and_body() {
    let there = Sink::start(Manner::well());
    let hook = sink(&format!("webhook = {{ url = \"http://{}/hook\", secret = \"env:HOOK\" }}", there.address));
    let page = told(Change::Trigger);
    for _ in 0..2 {
        assert!(matches!(send(&hook, Some("topsecret-of-the-hook"), &page), Delivery::Done(_)));
    }
    let heard = there.heard();
    assert_eq!(heard[0].header("idempotency-key"), Some(page.id.as_str()));
    assert_eq!(heard[0].header("idempotency-key"), heard[1].header("idempotency-key"));
    let (timestamp, body) = (heard[0].header("x-hapilot-timestamp").unwrap(), &heard[0].body);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"topsecret-of-the-hook");
    let signed = aws_lc_rs::hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    let hex: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(heard[0].header("x-hapilot-signature"), Some(format!("sha256={hex}").as_str()));
    assert_eq!(heard[0].json()["version"], 1);
}

/// The program, or a skip.
fn program(name: &str) -> bool {
    let is_there = ["/usr/bin", "/usr/local/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(name).exists());
    if !is_there {
        skip_or_demand(&format!("{name} is not installed (scripts/install-needs ci)"));
    }
    is_there
}

#[test]
fn a_real_alertmanager_has_an_alert_and_its_end() {
    if !program("prometheus-alertmanager") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("alertmanager.yml");
    write(&config, "route: { receiver: none }\nreceivers: [{ name: none }]\n");
    let (port, cluster) = (free_port(), free_port());
    let mut command = Command::new("prometheus-alertmanager");
    command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.path={}", dir.path().display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.arg(format!("--cluster.listen-address=127.0.0.1:{cluster}"));
    let manager = Background::start(command);
    let address = format!("127.0.0.1:{port}");
    let alerts = || -> Option<Vec<Value>> {
        let reply = super::support::http::get(&address, "/api/v2/alerts?active=true").ok()?;
        (reply.status == 200).then(|| reply.json().as_array().cloned().unwrap_or_default())
    };
    wait_for("Alertmanager", PATIENCE, alerts);
    let sink = sink(&format!("alertmanager = {{ url = \"http://{address}\" }}"));
    let delivery = send(&sink, None, &told(Change::Trigger));
    assert!(matches!(delivery, Delivery::Done(_)), "{delivery:?}\n{}", manager.stderr());
    let active = wait_for("the alert", PATIENCE, || alerts().filter(|alerts| !alerts.is_empty()));
    assert_eq!(active[0]["labels"]["alertname"], "hapilot_agent");
    assert_eq!(active[0]["labels"]["severity"], "info");
    // It would forget it by itself.
    let ends: Timestamp = active[0]["endsAt"].as_str().unwrap().parse().unwrap();
    assert!(ends > Timestamp::now());
    let mut over = told(Change::Resolve);
    over.lines[0].since = active[0]["startsAt"].as_str().unwrap().parse().unwrap();
    assert!(matches!(send(&sink, None, &over), Delivery::Done(_)));
    wait_for("its end", PATIENCE, || alerts().filter(Vec::is_empty));
}

/// A mail server that prints what it takes.
fn mail_server(port: u16, arguments: &[&str]) -> Background {
    let mut command = Command::new("/usr/bin/aiosmtpd");
    command.env("PYTHONUNBUFFERED", "1");
    command.args(["-n", "-l", &format!("127.0.0.1:{port}")]).args(arguments);
    command.args(["-c", "aiosmtpd.handlers.Debugging", "stdout"]);
    let server = Background::start(command);
    wait_for("the mail server", PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    server
}

#[test]
fn a_real_mail_server_takes_the_beginning_and_the_end_into_one_thread() {
    if !program("aiosmtpd") {
        return;
    }
    let port = free_port();
    let server = mail_server(port, &[]);
    let mail = sink(&format!(
        "email = {{ smtp = \"smtp://127.0.0.1:{port}\", from = \"lb@example.com\", to = [\"ops@example.com\", \"b@example.com\"] }}"
    ));
    let now = Timestamp::now();
    for change in [Change::Trigger, Change::Resolve] {
        let mut told = Notification::test("lb1", now, change);
        told.lines[0].text = "größer als\r\n.\r\nerwartet".into();
        let delivery = send(&mail, None, &told);
        assert!(matches!(delivery, Delivery::Done(_)), "{delivery:?}\n{}", server.stderr());
    }
    let said = wait_for("two mails", PATIENCE, || {
        let said = server.stdout();
        (said.matches("END MESSAGE").count() == 2).then_some(said)
    });
    let references: Vec<&str> = said.lines().filter(|line| line.starts_with("References: ")).collect();
    assert_eq!(references.len(), 2, "{said}");
    assert_eq!(references[0], references[1]);
    assert!(said.contains("To: ops@example.com, b@example.com") && said.contains("Subject: OVER: "), "{said}");
    // A recipient whom nobody takes, a server that is gone.
    let nobody =
        sink(&format!("email = {{ smtp = \"smtp://127.0.0.1:{}\", from = \"a@b.c\", to = [\"a@b.c\"] }}", free_port()));
    assert!(matches!(send(&nobody, None, &told(Change::Trigger)), Delivery::Again { .. }));
}

/// A file with a mail sink, and the command that tries it with these authorities.
fn try_mail(dir: &TempDir, smtp: &str, authorities: &Path) -> Finished {
    let file = dir.path().join("hapilot.toml");
    let email = format!("email = {{ {smtp}, from = \"lb@example.com\", to = [\"ops@example.com\"] }}");
    let state = dir.path().join("state");
    write(&file, format!("[node]\nstate = \"{}\"\n{FILE}[alert.mail]\n{email}\n", state.display()));
    let mut command = agent::command(&["-c", file.to_str().unwrap(), "alert", "test", "mail"]);
    command.env("SSL_CERT_FILE", authorities);
    process::run(command, agent::LIMIT)
}

#[test]
fn mail_goes_out_under_tls_from_the_first_byte_or_after_starttls_and_never_without_trust() {
    if !program("aiosmtpd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let identity = authority.signs_with("localhost", 1, |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    });
    write(path("ca.pem"), authority.pem());
    write(path("other.pem"), other.pem());
    write(path("cert.pem"), &identity.pem);
    write(path("key.pem"), &identity.key);
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (cert, key) = (text(path("cert.pem")), text(path("key.pem")));
    let (smtps, starttls, plain) = (free_port(), free_port(), free_port());
    let secure = mail_server(smtps, &["--smtpscert", &cert, "--smtpskey", &key]);
    let upgraded = mail_server(starttls, &["--tlscert", &cert, "--tlskey", &key]);
    let bare = mail_server(plain, &[]);
    for (server, smtp) in [
        (&secure, format!("smtp = \"smtps://localhost:{smtps}\"")),
        (&upgraded, format!("smtp = \"smtp://localhost:{starttls}\", starttls = true")),
    ] {
        let Finished { code, stdout, stderr } = try_mail(&dir, &smtp, &path("ca.pem"));
        assert_eq!(code, Some(0), "{smtp}: {stdout}{stderr}\n{}", server.stderr());
        assert!(stdout.contains("mail (email) took the test"), "{stdout}");
        wait_for("the mail", PATIENCE, || server.stdout().contains("this is a test of hapilot's alerts").then_some(()));
        let Finished { code, stderr, .. } = try_mail(&dir, &smtp, &path("other.pem"));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stderr.contains("mail (email) did not take the test") && stderr.contains("TLS with localhost"),
            "{stderr}"
        );
    }
    let smtp = format!("smtp = \"smtp://localhost:{plain}\", starttls = true");
    let Finished { code, stderr, .. } = try_mail(&dir, &smtp, &path("ca.pem"));
    assert!(code == Some(1) && stderr.contains("offers no STARTTLS"), "{stderr}");
    assert!(!bare.stdout().contains("MESSAGE"), "nothing went out in clear text");
}
