//! The conformance rows of `tests/conformance/*.txt`: their reader, and the runner that plays them
//! against a server. An integration test includes this tree by `mod`, implements [`Target`] for the
//! server in its hands (or takes [`tcp::Loopback`]), calls [`run`] and prints the [`Report`].
//!
//! ```text
//!   *.txt ──rows──► Row, Case ──segments──► steps ──► Peer (the server under test)
//!             │                                          │
//!             └─notation─► Expected ──verdict──◄── Collected
//! ```
//!
//! Nothing here imports the crate under test: the rows judge it from outside, by its bytes.

#![allow(dead_code, reason = "each integration test that includes this tree uses a part of it")]
#![allow(
    unused_imports,
    reason = "the names below are the public face of the tree; each test takes what it needs"
)]
#![allow(
    unreachable_pub,
    reason = "the tree is a private module of each test that includes it, and its interface all the same"
)]

mod answer;
mod case;
mod notation;
mod peer;
mod rows;
mod run;
mod segments;
pub mod tcp;
mod verdict;

pub use case::{
    Case, Demand, Exchange, Expected, Level, Output, Probe, Row, RowFile, Segments, Step,
};
pub use notation::show;
pub use peer::{Collected, Ending, Peer, Target, Wait};
pub use rows::{all, parse};
pub use run::{Failure, Report, run};
pub use segments::{Cuts, Variant, Variants};
