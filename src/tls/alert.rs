//! Alerts: how either end says that it has ended, or why it cannot go on (RFC 8446 §6, RFC 5246 §7.2).

use rustls::ContentType;

use super::record::Sealer;
use super::{Fault, TlsAlert};

/// RFC 8446 §6, and RFC 5246 §7.2 where they still mean something.
pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;

/// What an alert that ends nothing says.
pub(super) enum Said {
    Close,
    Nothing,
}

/// What an alert means that has come behind the handshake.
pub(super) fn received(record: &[u8], is_tls13: bool) -> Result<Said, Fault> {
    let [level, description] = *record else {
        return Err(Fault::sent(TlsAlert::DecodeError, "an alert of another length than alerts"));
    };
    match TlsAlert::from(description) {
        TlsAlert::CloseNotify => Ok(Said::Close),
        // RFC 8446 §6.1: a close_notify follows.
        TlsAlert::UserCanceled => Ok(Said::Nothing),
        // RFC 5246 §7.2. RFC 8446 §6: there every other alert ends the connection, whatever its level says.
        _ if level == WARNING && !is_tls13 => Ok(Said::Nothing),
        description => Err(Fault::received(description)),
    }
}

/// The alert that the last record of a handshake's output is, if it is one in the clear.
pub(super) fn last_plain(outgoing: &[u8]) -> Option<TlsAlert> {
    match outgoing.last_chunk::<7>()? {
        [21, 3, _, 0, 2, _, description] => Some((*description).into()),
        _ => None,
    }
}

impl Sealer {
    /// Appends an alert.
    pub(super) fn alert(&mut self, level: u8, description: TlsAlert, out: &mut Vec<u8>) {
        let said = [level, description.into()];
        self.seal(ContentType::Alert, said.len(), out, |out| out.extend_from_slice(&said));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::AlertBy;

    /// What comes of an alert: it closes, ends nothing, or is the end with this alert of this origin.
    fn heard(level: u8, alert: TlsAlert, is_tls13: bool) -> Result<&'static str, AlertBy> {
        match received(&[level, alert.into()], is_tls13) {
            Ok(Said::Close) => Ok("closes"),
            Ok(Said::Nothing) => Ok("ends nothing"),
            Err(fault) => {
                let (origin, said) = fault.alert.expect("a fault with an alert");
                assert_eq!(said, alert);
                Err(origin)
            }
        }
    }

    #[test]
    fn a_level_means_something_in_tls_12_only() {
        for level in 0..=u8::MAX {
            for description in 0..=u8::MAX {
                let alert = TlsAlert::from(description);
                let (closes, canceled) = (alert == TlsAlert::CloseNotify, description == 90);
                let expected = |is_tls13: bool| match () {
                    () if closes => Ok("closes"),
                    () if canceled || (level == WARNING && !is_tls13) => Ok("ends nothing"),
                    () => Err(AlertBy::Peer),
                };
                for is_tls13 in [true, false] {
                    let heard = heard(level, alert, is_tls13);
                    assert_eq!(heard, expected(is_tls13), "{level} {description} {is_tls13}");
                }
            }
        }
    }

    #[test]
    fn an_alert_of_another_length_is_none() {
        for record in [&[][..], &[1], &[1, 0, 0]] {
            let fault = received(record, true).err().expect("a fault");
            assert_eq!(fault.alert, Some((AlertBy::Us, TlsAlert::DecodeError)), "{record:?}");
        }
    }
}
