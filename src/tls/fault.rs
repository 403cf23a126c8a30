//! Why TLS cannot go on, in words for a log and as the alert that says it on the wire.

use std::borrow::Cow;
use std::fmt;

use rustls::Error;

/// An alert's description (RFC 8446 §6.2).
pub use rustls::AlertDescription as TlsAlert;

/// Who has said that it cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// We have, or are going to.
    Here,
    /// The peer has.
    Peer,
}

/// Why a connection's TLS is over before its time.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The alert, where one says it.
    pub(crate) alert: Option<(Origin, TlsAlert)>,
    /// rustls has made the alert, if there is one.
    pub(super) is_said: bool,
    why: Cow<'static, str>,
}

impl Fault {
    /// We say so, with this alert.
    pub(super) fn sent(alert: TlsAlert, why: &'static str) -> Fault {
        Fault { alert: Some((Origin::Here, alert)), is_said: false, why: why.into() }
    }

    /// The peer has said so.
    pub(super) fn received(alert: TlsAlert) -> Fault {
        let why = format!("the peer says {}", alert_name(alert)).into();
        Fault { alert: Some((Origin::Peer, alert)), is_said: true, why }
    }

    /// An error of rustls. Of a handshake it sends the alert itself.
    pub(super) fn of(error: Error) -> Fault {
        let alert = match error {
            Error::AlertReceived(alert) => return Fault::received(alert),
            Error::DecryptError => Some((Origin::Here, TlsAlert::BadRecordMac)),
            Error::PeerSentOversizedRecord => Some((Origin::Here, TlsAlert::RecordOverflow)),
            // Sealed already in TLS 1.3: it cannot be read off what is sent.
            Error::NoCertificatesPresented => Some((Origin::Here, TlsAlert::CertificateRequired)),
            Error::InvalidCertificate(ref why) => Some((Origin::Here, why.clone().into())),
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

    /// The same, which rustls has said with this alert.
    pub(super) fn or_sent(mut self, alert: Option<TlsAlert>) -> Fault {
        self.alert = self.alert.or(alert.map(|alert| (Origin::Here, alert)));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.alert {
            Some((Origin::Here, alert)) => write!(f, "{}: {}", alert_name(alert), self.why),
            _ => f.write_str(&self.why),
        }
    }
}

/// An alert as RFC 8446 §6 writes it.
fn alert_name(alert: TlsAlert) -> String {
    let said = format!("{alert:?}");
    let mut name = String::new();
    for (at, letter) in said.char_indices() {
        let is_upper = |at: usize| said[at..].starts_with(|next: char| next.is_ascii_uppercase());
        let is_lower = |at: usize| said[at..].starts_with(|next: char| next.is_ascii_lowercase());
        // A word begins; an abbreviation is one.
        if at > 0 && is_upper(at) && (is_lower(at - 1) || is_lower(at + 1)) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_has_the_name_of_the_standard() {
        for (alert, name) in [
            (TlsAlert::CloseNotify, "close_notify"),
            (TlsAlert::UnknownCA, "unknown_ca"),
            (TlsAlert::UnknownPSKIdentity, "unknown_psk_identity"),
            (TlsAlert::BadRecordMac, "bad_record_mac"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }
}
