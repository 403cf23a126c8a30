//! Making a ring: its flags, its sizes, and the limits of this process that bound it. Called once
//! by each core, on the thread that will use the ring: the kernel accepts submissions from no
//! other.

use std::fmt;

use io_uring::IoUring;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::{SetupError, errno};
use crate::config::{REFUSING_MAX, RingConfig};

/// Descriptors kept for what is not a connection: listeners, rings, eventfds, log files.
const DESCRIPTORS_KEPT: u32 = 64;

/// Files one ring's table may hold, whatever the limit on descriptors.
const TABLE_MAX: u32 = 1 << 20;

/// Makes the ring of the calling thread, disabled: [`Ring::new`](super::Ring::new) confines and enables
/// it.
///
/// # Errors
/// The kernel refuses io_uring, or is too old for what is needed (6.1).
pub fn build(config: &RingConfig) -> Result<IoUring, SetupError> {
    let submissions = config.submissions.max(8);
    let completions = config.completions.max(submissions);
    if config.without.no_sqarray {
        return with_flags(submissions, completions, false);
    }
    match with_flags(submissions, completions, true) {
        // Only EINVAL can mean an unknown flag. EPERM and ENOSYS are answers, not to be asked for
        // again.
        Err(SetupError::Ring { errno, .. }) if errno.0 == libc::EINVAL => {
            with_flags(submissions, completions, false)
        }
        ring => ring,
    }
}

/// A ring with every flag of Linux 6.1 we use, and without the submission array (6.6) if so asked. It
/// runs nothing before [`restrict::enable`](super::restrict::enable).
pub(super) fn with_flags(
    submissions: u32,
    completions: u32,
    no_sqarray: bool,
) -> Result<IoUring, SetupError> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_cqsize(completions)
        .setup_clamp()
        .setup_submit_all()
        // Who enables the ring is its single issuer; before that, it can be confined.
        .setup_r_disabled()
        .setup_single_issuer()
        // Completions are worked off when we ask, not by interrupting us; the flag tells that there
        // are some.
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_coop_taskrun();
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(submissions).map_err(|error| SetupError::ring("io_uring_setup", &error))
}

/// Gives `uring` a table for `connections` direct descriptors, or for as many as are possible;
/// their number.
///
/// # Errors
/// The kernel has no such tables, or no memory for one.
pub(super) fn file_table(uring: &IoUring, connections: u32) -> Result<u32, SetupError> {
    // A few more than connections: one that is closing still has its place when the next is
    // accepted, as have those that are being refused.
    let beside = DESCRIPTORS_KEPT + REFUSING_MAX;
    let wanted = connections.saturating_add(beside).min(TABLE_MAX);
    // The kernel bounds each ring's table by the limit on descriptors; the entries are not counted
    // against it.
    let files = wanted.min(raise_descriptors().soft_u32());
    match uring.submitter().register_files_sparse(files) {
        Ok(()) => Ok(connections.min(files.saturating_sub(beside).max(1))),
        Err(error) => {
            tracing::debug!(files, errno = errno(&error).0, "register_files_sparse");
            Err(SetupError::ring("io_uring_register(FILES2)", &error))
        }
    }
}

/// Connections one process can have as ordinary descriptors, out of `connections` wanted.
pub(super) fn plain_connections(connections: u32) -> u32 {
    connections.min(raise_descriptors().soft_u32().saturating_sub(DESCRIPTORS_KEPT).max(1))
}

/// Raises the soft limit on descriptors to the hard one, for the whole process; the limit then.
pub(super) fn raise_descriptors() -> Limit {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // A refusal leaves the lower limit, which is what is read again below.
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    Limit::descriptors()
}

/// A limit of this process, `None` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: Option<u64>,
    /// What it can be raised to without privilege.
    pub hard: Option<u64>,
}

impl Limit {
    /// Open files (`RLIMIT_NOFILE`).
    pub fn descriptors() -> Limit {
        Limit::of(Resource::Nofile)
    }

    /// Processes and threads of this user (`RLIMIT_NPROC`).
    pub fn processes() -> Limit {
        Limit::of(Resource::Nproc)
    }

    /// Bytes that may be locked in memory (`RLIMIT_MEMLOCK`).
    pub fn locked_memory() -> Limit {
        Limit::of(Resource::Memlock)
    }

    fn of(resource: Resource) -> Limit {
        let limit = getrlimit(resource);
        Limit { soft: limit.current, hard: limit.maximum }
    }

    pub(super) fn soft_u32(self) -> u32 {
        self.soft.and_then(|soft| u32::try_from(soft).ok()).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.soft {
            Some(soft) => write!(f, "{soft}"),
            None => f.write_str("unlimited"),
        }
    }
}
