//! `upring lint`: sends what the requirement table is about to any HTTP/1.1 server and judges, from
//! outside, what comes back. `main` calls it; it knows nothing of this server.
//!
//! ```text
//!   vectors/ ──► Vector ──► steps ──► connection ──► events ──► rules ──► Verdict ──► Report
//!                  facts: what the target can do, and whether it is still there
//! ```

mod answers;
mod connection;
mod facts;
mod frames;
mod notation;
mod report;
mod rule;
mod run;
mod target;
mod vector;
mod verdict;

use std::net::{SocketAddr, ToSocketAddrs};

pub use connection::Exchange;
pub use report::{Report, Result};
pub use run::run;
pub use target::{Target, Upgrade};
pub use vector::{Level, Vector, vectors};
pub use verdict::Verdict;

/// What to send where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who is linted.
    pub target: Target,
    /// Rows to send, `U-5*` for all that begin so; all if there is none.
    pub rows: Vec<String>,
    /// Vectors a second at most; 0 for as many as there can be.
    pub rate: u32,
    /// Whether the target may be another machine.
    pub is_remote_allowed: bool,
}

/// Why nothing was sent. The operator is at fault, or the target is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LintError {
    /// The target is no address.
    #[error("{target} is not HOST:PORT, or no such host is known")]
    Unresolved {
        /// As it was given.
        target: String,
    },
    /// The target is another machine, or may be.
    #[error(
        "{address} is not this machine. What lint sends is what attackers send: request smuggling, \
         malformed heads, a megabyte of fields. Send it to servers you answer for only, and say \
         --remote then"
    )]
    Remote {
        /// Where it would have gone.
        address: SocketAddr,
    },
    /// An ordinary request is not answered.
    #[error("{address} does not answer GET {path} as it should: {why}")]
    Unanswered {
        /// Who was asked.
        address: SocketAddr,
        /// For what.
        path: String,
        /// What came instead.
        why: String,
    },
    /// The path that is said to take content does not.
    #[error("POST {path} {why}: --post-path names a path that reads content and answers below 400")]
    Unposted {
        /// The path.
        path: String,
        /// What it does instead.
        why: String,
    },
    /// No vector is of this row.
    #[error("no vector is of the row {row}; `upring lint --list` names them")]
    NoRow {
        /// As it was given.
        row: String,
    },
}

/// The addresses that `text` names.
///
/// # Errors
/// It names none.
pub fn resolve(text: &str) -> std::result::Result<Vec<SocketAddr>, LintError> {
    let unresolved = || LintError::Unresolved { target: text.to_owned() };
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(|_| unresolved())?.collect();
    if addresses.is_empty() { Err(unresolved()) } else { Ok(addresses) }
}
