//! What became of TLS: handshakes by version and kind, alerts by name and by who sent them. A name is one
//! of a fixed list: what a client sends never becomes a label.

use super::{Counter, Lifetimes};
use crate::config::TlsVersion;

/// An alert's description and its name (RFC 8446 §6; no_renegotiation is of RFC 5246 §7.2).
const ALERTS: [(u8, &str); 28] = [
    (0, "close_notify"),
    (10, "unexpected_message"),
    (20, "bad_record_mac"),
    (22, "record_overflow"),
    (40, "handshake_failure"),
    (42, "bad_certificate"),
    (43, "unsupported_certificate"),
    (44, "certificate_revoked"),
    (45, "certificate_expired"),
    (46, "certificate_unknown"),
    (47, "illegal_parameter"),
    (48, "unknown_ca"),
    (49, "access_denied"),
    (50, "decode_error"),
    (51, "decrypt_error"),
    (70, "protocol_version"),
    (71, "insufficient_security"),
    (80, "internal_error"),
    (86, "inappropriate_fallback"),
    (90, "user_canceled"),
    (100, "no_renegotiation"),
    (109, "missing_extension"),
    (110, "unsupported_extension"),
    (112, "unrecognized_name"),
    (113, "bad_certificate_status_response"),
    (115, "unknown_psk_identity"),
    (116, "certificate_required"),
    (120, "no_application_protocol"),
];

/// The name under which those are that have none.
const OTHER: &str = "other";

/// Where an alert is in the list; behind its end if it is not.
fn place(description: u8) -> usize {
    ALERTS.iter().position(|(known, _)| *known == description).unwrap_or(ALERTS.len())
}

/// An alert as RFC 8446 §6 writes it, by its description; `other` if it has none there.
pub fn alert_name(description: u8) -> &'static str {
    ALERTS.get(place(description)).map_or(OTHER, |(_, name)| name)
}

/// How a handshake came to its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeKind {
    /// With a certificate.
    Full,
    /// From an earlier connection, by a ticket (RFC 8446 §2.2, RFC 5077).
    Resumed,
}

impl HandshakeKind {
    /// Both of them.
    pub const ALL: [HandshakeKind; 2] = [HandshakeKind::Full, HandshakeKind::Resumed];

    /// Of a handshake that goes on from an earlier connection, or not.
    pub fn of(is_resumed: bool) -> HandshakeKind {
        if is_resumed { HandshakeKind::Resumed } else { HandshakeKind::Full }
    }

    /// The value of its label.
    pub fn name(self) -> &'static str {
        match self {
            HandshakeKind::Full => "full",
            HandshakeKind::Resumed => "resumed",
        }
    }
}

/// Who has sent an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertBy {
    /// This server.
    Us,
    /// Its peer.
    Peer,
}

impl AlertBy {
    /// Both of them.
    pub const ALL: [AlertBy; 2] = [AlertBy::Us, AlertBy::Peer];

    /// The value of its label.
    pub fn name(self) -> &'static str {
        match self {
            AlertBy::Us => "us",
            AlertBy::Peer => "peer",
        }
    }
}

/// What became of the TLS of one core's connections.
#[derive(Debug)]
pub struct Tls {
    handshakes: [[Counter; HandshakeKind::ALL.len()]; TlsVersion::ALL.len()],
    alerts: [[Counter; AlertBy::ALL.len()]; ALERTS.len() + 1],
    /// Time of handshakes that are over, and were right.
    pub handshake_times: Lifetimes,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            handshakes: Default::default(),
            alerts: [const { [const { Counter::new() }; AlertBy::ALL.len()] }; ALERTS.len() + 1],
            handshake_times: Lifetimes::default(),
        }
    }
}

impl Tls {
    /// Counts a handshake that is over. Only the core that owns this may call it.
    pub fn note_handshake(&self, version: TlsVersion, kind: HandshakeKind) {
        self.handshakes[version as usize][kind as usize].raise();
    }

    /// Counts an alert that ends a connection, by its description. Only the core that owns this may call it.
    pub fn note_alert(&self, description: u8, by: AlertBy) {
        self.alerts[place(description)][by as usize].raise();
    }

    /// How many handshakes there were of a version and a kind.
    pub fn handshakes(&self, version: TlsVersion, kind: HandshakeKind) -> u64 {
        self.handshakes[version as usize][kind as usize].value()
    }

    /// Every alert there was, by name and by who sent it, and how often; in the order of their descriptions.
    pub fn alerts(&self) -> impl Iterator<Item = (&'static str, AlertBy, u64)> {
        let names = ALERTS.iter().map(|(_, name)| *name).chain([OTHER]);
        let all = names.zip(&self.alerts).flat_map(|(name, counts)| {
            AlertBy::ALL.map(|by| (name, by, counts[by as usize].value()))
        });
        all.filter(|(_, _, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard_and_the_unknown_ones_share_one() {
        for (description, name) in [
            (20, "bad_record_mac"),
            (48, "unknown_ca"),
            (115, "unknown_psk_identity"),
            (99, "other"),
        ] {
            assert_eq!(alert_name(description), name);
        }
        let tls = Tls::default();
        (0..=u8::MAX).for_each(|description| tls.note_alert(description, AlertBy::Peer));
        tls.note_alert(20, AlertBy::Us);
        let all: Vec<_> = tls.alerts().collect();
        assert_eq!(all.len(), ALERTS.len() + 2);
        assert_eq!(all.iter().map(|(_, _, count)| count).sum::<u64>(), 257);
        assert!(all.contains(&("bad_record_mac", AlertBy::Us, 1)));
        assert!(all.contains(&("other", AlertBy::Peer, 256 - ALERTS.len() as u64)));
    }

    #[test]
    fn handshakes_are_told_apart() {
        let tls = Tls::default();
        let all = || TlsVersion::ALL.map(|version| HandshakeKind::ALL.map(|kind| (version, kind)));
        for (count, (version, kind)) in (1..).zip(all().concat()) {
            (0..count).for_each(|_| tls.note_handshake(version, kind));
        }
        let counts =
            all().concat().into_iter().map(|(version, kind)| tls.handshakes(version, kind));
        assert_eq!(counts.collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
