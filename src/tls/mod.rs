//! TLS between the engine and a session (RFC 8446, RFC 5246): what the kernel brings is opened where it lies,
//! and what a session writes is sealed on its way out. Neither session, nor upgrade, nor a handler
//! knows of it.
//!
//! ```text
//!   received ──► Layer ── a record at a time ──► session ── a turn's writes ──► Layer ──► sent
//!                  │ Handshake: rustls', until the keys are agreed on
//!                  └ Open: our own records, with rustls' ciphers
//! ```
//!
//! A record is opened only when the session has used up the one before it: what waits, waits sealed.

mod acceptor;
mod alarm;
mod alert;
#[allow(unsafe_code)] // calls the scheduler, which none of the crates offers
mod background;
mod certificates;
mod fault;
mod handshake;
mod hello;
mod incoming;
mod layer;
mod ocsp;
mod offload;
mod open;
mod record;
mod watch;

pub use acceptor::{Acceptor, Expiry, Renewed, Staple};
pub(crate) use alarm::Alarm;
pub use certificates::CertificateError;
pub(crate) use fault::Fault;
pub use fault::TlsAlert;
pub(crate) use handshake::Lent;
pub(crate) use layer::{Layer, Place, Step};
pub(crate) use offload::Offload;
pub use watch::Watch;
