//! HTTP/1.1 as values: heads read as spans, the framing of content, and responses written as bytes.
//!
//! The session calls everything here, protocol handlers see [`Request`] and [`Response`]. Nothing
//! here does I/O, reads a clock, or keeps received bytes: a [`Head`] and its [`Field`]s are numbers
//! that point into the caller's buffer.
//!
//! ```text
//!   read_whole_head, or scan::head_end ─► read_head
//!     └──────────────────┬───────────────────┘
//!                        ├─► framing ─► Chunked::step ...              (requests, RFC 9112)
//!                        └─► Request ─► handler ─► Response | Ready ─► bytes
//! ```
//!
//! Numbers such as U-53 name the rows of the project's requirement table.

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

pub mod list;

mod authority;
mod chunked;
mod date;
mod diagnosis;
mod error;
mod field;
mod framing;
mod head;
mod method;
mod normal;
mod one_pass;
mod ready;
mod request;
mod response;
mod secured;
mod status;
mod target;
mod trailers;
mod writer;

pub use chunked::{ChunkError, ChunkLimits, Chunked, SIZE_DIGITS_MAX, Step as ChunkStep};
pub use date::Date;
pub use error::HeadError;
pub use field::{Field, FieldError, Fields, HEAD_BYTES_MAX, Span};
pub use framing::{Codings, Framing, Lengths, framing};
pub use head::{
    ConnectionOptions, FIELDS_CAPACITY, Head, HeadLimits, Version, overflow_fault, read_head,
};
pub use method::{Method, MethodSet};
pub use normal::normal_path;
pub use one_pass::read_whole_head;
#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
pub use one_pass::read_whole_head_narrowly;
pub use ready::Ready;
pub use request::{OwnedRequest, Request, percent_decoded};
pub use response::{CONTINUE, ContentFraming, Form, Persistence, Response, write_switching};
pub use secured::Secured;
pub use status::Status;
pub use target::TargetForm;
pub use trailers::Trailers;
pub use writer::ResponseWriter;
