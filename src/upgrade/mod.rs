//! The Upgrade: what a client offers, what is registered, which of it is chosen, and what a
//! protocol handler is.
//!
//! ```text
//!   request ──► offer ──┐
//!                       ├──► negotiate ──► Switch: decide ──► 101, handler
//!   registry ─► resource┘            └───► Plain: answer
//! ```
//!
//! Negotiation is a pure function. Handlers see received bytes as leases and an outbox; they know
//! no socket.

// Nothing a peer sends may end in a panic: what could is refused here, and each exception says why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod asynchronous;
mod handler;
mod negotiate;
mod offer;
mod promise;
mod protocol;
mod wake;

pub(crate) use handler::moving_cost;
pub use handler::{CloseReason, Control, Detached, Handler, Io};
pub use negotiate::{Order, Outcome, negotiate};
pub use offer::{Offer, Unusable};
pub use promise::{Awaiting, Promise};
pub use protocol::{Decide, Decision, EarlyData, Opening, Protocol, ProtocolVersion, Switch};
pub(crate) use wake::Connected;
pub use wake::{ConnectionWaker, CoreWaker, Mailbox, Spawn, Visited};
