//! Whom the process runs as. Started as root, it listens and makes its rings, and before it serves
//! anybody it becomes a user that may do nothing else: for good, in all its threads, without a
//! capability left.
//!
//! ```text
//!   Account::find ──► may_be_assumed ──► listeners, workers, rings ──► assume ──► the first connection
//! ```
//!
//! The kernel keeps users by thread; the C library has all threads change theirs, and only its calls
//! are used here (nptl(7)).

use std::ffi::CString;
use std::fmt;

use nix::unistd::{self, Gid, Group, ROOT, Uid, User, getegid, geteuid, getgroups};

use crate::config::Config;
use crate::ring::Errno;

/// A user and a group to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    name: String,
    user: Uid,
    group: Gid,
}

/// Why a process cannot run as whom it is to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// There is no such user.
    #[error(
        "there is no user `{name}`: mend `user`, or make it with `useradd --system --user-group {name}`; \
         `getent passwd` lists all"
    )]
    UnknownUser {
        /// What was said.
        name: String,
    },
    /// There is no such group.
    #[error(
        "there is no group `{name}`: mend `group`, or make it with `groupadd --system {name}`; \
         `getent group` lists all"
    )]
    UnknownGroup {
        /// What was said.
        name: String,
    },
    /// The user is root, or the group is.
    #[error(
        "`{name}` is root: name a user and a group of their own, or leave out both `user` and `group`"
    )]
    IsRoot {
        /// What was said.
        name: String,
    },
    /// A group without a user.
    #[error("a `group` goes with a `user`: say both, or leave out `group`")]
    GroupAlone,
    /// The users of this machine cannot be read.
    #[error(
        "cannot look up `{name}`: {errno:?}; see `getent passwd {name}` and /etc/nsswitch.conf"
    )]
    LookUp {
        /// What was said.
        name: String,
        /// What the C library said.
        errno: Errno,
    },
    /// It takes root to become somebody else.
    #[error(
        "becoming the user {wanted} takes root, and this is uid {now}: start it as root, or leave out \
         `user` and `group`"
    )]
    NotRoot {
        /// Who was to be become.
        wanted: Account,
        /// Who this is.
        now: u32,
    },
    /// The kernel refused.
    #[error(
        "{call}: {errno:?}; root lacks CAP_SETUID or CAP_SETGID here, or a seccomp profile denies it: \
         allow it (`docker run --cap-add SETUID --cap-add SETGID`), or start as the user itself \
         (`docker run --user`, `User=` in the systemd unit) and leave out `user`"
    )]
    Refused {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// The rights of root are not gone.
    #[error(
        "{what} is left after the change to {wanted}: `setpriv --dump` shows the securebits and \
         `id` with its name the groups that keep it; start without, or as the user itself"
    )]
    Kept {
        /// What is left.
        what: &'static str,
        /// Who was to be become.
        wanted: Account,
    },
}

impl PrivilegeError {
    /// Whether the configuration is to be mended, not the machine.
    pub fn is_of_configuration(&self) -> bool {
        !matches!(
            self,
            PrivilegeError::LookUp { .. }
                | PrivilegeError::Refused { .. }
                | PrivilegeError::Kept { .. }
        )
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {}, gid {})", self.name, self.user, self.group)
    }
}

impl Account {
    /// The account a configuration names; `None` if it names none.
    ///
    /// # Errors
    /// There is none of that name, or it is root's.
    pub fn find(config: &Config) -> Result<Option<Account>, PrivilegeError> {
        let Some(name) = config.user.as_deref() else {
            let is_alone = config.group.is_some();
            return if is_alone { Err(PrivilegeError::GroupAlone) } else { Ok(None) };
        };
        let failed = |name: &str, errno: nix::Error| PrivilegeError::LookUp {
            name: name.to_owned(),
            errno: Errno(errno as i32),
        };
        let user = User::from_name(name)
            .map_err(|errno| failed(name, errno))?
            .ok_or_else(|| PrivilegeError::UnknownUser { name: name.to_owned() })?;
        let group = match config.group.as_deref() {
            None => user.gid,
            Some(name) => {
                Group::from_name(name)
                    .map_err(|errno| failed(name, errno))?
                    .ok_or_else(|| PrivilegeError::UnknownGroup { name: name.to_owned() })?
                    .gid
            }
        };
        if user.uid == ROOT || group == Gid::from_raw(0) {
            let name = if user.uid == ROOT { Some(name) } else { config.group.as_deref() };
            return Err(PrivilegeError::IsRoot { name: name.unwrap_or("group").to_owned() });
        }
        Ok(Some(Account { name: user.name, user: user.uid, group }))
    }

    /// Whether this process can become it: root can, and who is it already.
    ///
    /// # Errors
    /// It is somebody else.
    pub fn may_be_assumed(&self) -> Result<(), PrivilegeError> {
        if geteuid().is_root() || self.is_current() {
            return Ok(());
        }
        Err(PrivilegeError::NotRoot { wanted: self.clone(), now: geteuid().as_raw() })
    }

    fn is_current(&self) -> bool {
        geteuid() == self.user && getegid() == self.group
    }

    /// Makes it the account of every thread of this process, with the supplementary groups of its user.
    /// What was opened before stays open; nothing of root can be had back.
    ///
    /// # Errors
    /// The kernel refuses, or leaves something of root. Then the process is not to go on: some of its
    /// rights may be gone already.
    pub fn assume(&self) -> Result<(), PrivilegeError> {
        if !geteuid().is_root() {
            return self.may_be_assumed();
        }
        let refused = |call| {
            move |errno: nix::Error| PrivilegeError::Refused { call, errno: Errno(errno as i32) }
        };
        let name = CString::new(self.name.as_str()).expect("it was found by that name");
        // Groups first: without root they could not be changed any more.
        unistd::initgroups(&name, self.group).map_err(refused("initgroups"))?;
        unistd::setresgid(self.group, self.group, self.group).map_err(refused("setresgid"))?;
        unistd::setresuid(self.user, self.user, self.user).map_err(refused("setresuid"))?;
        match self.left_over() {
            Some(what) => Err(PrivilegeError::Kept { what, wanted: self.clone() }),
            None => Ok(()),
        }
    }

    /// What root has left behind, found by looking and by trying.
    fn left_over(&self) -> Option<&'static str> {
        // A saved one that is another is found by trying: profiles of containers leave out getresuid(2).
        let is_user = unistd::getuid() == self.user && geteuid() == self.user;
        let is_group = unistd::getgid() == self.group && getegid() == self.group;
        let root = Gid::from_raw(0);
        let is_apart = getgroups().is_ok_and(|groups| !groups.contains(&root));
        let none = rustix::thread::CapabilitySet::empty();
        let capabilities = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.permitted == none && sets.effective == none);
        let ways = [
            (!is_user, "another user"),
            (!is_group, "another group"),
            (!is_apart, "the group of root"),
            (!capabilities, "a capability"),
            (unistd::setresuid(ROOT, ROOT, ROOT).is_ok(), "a way back to root"),
            (unistd::setresgid(root, root, root).is_ok(), "a way back to the group of root"),
        ];
        ways.into_iter().find(|(is_left, _)| *is_left).map(|(_, what)| what)
    }
}

/// What a file was refused with, and to whom, where that matters: who was root at the start may be
/// somebody else by now.
pub(crate) fn refused_to(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}; it was tried as uid {}: `namei -l` shows who may", geteuid())
        }
        _ => error.to_string(),
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Account>, PrivilegeError> {
        let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
        Account::find(&Config { user, group, ..Config::default() })
    }

    #[test]
    fn who_is_not_there_or_is_root_is_told_with_what_mends_it() {
        assert_eq!(find(None, None), Ok(None));
        for (user, group, told) in [
            (Some("nobody-at-all"), None, "useradd --system --user-group nobody-at-all"),
            (Some("nobody"), Some("no-group-at-all"), "groupadd --system no-group-at-all"),
            (Some("root"), None, "`root` is root"),
            (Some("nobody"), Some("root"), "`root` is root"),
            (None, Some("nogroup"), "a `group` goes with a `user`"),
        ] {
            let error = find(user, group).expect_err("it cannot be run as");
            assert!(error.is_of_configuration(), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_the_call_and_what_mends_it() {
        let text =
            PrivilegeError::Refused { call: "setresuid", errno: Errno(libc::EPERM) }.to_string();
        assert!(
            text.starts_with("setresuid: Operation not permitted")
                && text.contains("--cap-add SETUID"),
            "{text}"
        );
    }
}
