//! What this kernel can do, found by doing it: a scratch ring leads one connection from accept to
//! close, once with ordinary descriptors and once with direct ones. A version number would not tell
//! what a seccomp profile, a module or a backport has changed.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{io, io::Write, thread};

use io_uring::squeue::Entry;
use io_uring::types::{self, CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::buffers::BufferRing;
use super::error::{SetupError, errno};
use super::restrict;
use super::setup;
use super::tier::{self, Tier};
use super::{Errno, Handle, Receipts};
use crate::buffer::{Pool, Size};
use crate::config::Without;

/// How long one rehearsed operation may take: all of them are ready when they are asked for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The optional features of this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Every operation of the direct tier works.
    pub direct_descriptors: bool,
    /// The ring's own descriptor can be registered, which saves a look-up for each call.
    pub registered_ring: bool,
    /// The submission queue works without its array.
    pub no_sqarray: bool,
    /// A ring can be confined to what is asked of it.
    pub restrictions: bool,
}

impl Features {
    /// What this kernel has, found out once for the whole process.
    ///
    /// # Errors
    /// io_uring is denied, or something that is needed is missing.
    pub fn find() -> Result<Features, SetupError> {
        static FOUND: OnceLock<Features> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(*found);
        }
        // On a thread of its own: the kernel's worker threads that this leaves end with it, and none
        // keeps the rights of a process that drops them.
        let features = thread::scope(|scope| {
            let asked = thread::Builder::new().spawn_scoped(scope, Features::ask);
            let asked = asked.map_err(|error| SetupError::thread(&error))?;
            asked.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        Ok(*FOUND.get_or_init(|| features))
    }

    fn ask() -> Result<Features, SetupError> {
        if let Some(lack) = lacking(&rehearse(Tier::Plain)?) {
            return Err(SetupError::ring(
                lack.name,
                &lack.outcome.expect_err("it is lacking").into(),
            ));
        }
        Ok(Features {
            direct_descriptors: lacking(&rehearse(Tier::Direct)?).is_none(),
            registered_ring: registers_ring(&setup::with_flags(8, 16, false)?),
            no_sqarray: setup::with_flags(8, 16, true).is_ok(),
            restrictions: Scratch::new()?.is_confined(),
        })
    }

    /// Without those that are forced off.
    pub fn without(self, without: Without) -> Features {
        Features {
            direct_descriptors: self.direct_descriptors && !without.direct_descriptors,
            registered_ring: self.registered_ring && !without.registered_ring,
            no_sqarray: self.no_sqarray && !without.no_sqarray,
            restrictions: self.restrictions && !without.restrictions,
        }
    }
}

/// One operation that was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) purpose: &'static str,
    pub(super) outcome: Result<(), Errno>,
}

/// The first step that did not work: what follows it was not tried.
pub(super) fn lacking(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|step| step.outcome.is_err())
}

/// Leads one connection through everything a tier needs; ends at the first step that does not work.
pub(super) fn rehearse(tier: Tier) -> Result<Vec<Step>, SetupError> {
    let mut scratch = Scratch::new()?;
    let mut steps = Vec::new();
    let mut step = |name, purpose, outcome: io::Result<u32>| {
        steps.push(Step { name, purpose, outcome: outcome.as_ref().map(drop).map_err(errno) });
        outcome
    };
    // An error has been noted as the outcome of its step.
    let _ = scratch.lead(tier, &mut step);
    Ok(steps)
}

fn registers_ring(uring: &IoUring) -> bool {
    let mut submitter = uring.submitter();
    submitter.register_ring_fd().is_ok() && submitter.unregister_ring_fd().is_ok()
}

/// A small ring of its own, and buffers for it.
struct Scratch {
    uring: IoUring,
    buffers: ManuallyDrop<BufferRing>,
    operations: u64,
}

impl Scratch {
    fn new() -> Result<Scratch, SetupError> {
        let uring = setup::with_flags(8, 16, false)?;
        let buffers = ManuallyDrop::new(BufferRing::new(Pool::new(2, 64), Size::Usual, 2));
        Ok(Scratch { uring, buffers, operations: 0 })
    }

    fn lead(
        &mut self,
        tier: Tier,
        step: &mut impl FnMut(&'static str, &'static str, io::Result<u32>) -> io::Result<u32>,
    ) -> io::Result<()> {
        // SAFETY: `Scratch::drop` drops the buffers only after they were unregistered.
        let registered = unsafe { self.buffers.register(&self.uring.submitter()) };
        step("PBUF_RING", "receive buffers, lent while bytes wait", registered.map(|()| 0))?;
        self.buffers.refill();
        if tier == Tier::Direct {
            let table = self.uring.submitter().register_files_sparse(4);
            step(
                "FILES2 (sparse)",
                "direct descriptors: a table of files of the ring's own",
                table.map(|()| 0),
            )?;
        }
        // As the ring that serves; whether it works has a line of its own.
        let _ = restrict::confine(&self.uring.submitter(), tier);
        let enabled = self.uring.submitter().register_enable_rings();
        step("ENABLE_RINGS", "a ring is confined before it runs", enabled.map(|()| 0))?;
        let (listener, mut client) = connected()?;
        client.write_all(b"!")?;
        let accept = tier.accept_many(types::Fd(listener.as_raw_fd()));
        let accepted = self.run(accept);
        let accepted =
            step("ACCEPT multishot", "one submission for all connections of a listener", accepted)?;
        let handle = Handle(accepted);
        let received = self.run(tier.receive(handle, Receipts::Many));
        step("RECV multishot", "one submission for all that a connection receives", received)?;
        if tier == Tier::Direct {
            let installed = self.run(tier::install(handle));
            let installed = step(
                "FIXED_FD_INSTALL",
                "a handler may ask for an ordinary descriptor",
                installed,
            )?;
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(installed.cast_signed()) });
            let set = self.run(tier::linger_zero(handle));
            step("URING_CMD setsockopt", "a direct descriptor can be reset", set)?;
        }
        let ended = self.run(tier.shutdown(handle));
        step("SHUTDOWN", "ends our direction and goes on reading", ended)?;
        let closed = self.run(tier.close(handle));
        step("CLOSE", "closes a connection without a call of its own", closed)?;
        Ok(())
    }

    /// Whether an operation that is not in the table is refused.
    fn is_confined(&mut self) -> bool {
        let submitter = self.uring.submitter();
        let is_enabled =
            restrict::confine(&submitter, Tier::Plain).and(submitter.register_enable_rings());
        let refused = is_enabled.and_then(|()| self.run(opcode::Nop::new().build()));
        refused.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES))
    }

    /// Runs one operation to its first completion.
    fn run(&mut self, entry: Entry) -> io::Result<u32> {
        self.operations += 1;
        let entry = entry.user_data(self.operations);
        let wait = Timespec::from(PATIENCE);
        // SAFETY: what these operations refer to is static, or buffers that live until they are
        // unregistered.
        unsafe { self.uring.submission().push(&entry) }.map_err(|_| io::ErrorKind::ResourceBusy)?;
        loop {
            self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&wait))?;
            for cqe in self.uring.completion() {
                if cqe.user_data() == self.operations {
                    return outcome(&cqe);
                }
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to cancel is an error too; what counts is whether the buffers are ours again.
        let _ = self.run(opcode::AsyncCancel2::new(CancelBuilder::any()).build());
        if self.buffers.unregister(&self.uring.submitter()).is_ok() {
            // SAFETY: dropped once, here, and no kernel knows the buffer ring any more.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

fn outcome(cqe: &cqueue::Entry) -> io::Result<u32> {
    u32::try_from(cqe.result()).map_err(|_| io::Error::from_raw_os_error(-cqe.result()))
}

/// A connection that needs no network: an abstract socket has neither a path nor an interface.
fn connected() -> io::Result<(UnixListener, UnixStream)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("upring-probe-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let client = UnixStream::connect_addr(&address)?;
    Ok((listener, client))
}

#[cfg(test)]
mod tests {
    use io_uring::squeue::Flags;

    use super::*;

    #[test]
    fn what_is_forced_off_is_not_used() {
        let [all, none] = [true, false].map(|has| Features {
            direct_descriptors: has,
            registered_ring: has,
            no_sqarray: has,
            restrictions: has,
        });
        let without = Without {
            direct_descriptors: true,
            registered_ring: true,
            no_sqarray: true,
            restrictions: true,
        };
        assert_eq!((all.without(without), all.without(Without::default())), (none, all));
    }

    /// A confined ring that runs; `None`, aloud, where there is none to be had.
    fn confined(tier: Tier) -> Option<Scratch> {
        let scratch = match Scratch::new() {
            Ok(scratch) => scratch,
            Err(denied) => {
                eprintln!("SKIPPED, io_uring is denied here: {denied}");
                return None;
            }
        };
        let submitter = scratch.uring.submitter();
        match restrict::confine(&submitter, tier) {
            Ok(()) => {}
            Err(error) if tier == Tier::Direct && error.raw_os_error() == Some(libc::EINVAL) => {
                eprintln!("SKIPPED, this kernel does not know all of what direct descriptors take");
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        submitter.register_enable_rings().expect("it was made disabled");
        Some(scratch)
    }

    #[test]
    fn the_kernel_refuses_every_operation_that_is_not_in_the_table_and_no_other() {
        for tier in [Tier::Plain, Tier::Direct] {
            let Some(mut scratch) = confined(tier) else { return };
            let mut refused = 0;
            for operation in 0..=u8::MAX {
                let mut entry = opcode::Nop::new().build();
                // SAFETY: an entry is the 64 bytes of `io_uring_sqe`, which begins with the operation.
                unsafe { (&raw mut entry).cast::<u8>().write(operation) };
                let outcome = scratch.run(entry);
                let errno = outcome.expect_err("of no file").raw_os_error();
                let is_allowed = restrict::operations(tier).any(|allowed| allowed == operation);
                let is_refused = errno == Some(libc::EACCES);
                assert!(is_refused != (is_allowed || is_unknown(errno)), "{operation}: {errno:?}");
                refused += u32::from(is_refused);
            }
            // Linux 6.1 has 48 of them.
            assert!(refused >= 48 - 12, "{refused}");
            let linked = opcode::AsyncCancel::new(1).build();
            for flag in [Flags::IO_DRAIN, Flags::IO_LINK, Flags::ASYNC] {
                let errno =
                    scratch.run(linked.clone().flags(flag)).expect_err("flags").raw_os_error();
                assert_eq!(errno, Some(libc::EACCES), "{flag:?}");
            }
        }
    }

    /// The kernel looks whether it knows an operation before it looks whether it is allowed.
    fn is_unknown(errno: Option<i32>) -> bool {
        errno == Some(libc::EINVAL)
    }

    #[test]
    fn the_kernel_refuses_every_registration_that_is_not_in_the_table() {
        let Some(scratch) = confined(Tier::Plain) else { return };
        let ring = scratch.uring.as_raw_fd();
        let nothing = std::ptr::null::<libc::c_void>();
        let mut count = 0;
        for number in (0..35).filter(|number| !restrict::tests::is_registration(*number)) {
            // SAFETY: what is refused reads nothing, and all of these read nothing from null.
            let refused = unsafe {
                libc::syscall(libc::SYS_io_uring_register, ring, u32::from(number), nothing, 0)
            };
            let errno = io::Error::last_os_error().raw_os_error();
            let is_refused = errno == Some(libc::EACCES);
            assert!(refused == -1 && (is_refused || is_unknown(errno)), "{number}: {errno:?}");
            count += u32::from(is_refused);
        }
        // Linux 6.1 has 26 of them.
        assert!(count >= 26 - 4, "{count}");
    }

    #[test]
    fn what_was_found_is_remembered() {
        let start = std::time::Instant::now();
        let Ok(first) = Features::find() else {
            return eprintln!("SKIPPED, io_uring is denied here");
        };
        let cold = start.elapsed();
        let start = std::time::Instant::now();
        assert_eq!(Features::find().ok(), Some(first));
        eprintln!("{first:?} in {cold:?}, again in {:?}", start.elapsed());
    }

    #[test]
    fn a_kernel_that_allows_io_uring_has_all_that_is_needed() {
        match rehearse(Tier::Plain) {
            Ok(steps) => assert!(lacking(&steps).is_none(), "{steps:?}"),
            Err(denied) => eprintln!("SKIPPED, io_uring is denied here: {denied}"),
        }
    }
}
