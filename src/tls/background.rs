//! The scheduler's word for work that nobody waits for.

use std::io;

/// Has the calling thread run only where nothing else wants to, and give way at once to what does
/// (`SCHED_IDLE`, sched(7)): a nice value would let it go on for the rest of its slice.
///
/// # Errors
/// The kernel's; the thread goes on as it is.
pub(super) fn give_way() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameter` is a valid sched_param; process 0 is the calling thread.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_is_scheduled_as_idle() {
        std::thread::spawn(|| {
            give_way().expect("anybody may");
            // SAFETY: process 0 is the calling thread.
            assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_IDLE);
        })
        .join()
        .expect("the thread ends well");
    }
}
