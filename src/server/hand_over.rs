//! One process takes the place of another without losing a connection attempt: it is given the very
//! sockets that the other listens on, so that what waits on them waits for it.
//!
//! ```text
//!   successor                                    predecessor
//!       │ ── connect to the Unix socket ──────────►  │ is it the same user?
//!       │ ◄───────── what it made at paths, O_PATH ── │
//!       │ ◄──────── listening sockets, SCM_RIGHTS ── │ goes on accepting
//!    starts, accepts                                 │
//!       │ ── "ready" ─────────────────────────────►  │ gives the path up
//!       │ ◄───────────────────────────── "yours" ──  │ stops accepting, drains
//!    offers its own sockets at that path
//! ```
//!
//! A successor that dies before it is ready costs nothing: the predecessor has not stopped anything.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::Uid;

use super::inherit::{Given, Inherited};
use super::listeners::Kept;
use super::{Running, Stopper};
use crate::config::{ListenAddress, Listener};
use crate::metrics::Metrics;
use crate::ring::{Cause, FileIdentity, SetupError, SharedListener};

/// What each side says first: another version would say something else.
const GREETING: &[u8; 18] = b"upring hand-over 1";

/// Descriptors of one message: the kernel takes 253 (unix(7)).
const SOCKETS_PER_MESSAGE: usize = 128;

/// Sockets of one server at most: 1024 workers on 64 addresses.
const SOCKETS_MAX: usize = 65_536;

/// How long a successor waits for each word of its predecessor, but for the first.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits for the first: another may be about to take over, and is let go of before that.
const LINE_PATIENCE: Duration = Duration::from_secs(45);

/// The highest process id there can be (proc_sys_kernel(5), pid_max), and so the longest.
const PROCESS_MAX: u32 = 4_194_304;

/// Between two that have failed.
const PAUSE: Duration = Duration::from_millis(100);

const MORE: u8 = b'+';
const LAST: u8 = b'.';
/// Sockets that a service manager made, and more to come.
const MANAGED: u8 = b'm';
const READY: u8 = b'r';
const YOURS: u8 = b'y';

/// How long each step of a hand-over may take. One is served at a time: who is late is let go of, the log
/// says so, and whoever waits behind it is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOverTimes {
    /// From the connection to its first word. Default 1 s: a successor speaks at once.
    pub greeting: Duration,
    /// From there until all sockets are on their way. Default 5 s.
    pub offer: Duration,
    /// From there until the successor is ready. Default 30 s: rings and buffers of many workers take
    /// some seconds.
    pub ready: Duration,
}

impl Default for HandOverTimes {
    fn default() -> HandOverTimes {
        HandOverTimes {
            greeting: Duration::from_secs(1),
            offer: Duration::from_secs(5),
            ready: Duration::from_secs(30),
        }
    }
}

/// Offers the sockets of servers to whoever will take their place.
#[derive(Debug)]
pub struct Offer {
    path: PathBuf,
    kept: Vec<Kept>,
    /// Not kept: who goes last removes their paths.
    shared: Vec<Weak<SharedListener>>,
    stoppers: Vec<Stopper>,
    metrics: Vec<Metrics>,
    times: HandOverTimes,
}

impl Offer {
    /// Those of a server, at this path.
    pub fn new(path: impl Into<PathBuf>) -> Offer {
        Offer {
            path: path.into(),
            kept: Vec::new(),
            shared: Vec::new(),
            stoppers: Vec::new(),
            metrics: Vec::new(),
            times: HandOverTimes::default(),
        }
    }

    /// With other bounds.
    #[must_use]
    pub fn within(mut self, times: HandOverTimes) -> Offer {
        self.times = times;
        self
    }

    /// Whether this path could be offered at, as far as that can be seen without doing so.
    ///
    /// # Errors
    /// Its folder is not there, something else is at it, or it is too long: it is made beside the path, with
    /// the process id behind it, and moved there.
    pub fn check(path: &Path) -> Result<(), SetupError> {
        let beside = beside(path, PROCESS_MAX);
        let checked = SharedListener::check(path).and_then(|()| SharedListener::check(&beside));
        checked.map_err(|error| match error {
            SetupError::Listener { call, errno, cause: Cause::PathTooLong, .. } => {
                SetupError::Listener {
                    call,
                    errno,
                    address: path.into(),
                    cause: Cause::PlaceTooLong,
                }
            }
            other => other,
        })
    }

    /// And those of this server. It is stopped when a successor is ready.
    #[must_use]
    pub fn with(mut self, running: &Running) -> Offer {
        self.kept.push(running.kept.clone());
        self.shared.extend(running.shared.iter().map(Arc::downgrade));
        self.stoppers.push(running.stopper());
        self.metrics.push(running.metrics());
        self
    }

    /// Listens beside the path: whether it can be is known before a predecessor is relieved.
    ///
    /// # Errors
    /// The folder of the path is not there or not open to us.
    pub fn open(self) -> Result<OpenOffer, SetupError> {
        let beside = beside(&self.path, std::process::id());
        // The owner alone: who gets these sockets gets the connections.
        let address = ListenAddress::Unix(beside.clone());
        let rules = Listener { mode: 0o600, backlog: 8, ..address.into() };
        let at = SharedListener::listen(&beside, &rules)?;
        Ok(OpenOffer { offer: self, at })
    }

    fn serve(
        self,
        at: &SharedListener,
        listener: &UnixListener,
        relieved: impl FnOnce(u32) + Send + 'static,
    ) {
        for stream in listener.incoming() {
            let handed = stream.and_then(|stream| Ok((self.hand_over(&stream)?, stream)));
            match handed {
                Ok((process, mut stream)) => {
                    // Free for the successor before it is told so.
                    at.remove();
                    turn_away(listener);
                    if let Err(error) = stream.write_all(&[YOURS]) {
                        tracing::warn!("process {process} was not told that it is alone: {error}");
                    }
                    relieved(process);
                    self.metrics.iter().for_each(Metrics::note_succeeded);
                    // Last: with nobody left to serve the process ends at once.
                    return self.stoppers.iter().for_each(Stopper::stop);
                }
                Err(error) => {
                    tracing::warn!("nobody took over, this process goes on: {error}");
                    // An error may be this process's own, such as no descriptor: it is not asked at once again.
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Gives the sockets away, and returns who has them once it is ready.
    fn hand_over(&self, stream: &UnixStream) -> io::Result<u32> {
        let peer = socket_peercred(stream)?;
        let own = rustix::process::geteuid();
        if peer.uid != own && !peer.uid.is_root() {
            let text = format!("uid {} asked for the sockets of uid {own}", peer.uid);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let process = peer.pid.as_raw_nonzero().get().unsigned_abs();
        let HandOverTimes { greeting, offer, ready } = self.times;
        let made = self.shared.iter().filter_map(|shared| shared.upgrade()?.made());
        greet_successor(&Timed::within(stream, greeting), &made.collect::<Vec<_>>())
            .map_err(late(process, "say who it is", greeting))?;
        let left = Left::of(&self.shared);
        let mut sockets = Vec::new();
        for kept in &self.kept {
            sockets.extend(kept.duplicates()?);
        }
        send_sockets(&Timed::within(stream, offer), &sockets).map_err(late(
            process,
            "take the sockets",
            offer,
        ))?;
        drop(sockets);
        tracing::info!("process {process} has the listening sockets, and starts");
        expect(Timed::within(stream, ready), READY).map_err(late(process, "be ready", ready))?;
        left.for_good();
        Ok(process)
    }
}

/// Paths that are left to a process which has their sockets and is not ready yet: should this one be told to
/// stop meanwhile, they are not its to remove. Dropped, they are its own again.
struct Left(Vec<Arc<SharedListener>>);

impl Left {
    /// Before it is asked for their sockets: who stops closes them first, and the paths behind that.
    fn of(shared: &[Weak<SharedListener>]) -> Left {
        Left(shared.iter().filter_map(Weak::upgrade).filter(|shared| shared.release()).collect())
    }

    fn for_good(mut self) {
        self.0.clear();
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.iter().for_each(|shared| shared.claim());
    }
}

/// Where an offer of a process is made.
fn beside(path: &Path, process: u32) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{process}"));
    beside.into()
}

/// Whether the other end is closed.
fn is_of_one_that_has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Lets go of those who still wait in line: there is nothing for them, and without the path no other comes.
fn turn_away(listener: &UnixListener) {
    if listener.set_nonblocking(true).is_ok() {
        while listener.accept().is_ok() {}
    }
}

/// What is said of a process that was too slow, or has gone.
fn late(process: u32, what: &str, bound: Duration) -> impl FnOnce(io::Error) -> io::Error {
    move |error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let text = format!("process {process} did not {what} within {bound:?}");
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        _ if is_of_one_that_has_gone(&error) => {
            let text = format!("process {process} has gone before it could {what}");
            io::Error::new(error.kind(), text)
        }
        _ => error,
    }
}

/// A connection whose next words have to come, and to leave, before a time: all of them together.
#[derive(Clone, Copy)]
struct Timed<'s> {
    stream: &'s UnixStream,
    until: Instant,
}

impl<'s> Timed<'s> {
    fn within(stream: &'s UnixStream, bound: Duration) -> Timed<'s> {
        Timed { stream, until: Instant::now() + bound }
    }

    /// Has the next call end in time.
    fn left(&self) -> io::Result<&'s UnixStream> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))?;
        Ok(self.stream)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.left()?.read(into)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An offer that nobody has heard of.
#[derive(Debug)]
pub struct OpenOffer {
    offer: Offer,
    at: SharedListener,
}

impl OpenOffer {
    /// And the sockets of this server, as [`Offer::with`].
    #[must_use]
    pub fn with(self, running: &Running) -> OpenOffer {
        OpenOffer { offer: self.offer.with(running), ..self }
    }

    /// Takes the path until a successor is ready: then `relieved` is told its process id,
    /// and the servers are stopped. What is returned removes the path when it is dropped.
    ///
    /// # Errors
    /// Somebody listens there, or something else is there, or descriptors or threads have run out.
    pub fn start(self, relieved: impl FnOnce(u32) + Send + 'static) -> Result<Offered, SetupError> {
        let OpenOffer { offer, mut at } = self;
        at.move_to(&offer.path)?;
        let listener = UnixListener::from(at.share()?);
        let at = Arc::new(at);
        let offered = Offered(Arc::clone(&at));
        let thread = thread::Builder::new().name("hand-over".to_owned());
        thread
            .spawn(move || offer.serve(&at, &listener, relieved))
            .map_err(|error| SetupError::thread(&error))?;
        Ok(offered)
    }
}

/// An offer that stands. Dropped, its path is removed, if it is still its own.
#[derive(Debug)]
pub struct Offered(Arc<SharedListener>);

impl Drop for Offered {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// The process whose sockets were taken, which still serves.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    path: PathBuf,
}

impl Predecessor {
    /// Says that its successor accepts. Returns when the path is free; from then on it drains.
    ///
    /// # Errors
    /// It is gone, or does not answer: whatever it does, the successor has its sockets.
    pub fn relieve(&self) -> io::Result<()> {
        let mut stream = &self.stream;
        stream.write_all(&[READY])?;
        expect(stream, YOURS)
    }

    /// Whether it still offers its sockets: if it could not be relieved, it has waited for long enough, and
    /// goes on without this process.
    pub fn goes_on(&self) -> bool {
        UnixStream::connect(&self.path).is_ok()
    }
}

/// Takes the sockets of the process that offers them at `path`, if there is one.
///
/// # Errors
/// There is one, and it does not give them: two servers must not serve beside each other unnoticed.
pub fn take_over(path: &Path) -> io::Result<Option<(Inherited, Predecessor)>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let other = socket_peercred(&stream)?.uid;
    let made = greet_predecessor(Timed::within(&stream, LINE_PATIENCE))
        .map_err(|error| unanswered(error, other))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let sockets = receive_sockets(&stream)?;
    let inherited = Inherited::given(sockets)?.made(made);
    Ok(Some((inherited, Predecessor { stream, path: path.into() })))
}

/// What an operator can do about a process that does not answer.
fn unanswered(error: io::Error, other: Uid) -> io::Error {
    let own = rustix::process::geteuid();
    let has_gone = is_of_one_that_has_gone(&error);
    let text = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it does not answer: others may be about to take over, as its log says; try again in a minute"
        }
        _ if !has_gone => return error,
        // It refuses nobody but who is neither its user nor root.
        _ if own == other || own.is_root() => {
            "it has ended, or another process has taken its place just now: that one serves; try again \
             to take over from it"
        }
        _ => "it refuses: it gives its sockets to its own user and to root alone, as its log says",
    };
    io::Error::new(error.kind(), text)
}

/// With the words goes what was made at the paths of sockets. An older successor reads the words alone, and
/// the kernel closes the rest; of more paths than go with one message the others are not known.
fn greet_successor(stream: &Timed<'_>, made: &[OwnedFd]) -> io::Result<()> {
    let made: Vec<_> = made.iter().take(SOCKETS_PER_MESSAGE).map(AsFd::as_fd).collect();
    send_message(stream, GREETING, &made)?;
    let mut heard = [0; GREETING.len()];
    let mut stream = *stream;
    stream.read_exact(&mut heard)?;
    understand(heard)
}

/// What the predecessor has made at the paths of its sockets: nothing, if it is an older one.
fn greet_predecessor(mut stream: Timed<'_>) -> io::Result<Vec<FileIdentity>> {
    stream.write_all(GREETING)?;
    let mut heard = [0; GREETING.len()];
    let mut made = Vec::new();
    let count = receive_message(stream.left()?, &mut heard, |file| made.push(file))?;
    stream.read_exact(&mut heard[count..])?;
    understand(heard)?;
    made.iter().map(FileIdentity::of).collect()
}

fn understand(heard: [u8; GREETING.len()]) -> io::Result<()> {
    if heard == *GREETING {
        return Ok(());
    }
    let text = "the other process speaks another version of the hand-over";
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

fn expect(mut stream: impl Read, word: u8) -> io::Result<()> {
    let mut heard = [0];
    stream.read_exact(&mut heard)?;
    if heard[0] == word {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the other process said something else"))
}

/// Those of a service manager first: an older successor knows no word for them, and there are rarely any.
fn send_sockets(stream: &Timed<'_>, sockets: &[Given]) -> io::Result<()> {
    let of = |is_managed| {
        let chosen = sockets.iter().filter(move |given| given.is_managed == is_managed);
        chosen.map(|given| given.socket.as_fd()).collect::<Vec<_>>()
    };
    for managed in of(true).chunks(SOCKETS_PER_MESSAGE) {
        send_message(stream, &[MANAGED], managed)?;
    }
    let own = of(false);
    let mut rest = &own[..];
    loop {
        let (now, behind) = rest.split_at(rest.len().min(SOCKETS_PER_MESSAGE));
        send_message(stream, &[if behind.is_empty() { LAST } else { MORE }], now)?;
        if behind.is_empty() {
            return Ok(());
        }
        rest = behind;
    }
}

/// Words that are few enough to go at once, and descriptors with them.
fn send_message(stream: &Timed<'_>, words: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("no room for the descriptors of one message"));
    }
    sendmsg(stream.left()?, &[IoSlice::new(words)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_sockets(stream: &UnixStream) -> io::Result<Vec<Given>> {
    let mut sockets = Vec::<Given>::new();
    loop {
        let mut word = [0];
        let mut received = Vec::new();
        receive_message(stream, &mut word, |socket| received.push(socket))?;
        let is_managed = word[0] == MANAGED;
        sockets.extend(received.into_iter().map(|socket| Given { socket, is_managed }));
        match word[0] {
            LAST => return Ok(sockets),
            MORE | MANAGED if sockets.len() < SOCKETS_MAX => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no list of sockets")),
        }
    }
}

/// How much of `words` has come, one byte at least; the descriptors that came with it go to `take`.
fn receive_message(
    stream: &UnixStream,
    words: &mut [u8],
    mut take: impl FnMut(OwnedFd),
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(words)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let count = recvmsg(stream, &mut into, &mut control, flags)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            received.for_each(&mut take);
        }
    }
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
}
