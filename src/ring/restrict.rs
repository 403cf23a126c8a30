//! What a data ring can be asked to do: the one table of it. A ring is made disabled; what it needs for
//! good (its table of files, its buffers, its registered descriptor) is registered then, and after that
//! it is confined to this table and enabled. From there on the kernel answers EACCES to all else, so
//! that who comes to write into a queue, or to call `io_uring_register`, opens no file, connects to
//! nobody and registers nothing by way of this ring (`IORING_REGISTER_RESTRICTIONS`,
//! io_uring_register(2)).
//!
//! ```text
//!   io_uring_setup (R_DISABLED) ──► files, buffers, descriptor ──► confine ──► enable ──► submissions
//! ```
//!
//! The runtime's own ring (`host::hosted`) is not confined: async handlers open files and connect.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{Submitter, opcode};

use super::error::SetupError;
use super::tier::Tier;

/// Operations of any ring of ours. Multishots have the number of their single form.
const OPERATIONS: [u8; 10] = [
    opcode::Accept::CODE,
    opcode::AsyncCancel::CODE,
    opcode::Close::CODE,
    opcode::PollAdd::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::Shutdown::CODE,
    opcode::Timeout::CODE,
    opcode::TimeoutUpdate::CODE,
];

/// Operations on direct descriptors beside those. Kernels before 6.8 do not know them all, and refuse a
/// table that names what they do not know.
const OPERATIONS_DIRECT: [u8; 2] = [opcode::FixedFdInstall::CODE, opcode::SetSockOpt::CODE];

/// Flags of submissions.
const FLAGS: Flags = Flags::FIXED_FILE.union(Flags::BUFFER_SELECT).union(Flags::IO_HARDLINK);

// Numbers of `io_uring_register` in the kernel's interface.
const REGISTER_EVENTFD: u8 = 4;
const UNREGISTER_EVENTFD: u8 = 5;
const UNREGISTER_RING_FDS: u8 = 21;
const UNREGISTER_PBUF_RING: u8 = 23;

/// Registrations of a ring that runs: the host's wake descriptor comes when there is a host, and all of
/// them end before the ring does.
const REGISTRATIONS: [u8; 4] =
    [REGISTER_EVENTFD, UNREGISTER_EVENTFD, UNREGISTER_RING_FDS, UNREGISTER_PBUF_RING];

/// The operations of a tier.
pub(super) fn operations(tier: Tier) -> impl Iterator<Item = u8> {
    let beside: &[u8] = match tier {
        Tier::Direct => &OPERATIONS_DIRECT,
        Tier::Plain => &[],
    };
    OPERATIONS.into_iter().chain(beside.iter().copied())
}

/// Confines a ring that is not enabled yet to what `tier` takes. It holds from
/// [`enable`] on and cannot be undone.
///
/// # Errors
/// The kernel's: the ring is enabled or confined already, or a seccomp profile denies it.
pub(super) fn confine(submitter: &Submitter<'_>, tier: Tier) -> io::Result<()> {
    let mut allowed: Vec<Restriction> = operations(tier).map(Restriction::sqe_op).collect();
    allowed.push(Restriction::sqe_flags_allowed(FLAGS.bits()));
    allowed.extend(REGISTRATIONS.map(Restriction::register_op));
    submitter.register_restrictions(&mut allowed)
}

/// Lets a ring that was made disabled run. The calling thread is the one that submits from now on:
/// the kernel takes submissions from no other.
///
/// # Errors
/// The kernel refuses.
pub(super) fn enable(submitter: &Submitter<'_>) -> Result<(), SetupError> {
    submitter
        .register_enable_rings()
        .map_err(|error| SetupError::ring("io_uring_register(ENABLE_RINGS)", &error))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The code of every file here that asks the real kernel for something, tests aside.
    fn code() -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ring");
        let files = fs::read_dir(folder).expect("it is here").flatten().map(|entry| entry.path());
        let asks = |path: &std::path::PathBuf| {
            let aside = ["restrict.rs", "loopback.rs"];
            path.is_file() && !aside.iter().any(|name| path.ends_with(name))
        };
        let code = files.filter(asks).map(|path| {
            let text = fs::read_to_string(path).expect("it is text");
            text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
        });
        code.collect()
    }

    /// The words that follow `mark` wherever it stands in `text`, up to the end of each name.
    fn named<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
        let is_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
        text.split(mark).skip(1).map(move |rest| rest.split(|c| !is_name(c)).next().unwrap_or(""))
    }

    /// The operation that an entry of this type asks for.
    fn number(name: &str) -> Option<u8> {
        Some(match name {
            "Accept" | "AcceptMulti" => opcode::Accept::CODE,
            "AsyncCancel" | "AsyncCancel2" => opcode::AsyncCancel::CODE,
            "Close" => opcode::Close::CODE,
            "FixedFdInstall" => opcode::FixedFdInstall::CODE,
            "PollAdd" => opcode::PollAdd::CODE,
            "Recv" | "RecvMulti" => opcode::Recv::CODE,
            "Send" => opcode::Send::CODE,
            "SendMsg" => opcode::SendMsg::CODE,
            "SetSockOpt" => opcode::SetSockOpt::CODE,
            "Shutdown" => opcode::Shutdown::CODE,
            "Timeout" => opcode::Timeout::CODE,
            "TimeoutUpdate" => opcode::TimeoutUpdate::CODE,
            // Of the probe alone, to see it refused.
            "Nop" => return None,
            _ => panic!("the table of what a ring may be asked for does not know {name}"),
        })
    }

    #[test]
    fn the_table_has_what_the_code_asks_for_and_nothing_else() {
        let code = code();
        let mut asked: Vec<u8> = named(&code, "opcode::").filter_map(number).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut allowed: Vec<u8> = operations(Tier::Direct).collect();
        allowed.sort_unstable();
        assert_eq!(asked, allowed);
        // Two of them may be of one number, and the table may not be longer for it.
        assert!(operations(Tier::Plain).all(|operation| allowed.contains(&operation)));
        for flag in named(&code, " Flags::").chain(named(&code, "(Flags::")) {
            let flag = Flags::from_name(flag).unwrap_or_else(|| panic!("{flag}"));
            assert!(FLAGS.contains(flag), "{flag:?}");
        }
    }

    #[test]
    fn a_running_ring_registers_what_the_table_says_and_nothing_else() {
        let code = code();
        let before = ["buf_ring_with_flags", "ring_fd", "files_sparse", "enable_rings"];
        let running = [
            (".register_eventfd", REGISTER_EVENTFD),
            (".unregister_eventfd", UNREGISTER_EVENTFD),
            (".unregister_ring_fd", UNREGISTER_RING_FDS),
            (".unregister_buf_ring", UNREGISTER_PBUF_RING),
        ];
        let of_us = ["wake"];
        for (prefix, mark) in [("register", ".register_"), ("unregister", ".unregister_")] {
            for name in named(&code, mark) {
                let is_before = prefix == "register" && before.contains(&name);
                let call = format!(".{prefix}_{name}");
                let is_running = running.iter().any(|(known, _)| *known == call);
                assert!(is_before || is_running || of_us.contains(&name), "{call}");
            }
        }
        for (call, number) in running {
            assert!(code.contains(call) && REGISTRATIONS.contains(&number), "{call}");
        }
        assert_eq!(running.len(), REGISTRATIONS.len());
    }

    /// Whether a running ring may be asked for this.
    pub(in crate::ring) fn is_registration(number: u8) -> bool {
        REGISTRATIONS.contains(&number)
    }
}
