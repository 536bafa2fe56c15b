//! Certificates in the running HAProxy: observed, replaced, added to a crt-list and taken out of it.
//!
//! A private key travels as payload only, and appears in no error. HAProxy knows one transaction at a time; one that
//! somebody else left open is never touched, and where ours fails it is aborted, so that what served before serves on.
//!
//! **Source**: management guide, `set ssl cert` and its neighbours; the answers are those of 2.6.12, 3.0.11, 3.2.26.

use super::command::{Pipeline, word};
use super::error::AdminError;
use super::pem::common_name_in;
use super::session::Session;
use super::trust;
use super::verb::words;
use crate::model::Certificate;
use crate::plan::{CertificateStep, ListEntry, RuntimeCertificate, RuntimeCertificates};
use crate::render::TrustBundle;
use camino::Utf8Path;
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Time for all questions: a thousand certificates answer in a tenth of it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest payload that is ever tried; whether it fits into this worker's buffer, the plan decides.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Asks the worker for these crt-lists, for every certificate that is in one of them or among `paths`, and for what those
/// of clients are judged by.
///
/// A list, certificate or file that the worker does not know is missing from the answer.
///
/// # Errors
/// As [`observe`](super::observe()); nobody listening is one, too.
pub async fn observe_certificates(
    admin_socket: &Utf8Path,
    lists: &[String],
    paths: &[String],
    trust: &[&TrustBundle],
) -> Result<RuntimeCertificates, AdminError> {
    let mut found = RuntimeCertificates::default();
    if lists.is_empty() {
        return Ok(found);
    }
    let (mut session, _) = Session::with_serving_worker(admin_socket, Instant::now() + DEADLINE).await?;
    let mut questions = Pipeline::default();
    for list in lists {
        questions.push(&format!("show ssl crt-list -n {}", word(list)?))?;
    }
    for (list, reply) in lists.iter().zip(session.run(&questions).await?) {
        if let Some(entries) = parse_list(&reply).map_err(|problem| session.unreadable("show ssl crt-list", problem))? {
            found.lists.insert(list.clone(), entries);
        }
    }
    let listed = found.lists.values().flatten().map(|entry| entry.path.clone());
    let paths: BTreeSet<String> = paths.iter().cloned().chain(listed).collect();
    let mut questions = Pipeline::default();
    for path in &paths {
        questions.push(&format!("show ssl cert {}", word(path)?))?;
    }
    for (path, reply) in paths.into_iter().zip(session.run(&questions).await?) {
        if let Some(certificate) =
            parse_certificate(&reply).map_err(|problem| session.unreadable("show ssl cert", problem))?
        {
            found.stores.insert(path, certificate);
        }
    }
    found.trust = trust::observe(&mut session, trust).await?;
    Ok(found)
}

/// Reads `show ssl crt-list -n`: a line with the list's name, then `PATH:LINE` and perhaps options.
fn parse_list(reply: &str) -> Result<Option<Vec<ListEntry>>, String> {
    if reply.starts_with("didn't find the specified filename") {
        return Ok(None);
    }
    let mut lines = reply.lines();
    if !lines.next().is_some_and(|first| first.starts_with("# ")) {
        return Err(format!("it begins with {:?}", words(reply)));
    }
    let entry = |line: &str| {
        let (path, number) = line.split_whitespace().next()?.rsplit_once(':')?;
        Some(ListEntry { path: path.to_owned(), line: number.parse().ok()? })
    };
    let entries = lines.filter(|line| !line.trim().is_empty());
    let entries: Option<Vec<_>> = entries.map(entry).collect();
    entries.map(Some).ok_or_else(|| "a line has no path and number".to_owned())
}

/// Reads `show ssl cert PATH`.
fn parse_certificate(reply: &str) -> Result<Option<RuntimeCertificate>, String> {
    if reply.contains("Not found or the certificate is a bundle") {
        return Ok(None);
    }
    let value = |wanted: &str| {
        let mut fields = reply.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| *key == wanted).map(|(_, value)| value.trim())
    };
    if !reply.starts_with("Filename: ") {
        return Err(format!("it begins with {:?}", words(reply)));
    }
    let of_chain = |wanted: &str| -> Vec<&str> {
        let fields = reply.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| *key == wanted).map(|(_, value)| value).collect()
    };
    let chain = of_chain("Chain Subject").into_iter().zip(of_chain("Chain Issuer"));
    Ok(Some(RuntimeCertificate {
        fingerprint: value("SHA1 FingerPrint").unwrap_or_default().to_owned(),
        chain: chain
            .filter(|(subject, issuer)| subject != issuer)
            .map(|(subject, _)| common_name_in(subject))
            .collect(),
        not_after: value("notAfter").and_then(date),
    }))
}

/// `Feb  9 08:56:45 2027 GMT`
pub(super) fn date(text: &str) -> Option<Timestamp> {
    let plain: Vec<&str> = text.strip_suffix(" GMT")?.split_whitespace().collect();
    let local = DateTime::strptime("%b %d %H:%M:%S %Y", plain.join(" ")).ok()?;
    local.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Carries out one step. The inner error is HAProxy's own words, or why nothing was sent.
pub(super) async fn carry_out(session: &mut Session, step: &CertificateStep) -> Result<Result<(), String>, AdminError> {
    let done = |reply: String, is_done: bool| if is_done { Ok(()) } else { Err(words(&reply)) };
    match step {
        CertificateStep::Store { certificate, is_new } => store(session, certificate, *is_new).await,
        CertificateStep::Add { list, path } => {
            let reply = session.ask(&format!("add ssl crt-list {} {}", word(list)?, word(path)?)).await?;
            let is_done = says_success(&reply);
            Ok(done(reply, is_done))
        }
        CertificateStep::Remove { list, entry: ListEntry { path, line } } => {
            let reply = session.ask(&format!("del ssl crt-list {} {}:{line}", word(list)?, word(path)?)).await?;
            let is_done = reply.contains("deleted in crtlist");
            Ok(done(reply, is_done))
        }
        CertificateStep::Trust(bundle) => trust::replace(session, bundle).await,
        CertificateStep::Forget { path } => {
            let reply = session.ask(&format!("del ssl cert {}", word(path)?)).await?;
            // In use: by a line of the operator's own, which keeps it.
            let is_done =
                ["deleted!", "in use, can't be deleted", "doesn't exist"].iter().any(|end| reply.contains(end));
            Ok(done(reply, is_done))
        }
    }
}

/// One transaction: afterwards the certificate is the new one, or as it was.
async fn store(
    session: &mut Session,
    certificate: &Certificate,
    is_new: bool,
) -> Result<Result<(), String>, AdminError> {
    let Certificate { path, pem, .. } = certificate;
    let id = word(path.as_str())?;
    // 2.6 would put our certificate into an open transaction about another one.
    if let Some(open) = open_transaction(&session.ask("show ssl cert").await?).filter(|open| open != path) {
        return Ok(Err(format!(
            "somebody has a transaction about {open} open on the admin socket; `abort ssl cert {open}` ends it"
        )));
    }
    if is_new {
        let reply = session.ask(&format!("new ssl cert {id}")).await?;
        if !reply.contains("New empty certificate store") && !reply.contains("already exists") {
            return Ok(Err(words(&reply)));
        }
    }
    let mut set = Pipeline::default();
    set.push_payload_within(&format!("set ssl cert {id}"), pem.expose(), MAX_PAYLOAD_BYTES)?;
    let reply = session.run(&set).await?.pop().unwrap_or_default();
    let is_set = ["created", "updated"]
        .iter()
        .any(|verb| reply.contains(&format!("Transaction {verb} for certificate {path}!")));
    let reply = if is_set { session.ask(&format!("commit ssl cert {id}")).await? } else { reply };
    if is_set && says_success(&reply) {
        return Ok(Ok(()));
    }
    session.ask(&format!("abort ssl cert {id}")).await?;
    if is_new {
        session.ask(&format!("del ssl cert {id}")).await?;
    }
    Ok(Err(words(&reply)))
}

/// The path in `# transaction` and `*PATH`, with which `show ssl cert` begins while one is open.
pub(super) fn open_transaction(reply: &str) -> Option<&str> {
    reply.lines().find_map(|line| line.strip_prefix('*'))
}

pub(super) fn says_success(reply: &str) -> bool {
    reply.lines().map(str::trim).rfind(|line| !line.is_empty()) == Some("Success!")
}

#[cfg(test)]
mod tests {
    use super::{date, open_transaction, parse_certificate, parse_list, says_success};

    #[test]
    fn a_list_is_read_with_its_line_numbers_and_options() {
        let reply = "# crt-lists/api.list\n/x/a:1.pem:1\n/x/b.pem:4 [alpn h2,http/1.1] *.test !no.test\n";
        let entries = parse_list(reply).unwrap().unwrap();
        let entries: Vec<_> = entries.iter().map(|entry| (entry.path.as_str(), entry.line)).collect();
        assert_eq!(entries, [("/x/a:1.pem", 1), ("/x/b.pem", 4)]);
        assert_eq!(parse_list("didn't find the specified filename\n"), Ok(None));
        for broken in ["", "Permission denied", "# list\n/x/a.pem\n", "# list\n/x/a.pem:x\n"] {
            assert!(parse_list(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_certificate_is_read_with_its_chain_without_roots() {
        let reply = "Filename: /x/a.pem\nStatus: Used\nnotAfter: Feb  9 08:56:45 2027 GMT\nSHA1 FingerPrint: 0A1B\n\
                     Subject: /CN=a\nChain Subject: /C=US/CN=R3\nChain Issuer: /CN=Root\nChain Subject: /CN=Root\n\
                     Chain Issuer: /CN=Root\n";
        let found = parse_certificate(reply).unwrap().unwrap();
        assert_eq!((found.fingerprint.as_str(), found.chain), ("0A1B", vec!["R3".to_owned()]));
        assert_eq!(found.not_after.unwrap().to_string(), "2027-02-09T08:56:45Z");
        let empty = parse_certificate("Filename: /x/a.pem\nStatus: Empty\nOCSP Response Key: \n").unwrap().unwrap();
        assert_eq!((empty.fingerprint.as_str(), empty.not_after), ("", None));
        let unknown = "Can't display the certificate: Not found or the certificate is a bundle!\n";
        assert_eq!(parse_certificate(unknown), Ok(None));
        assert!(parse_certificate("Permission denied").is_err());
        assert_eq!(date("Feb 30 08:56:45 2027 GMT"), None);
    }

    #[test]
    fn success_is_the_last_word_only() {
        assert!(says_success("Committing /x/a.pem..\nSuccess!\n"));
        assert!(!says_success("Success!\nCan't commit /x/a.pem!"));
        assert!(!says_success(""));
        assert_eq!(open_transaction("# transaction\n*/x/a.pem\n# filename\n/x/b.pem\n"), Some("/x/a.pem"));
        assert_eq!(open_transaction("# filename\n/x/b.pem\n"), None);
    }
}
