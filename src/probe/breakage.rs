//! What a broken connection means: errors of sockets, TLS and HTTP as outcomes. Pure.

use super::classify::ProbeVerdict;
use crate::health::{Outcome, Phase};
use crate::sys;
use std::error::Error;
use std::io;

/// Judges an error of a socket or of TLS.
pub(super) fn of_io(error: &io::Error) -> ProbeVerdict {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return ProbeVerdict::new(Outcome::Tls, tls_words(tls));
    }
    if sys::lack::is_ours(error) {
        return ProbeVerdict::new(Outcome::SelfCaused, error.to_string());
    }
    let outcome = match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Outcome::Timeout(Phase::Connect)
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Outcome::BadContent,
        _ => Outcome::Reset,
    };
    ProbeVerdict::new(outcome, error.to_string())
}

/// Judges an error of HTTP by its deepest cause.
pub(super) fn of_http(error: &hyper::Error) -> ProbeVerdict {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(at) = cause {
        if let Some(io) = at.downcast_ref::<io::Error>() {
            return of_io(io);
        }
        cause = at.source();
    }
    if error.is_parse() {
        return ProbeVerdict::new(Outcome::BadContent, format!("the answer is not HTTP: {error}"));
    }
    ProbeVerdict::new(Outcome::Reset, error.to_string())
}

fn tls_words(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error as Tls};
    match error {
        Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the certificate has expired ({error})")
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            format!("the certificate is for another name ({error})")
        }
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "nobody known has signed the certificate (set tls.ca for an authority of your own)".to_owned()
        }
        Tls::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
            "the server asks for a certificate of ours (set tls.certificate)".to_owned()
        }
        Tls::InvalidMessage(_) => format!("the server does not speak TLS on this port ({error})"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_ourselves_is_never_blamed_on_the_server() {
        for (number, expected) in [
            (24, Outcome::SelfCaused),
            (23, Outcome::SelfCaused),
            (99, Outcome::SelfCaused),
            (111, Outcome::Refused),
            (104, Outcome::Reset),
            (32, Outcome::Reset),
            (110, Outcome::Timeout(Phase::Connect)),
            (113, Outcome::Timeout(Phase::Connect)),
            (101, Outcome::Timeout(Phase::Connect)),
        ] {
            assert_eq!(of_io(&io::Error::from_raw_os_error(number)).outcome, expected, "{number}");
        }
        assert_eq!(of_io(&io::ErrorKind::UnexpectedEof.into()).outcome, Outcome::Reset);
        assert_eq!(of_io(&io::Error::other(rustls::Error::DecryptError)).outcome, Outcome::Tls);
    }
}
