//! One connection to a target: what is written step by step, and all that comes back, until nothing
//! more could change the verdict.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::answers::{End, Event, Reader};
use super::frames::Kind;

/// What is read of one connection. More is a flood, and told as one.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Before a connect that failed is tried once more.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Between two bytes of a drip: most of them leave in a segment of their own.
const DRIP_PAUSE: Duration = Duration::from_micros(500);

/// One thing a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Write(Vec<u8>),
    /// Byte by byte.
    Drip(Vec<u8>),
    /// Reads for so long.
    Pause(Duration),
    /// Does nothing for so long, not even reading.
    Deaf(Duration),
    /// Reads until a final answer, or a 101, has come.
    Await,
    /// Reads until a 101 has come; without one, nothing more is sent.
    AwaitSwitch,
    /// Ends its own direction.
    Fin,
}

/// What was said on one connection.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Every byte that was sent.
    pub sent: Vec<u8>,
    /// Every byte that came back.
    pub received: Vec<u8>,
    /// How long it took.
    pub took: Duration,
    pub(super) events: Vec<Event>,
}

impl Exchange {
    /// How it ended, unless the verdict was clear before.
    pub(super) fn end(&self) -> Option<End> {
        match self.events.last() {
            Some(Event::End(end)) => Some(*end),
            _ => None,
        }
    }
}

/// Connects, once more if that fails.
fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout).or_else(|_| {
        std::thread::sleep(CONNECT_AGAIN_AFTER);
        TcpStream::connect_timeout(&address, timeout)
    })?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// Takes the steps, and reads until `is_enough`, the end, or no end within `timeout` of the last
/// step.
///
/// # Errors
/// There is no connection.
pub(super) fn converse(
    address: SocketAddr,
    steps: &[Step],
    timeout: Duration,
    is_enough: impl FnMut(&[Event]) -> bool,
) -> io::Result<Exchange> {
    let begun = Instant::now();
    let stream = connect(address, timeout)?;
    let mut talk = Talk {
        stream,
        reader: Reader::new(first_bytes(steps)),
        received: Vec::new(),
        sent: Vec::new(),
        end: None,
        has_closed: steps.iter().any(is_close),
    };
    if talk.take(steps, timeout) {
        talk.read_for(timeout, is_enough);
    }
    let Talk { mut reader, received, sent, end, .. } = talk;
    if let Some(end) = end {
        reader.end(&received, end);
    }
    Ok(Exchange { sent, received, took: begun.elapsed(), events: reader.events })
}

fn first_bytes(steps: &[Step]) -> &[u8] {
    steps
        .iter()
        .find_map(|step| match step {
            Step::Write(bytes) | Step::Drip(bytes) => Some(&bytes[..]),
            _ => None,
        })
        .unwrap_or_default()
}

/// Whether a step begins with a Close.
fn is_close(step: &Step) -> bool {
    matches!(step, Step::Write(bytes) if bytes.first() == Some(&0x88))
}

struct Talk {
    stream: TcpStream,
    reader: Reader,
    received: Vec<u8>,
    sent: Vec<u8>,
    end: Option<End>,
    /// A Close was sent, or is among the steps.
    has_closed: bool,
}

impl Talk {
    /// Whether it is worth while to go on reading.
    fn take(&mut self, steps: &[Step], timeout: Duration) -> bool {
        for step in steps {
            let goes_on = match step {
                Step::Write(bytes) => self.write(&[bytes]),
                Step::Drip(bytes) => self.write(&bytes.chunks(1).collect::<Vec<_>>()),
                Step::Fin => {
                    self.reader.stage += 1;
                    self.stream.shutdown(Shutdown::Write).is_ok()
                }
                Step::Pause(time) => {
                    self.read_for(*time, |_| false);
                    self.end = self.end.filter(|end| *end != End::Open);
                    true
                }
                Step::Deaf(time) => {
                    std::thread::sleep(*time);
                    true
                }
                Step::Await => {
                    let before = count_final(&self.reader.events);
                    self.read_for(timeout, |events| count_final(events) > before);
                    if self.end.is_some() {
                        return false;
                    }
                    true
                }
                Step::AwaitSwitch => {
                    self.read_for(timeout, |events| count_final(events) > 0);
                    if self.end.is_some() {
                        return false;
                    }
                    self.is_switched()
                }
            };
            if !goes_on || self.end.is_some() {
                break;
            }
        }
        self.end.is_none()
    }

    fn is_switched(&self) -> bool {
        self.reader
            .events
            .iter()
            .any(|event| matches!(event, Event::Answer(answer) if answer.status == 101))
    }

    /// Whether all of it left. A target that has seen enough may end the connection: what it said is
    /// read all the same.
    fn write(&mut self, pieces: &[&[u8]]) -> bool {
        self.reader.stage += 1;
        for piece in pieces {
            if self.stream.write_all(piece).is_err() {
                return false;
            }
            self.sent.extend_from_slice(piece);
            if pieces.len() > 1 {
                std::thread::sleep(DRIP_PAUSE);
            }
        }
        true
    }

    fn read_for(&mut self, time: Duration, mut is_enough: impl FnMut(&[Event]) -> bool) {
        let until = Instant::now() + time;
        let mut bytes = vec![0; 64 * 1024];
        while self.end.is_none() && !is_enough(&self.reader.events) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                self.end = Some(End::Open);
                return;
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(count) => {
                    self.received.extend_from_slice(&bytes[..count]);
                    self.reader.read(&self.received);
                    self.answer_close();
                    if self.received.len() > BYTES_MAX {
                        self.end = Some(End::Flooded);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => self.end = Some(End::Reset),
                },
            }
        }
    }

    /// RFC 6455 §5.5.1: a Close is answered with one. The server then ends the connection.
    fn answer_close(&mut self) {
        let code = self.reader.events.iter().find_map(|event| match event {
            Event::Frame(frame) if frame.kind == Kind::Close => Some(frame.code()),
            _ => None,
        });
        let Some(code) = code.filter(|_| !self.has_closed) else { return };
        self.has_closed = true;
        let payload = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
        let header = [0x88, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        // Whether it still listens is seen by how it ends.
        let _ = self.stream.write_all(&[&header[..], &payload].concat());
    }
}

/// Answers that end a wait: final ones, and switches.
fn count_final(events: &[Event]) -> usize {
    let is_one = |event: &&Event| matches!(event, Event::Answer(answer) if answer.is_final() || answer.status == 101);
    events.iter().filter(is_one).count()
}
