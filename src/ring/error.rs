//! Why a start cannot work, said so that an operator can act: which call, which errno, the likely
//! cause, and the command that mends it.

use std::fmt;
use std::io;

use super::Errno;
use super::setup::Limit;
use crate::config::ListenAddress;

/// A start that cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The kernel refused a call on the ring.
    #[error("{call}: {errno:?}; {cause}")]
    Ring {
        /// The call, and the operation where there is one.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
        /// What it most likely means.
        cause: Cause,
    },
    /// An address cannot be listened on.
    #[error("{call} on {address}: {errno:?}; {cause}")]
    Listener {
        /// The call.
        call: &'static str,
        /// The address of the configuration.
        address: ListenAddress,
        /// What the kernel said.
        errno: Errno,
        /// What it most likely means.
        cause: Cause,
    },
}

/// The likely cause of a refusal. Displayed, it ends with the command that mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The call does not exist here.
    NoSuchCall,
    /// An operator has turned io_uring off: the value of `kernel.io_uring_disabled`.
    Disabled(u8),
    /// A seccomp profile or security module denies it.
    Denied,
    /// The call exists, but not with what is needed.
    KernelTooOld,
    /// Locked memory has run out, or memory altogether.
    LockedMemory(Limit),
    /// File descriptors have run out.
    Descriptors(Limit),
    /// Threads have run out: the limit on those of this user, or of a service's processes.
    Threads(Limit),
    /// Another socket is there.
    AddressInUse,
    /// The address is of none of this host's interfaces.
    AddressNotHere,
    /// A port below 1024 needs a capability.
    Privileged,
    /// The address family is turned off.
    FamilyMissing,
    /// Somebody listens on this Unix socket.
    SocketInUse,
    /// At the path of a Unix socket is something else.
    NotSocket,
    /// The folder of a Unix socket's path is not there.
    NoFolder,
    /// Symbolic links of the path of a Unix socket lead nowhere.
    LinkLoop,
    /// The path of a Unix socket is longer than the kernel takes.
    PathTooLong,
    /// The same of a path that is made with a process id behind it.
    PlaceTooLong,
    /// The path of a Unix socket may not be made, or looked at.
    FolderClosed,
    /// Nothing is known about it.
    Unknown,
}

impl SetupError {
    pub(crate) fn ring(call: &'static str, error: &io::Error) -> SetupError {
        let errno = errno(error);
        SetupError::Ring { call, errno, cause: Cause::of_ring(errno) }
    }

    pub(crate) fn thread(error: &io::Error) -> SetupError {
        SetupError::Ring {
            call: "pthread_create",
            errno: errno(error),
            cause: Cause::of_call(error),
        }
    }

    pub(crate) fn listener(
        call: &'static str,
        address: ListenAddress,
        error: &io::Error,
    ) -> SetupError {
        let errno = errno(error);
        let cause = match address {
            ListenAddress::Tcp(_) => Cause::of_listener(errno),
            ListenAddress::Unix(_) => Cause::of_path(errno),
        };
        SetupError::Listener { call, address, errno, cause }
    }

    /// The likely cause.
    pub fn cause(&self) -> Cause {
        match self {
            SetupError::Ring { cause, .. } | SetupError::Listener { cause, .. } => *cause,
        }
    }

    /// Whether this host denies io_uring as such, whatever this program asks of it.
    pub fn is_denied(&self) -> bool {
        matches!(self.cause(), Cause::NoSuchCall | Cause::Disabled(_) | Cause::Denied)
    }
}

impl Cause {
    /// What the error of a call means that a start cannot do without.
    pub(crate) fn of_call(error: &io::Error) -> Cause {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Cause::Descriptors(Limit::descriptors()),
            // pthread_create(3): the only one of a thread with the usual attributes.
            Some(libc::EAGAIN) => Cause::Threads(Limit::processes()),
            _ => Cause::Unknown,
        }
    }

    /// What an errno of a ring's set-up means on this host.
    pub(super) fn of_ring(errno: Errno) -> Cause {
        match errno.0 {
            libc::ENOSYS => Cause::NoSuchCall,
            libc::EPERM | libc::EACCES => Cause::of_denial(sysctl("kernel/io_uring_disabled")),
            libc::EINVAL | libc::EOPNOTSUPP => Cause::KernelTooOld,
            libc::ENOMEM => Cause::LockedMemory(Limit::locked_memory()),
            libc::EMFILE | libc::ENFILE => Cause::Descriptors(Limit::descriptors()),
            // What an operation comes to that takes a thread of the kernel, where there can be none.
            libc::ECANCELED => Cause::Threads(Limit::processes()),
            _ => Cause::Unknown,
        }
    }

    /// What a denial means where `kernel.io_uring_disabled` is this, or cannot be read
    /// (Documentation/admin-guide/sysctl/kernel.rst).
    fn of_denial(disabled: Option<i64>) -> Cause {
        match disabled {
            Some(value @ 1..=2) => Cause::Disabled(value as u8),
            _ => Cause::Denied,
        }
    }

    fn of_listener(errno: Errno) -> Cause {
        match errno.0 {
            libc::EADDRINUSE => Cause::AddressInUse,
            libc::EADDRNOTAVAIL => Cause::AddressNotHere,
            libc::EACCES => Cause::Privileged,
            libc::EAFNOSUPPORT => Cause::FamilyMissing,
            libc::EMFILE | libc::ENFILE => Cause::Descriptors(Limit::descriptors()),
            libc::EPERM => Cause::Denied,
            _ => Cause::Unknown,
        }
    }

    fn of_path(errno: Errno) -> Cause {
        match errno.0 {
            libc::EADDRINUSE => Cause::SocketInUse,
            libc::EEXIST | libc::ENOTDIR => Cause::NotSocket,
            libc::ENOENT => Cause::NoFolder,
            libc::ENAMETOOLONG => Cause::PathTooLong,
            libc::ELOOP => Cause::LinkLoop,
            libc::EACCES | libc::EPERM | libc::EROFS => Cause::FolderClosed,
            libc::EMFILE | libc::ENFILE => Cause::Descriptors(Limit::descriptors()),
            _ => Cause::Unknown,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoSuchCall => f.write_str(
                "the kernel is older than 5.1 or built without io_uring, or a seccomp profile hides it: `uname -r` \
                 must say 6.1 or later; in a container, allow io_uring_setup, io_uring_enter and io_uring_register \
                 (`docker run --security-opt seccomp=PROFILE.json`)",
            ),
            Cause::Disabled(2) => f.write_str(
                "io_uring is turned off for every process: `sysctl -w kernel.io_uring_disabled=0` turns it on",
            ),
            Cause::Disabled(_) => f.write_str(
                "io_uring is turned off for processes outside kernel.io_uring_group: add this process's group with \
                 `sysctl -w kernel.io_uring_group=GID`, or `sysctl -w kernel.io_uring_disabled=0`",
            ),
            Cause::Denied => f.write_str(
                "a seccomp profile or security module denies it, as containers' default profiles do: allow \
                 io_uring_setup, io_uring_enter and io_uring_register \
                 (`docker run --security-opt seccomp=PROFILE.json`)",
            ),
            Cause::KernelTooOld => {
                f.write_str("the kernel is likely older than 6.1, the oldest this server runs on: see `uname -r`")
            }
            Cause::LockedMemory(limit) => write!(
                f,
                "memory that may be locked has likely run out (RLIMIT_MEMLOCK is {limit} bytes): `ulimit -l unlimited`, \
                 or `LimitMEMLOCK=infinity` in the systemd unit, or fewer buffers and smaller queues",
            ),
            Cause::Descriptors(limit) => write!(
                f,
                "file descriptors have run out (RLIMIT_NOFILE is {limit}): `ulimit -n 1048576`, or \
                 `LimitNOFILE=1048576` in the systemd unit",
            ),
            Cause::Threads(limit) => write!(
                f,
                "threads have run out (RLIMIT_NPROC of this user is {limit}): `ulimit -u unlimited`, or \
                 `TasksMax=infinity` in the systemd unit, or fewer workers",
            ),
            Cause::AddressInUse => {
                f.write_str("another process listens there: `ss -ltnp` names it")
            }
            Cause::AddressNotHere => {
                f.write_str("no interface of this host has this address: `ip address` lists those that it has")
            }
            Cause::Privileged => f.write_str(
                "a port below 1024 needs a capability: `setcap cap_net_bind_service=+ep` on the program, \
                 `AmbientCapabilities=CAP_NET_BIND_SERVICE` in the systemd unit, or a start as root with `--user`",
            ),
            Cause::FamilyMissing => f.write_str(
                "the address family is turned off: `sysctl -w net.ipv6.conf.all.disable_ipv6=0`, or listen on IPv4",
            ),
            Cause::SocketInUse => f.write_str("another process listens there: `ss -lxp` names it"),
            Cause::NotSocket => f.write_str(
                "something that is no socket is there, and is not removed: `ls -l` shows it; move it away, or \
                 listen on another path",
            ),
            Cause::NoFolder => f.write_str(
                "the folder of the path is not there: `mkdir -p` makes it, or `RuntimeDirectory=upring` in the \
                 systemd unit makes /run/upring",
            ),
            Cause::LinkLoop => f.write_str("links of the path lead in a circle: `namei -l` shows them"),
            Cause::PathTooLong => f.write_str("a Unix socket's path has at most 107 bytes (unix(7)): `ln -s` shortens it"),
            Cause::PlaceTooLong => f.write_str("a hand-over's path has at most 99 bytes: `ln -s` shortens it"),
            Cause::FolderClosed => f.write_str(
                "this user may not make files in the folder of the path, or not connect to the socket that is there: \
                 `namei -l` shows which permission is missing; `RuntimeDirectory=upring` in the systemd unit makes \
                 /run/upring for it",
            ),
            Cause::Unknown => f.write_str("no cause is known for this one: `dmesg | tail` may tell more"),
        }
    }
}

/// Why a ring that was set up cannot go on.
pub(super) fn entering(error: &io::Error) -> io::Error {
    let cause = match error.raw_os_error() {
        Some(libc::EEXIST) => "it was called on another thread than the one that made the ring",
        Some(libc::EBADR) => {
            "the kernel had no memory for completions and dropped some: fewer connections, or more memory"
        }
        Some(libc::EAGAIN) => "the kernel has no memory to take submissions",
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => {
            "a seccomp profile was changed under a running server"
        }
        _ => "no cause is known for this one: `dmesg | tail` may tell more",
    };
    io::Error::new(error.kind(), format!("io_uring_enter: {error}; {cause}"))
}

/// The number a file under `/proc/sys` holds.
pub(super) fn sysctl(path: &str) -> Option<i64> {
    std::fs::read_to_string(std::path::Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
}

/// The errno of an error of the standard library; EIO for one that has none.
pub(super) fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn every_refusal_names_call_errno_cause_and_a_command() {
        let cases = [
            (libc::ENOSYS, "uname -r"),
            (libc::EINVAL, "older than 6.1"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
        ];
        for (number, command) in cases {
            let text = SetupError::ring("io_uring_setup", &io::Error::from_raw_os_error(number))
                .to_string();
            assert!(text.starts_with("io_uring_setup: "), "{text}");
            assert!(
                text.contains(&format!("os error {number}")) && text.contains(command),
                "{text}"
            );
        }
    }

    #[test]
    fn a_listener_that_cannot_be_names_its_address() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        for (number, command) in [
            (libc::EADDRINUSE, "ss -ltnp"),
            (libc::EACCES, "setcap"),
            (libc::EADDRNOTAVAIL, "ip address"),
        ] {
            let text =
                SetupError::listener("bind", address.into(), &io::Error::from_raw_os_error(number))
                    .to_string();
            assert!(text.contains("bind on 192.0.2.1:80") && text.contains(command), "{text}");
        }
    }

    #[test]
    fn a_denial_is_told_from_a_kernel_that_is_too_old() {
        let of = |number| SetupError::ring("io_uring_setup", &io::Error::from_raw_os_error(number));
        assert!(
            of(libc::EPERM).is_denied()
                && of(libc::ENOSYS).is_denied()
                && !of(libc::EINVAL).is_denied()
        );
        assert!(Cause::Disabled(2).to_string().contains("sysctl -w kernel.io_uring_disabled=0"));
    }

    #[test]
    fn a_denial_is_the_setting_s_where_it_denies_and_a_profile_s_elsewhere() {
        for (disabled, told) in [
            (
                Some(2),
                "io_uring is turned off for every process: `sysctl -w kernel.io_uring_disabled=0`",
            ),
            (Some(1), "outside kernel.io_uring_group: add this process's group with `sysctl -w"),
            (Some(0), "a seccomp profile or security module denies it"),
            (None, "a seccomp profile or security module denies it"),
        ] {
            let text = Cause::of_denial(disabled).to_string();
            assert!(text.contains(told), "{disabled:?}: {text}");
        }
    }
}
