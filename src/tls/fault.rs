//! Why TLS cannot go on, in words for a log and as the alert that says it on the wire.

use std::borrow::Cow;
use std::fmt;

use rustls::{Error, PeerMisbehaved};

use crate::counters::{self, AlertBy};

/// An alert's description (RFC 8446 §6.2).
pub use rustls::AlertDescription as TlsAlert;

/// Why a connection's TLS is over before its time.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The alert, where one says it, and who has sent it or is going to.
    pub(crate) alert: Option<(AlertBy, TlsAlert)>,
    /// rustls has made the alert, if there is one.
    pub(super) is_said: bool,
    why: Cow<'static, str>,
}

impl Fault {
    /// We say so, with this alert.
    pub(super) fn sent(alert: TlsAlert, why: &'static str) -> Fault {
        Fault { alert: Some((AlertBy::Us, alert)), is_said: false, why: why.into() }
    }

    /// The peer has said so.
    pub(super) fn received(alert: TlsAlert) -> Fault {
        let why = format!("the peer says {}", alert_name(alert)).into();
        Fault { alert: Some((AlertBy::Peer, alert)), is_said: true, why }
    }

    /// An error of rustls. Of a handshake it sends the alert itself.
    pub(super) fn of(error: Error) -> Fault {
        let alert = match error {
            Error::AlertReceived(alert) => return Fault::received(alert),
            Error::DecryptError => Some((AlertBy::Us, TlsAlert::BadRecordMac)),
            Error::PeerSentOversizedRecord => Some((AlertBy::Us, TlsAlert::RecordOverflow)),
            // What it says of these is sealed already in TLS 1.3, and cannot be read from what it has to send.
            // Others are sent with several alerts or with none, and say nothing here.
            Error::InvalidCertificate(ref why) => Some((AlertBy::Us, why.clone().into())),
            Error::NoCertificatesPresented => Some((AlertBy::Us, TlsAlert::CertificateRequired)),
            Error::NoApplicationProtocol => Some((AlertBy::Us, TlsAlert::NoApplicationProtocol)),
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(PeerMisbehaved::KeyEpochWithPendingFragment) => {
                Some((AlertBy::Us, TlsAlert::UnexpectedMessage))
            }
            _ => None,
        };
        Fault { alert, is_said: true, why: error.to_string().into() }
    }

    /// The connection ended in the middle.
    pub(super) fn cut_off() -> Fault {
        Fault {
            alert: None,
            is_said: true,
            why: "the peer left before the handshake was over".into(),
        }
    }

    /// The alert's description and who has sent it, if one was.
    pub(crate) fn said(&self) -> Option<(u8, AlertBy)> {
        self.alert.map(|(by, alert)| (alert.into(), by))
    }

    /// The same, with this alert if it has none.
    pub(super) fn or_sent(mut self, alert: Option<TlsAlert>) -> Fault {
        self.alert = self.alert.or(alert.map(|alert| (AlertBy::Us, alert)));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.alert {
            Some((AlertBy::Us, alert)) => write!(f, "{}: {}", alert_name(alert), self.why),
            _ => f.write_str(&self.why),
        }
    }
}

/// An alert as RFC 8446 §6 writes it; one that has no name there, by its number.
fn alert_name(alert: TlsAlert) -> Cow<'static, str> {
    match counters::alert_name(alert.into()) {
        "other" => format!("alert {}", u8::from(alert)).into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::ContentType;

    use super::*;

    #[test]
    fn a_fault_names_its_alert_as_the_standard_does() {
        for (fault, text) in [
            (Fault::received(TlsAlert::UnknownCA), "the peer says unknown_ca"),
            (Fault::received(TlsAlert::from(99)), "the peer says alert 99"),
            (Fault::sent(TlsAlert::DecodeError, "why"), "decode_error: why"),
        ] {
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn what_rustls_says_sealed_has_its_alert() {
        // RFC 8446 §4.4.2.4, §5.1, §6.2, RFC 7301 §3.2.
        let expired = Error::InvalidCertificate(rustls::CertificateError::Expired);
        let (expect_types, got_type) = (vec![ContentType::Handshake], ContentType::ApplicationData);
        let unfit = Error::InappropriateMessage { expect_types, got_type };
        for (error, alert) in [
            (expired, TlsAlert::CertificateExpired),
            (Error::NoCertificatesPresented, TlsAlert::CertificateRequired),
            (Error::NoApplicationProtocol, TlsAlert::NoApplicationProtocol),
            (unfit, TlsAlert::UnexpectedMessage),
            (PeerMisbehaved::KeyEpochWithPendingFragment.into(), TlsAlert::UnexpectedMessage),
        ] {
            let fault = Fault::of(error);
            assert_eq!((fault.alert, fault.is_said), (Some((AlertBy::Us, alert)), true));
        }
    }
}
