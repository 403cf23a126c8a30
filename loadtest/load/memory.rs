//! The memory of a server: of a process, and of those it has started. Called by `idle.rs`.

use std::io;
use std::thread;
use std::time::Duration;

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

/// That of `pid` and its descendants, once it has settled.
///
/// # Errors
/// There is no such process.
pub(crate) fn settled(pid: u32) -> io::Result<Memory> {
    let mut last = now(pid)?;
    for _ in 0..SETTLE_TRIES {
        thread::sleep(SETTLE);
        let now = now(pid)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

fn now(pid: u32) -> io::Result<Memory> {
    let bytes = |field| tree::sum(pid, |process| tree::status_bytes(process, field));
    Ok(Memory { rss_bytes: bytes("VmRSS")?, anon_bytes: bytes("RssAnon")? })
}
