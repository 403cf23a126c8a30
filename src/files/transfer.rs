//! A file on its way out, piece by piece: what is in the page cache is read at once, what is not by
//! the runtime, and no more at a time than the client takes.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::http::{Method, Response};
use crate::resource::{StreamIo, Streaming};

/// One read, once the client has taken the first. Small enough to leave room for others, large enough
/// to be worth a call.
const PIECE_BYTES: usize = 64 * 1024;

/// The first read: as much as a new connection's window takes. Whoever asks and does not read is worth
/// no more.
const FIRST_BYTES: usize = 16 * 1024;

/// What the runtime has read.
type Delivery = Rc<RefCell<Option<io::Result<Vec<u8>>>>>;

pub(super) struct Transfer {
    file: Rc<OwnedFd>,
    response: Option<Response>,
    at: u64,
    left: u64,
    length: u64,
    /// Bytes of the next read.
    piece_bytes: usize,
    /// Where the runtime puts what it reads, while it does.
    pending: Option<Delivery>,
}

impl Transfer {
    /// Sends `bytes` of `file` from `at` on behind `response`'s head; to HEAD nothing of it.
    pub(super) fn new(
        file: OwnedFd,
        response: Response,
        at: u64,
        bytes: u64,
        method: Method,
    ) -> Transfer {
        let left = if method == Method::Head { 0 } else { bytes };
        let response = Some(response);
        let (file, piece_bytes) = (Rc::new(file), FIRST_BYTES);
        Transfer { file, response, at, left, length: bytes, piece_bytes, pending: None }
    }

    fn go_on(&mut self, io: &mut StreamIo<'_>) {
        while self.left > 0 && self.pending.is_none() {
            if io.is_full() || io.queued().bytes >= self.piece_bytes {
                return io.notify_writable();
            }
            let mut piece = vec![0; self.piece()];
            match read(&self.file, &mut piece, self.at, ReadWriteFlags::NOWAIT) {
                Ok(count) => {
                    piece.truncate(count);
                    self.send(piece, io);
                }
                Err(Errno::AGAIN | Errno::OPNOTSUPP) => self.read_later(piece, io),
                Err(error) => return fail(&error.into(), io),
            }
        }
        if self.left == 0 {
            io.finish();
        }
    }

    fn piece(&self) -> usize {
        usize::try_from(self.left).map_or(self.piece_bytes, |left| left.min(self.piece_bytes))
    }

    fn send(&mut self, piece: Vec<u8>, io: &mut StreamIo<'_>) {
        if piece.is_empty() {
            // It has become shorter than was announced: the client must see that it is not whole.
            self.left = 0;
            return fail(&io::ErrorKind::UnexpectedEof.into(), io);
        }
        self.at += piece.len() as u64;
        self.left -= piece.len() as u64;
        io.send(piece);
    }

    /// Has the runtime read what would block; without one it does block, as every file did once.
    fn read_later(&mut self, mut piece: Vec<u8>, io: &mut StreamIo<'_>) {
        let delivery = Delivery::default();
        let (waker, target) = (io.waker(), Rc::clone(&delivery));
        let (at, count) = (self.at, piece.len());
        let is_spawned = match self.file.try_clone() {
            Ok(file) => io.spawn(async move {
                let file = tokio_uring::fs::File::from_std(file.into());
                let (result, piece) = file.read_at(vec![0; count], at).await;
                *target.borrow_mut() = Some(result.map(|count| truncated(piece, count)));
                // The last one who holds it closes it; whether that fails is nobody's loss.
                let _ = file.close().await;
                waker.wake();
            }),
            Err(_) => false,
        };
        if is_spawned {
            self.pending = Some(delivery);
            return;
        }
        match read(&self.file, &mut piece, self.at, ReadWriteFlags::empty()) {
            Ok(count) => self.send(truncated(piece, count), io),
            Err(error) => {
                self.left = 0;
                fail(&error.into(), io);
            }
        }
    }
}

impl Streaming for Transfer {
    fn on_open(&mut self, io: &mut StreamIo<'_>) {
        if let Some(response) = self.response.take() {
            io.start(&response, Some(self.length));
        }
        self.go_on(io);
    }

    fn on_writable(&mut self, io: &mut StreamIo<'_>) {
        self.piece_bytes = PIECE_BYTES;
        self.go_on(io);
    }

    fn on_wake(&mut self, io: &mut StreamIo<'_>) {
        let Some(delivered) = self.pending.as_ref().and_then(|pending| pending.take()) else {
            return;
        };
        self.pending = None;
        match delivered {
            Ok(piece) => {
                self.send(piece, io);
                self.go_on(io);
            }
            Err(error) => fail(&error, io),
        }
    }
}

/// All of a part of a file, if it is not long and lies in the page cache.
pub(super) fn read_cached(file: &OwnedFd, at: u64, bytes: u64) -> Option<Vec<u8>> {
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= PIECE_BYTES)?;
    let mut content = vec![0; bytes];
    match read(file, &mut content, at, ReadWriteFlags::NOWAIT) {
        Ok(count) if count == bytes => Some(content),
        _ => None,
    }
}

fn read(file: &OwnedFd, piece: &mut [u8], at: u64, flags: ReadWriteFlags) -> Result<usize, Errno> {
    preadv2(file, &mut [io::IoSliceMut::new(piece)], at, flags)
}

fn truncated(mut piece: Vec<u8>, count: usize) -> Vec<u8> {
    piece.truncate(count);
    piece
}

fn fail(error: &io::Error, io: &mut StreamIo<'_>) {
    tracing::warn!("a file could not be sent whole: {error}");
    io.reset();
}
