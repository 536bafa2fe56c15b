//! `certificate_expiry`: how long the certificates of a server are still valid, by a handshake with the server's very
//! settings. No request is sent.

use super::asking::Asking;
use super::classify::ProbeVerdict;
use super::exchange::{dial, handshake};
use crate::health::Outcome;
use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use x509_parser::parse_x509_certificate;

const DAY_S: i64 = 86_400;

pub(super) async fn probe(asking: Asking<'_>, warn_below: Duration) -> Result<String, ProbeVerdict> {
    let until = Instant::now() + asking.connect;
    let tcp = dial(asking.target, until).await?;
    let tls = handshake(asking.target, asking.trust, tcp, until).await?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let expiry =
        first_expiry(chain).ok_or_else(|| ProbeVerdict::new(Outcome::Tls, "the server showed no certificate"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(words(&expiry, i64::try_from(now).unwrap_or(i64::MAX), warn_below))
}

/// The certificate of a chain that expires first.
#[derive(Debug, PartialEq)]
struct Expiry {
    /// Seconds since 1970.
    at: i64,
    /// None: the server's own; else the name of an authority between.
    authority: Option<String>,
}

fn first_expiry(chain: &[CertificateDer<'_>]) -> Option<Expiry> {
    let expiries = chain.iter().enumerate().filter_map(|(place, der)| {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let authority = (place > 0).then(|| certificate.subject().to_string());
        Some(Expiry { at: certificate.validity().not_after.timestamp(), authority })
    });
    expiries.min_by_key(|expiry| expiry.at)
}

/// A line for people; it begins with `warning:` where there is need to act.
fn words(expiry: &Expiry, now_s: i64, warn_below: Duration) -> String {
    let left_s = expiry.at.saturating_sub(now_s);
    let day =
        jiff::Timestamp::from_second(expiry.at).map_or_else(|_| "?".to_owned(), |at| at.strftime("%F").to_string());
    let whose = match &expiry.authority {
        None => "the certificate".to_owned(),
        Some(name) => format!("the certificate of the authority {name}"),
    };
    // Only an unverified server gets so far with one.
    if left_s < 0 {
        return format!("warning: {whose} expired on {day}");
    }
    let left = match left_s / DAY_S {
        0 => format!("{} hours", left_s / 3600),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    let warning = if left_s.unsigned_abs() < warn_below.as_secs() { "warning: " } else { "" };
    format!("{warning}{whose} is valid for {left}, until {day}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_told_and_few_of_them_are_a_warning() {
        let fortnight = Duration::from_secs(14 * 86_400);
        let left = |seconds: i64, authority: Option<&str>| {
            let expiry = Expiry { at: 1_800_000_000, authority: authority.map(str::to_owned) };
            words(&expiry, 1_800_000_000 - seconds, fortnight)
        };
        assert_eq!(left(40 * DAY_S, None), "the certificate is valid for 40 days, until 2027-01-15");
        assert_eq!(left(14 * DAY_S, None), "the certificate is valid for 14 days, until 2027-01-15");
        assert_eq!(left(14 * DAY_S - 1, None), "warning: the certificate is valid for 13 days, until 2027-01-15");
        assert_eq!(left(7200, None), "warning: the certificate is valid for 2 hours, until 2027-01-15");
        assert_eq!(left(-1, Some("CN=R3")), "warning: the certificate of the authority CN=R3 expired on 2027-01-15");
        assert_eq!(first_expiry(&[]), None);
    }
}
