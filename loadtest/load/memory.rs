//! The memory of a server: of a process, and of those it has started. Called by `idle.rs`.

use std::io;
use std::thread;
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::tree;

/// Memory is settled when it stays the same for this long.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_TRIES: usize = 20;

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All resident pages, the program's own text included.
    pub(crate) rss_bytes: u64,
    /// Pages of the heap, stacks and whatever else was written to.
    pub(crate) anon_bytes: u64,
}

/// That of `pid` and its descendants, once it has settled, or nobody waits for that any more.
///
/// # Errors
/// There is no such process, or it has no memory of its own; its number is named.
pub(crate) fn settled(pid: u32, interrupt: &Interrupt) -> io::Result<Memory> {
    let mut last = now(pid)?;
    for _ in 0..SETTLE_TRIES {
        if interrupt.has_come() {
            break;
        }
        thread::sleep(SETTLE);
        let now = now(pid)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// The same, as it is now.
///
/// # Errors
/// Those of [`settled`].
pub(crate) fn now(pid: u32) -> io::Result<Memory> {
    let bytes = |field| tree::sum(pid, |process| tree::status_bytes(process, field));
    let memory = || Ok(Memory { rss_bytes: bytes("VmRSS")?, anon_bytes: bytes("RssAnon")? });
    memory().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("memory of process {pid}: {error}"))
    })
}
