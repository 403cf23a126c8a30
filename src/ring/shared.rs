//! The listener of a Unix socket, which all cores share: two sockets cannot have one path. It comes to be
//! and goes with its path.
//!
//! ```text
//!   path free? ──► bind ──► permissions ──► listen ──► a descriptor for each core ──► path removed, if ours
//!     └─ a socket nobody listens on: removed
//! ```

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, chmodat, fchmod, fstat, lstat, open, rename, stat, unlink,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};

use super::error::SetupError;
use super::listen::{duplicate, take_connections};
use crate::config::{ListenAddress, Listener};

/// How often somebody is asked whether they still listen there, and how long apart: the kernel takes down the
/// ring of a process that was killed, and what it accepts on, a while after it is gone.
pub(super) const PROBES: u32 = 10;
pub(super) const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// Which file something is, whatever its path: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity(u64, u64);

impl FileIdentity {
    /// Of what is open.
    ///
    /// # Errors
    /// As of fstat(2).
    pub fn of(file: &OwnedFd) -> std::io::Result<FileIdentity> {
        Ok(FileIdentity::from(fstat(file)?))
    }
}

impl From<Stat> for FileIdentity {
    fn from(about: Stat) -> FileIdentity {
        FileIdentity(about.st_dev, about.st_ino)
    }
}

/// A Unix socket that is listened on. Dropped, it removes its path, if that is still its own.
#[derive(Debug)]
pub struct SharedListener {
    /// Kept open until the path is removed: as long as it is, no other file has its inode. None once nobody
    /// is to come any more.
    socket: Mutex<Option<OwnedFd>>,
    path: PathBuf,
    /// What was made at the path; none where the socket was adopted and that is not there, or not known.
    file: Option<FileIdentity>,
    /// Who made the path keeps it: it is never removed, nor changed.
    is_managed: bool,
    /// The path is another process's now.
    is_released: AtomicBool,
}

impl SharedListener {
    /// Listens on `path` with the backlog and permissions of `listener`, whose own address is not looked
    /// at. A socket that was left behind there, on which nobody listens, is removed first.
    ///
    /// # Errors
    /// Somebody listens there, the path is something else, or its folder is not there or not open to us.
    pub fn listen(path: &Path, listener: &Listener) -> Result<SharedListener, SetupError> {
        let failed = |call| {
            let at = ListenAddress::from(path);
            move |error: Errno| SetupError::listener(call, at, &error.into())
        };
        let address = SocketAddrUnix::new(path).map_err(failed("bind"))?;
        let socket = new_socket(SocketFlags::empty()).map_err(failed("socket"))?;
        // What is too much is never to be had: bind takes it from here, less the umask.
        let mode = Mode::from_raw_mode(listener.mode);
        fchmod(&socket, mode).map_err(failed("fchmod"))?;
        clear(path, &address).map_err(|(call, error)| failed(call)(error))?;
        bind(&socket, &address).map_err(failed("bind"))?;
        let file = lstat(path).map_err(failed("lstat"))?.into();
        // From here on the path is removed, whatever fails.
        let shared = SharedListener::of(socket, path, Some(file));
        chmodat(CWD, path, mode, rustix::fs::AtFlags::empty()).map_err(failed("chmod"))?;
        shared.take_connections(listener.backlog)?;
        Ok(shared)
    }

    /// Whether `path` could be listened on, as far as that can be seen without doing so, and whoever tries:
    /// a socket that is there may be one's own.
    ///
    /// # Errors
    /// The path is something else, or its folder is not there: as of [`SharedListener::listen`].
    pub fn check(path: &Path) -> Result<(), SetupError> {
        let failed = |call, error: Errno| {
            Err(SetupError::listener(call, ListenAddress::from(path), &error.into()))
        };
        if let Err(error) = SocketAddrUnix::new(path) {
            return failed("bind", error);
        }
        match lstat(path) {
            Ok(at) if FileType::from_raw_mode(at.st_mode) != FileType::Socket => {
                failed("bind", Errno::EXIST)
            }
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => failed("lstat", error),
            Err(Errno::NOENT) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                match folder.map_or(Ok(()), |folder| stat(folder).map(drop)) {
                    Err(error @ Errno::NOENT) => failed("bind", error),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Takes a socket that is listened on at `path` already. The path stays whose it is until it is
    /// [claimed](SharedListener::claim); one that a service manager has made is the manager's for good. A
    /// path that is gone is nobody's, and what is connected still is served.
    ///
    /// `made` is what whoever had the socket before has made at its paths. A path at which something else is
    /// by now is another's, whom nobody knows: it is neither changed nor removed.
    pub fn adopt(
        path: &Path,
        socket: OwnedFd,
        is_managed: bool,
        made: &[FileIdentity],
    ) -> SharedListener {
        let shown = path.display();
        let file = match lstat(path).map(FileIdentity::from) {
            Ok(file) if made.contains(&file) => Some(file),
            Ok(_) if is_managed => None,
            Ok(_) => {
                tracing::warn!(
                    "{shown} is left as it is, and where it is: another server's socket is there, or the \
                     process before is of an older version and does not say which is its own"
                );
                None
            }
            Err(error) => {
                tracing::warn!(
                    "nobody can connect to {shown}: {error}; whoever made it can make it anew"
                );
                None
            }
        };
        let mut shared = SharedListener::of(socket, path, file);
        shared.is_managed = is_managed;
        shared.release();
        shared
    }

    /// Gives what was adopted the backlog and permissions of `listener`. The permissions stay as they are
    /// where they are another user's to change: a server that was started as root and is another by now
    /// has made the path as root.
    ///
    /// # Errors
    /// The kernel refuses a call.
    pub fn adapt(&self, listener: &Listener) -> Result<(), SetupError> {
        if self.is_managed || !self.has_path() {
            return Ok(());
        }
        let at = || ListenAddress::from(&*self.path);
        let mode = Mode::from_raw_mode(listener.mode);
        if !lstat(&self.path).is_ok_and(|at| at.st_mode & 0o777 == listener.mode) {
            match chmodat(CWD, &self.path, mode, rustix::fs::AtFlags::empty()) {
                Err(Errno::PERM) => tracing::warn!(
                    "{}: `mode` stays what it was: the path is another user's, most likely root's, who \
                     made it; it takes a restart, or `chmod {:o}` as that user",
                    at(),
                    listener.mode
                ),
                changed => {
                    changed.map_err(|error| SetupError::listener("chmod", at(), &error.into()))?;
                }
            }
        }
        self.take_connections(listener.backlog)
    }

    fn take_connections(&self, backlog: i32) -> Result<(), SetupError> {
        let at = ListenAddress::from(&*self.path);
        self.socket().as_ref().map_or(Ok(()), |socket| take_connections(socket, &at, backlog))
    }

    fn socket(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(socket: OwnedFd, path: &Path, file: Option<FileIdentity>) -> SharedListener {
        let (socket, is_released) = (Mutex::new(Some(socket)), AtomicBool::new(false));
        SharedListener { socket, path: path.into(), file, is_managed: false, is_released }
    }

    /// Whether the path is still that of this socket.
    fn has_path(&self) -> bool {
        lstat(&self.path).is_ok_and(|at| self.file == Some(at.into()))
    }

    /// What it has made at its path, open and of no other use (O_PATH, open(2)): by it whoever is given the
    /// socket knows the path. None if it is no more, or another's.
    pub fn made(&self) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(&self.path, flags, Mode::empty()).ok()?;
        (self.file == Some(FileIdentity::of(&file).ok()?)).then_some(file)
    }

    /// The same at another path: clients find it there from now on. A socket that was left behind there is
    /// removed first.
    ///
    /// # Errors
    /// As of [`SharedListener::listen`].
    pub fn move_to(&mut self, path: &Path) -> Result<(), SetupError> {
        let failed =
            |(call, error): (_, Errno)| SetupError::listener(call, path.into(), &error.into());
        let address = SocketAddrUnix::new(path).map_err(|error| failed(("rename", error)))?;
        clear(path, &address).map_err(failed)?;
        rename(&self.path, path).map_err(|error| failed(("rename", error)))?;
        self.path = path.into();
        Ok(())
    }

    /// Takes the path over from the process that had it: it is removed with this, unless it is a service
    /// manager's.
    pub fn claim(&self) {
        self.is_released.store(self.is_managed, Ordering::Release);
    }

    /// Whether the path is another's yet.
    pub fn is_adopted(&self) -> bool {
        self.is_released.load(Ordering::Acquire)
    }

    /// Leaves the path to another process, which has the same socket. False if it was another's already.
    pub fn release(&self) -> bool {
        !self.is_released.swap(true, Ordering::AcqRel)
    }

    /// Removes the path, if it is still its own, and lets go of the socket: nobody finds it any more, and once
    /// no core has it either the kernel refuses whoever still comes.
    pub fn close(&self) {
        self.remove();
        self.socket().take();
    }

    /// Removes the path now, if it is still its own.
    pub fn remove(&self) {
        let socket = self.socket();
        let is_ours =
            socket.is_some() && !self.is_released.swap(true, Ordering::AcqRel) && self.has_path();
        if is_ours && let Err(error) = unlink(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a socket's path was not removed");
        }
    }

    /// Another descriptor of it, for a core.
    ///
    /// # Errors
    /// Descriptors have run out, or it was closed.
    pub fn share(&self) -> Result<OwnedFd, SetupError> {
        let at = ListenAddress::from(&*self.path);
        match &*self.socket() {
            Some(socket) => duplicate(socket, &at),
            None => Err(SetupError::listener("fcntl(F_DUPFD_CLOEXEC)", at, &Errno::BADF.into())),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SharedListener {
    fn drop(&mut self) {
        self.remove();
    }
}

fn new_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
}

/// Removes what a process that was killed has left at `path`: a socket that refuses connections. Between
/// binding and listening another's does, too, so that of two that start at the same moment the later one
/// may take the path of the other.
fn clear(path: &Path, address: &SocketAddrUnix) -> Result<(), (&'static str, Errno)> {
    for _ in 0..PROBES {
        match lstat(path) {
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(("lstat", error)),
            // connect(2) refuses any other file, too.
            Ok(at) if FileType::from_raw_mode(at.st_mode) != FileType::Socket => {
                return Err(("bind", Errno::EXIST));
            }
            Ok(_) => {}
        }
        let probe = new_socket(SocketFlags::NONBLOCK).map_err(|error| ("socket", error))?;
        match connect(&probe, address) {
            Err(Errno::CONNREFUSED) => return unlink(path).map_err(|error| ("unlink", error)),
            // It is listened on; if the answer is EAGAIN, by somebody whose queue is full.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => thread::sleep(PROBE_PAUSE),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(("connect", error)),
        }
    }
    Err(("bind", Errno::ADDRINUSE))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::ring::error::Cause;

    /// A folder of its own, removed with all that is in it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("upring-shared-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).expect("there is room for temporary files");
            Folder(folder)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("socket")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn listen_at(path: &Path) -> Result<SharedListener, SetupError> {
        SharedListener::listen(path, &Listener::from(ListenAddress::from(path)))
    }

    /// What is seen beforehand is told as what happens.
    fn assert_same(path: &Path, error: &SetupError) {
        let seen = SharedListener::check(path).expect_err("it can be seen");
        assert_eq!(seen.to_string(), error.to_string());
    }

    #[test]
    fn what_could_be_listened_on_has_nothing_wrong_with_it() {
        let folder = Folder::new("check");
        let path = folder.socket();
        assert!(SharedListener::check(&path).is_ok() && !path.exists(), "nothing was made");
        let _shared = listen_at(&path).expect("it is free");
        assert!(SharedListener::check(&path).is_ok(), "it may be one's own");
        assert!(SharedListener::check(Path::new("upring-check")).is_ok(), "the working directory");
        let below = path.join("socket");
        assert_same(&below, &listen_at(&below).expect_err("a socket is no folder"));
    }

    #[test]
    fn a_path_has_its_permissions_and_goes_with_its_listener() {
        let folder = Folder::new("permissions");
        let path = folder.socket();
        for mode in [0o660, 0o600, 0o666, 0o777] {
            let options = Listener { mode, ..ListenAddress::from(&*path).into() };
            let shared = SharedListener::listen(&path, &options).expect("it is free");
            let file = fs::metadata(&path).expect("it is there");
            assert_eq!(file.permissions().mode() & 0o777, mode, "whatever the umask is");
            UnixStream::connect(&path).expect("it is listened on");
            drop(shared);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_listened_on_is_not() {
        let folder = Folder::new("stale");
        let path = folder.socket();
        drop(UnixListener::bind(&path).expect("it is free"));
        assert!(path.exists(), "the standard library leaves it");
        let shared = listen_at(&path).expect("nobody listens there");
        let inode = fs::metadata(&path).expect("it is there").ino();
        let error = listen_at(&path).expect_err("somebody listens there");
        assert_eq!(error.cause(), Cause::SocketInUse);
        assert!(error.to_string().contains("ss -lxp"), "{error}");
        assert_eq!(fs::metadata(&path).expect("it is there").ino(), inode);
        drop(shared);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = Folder::new("file");
        let path = folder.socket();
        fs::write(&path, "kept").expect("the folder is there");
        let error = listen_at(&path).expect_err("it is a file");
        assert_eq!(error.cause(), Cause::NotSocket);
        assert_same(&path, &error);
        assert_eq!(fs::read(&path).expect("it is there"), b"kept");
    }

    #[test]
    fn a_path_that_is_another_s_by_now_is_left_alone() {
        let folder = Folder::new("other");
        let path = folder.socket();
        let first = listen_at(&path).expect("it is free");
        fs::remove_file(&path).expect("it is there");
        let second = listen_at(&path).expect("it is free again");
        drop(first);
        UnixStream::connect(&path).expect("the second one is listened on");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_adopted_goes_once_it_is_claimed_and_a_manager_s_path_never() {
        let folder = Folder::new("adopted");
        let path = folder.socket();
        for is_managed in [false, true] {
            let given = || OwnedFd::from(UnixListener::bind(&path).expect("it is free"));
            let options = Listener { mode: 0o604, ..ListenAddress::from(&*path).into() };
            let socket = given();
            let shared = SharedListener::adopt(&path, socket, is_managed, &[file_at(&path)]);
            shared.adapt(&options).expect("it is ours");
            let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode == 0o604, !is_managed, "{mode:o}");
            drop(shared);
            assert!(path.exists(), "it is another's yet");
            fs::remove_file(&path).expect("it is there");
            let socket = given();
            let shared = SharedListener::adopt(&path, socket, is_managed, &[file_at(&path)]);
            shared.claim();
            drop(shared);
            assert_eq!(path.exists(), is_managed);
        }
        fs::remove_file(&path).expect("it is there");
        let socket = || new_socket(SocketFlags::empty()).expect("a socket");
        let shared = SharedListener::adopt(&path, socket(), false, &[]);
        shared.claim();
        let other = listen_at(&path).expect("it is free");
        drop(shared);
        assert!(path.exists(), "one that was gone is whose who makes it anew");
        // Of whom nothing is said of his paths, or of others.
        let beside = folder.0.join("beside");
        let third = listen_at(&beside).expect("it is free");
        for made in [vec![], vec![file_at(&beside)]] {
            let shared = SharedListener::adopt(&path, socket(), false, &made);
            let mode = || fs::metadata(&path).expect("it is there").permissions().mode();
            let before = mode();
            let options = Listener { mode: 0o604, ..ListenAddress::from(&*path).into() };
            shared.adapt(&options).expect("nothing is changed");
            shared.claim();
            assert!(shared.made().is_none() && mode() == before);
            drop(shared);
            assert!(path.exists(), "it is the other's");
        }
        drop((other, third));
    }

    fn file_at(path: &Path) -> FileIdentity {
        lstat(path).expect("it is there").into()
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_as_the_cause() {
        let folder = Folder::new("none");
        let path = folder.0.join("missing/socket");
        let error = listen_at(&path).expect_err("there is no folder");
        assert_same(&path, &error);
        assert_eq!(error.cause(), Cause::NoFolder);
        assert!(error.to_string().contains("RuntimeDirectory"), "{error}");
    }
}
