//! `tunnel`: a switched connection is another server's. The request is replayed to a backend, whose
//! 101 is required before this server's own; from then on bytes go both ways as they are.
//!
//! ```text
//!   request ──► Opening::later ──► connect, replay ──► 101 ──► Switch ──► relay
//!                                     └─ 502, 504     └─ other answers are passed on
//! ```

mod opening;
mod relay;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, Forwarded, SettingError, Terms};
use crate::upgrade::{Opening, Protocol};

/// Time that a decision may take beyond what its parts may, in milliseconds: those say better what
/// was late.
const DECISION_SLACK_MS: u64 = 1000;

/// What an operator may set of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSettings {
    /// Milliseconds for a connection to the backend, over all of its addresses. Over it: 504.
    /// Default 3000: one lost SYN is sent again after 1000.
    pub connect_timeout_ms: u64,
    /// Milliseconds from there to the backend's answer. Over it: 504. Default 10 000.
    pub answer_timeout_ms: u64,
    /// Milliseconds in which no byte goes either way. Over it: both connections are closed. 0 for
    /// any time. Default 3 600 000: many protocols are silent for long, and a peer that is gone
    /// without a word is gone for good.
    pub idle_timeout_ms: u64,
    /// The same once one side has ended its direction. Default 60 000: of a TCP connection that is
    /// closed no more can be seen than that.
    pub half_closed_timeout_ms: u64,
    /// How requests go to the backend.
    pub terms: Terms,
}

impl Default for TunnelSettings {
    fn default() -> TunnelSettings {
        TunnelSettings {
            connect_timeout_ms: 3000,
            answer_timeout_ms: 10_000,
            idle_timeout_ms: 3_600_000,
            half_closed_timeout_ms: 60_000,
            terms: Terms::default(),
        }
    }
}

/// A backend that connections are switched to.
///
/// ```
/// use upring::{Resource, Tunnel};
///
/// let tunnel = Tunnel::to("127.0.0.1:9000".parse()?);
/// let chat = Resource::new().upgrade(tunnel.protocol("websocket")).upgrade_required();
/// # Ok::<(), upring::BackendAddressError>(())
/// ```
#[derive(Clone)]
pub struct Tunnel {
    backend: Backend,
    settings: TunnelSettings,
}

/// What the tunnels of all cores share.
struct Plan {
    backend: Backend,
    settings: TunnelSettings,
    /// The token, as it is registered.
    protocol: Box<str>,
}

impl Tunnel {
    /// To this backend, with the usual settings.
    pub fn to(backend: Backend) -> Tunnel {
        Tunnel { backend, settings: TunnelSettings::default() }
    }

    /// With these settings.
    ///
    /// # Errors
    /// One of them cannot be sent to a backend.
    pub fn with(self, settings: TunnelSettings) -> Result<Tunnel, SettingError> {
        settings.terms.check()?;
        Ok(Tunnel { settings, ..self })
    }

    /// The tunnel as the protocol of this token: what is asked of the backend, and must stand in
    /// its 101. Needs the hosted mode.
    ///
    /// As of any protocol, its versions, methods and content can be said: what is taken is
    /// replayed.
    ///
    /// # Panics
    /// If `name` is not a token (RFC 9110 §5.6.2).
    pub fn protocol(&self, name: &str) -> Protocol {
        let Tunnel { backend, settings } = self.clone();
        let parts_ms = settings.connect_timeout_ms.saturating_add(settings.answer_timeout_ms);
        let timeout = Duration::from_millis(parts_ms.saturating_add(DECISION_SLACK_MS));
        let names_clients = settings.terms.forwarded != Forwarded::Off;
        let plan = Arc::new(Plan { backend, settings, protocol: name.into() });
        Protocol::new(name, move |opening: &Opening<'_>| opening::decide(&plan, opening))
            .needs_runtime()
            .naming_clients(names_clients)
            .decision_timeout(timeout)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({})", self.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_a_protocol_that_needs_a_runtime_and_time_for_its_parts() {
        let tunnel = Tunnel::to("127.0.0.1:9".parse().unwrap());
        let settings = TunnelSettings { connect_timeout_ms: 1, ..TunnelSettings::default() };
        let protocol = tunnel.with(settings).unwrap().protocol("websocket");
        assert!(protocol.needs_spawn() && protocol.name() == "websocket");
        assert_eq!(protocol.timeout(), Some(Duration::from_millis(11_001)));
        assert!(protocol.names_clients(), "as the usual terms have it");
    }

    #[test]
    fn settings_that_cannot_be_sent_are_refused() {
        let terms = Terms { host: Some("a b".to_owned()), ..Terms::default() };
        let settings = TunnelSettings { terms, ..TunnelSettings::default() };
        let tunnel = Tunnel::to("127.0.0.1:9".parse().unwrap());
        assert_eq!(tunnel.with(settings).unwrap_err().name, "host");
    }
}
