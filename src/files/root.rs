//! The directory that files are opened in. Whatever is opened lies inside it, at a path that has no
//! hidden name, which is looked at here and in `path`, and no link, to which the kernel sees
//! (`openat2(2)`), whatever is renamed meanwhile.
//!
//! ```text
//!   path ──► open without links ──┬─────────────────────────────────────────────────► file
//!                                 └─ a link: find where it leads, look at that path ──┘
//!                                                    ▲      open it without links │
//!                                                    └────────────────────────────┘
//! ```

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2, readlink};
use rustix::io::Errno;

#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(directory: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Root(open(directory, flags, Mode::empty())?);
        drop(root.open(Path::new("."))?);
        Ok(root)
    }

    /// Opens what is at a relative path without hidden names, or at the one that its links lead to.
    pub(super) fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.open_without_links(path) {
            Err(Errno::LOOP) => self.open_without_links(&self.behind_links(path)?),
            opened => opened,
        }
    }

    fn open_without_links(&self, path: &Path) -> Result<OwnedFd, Errno> {
        // NONBLOCK: opening a pipe would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    /// The path without links that `path` leads to. It may be another file's by the time it is
    /// opened, but is one that a request could name.
    fn behind_links(&self, path: &Path) -> Result<PathBuf, Errno> {
        let target = self.resolve(path, OFlags::PATH, ResolveFlags::NO_MAGICLINKS)?;
        let (root, target) = (path_of(&self.0)?, path_of(&target)?);
        let below = target.strip_prefix(root).map_err(|_| Errno::NOENT)?;
        if below.iter().any(|name| name.as_bytes().starts_with(b".")) {
            return Err(Errno::NOENT);
        }
        // The root itself is a path, too.
        Ok(Path::new(".").join(below))
    }

    fn resolve(&self, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
        let how = how | ResolveFlags::BENEATH;
        openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
    }
}

/// Where an open file is now.
fn path_of(file: &OwnedFd) -> Result<PathBuf, Errno> {
    let path = readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new());
    let path = path.inspect_err(|errno| tracing::error!("links need /proc to be mounted: {errno}"));
    Ok(OsString::from_vec(path?.into_bytes()).into())
}
