//! The thread that writes the lines of all cores, and the queues between them and it.
//!
//! While lines come it looks fifty times a second, so that a core wakes it only when it has found
//! nothing and sleeps, or when half of a queue is full. Whether it sleeps is one flag, which a core
//! looks at once a turn behind its lines:
//!
//! ```text
//!   core:    lines into the queue ─► fence ─► is it asleep? ─► wake it
//!   writer:  it is asleep ─► fence ─► lines in a queue? ─► sleep
//! ```

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memrchr};
use rtrb::{Consumer, Producer, RingBuffer};

use super::sink::{Sink, Written};
use crate::config::{AccessFormat, AccessLog, AccessTarget};
use crate::counters::Counters;

/// How long lines gather before they are written: a write costs what it costs to wake up for it, and
/// that is more than what it costs to copy its bytes. A queue of which half is full is not waited for.
const GATHER: Duration = Duration::from_millis(20);

/// How long the end waits for a target without room.
const END_MAX: Duration = Duration::from_secs(2);

/// How often it is said that lines cannot be written.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot open the access log {target}: {error}; its directory has to be there and to be writable for \
     the user that the server runs as"
)]
pub struct AccessLogError {
    /// Where its lines were to go.
    pub target: AccessTarget,
    /// What the kernel said.
    pub error: io::Error,
}

impl AccessLogError {
    /// Why a target could not be opened, as far as that can be seen without doing so, and whoever tries.
    pub fn beforehand(target: &AccessTarget) -> Option<AccessLogError> {
        let AccessTarget::File(path) = target else { return None };
        let errno = match path.metadata() {
            Ok(about) if about.file_type().is_socket() => libc::ENXIO,
            Ok(about) => about.is_dir().then_some(libc::EISDIR)?,
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => libc::ENOTDIR,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => libc::ELOOP,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                folder.filter(|folder| !folder.exists()).map(|_| libc::ENOENT)?
            }
            Err(_) => return None,
        };
        let error = io::Error::from_raw_os_error(errno);
        Some(AccessLogError { target: target.clone(), error })
    }
}

/// What cores and other threads reach the writer by.
#[derive(Debug, Default)]
struct Bell {
    writer: OnceLock<Thread>,
    is_asleep: AtomicBool,
    wants_reopen: AtomicBool,
    is_ending: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Wakes the writer if it sleeps: lines were put into a queue.
    fn ring_if_asleep(&self) {
        // As the writer does between its flag and its look: one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }
}

/// A core's end of its queue.
pub struct Feed {
    queue: Producer<u8>,
    bell: Arc<Bell>,
    pub(super) format: AccessFormat,
    pub(super) core: usize,
}

impl Feed {
    /// Bytes it holds at most.
    pub(super) fn capacity(&self) -> usize {
        self.queue.buffer().capacity()
    }

    /// Puts whole lines into the queue, and says how many found no room.
    pub(super) fn push(&mut self, lines: &[u8]) -> usize {
        if self.queue.push_entire_slice(lines).is_err() {
            return self.push_some(lines);
        }
        if self.queue.slots() < self.capacity() / 2 {
            self.bell.ring();
        } else {
            self.bell.ring_if_asleep();
        }
        0
    }

    /// The same of more lines than there is room for.
    #[cold]
    fn push_some(&mut self, lines: &[u8]) -> usize {
        let room = lines.get(..self.queue.slots()).unwrap_or(lines);
        let end = memrchr(b'\n', room).map_or(0, |last| last + 1);
        let (fitting, others) = lines.split_at_checked(end).unwrap_or((lines, &[]));
        // There is as much room as was said, or more.
        let _ = self.queue.push_entire_slice(fitting);
        self.bell.ring();
        memchr_iter(b'\n', others).count()
    }
}

/// The other end of all queues.
#[derive(Debug)]
pub struct Writer {
    queues: Vec<Consumer<u8>>,
    target: AccessTarget,
    bell: Arc<Bell>,
}

/// A queue for each core, and the writer that empties them.
pub fn feeds(log: &AccessLog, cores: usize) -> (Writer, Vec<Feed>) {
    let bell = Arc::<Bell>::default();
    let (mut queues, mut feeds) = (Vec::new(), Vec::new());
    for core in 0..cores {
        let (queue, consumer) = RingBuffer::new(log.queue_bytes_max);
        queues.push(consumer);
        feeds.push(Feed { queue, bell: Arc::clone(&bell), format: log.format, core });
    }
    (Writer { queues, target: log.to.clone(), bell }, feeds)
}

impl Writer {
    /// Opens the target and writes to it on a thread of its own. What cannot be written is counted in
    /// `counters`.
    ///
    /// # Errors
    /// The target cannot be opened, or there is no thread.
    pub fn start(self, counters: Arc<Counters>) -> Result<Writing, AccessLogError> {
        let Writer { queues, target, bell } = self;
        let failed = |error| AccessLogError { target: target.clone(), error };
        let sink = Sink::open(&target).map_err(failed)?;
        let (tell, ended) = mpsc::channel();
        let mut thread = WriterThread {
            queues,
            next: 0,
            sink,
            is_within_line: false,
            is_torn: false,
            target: target.clone(),
            bell: Arc::clone(&bell),
            counters,
            complained_at: None,
        };
        let run = move || {
            // Before it sleeps for the first time: until then nobody has to wake it.
            let _ = thread.bell.writer.set(thread::current());
            thread.run();
            // Nobody may wait.
            let _ = tell.send(());
        };
        let spawned = thread::Builder::new().name("upring-access".to_owned()).spawn(run);
        spawned.map_err(failed)?;
        Ok(Writing { bell, target, ended })
    }

    /// Everything that waits, for who has no thread: tests, or an engine of one's own.
    pub fn drain_into(&mut self, out: &mut Vec<u8>) {
        for queue in &mut self.queues {
            let slots = queue.slots();
            if let Ok(chunk) = queue.read_chunk(slots) {
                let (front, rest) = chunk.as_slices();
                out.extend_from_slice(front);
                out.extend_from_slice(rest);
                chunk.commit_all();
            }
        }
    }
}

/// A writer that runs.
#[derive(Debug)]
pub struct Writing {
    bell: Arc<Bell>,
    target: AccessTarget,
    ended: Receiver<()>,
}

impl Writing {
    /// A handle that has the file opened anew from another thread.
    pub fn reopener(&self) -> Reopener {
        Reopener { bell: Arc::clone(&self.bell), target: self.target.clone() }
    }

    /// Waits until everything that waits is written, a few seconds at most. Called when no core makes
    /// lines any more.
    pub fn end(self) {
        self.bell.is_ending.store(true, Ordering::Release);
        self.bell.ring();
        // The thread gives up before that; it is a disk that does not answer.
        let patience = END_MAX + Duration::from_secs(1);
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the access log {} takes nothing: lines are lost", self.target);
        }
    }
}

/// Has the log's file opened anew, from any thread.
#[derive(Debug, Clone)]
pub struct Reopener {
    bell: Arc<Bell>,
    target: AccessTarget,
}

impl Reopener {
    /// Has the writer close the file and open what has its name now, for who has moved the old one away:
    /// no line is lost, none is cut. If that fails the old one stays and the log says why. Nothing
    /// happens to what is no file. Returns at once.
    pub fn reopen(&self) {
        if matches!(self.target, AccessTarget::File(_)) {
            self.bell.wants_reopen.store(true, Ordering::Release);
            self.bell.ring();
        }
    }
}

struct WriterThread {
    queues: Vec<Consumer<u8>>,
    /// Whose turn it is: who was stopped in the middle of a line goes on.
    next: usize,
    sink: Option<Sink>,
    /// The last byte written does not end a line, whose rest comes next.
    is_within_line: bool,
    /// The same, but its rest is lost.
    is_torn: bool,
    target: AccessTarget,
    bell: Arc<Bell>,
    counters: Arc<Counters>,
    complained_at: Option<Instant>,
}

/// How far the queues were emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// There was nothing.
    Empty,
    Something,
    /// The target has no room.
    Stuck,
}

impl WriterThread {
    fn run(&mut self) {
        let mut give_up_at = None;
        loop {
            let is_ending = self.bell.is_ending.load(Ordering::Acquire);
            if !self.is_within_line && self.bell.wants_reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            match self.drain() {
                Drained::Empty if is_ending => return,
                Drained::Empty => self.sleep(),
                Drained::Stuck if is_ending => {
                    let at = *give_up_at.get_or_insert_with(|| Instant::now() + END_MAX);
                    if Instant::now() >= at {
                        return self.give_up();
                    }
                }
                Drained::Something if !is_ending => thread::park_timeout(GATHER),
                Drained::Something | Drained::Stuck => {}
            }
        }
    }

    fn sleep(&self) {
        let bell = &self.bell;
        bell.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queues.iter().all(|queue| queue.is_empty()) {
            // Whoever asks for anything else rings without looking.
            thread::park();
        }
        bell.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Writes what waits.
    fn drain(&mut self) -> Drained {
        let mut drained = Drained::Empty;
        for _ in 0..self.queues.len() {
            let index = self.next % self.queues.len();
            self.next = index;
            let mut left = self.queues.get(index).map_or(0, |queue| queue.slots());
            while left > 0 {
                drained = Drained::Something;
                match self.write_some(index, left) {
                    0 => return Drained::Stuck,
                    count => left -= count,
                }
            }
            self.next += 1;
        }
        drained
    }

    /// Writes the first bytes of a queue, and says how many left it.
    fn write_some(&mut self, index: usize, left: usize) -> usize {
        let WriterThread { queues, sink, is_within_line, is_torn, counters, .. } = self;
        let Some(queue) = queues.get_mut(index) else { return left };
        let Ok(chunk) = queue.read_chunk(left) else { return left };
        let (front, rest) = chunk.as_slices();
        let bytes = if front.is_empty() { rest } else { front };
        let Some(sink) = sink else {
            chunk.commit_all();
            return left;
        };
        if *is_torn && matches!(sink.write(b"\n"), Ok(Written::Some(1))) {
            *is_torn = false;
        }
        match sink.write(bytes) {
            Ok(Written::Some(count)) => {
                *is_within_line = bytes.get(..count).is_some_and(|sent| !sent.ends_with(b"\n"));
                chunk.commit(count);
                count
            }
            Ok(Written::Nothing) => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                let lost = memchr_iter(b'\n', front).chain(memchr_iter(b'\n', rest)).count();
                counters.access_write_errors.raise();
                counters.access_lines_lost.add(lost as u64);
                chunk.commit_all();
                *is_torn |= std::mem::take(is_within_line);
                self.complain(&error, lost);
                left
            }
        }
    }

    /// Once a minute at most.
    fn complain(&mut self, error: &io::Error, lost: usize) {
        let now = Instant::now();
        let is_due = self.complained_at.is_none_or(|at| now.duration_since(at) >= COMPLAINT_PAUSE);
        if is_due {
            self.complained_at = Some(now);
            let target = &self.target;
            tracing::error!(
                "cannot write to the access log {target}: {error}; {lost} lines are lost"
            );
        }
    }

    fn reopen(&mut self) {
        match Sink::open(&self.target) {
            Ok(sink) => {
                (self.sink, self.is_torn) = (sink, false);
                tracing::info!("the access log {} is open anew", self.target);
            }
            Err(error) => {
                let target = &self.target;
                tracing::error!(
                    "cannot open the access log {target} anew: {error}; its lines go where they went"
                );
            }
        }
    }

    /// What is left will not be written.
    fn give_up(&mut self) {
        let mut lost = 0;
        for queue in &mut self.queues {
            let slots = queue.slots();
            if let Ok(chunk) = queue.read_chunk(slots) {
                let (front, rest) = chunk.as_slices();
                lost += memchr_iter(b'\n', front).chain(memchr_iter(b'\n', rest)).count();
                chunk.commit_all();
            }
        }
        self.counters.access_lines_lost.add(lost as u64);
        tracing::warn!("the access log {} takes nothing: {lost} lines are lost", self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_is_woken_for_a_queue_that_is_half_full_and_not_for_one_that_is_not() {
        let log = AccessLog { queue_bytes_max: 100, ..AccessLog::default() };
        let (writer, mut feeds) = feeds(&log, 1);
        writer.bell.writer.set(thread::current()).expect("no thread writes");
        let feed = feeds.first_mut().expect("one core");
        let waited = |most: Duration| {
            let started = Instant::now();
            thread::park_timeout(most);
            started.elapsed()
        };
        assert_eq!(feed.push(&[b'\n'; 50]), 0);
        assert!(waited(GATHER) >= GATHER);
        assert_eq!(feed.push(b"\n"), 0);
        assert!(waited(END_MAX) < END_MAX);
        assert_eq!(feed.push(&[b'\n'; 50]), 1, "one more than there is room for");
        assert!(waited(END_MAX) < END_MAX);
    }
}
