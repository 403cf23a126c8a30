//! `upring lint`: sends what the requirement table is about to any HTTP/1.1 server and judges, from
//! outside, what comes back. `main` calls it; it knows nothing of this server.
//!
//! ```text
//!   vectors.txt ──► Vector ──► bytes ──► connection ──► Exchange ──► Verdict ──► Report
//! ```

mod exchange;
mod report;
mod target;
mod vector;
mod verdict;

use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

pub use report::{Report, Result};
pub use target::Target;
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
    /// The target is another machine.
    #[error(
        "{address} is not this machine. What lint sends is what attackers send: request smuggling, \
         malformed heads, a megabyte of fields. Send it to servers you answer for only, and say \
         --remote then"
    )]
    Remote {
        /// Where it would have gone.
        address: std::net::SocketAddr,
    },
    /// An ordinary request is not answered.
    #[error("{address} does not answer GET {path}: {why}")]
    Unanswered {
        /// Who was asked.
        address: std::net::SocketAddr,
        /// For what.
        path: String,
        /// What came instead.
        why: String,
    },
    /// No vector is of these rows.
    #[error("no vector is of the rows {rows}; `upring lint --list` names them")]
    NoRows {
        /// As they were given.
        rows: String,
    },
}

/// Sends all that was asked for, one connection each, and says what came of it. `told` is told of
/// each as soon as it is judged.
///
/// # Errors
/// Nothing could be sent.
pub fn run(
    options: &Options,
    mut told: impl FnMut(&Result),
) -> std::result::Result<Report, LintError> {
    let Target { address, path, .. } = &options.target;
    if !address.ip().to_canonical().is_loopback() && !options.is_remote_allowed {
        return Err(LintError::Remote { address: *address });
    }
    let chosen: Vec<Vector> =
        vectors().into_iter().filter(|vector| is_chosen(vector, &options.rows)).collect();
    if chosen.is_empty() {
        return Err(LintError::NoRows { rows: options.rows.join(", ") });
    }
    let plain = exchange::plain(&options.target).map_err(|why| LintError::Unanswered {
        address: *address,
        path: path.clone(),
        why,
    })?;
    let pause = match options.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(1) / rate,
    };
    let mut results = Vec::new();
    for vector in chosen {
        let begun = Instant::now();
        let result = judge(vector, &options.target, &plain);
        told(&result);
        results.push(result);
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
    Ok(Report { address: *address, server: plain.server, results })
}

/// The address that `text` names.
///
/// # Errors
/// It names none.
pub fn resolve(text: &str) -> std::result::Result<std::net::SocketAddr, LintError> {
    let unresolved = || LintError::Unresolved { target: text.to_owned() };
    text.to_socket_addrs().map_err(|_| unresolved())?.next().ok_or_else(unresolved)
}

fn judge(vector: Vector, target: &Target, plain: &exchange::Plain) -> Result {
    let begun = Instant::now();
    let Some(writes) = vector.writes(target) else {
        let why = format!("needs {}", vector.needs.option());
        return Result::skipped(vector, why);
    };
    let exchange = exchange::converse(target, &writes, vector.want);
    let verdict = verdict::judge(&vector, target, plain, &exchange);
    Result { vector, verdict, sent: writes.concat(), exchange, took: begun.elapsed() }
}

fn is_chosen(vector: &Vector, rows: &[String]) -> bool {
    let is_one = |row: &String| match row.strip_suffix('*') {
        Some(beginning) => vector.row.starts_with(beginning),
        None => vector.row == row,
    };
    rows.is_empty() || rows.iter().any(is_one)
}
