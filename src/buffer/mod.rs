//! Owned bytes on their way through one core: received bytes as leases on the core's buffers, bytes
//! to send as batches. Knows no socket and no protocol.
//!
//! ```text
//!   kernel fills a buffer ──► Lease ──► scan, head, handler ──► dropped: the buffer is vacant again
//!                                          └── or pushed into an outbox: sent from where it was received
//! ```

mod collected;
mod outbox;
// Received bytes live in memory that the kernel writes; raw pointers are the honest type for it.
#[allow(unsafe_code)]
mod pool;
mod queue;
mod spare;

pub(crate) use collected::{Collected, Ledger, NoRoom};
pub use outbox::{Batch, Load, Outbox, Payload};
pub use pool::{Lease, Pool, Size, Vacant};
pub use queue::LeaseQueue;
pub use spare::{Spare, Spares};
