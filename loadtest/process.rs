//! Where and how a thread may run, and how many files a process may open, for the load generator
//! and the measuring tool. What is started afterwards inherits all of it.

use std::io;

/// Confines the calling thread, and every thread and process it starts from now on, to one core.
pub(crate) fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is a plain array of bits, for which all zeroes (no core) is a value.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE.cast_unsigned() as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `core` was just seen to lie within the set.
    unsafe { libc::CPU_SET(core, &mut cores) };
    // SAFETY: `cores` is a cpu_set_t of the size given; process 0 is the calling thread.
    let outcome =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread, and what it starts from now on, another scheduling policy. `priority`
/// is 0 for every policy but the real-time ones.
pub(crate) fn schedule_as(policy: i32, priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameter` is a valid sched_param; process 0 is the calling thread.
    let outcome = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets this process, and what it starts from now on, open as many files as an unprivileged process
/// may ask for: the usual 1024 are fewer than a load test's connections.
pub(crate) fn raise_open_files_max() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit behind a valid pointer; `limit` is one.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    debug_assert_eq!(outcome, 0, "RLIMIT_NOFILE always exists");
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit.
    let outcome = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
