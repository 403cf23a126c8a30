//! What lines are written to, opened so that nothing blocks for good: a FIFO that nobody reads is
//! opened all the same, and written to only when there is room.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::AccessTarget;

/// Bytes that a pipe has room for when it says that it has some (`PIPE_BUF`, pipe(7)).
const PIPE_BYTES: usize = 4096;

/// How long to wait for room before it is looked whether there is something else to do.
const ROOM_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Who may read a log that was made: who clients are and what they ask for is not everybody's.
const MODE: u32 = 0o640;

/// Something to write to.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// It takes what its reader leaves room for.
    is_stream: bool,
}

/// What became of a write.
pub(super) enum Written {
    /// So many bytes are written.
    Some(usize),
    /// There is no room.
    Nothing,
}

impl Sink {
    /// Opens a target; `None` if it is none.
    pub(super) fn open(target: &AccessTarget) -> io::Result<Option<Sink>> {
        let file = match target {
            AccessTarget::Off => return Ok(None),
            AccessTarget::Stdout => io::stdout().as_fd().try_clone_to_owned()?.into(),
            AccessTarget::Stderr => io::stderr().as_fd().try_clone_to_owned()?.into(),
            AccessTarget::File(path) => open_file(path)?,
        };
        let is_stream = !file.metadata()?.is_file();
        Ok(Some(Sink { file, is_stream }))
    }

    /// Writes the beginning of these bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        if !self.is_stream {
            return self.file.write(bytes).map(Written::Some);
        }
        let mut waited = [PollFd::new(&self.file, PollFlags::OUT)];
        match poll(&mut waited, Some(&ROOM_PAUSE)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Written::Nothing),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.file.write(bytes.get(..PIPE_BYTES).unwrap_or(bytes)).map(Written::Some)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let is_fifo = path.metadata().is_ok_and(|about| about.file_type().is_fifo());
    let mut options = OpenOptions::new();
    if is_fifo {
        // fifo(7): for reading and writing it opens without waiting for a reader.
        return options.read(true).write(true).open(path);
    }
    options.append(true).create(true).mode(MODE).open(path)
}
