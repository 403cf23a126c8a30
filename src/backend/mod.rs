//! Servers behind this one: where they are, connections to them, the head of a request as they get
//! it, and their answers, read strictly. The tunnel and the proxy are built on it; it knows
//! neither.
//!
//! ```text
//!   Request ──► Terms ──► head ──► Connection ──► backend
//!   client  ◄── Payload ◄── AnswerContent ◄── AnswerHead ◄──┘
//! ```
//!
//! Connections are tokio's, on the core's own runtime: a wait that is given up takes nothing, an
//! idle connection owns no buffer, and a closed one is closed at once. tokio-uring 0.5 cancels no
//! operation: a read that is given up would keep its buffer, and the connection open, until its
//! backend speaks.

// Nothing a peer sends may end in a panic: what could is refused here, and each exception says why
// it cannot.
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

mod address;
mod answer;
mod connection;
mod content;
mod error;
mod hops;
mod path;
mod pool;
mod replay;
mod settings;
mod together;

pub use address::{Backend, BackendAddressError};
pub(crate) use answer::{AnswerHead, Extent, final_head};
pub(crate) use connection::Connection;
pub(crate) use content::AnswerContent;
pub(crate) use error::{BackendError, Late};
pub(crate) use pool::{Pool, Pooled};
pub use replay::{Forwarded, Terms};
pub(crate) use replay::{Purpose, hops_left};
pub use settings::SettingError;
pub(crate) use together::{Either, Side, beside, both, first};

use std::net::IpAddr;
use std::rc::Rc;

use crate::buffer::Spares;
use crate::http::Request;
use crate::upgrade::Mailbox;

/// Bytes of the head of an answer; a backend that sends more is answered for with 502.
pub const ANSWER_HEAD_BYTES_MAX: usize = 32 * 1024;

/// Fields of the head of an answer; a backend that sends more is answered for with 502.
pub const ANSWER_FIELDS_MAX: usize = 100;

/// Interim answers (1xx) before the final one; a backend that sends more is answered for with 502.
pub const INTERIM_ANSWERS_MAX: usize = 16;

/// Connection options of one message; a request with more is answered 400, an answer with more is
/// faulty. Each is compared with each field.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// The address of who sent a request, if the server knows it.
pub(crate) fn client_of(request: Request<'_>) -> Option<IpAddr> {
    request.client().map(|client| client.ip())
}

/// The buffers that this core reads from all backends into.
pub(crate) fn spares(mailbox: &Mailbox) -> Rc<Spares> {
    static PLACE: u8 = 0;
    mailbox.resident(&raw const PLACE as usize, Spares::default)
}
