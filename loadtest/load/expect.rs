//! What a connection must receive, byte by byte. It is fed whatever receives bring, however the
//! answers are cut, and does no I/O. Called by `rounds.rs` and `storm.rs`.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use httparse::{Response, Status};
use upring::ring::Errno;

use crate::script::Protocol;
use crate::websocket;

const FIELDS_MAX: usize = 64;
/// A head longer than this is no answer of a server under test.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A content that is compared once it is whole: the first, and one in chunks.
const CONTENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why an answer is wrong, or why there is none.
#[derive(Debug)]
pub(crate) enum Fault {
    Connect(std::io::Error),
    Head(httparse::Error),
    HeadTooLarge,
    Status(u16),
    Length,
    Chunk,
    TooLarge,
    Content,
    Version,
    Option,
    Token,
    Accept,
    Unasked,
    Framed,
    Echo { at: u64 },
    Surplus,
    Closed,
    Open,
    Late,
    Unsent,
    Stalled,
    Socket(Errno),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(error) => write!(f, "cannot connect: {error}"),
            Fault::Head(error) => write!(f, "the head is malformed: {error}"),
            Fault::HeadTooLarge => write!(f, "the head does not end"),
            Fault::Status(status) => write!(f, "the status is {status}"),
            Fault::Length => {
                write!(f, "Content-Length is missing or wrong, and there are no chunks")
            }
            Fault::Chunk => write!(f, "a chunk is malformed"),
            Fault::TooLarge => {
                write!(f, "the content is longer than 16 MiB, which is too much to keep")
            }
            Fault::Content => write!(f, "the content differs"),
            Fault::Version => write!(f, "the 101 is not of HTTP/1.1"),
            Fault::Option => write!(f, "the 101 has no upgrade in Connection"),
            Fault::Token => write!(f, "the 101 does not name the protocol"),
            Fault::Accept => write!(f, "Sec-WebSocket-Accept is missing or differs"),
            Fault::Unasked => {
                write!(f, "the 101 has an extension or a subprotocol nobody asked for")
            }
            Fault::Framed => write!(f, "the 101 has a Content-Length or a Transfer-Encoding"),
            Fault::Echo { at } => write!(f, "byte {at} of the echo differs"),
            Fault::Surplus => write!(f, "bytes came that nobody asked for"),
            Fault::Closed => write!(f, "the server closed the connection"),
            Fault::Open => write!(f, "the server answered behind its last answer"),
            Fault::Late => write!(f, "the answer was not whole at the time limit"),
            Fault::Unsent => {
                write!(f, "it was due, and no connection was free for it until the time limit")
            }
            Fault::Stalled => write!(f, "nothing was answered for too long"),
            Fault::Socket(errno) => write!(f, "socket: {errno:?}"),
        }
    }
}

/// The bytes of an endless stream that repeats itself.
pub(crate) struct Pattern {
    bytes: Vec<u8>,
    period: usize,
}

impl Pattern {
    /// Bytes whose period is prime, so that one lost, repeated or reordered shows wherever a
    /// receive is cut. Can lend slices of up to `slice_bytes_max`.
    pub(crate) fn new(slice_bytes_max: usize) -> Pattern {
        Pattern::repeat(&Vec::from_iter(0..251), slice_bytes_max)
    }

    /// `period` again and again.
    pub(crate) fn repeat(period: &[u8], slice_bytes_max: usize) -> Pattern {
        let bytes = period.iter().copied().cycle().take(period.len() + slice_bytes_max);
        Pattern { bytes: bytes.collect(), period: period.len() }
    }

    /// The bytes of the stream from `at` on.
    pub(crate) fn slice(&self, at: u64, bytes: usize) -> &[u8] {
        let start = (at % self.period as u64) as usize;
        &self.bytes[start..start + bytes]
    }
}

/// What the bytes of all connections of a thread are compared with.
pub(crate) struct Reference {
    /// The content every answer must have: as given, or that of the first answer on whatever
    /// thread.
    content: &'static OnceLock<Vec<u8>>,
    /// The last answer that was right: one that is the same byte for byte need not be read.
    answer: Vec<u8>,
    /// What comes back on a switched connection, in messages of so many bytes.
    echoed: &'static Pattern,
    message_bytes: usize,
}

impl Reference {
    pub(crate) fn new(
        content: &'static OnceLock<Vec<u8>>,
        echoed: &'static Pattern,
        message_bytes: usize,
    ) -> Reference {
        let message_bytes = message_bytes.max(1);
        Reference { content, answer: Vec::new(), echoed, message_bytes }
    }
}

/// What came, as far as it was expected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    /// The 101.
    pub(crate) has_switched: bool,
    /// Answers or messages that are whole now.
    pub(crate) units: usize,
    /// The server says that it closes behind this.
    pub(crate) is_last: bool,
}

/// What is still to come on one connection.
#[derive(Default)]
pub(crate) struct Expectation {
    /// A 101 to this protocol has to come before anything else.
    switch: Option<&'static Protocol>,
    /// Answers of status 200 still owed.
    answers: usize,
    /// The content of the first of them that has come in part, and is compared as it comes.
    content: Option<Content>,
    /// Echoed bytes still owed.
    echo_bytes: usize,
    /// Where in the pattern this connection began: what was meant for another is not what is due
    /// here.
    start: u64,
    /// Bytes of the pattern echoed so far.
    echoed: u64,
    /// Whether what comes are frames, among which may be pings; and the answers to those.
    is_framed: bool,
    pongs: Vec<u8>,
    /// What has to come behind everything else.
    farewell: &'static [u8],
    /// An answer that was cut.
    partial: Vec<u8>,
}

/// The known content of an answer, as far as it has come.
struct Content {
    at: usize,
    is_last: bool,
}

impl Expectation {
    /// A 101, and what comes behind it begins at a place in the pattern.
    pub(crate) fn expect_switch(&mut self, protocol: &'static Protocol, start: u64) {
        self.switch = Some(protocol);
        self.start = start;
        self.is_framed = *protocol == Protocol::WebSocket;
    }

    pub(crate) fn expect_answers(&mut self, count: usize) {
        self.answers += count;
    }

    pub(crate) fn expect_echo(&mut self, bytes: usize) {
        self.echo_bytes += bytes;
    }

    pub(crate) fn expect_farewell(&mut self, bytes: &'static [u8]) {
        self.farewell = bytes;
    }

    /// The server closes behind what has come: it owes nothing of what was asked for behind that.
    pub(crate) fn expect_no_more(&mut self) {
        self.answers = 0;
    }

    /// What is to be sent for pings that came.
    pub(crate) fn take_pongs(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pongs)
    }

    pub(crate) fn is_met(&self) -> bool {
        self.switch.is_none()
            && self.answers == 0
            && self.echo_bytes == 0
            && self.farewell.is_empty()
    }

    /// Compares what came with what was to come.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        reference: &mut Reference,
    ) -> Result<Met, Fault> {
        let mut met = Met::default();
        if self.partial.is_empty() {
            let used = self.compare(bytes, reference, &mut met)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(bytes);
            let used = self.compare(&whole, reference, &mut met)?;
            whole.drain(..used);
            self.partial = whole;
        }
        if self.partial.len() > HEAD_BYTES_MAX + CONTENT_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        Ok(met)
    }

    /// How many bytes are done with; the rest is the beginning of an answer.
    fn compare(
        &mut self,
        bytes: &[u8],
        reference: &mut Reference,
        met: &mut Met,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        if let Some(protocol) = self.switch {
            let Some(head_bytes) = read_switch(bytes, protocol)? else {
                return Ok(0);
            };
            self.switch = None;
            met.has_switched = true;
            used = head_bytes;
        }
        while self.answers > 0 {
            if met.is_last && used < bytes.len() {
                return Err(Fault::Open);
            }
            if let Some(content) = &mut self.content {
                let (came, is_whole) = reference.compare_content(content.at, &bytes[used..])?;
                used += came;
                content.at += came;
                if !is_whole {
                    return Ok(used);
                }
                met.is_last |= content.is_last;
                self.content = None;
            } else {
                match reference.read_answer(&bytes[used..], met)? {
                    Answer::Cut => return Ok(used),
                    Answer::Whole(answer_bytes) => used += answer_bytes,
                    Answer::Begun { head_bytes, is_last } => {
                        used += head_bytes;
                        self.content = Some(Content { at: 0, is_last });
                        continue;
                    }
                }
            }
            self.answers -= 1;
            met.units += 1;
        }
        let (echo, mut rest) = bytes[used..].split_at(self.echo_bytes.min(bytes.len() - used));
        match self.compare_echo(echo, reference, met) {
            Err(fault) if !self.is_framed => return Err(fault),
            // There may be a ping in it.
            Err(_) => rest = &bytes[used..],
            Ok(()) => {}
        }
        if self.is_framed {
            rest = self.compare_frames(rest, reference, met)?;
            if rest.first() == Some(&websocket::PING) {
                // The rest of it is still to come.
                return Ok(bytes.len() - rest.len());
            }
        }
        match self.farewell.strip_prefix(rest) {
            Some(left) => self.farewell = left,
            None => return Err(Fault::Surplus),
        }
        Ok(bytes.len())
    }

    /// Compares message by message, and notes the answers to pings, which may stand between two of
    /// them; what is neither.
    fn compare_frames<'b>(
        &mut self,
        mut bytes: &'b [u8],
        reference: &Reference,
        met: &mut Met,
    ) -> Result<&'b [u8], Fault> {
        let message_bytes = reference.message_bytes;
        loop {
            let left = message_bytes - (self.echoed % message_bytes as u64) as usize;
            if left == message_bytes && bytes.first() == Some(&websocket::PING) {
                let Some((pong, rest)) = websocket::pong(bytes) else { return Ok(bytes) };
                self.pongs.extend(pong);
                bytes = rest;
                continue;
            }
            let due = left.min(self.echo_bytes).min(bytes.len());
            if due == 0 {
                return Ok(bytes);
            }
            let (echo, rest) = bytes.split_at(due);
            self.compare_echo(echo, reference, met)?;
            bytes = rest;
        }
    }

    fn compare_echo(
        &mut self,
        bytes: &[u8],
        reference: &Reference,
        met: &mut Met,
    ) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let expected = reference.echoed.slice(self.start + self.echoed, bytes.len());
        if bytes != expected {
            let same = bytes.iter().zip(expected).take_while(|(came, due)| came == due).count();
            return Err(Fault::Echo { at: self.echoed + same as u64 });
        }
        let message_bytes = reference.message_bytes as u64;
        let before = self.echoed / message_bytes;
        self.echo_bytes -= bytes.len();
        self.echoed += bytes.len() as u64;
        met.units += (self.echoed / message_bytes - before) as usize;
        Ok(())
    }
}

/// How much of an answer is there.
enum Answer {
    /// Not enough to judge it.
    Cut,
    /// All of it: so many bytes.
    Whole(usize),
    /// Its head, and not all of its content, which is known.
    Begun { head_bytes: usize, is_last: bool },
}

impl Reference {
    /// Reads a 200 with the right content.
    fn read_answer(&mut self, bytes: &[u8], met: &mut Met) -> Result<Answer, Fault> {
        if !self.answer.is_empty() && bytes.starts_with(&self.answer) {
            return Ok(Answer::Whole(self.answer.len()));
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let Some(head_bytes) = read_head(&mut response, bytes)? else {
            return Ok(Answer::Cut);
        };
        match response.code {
            Some(200) => {}
            status => return Err(Fault::Status(status.unwrap_or_default())),
        }
        let (is_last, known) = (is_last(&response), self.content.get());
        let behind_head = &bytes[head_bytes..];
        let (content, content_bytes) = match framing(&response)? {
            Framing::Length(length) if known.is_some_and(|known| known.len() != length) => {
                return Err(Fault::Length);
            }
            Framing::Length(length) => match behind_head.get(..length) {
                Some(content) => (Cow::Borrowed(content), length),
                None if known.is_some() => return Ok(Answer::Begun { head_bytes, is_last }),
                None if length > CONTENT_BYTES_MAX => return Err(Fault::TooLarge),
                None => return Ok(Answer::Cut),
            },
            Framing::Chunked => match read_chunks(behind_head)? {
                Some((content, used)) => (Cow::Owned(content), used),
                None => return Ok(Answer::Cut),
            },
        };
        if *content != **self.content.get_or_init(|| content.to_vec()) {
            return Err(Fault::Content);
        }
        let end = head_bytes + content_bytes;
        if is_last {
            met.is_last = true;
        } else if content_bytes <= HEAD_BYTES_MAX {
            self.answer.clear();
            self.answer.extend_from_slice(&bytes[..end]);
        }
        Ok(Answer::Whole(end))
    }

    /// Compares what came of a content behind its first `at` bytes: how much that was, and whether
    /// it is all there now.
    fn compare_content(&self, at: usize, bytes: &[u8]) -> Result<(usize, bool), Fault> {
        let due = self.content.get().and_then(|content| content.get(at..)).unwrap_or_default();
        let came = &bytes[..due.len().min(bytes.len())];
        if !due.starts_with(came) {
            return Err(Fault::Content);
        }
        Ok((came.len(), came.len() == due.len()))
    }
}

/// Where the content of an answer ends.
enum Framing {
    Length(usize),
    Chunked,
}

/// RFC 9112 §6.3, but for an answer that ends with its connection. What says it twice says it
/// wrongly.
fn framing(response: &Response<'_, '_>) -> Result<Framing, Fault> {
    let mut codings = fields(response, "transfer-encoding");
    let mut lengths = fields(response, "content-length");
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (Some(coding), None, None, None) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (None, None, Some(length), None) if length.iter().all(u8::is_ascii_digit) => {
            let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            // Of more than there is memory for, nothing can be told.
            length.filter(|length| *length < 1 << 48).map(Framing::Length).ok_or(Fault::Length)
        }
        _ => Err(Fault::Length),
    }
}

/// The content of a chunked answer that is all there, and the bytes it takes up (RFC 9112 §7.1).
fn read_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Fault> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&bytes[at..]).map_err(|_| Fault::Chunk)?;
        let Status::Complete((line_bytes, size)) = size else { return Ok(None) };
        let start = at + line_bytes;
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            return match httparse::parse_headers(&bytes[start..], &mut fields)
                .map_err(Fault::Head)?
            {
                Status::Complete((trailer_bytes, _)) => Ok(Some((content, start + trailer_bytes))),
                Status::Partial => Ok(None),
            };
        }
        let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size));
        let Some(end) = end else { return Err(Fault::Chunk) };
        let Some(data) = bytes.get(start..end) else { return Ok(None) };
        let Some(line_end) = bytes.get(end..end.saturating_add(2)) else { return Ok(None) };
        if line_end != b"\r\n" {
            return Err(Fault::Chunk);
        }
        content.extend_from_slice(data);
        at = end + 2;
    }
}

/// The length of a 101 that switches to `protocol` (RFC 9110 §7.8, §8.6; RFC 6455 §4.1).
fn read_switch(bytes: &[u8], protocol: &Protocol) -> Result<Option<usize>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let Some(head_bytes) = read_head(&mut response, bytes)? else {
        return Ok(None);
    };
    match response.code {
        Some(101) => {}
        status => return Err(Fault::Status(status.unwrap_or_default())),
    }
    let has = |name| field(&response, name).is_some();
    if response.version != Some(1) {
        return Err(Fault::Version);
    }
    if !has_option(&response, b"upgrade") {
        return Err(Fault::Option);
    }
    let token = protocol.token().as_bytes();
    if !field(&response, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(token)) {
        return Err(Fault::Token);
    }
    if has("content-length") || has("transfer-encoding") {
        return Err(Fault::Framed);
    }
    if *protocol == Protocol::WebSocket {
        if field(&response, "sec-websocket-accept") != Some(websocket::ACCEPT) {
            return Err(Fault::Accept);
        }
        if has("sec-websocket-extensions") || has("sec-websocket-protocol") {
            return Err(Fault::Unasked);
        }
    }
    Ok(Some(head_bytes))
}

fn read_head<'b>(response: &mut Response<'_, 'b>, bytes: &'b [u8]) -> Result<Option<usize>, Fault> {
    match response.parse(bytes).map_err(Fault::Head)? {
        Status::Complete(head_bytes) => Ok(Some(head_bytes)),
        Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(Fault::HeadTooLarge),
        Status::Partial => Ok(None),
    }
}

/// Whether the server closes the connection behind this answer (RFC 9112 §9.3).
fn is_last(response: &Response<'_, '_>) -> bool {
    let is_old = response.version == Some(0);
    has_option(response, b"close") || (is_old && !has_option(response, b"keep-alive"))
}

/// Whether Connection has an option, in any of its lines.
fn has_option(response: &Response<'_, '_>, wanted: &[u8]) -> bool {
    let mut options =
        fields(response, "connection").flat_map(|line| line.split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted))
}

fn field<'b>(response: &Response<'_, 'b>, name: &'static str) -> Option<&'b [u8]> {
    fields(response, name).next()
}

fn fields<'a, 'b>(
    response: &'a Response<'_, 'b>,
    name: &'static str,
) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
    let named = response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    fn pattern(slice_bytes_max: usize) -> &'static Pattern {
        Box::leak(Box::new(Pattern::new(slice_bytes_max)))
    }

    fn reference(pattern_bytes: usize) -> Reference {
        Reference::new(known(b"hi"), pattern(pattern_bytes), 100)
    }

    fn known(content: &[u8]) -> &'static OnceLock<Vec<u8>> {
        Box::leak(Box::new(OnceLock::from(content.to_vec())))
    }

    /// All units that come in these pieces.
    fn receive(expectation: &mut Expectation, pieces: [&[u8]; 2], max: usize) -> usize {
        let mut reference = reference(max);
        let mut units = 0;
        for piece in pieces {
            units += expectation.receive(piece, &mut reference).expect("right").units;
        }
        units
    }

    #[test]
    fn two_answers_cut_anywhere_are_met() {
        assert_answers_are_met(&ANSWER.repeat(2), 2);
    }

    /// Wherever they are cut.
    fn assert_answers_are_met(bytes: &[u8], count: usize) {
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_answers(count);
            assert_eq!(receive(&mut expectation, [&bytes[..cut], &bytes[cut..]], 0), count);
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn chunked_answers_cut_anywhere_are_met() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
            1;x=y\r\nh\r\n001\r\ni\r\n0\r\nT: v\r\n\r\n";
        assert_answers_are_met(&[&chunked[..], ANSWER, chunked].concat(), 3);
    }

    #[test]
    fn chunks_that_are_wrong_are_faults() {
        let receive = |chunks: &str| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut expectation = Expectation::default();
            expectation.expect_answers(1);
            expectation.receive([head, chunks].concat().as_bytes(), &mut reference(0)).err()
        };
        assert!(receive("2\r\nhi\r\n0\r\n\r\n").is_none());
        assert!(matches!(receive("2\r\nho\r\n0\r\n\r\n"), Some(Fault::Content)));
        assert!(matches!(receive("1\r\nh\r\n0\r\n\r\n"), Some(Fault::Content)));
        assert!(matches!(receive("2\r\nhi.."), Some(Fault::Chunk)));
        assert!(matches!(receive("ffffffffffffffff\r\n"), Some(Fault::Chunk)));
        assert!(matches!(receive("g\r\n"), Some(Fault::Chunk)));
        assert!(matches!(receive("2\r\nhi\r\n0\r\n\r\nx"), Some(Fault::Surplus)));
        let both = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut expectation = Expectation::default();
        expectation.expect_answers(1);
        let fault = expectation.receive(both, &mut reference(0)).expect_err("where does it end?");
        assert!(matches!(fault, Fault::Length));
    }

    #[test]
    fn a_switch_and_its_echo_cut_anywhere_are_met() {
        let pattern = Pattern::new(1000);
        let mut bytes = SWITCH.to_vec();
        bytes.extend_from_slice(pattern.slice(3, 700));
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_switch(Box::leak(Box::new(Protocol::named("echo"))), 3);
            expectation.expect_echo(700);
            assert_eq!(receive(&mut expectation, [&bytes[..cut], &bytes[cut..]], 1000), 7);
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn a_101_that_is_not_quite_one_is_a_fault() {
        let receive = |protocol: &'static Protocol, head: &str| {
            let mut expectation = Expectation::default();
            expectation.expect_switch(protocol, 0);
            let head = format!("{head}\r\n\r\n");
            expectation.receive(head.as_bytes(), &mut reference(0)).map(|met| met.has_switched)
        };
        let echo: &Protocol = Box::leak(Box::new(Protocol::named("echo")));
        let raw = |fields: &str| receive(echo, &format!("HTTP/1.1 101 \r\n{fields}"));
        assert!(raw("Connection: x\r\nConnection: y, UPGRADE\r\nUpgrade: Echo").expect("right"));
        assert!(matches!(raw("Upgrade: echo"), Err(Fault::Option)));
        assert!(matches!(raw("Connection: Upgrade"), Err(Fault::Token)));
        let framed = raw("Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 5");
        assert!(matches!(framed, Err(Fault::Framed)));
        let old = receive(echo, "HTTP/1.0 101 \r\nConnection: Upgrade\r\nUpgrade: echo");
        assert!(matches!(old, Err(Fault::Version)));

        let websocket = |accept: &str| {
            let fields = "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: ";
            receive(&Protocol::WebSocket, &format!("HTTP/1.1 101 \r\n{fields}{accept}"))
        };
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(websocket(accept).expect("right"));
        assert!(matches!(websocket("wrong"), Err(Fault::Accept)));
        for unasked in ["Extensions: permessage-deflate", "Protocol: chat"] {
            let found = websocket(&format!("{accept}\r\nSec-WebSocket-{unasked}"));
            assert!(matches!(found, Err(Fault::Unasked)), "{unasked}");
        }
    }

    #[test]
    fn pings_between_messages_are_answered_wherever_they_are_cut() {
        const BYTES: usize = 5;
        let messages = websocket::Messages::new(BYTES);
        let echoed: &'static Pattern = Box::leak(Box::new(messages.echoed(8)));
        let message =
            |number| echoed.slice(number * messages.echoed_bytes as u64, messages.echoed_bytes);
        let pings: [&[u8]; 2] = [b"\x89\x00", b"\x89\x02hi"];
        let bytes =
            [pings[0], message(2), message(3), pings[1], pings[0], message(4), pings[1]].concat();
        for cut in 0..=bytes.len() {
            let mut reference = Reference::new(known(b""), echoed, messages.echoed_bytes);
            let mut expectation = Expectation { is_framed: true, ..Expectation::default() };
            expectation.start = 2 * messages.echoed_bytes as u64;
            expectation.expect_echo(3 * messages.echoed_bytes);
            let mut units = 0;
            for piece in [&bytes[..cut], &bytes[cut..]] {
                units += expectation.receive(piece, &mut reference).expect("right").units;
            }
            assert!(units == 3 && expectation.is_met(), "cut at {cut}");
            let pongs = b"\x8a\x80\0\0\0\0\x8a\x82\0\0\0\0hi".repeat(2);
            assert_eq!(expectation.take_pongs(), pongs, "cut at {cut}");
        }
        // On a protocol without frames they are bytes like others.
        let mut raw = Expectation::default();
        assert!(matches!(raw.receive(pings[0], &mut reference(0)), Err(Fault::Surplus)));
    }

    #[test]
    fn a_known_content_is_compared_as_it_comes_and_not_kept() {
        let content = Pattern::new(300_000).slice(0, 300_000).to_vec();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
        let answer = [head.as_bytes(), &content].concat();
        let mut reference = Reference::new(known(&content), pattern(0), 1);
        let mut expectation = Expectation::default();
        expectation.expect_answers(2);
        let mut units = 0;
        for piece in answer.repeat(2).chunks(16_000) {
            units += expectation.receive(piece, &mut reference).expect("right").units;
            assert!(expectation.partial.len() < 16_000);
        }
        assert!(units == 2 && expectation.is_met());
        // The first byte that differs is seen when it comes.
        let mut expectation = Expectation::default();
        expectation.expect_answers(1);
        let wrong = [head.as_bytes(), b"?"].concat();
        let fault = expectation.receive(&wrong, &mut reference).expect_err("it differs");
        assert!(matches!(fault, Fault::Content));
    }

    #[test]
    fn what_cannot_be_kept_is_not_asked_for() {
        let receive = |head: &str| {
            let mut reference = Reference::new(Box::leak(Box::default()), pattern(0), 1);
            let mut expectation = Expectation::default();
            expectation.expect_answers(1);
            let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            expectation.receive(head.as_bytes(), &mut reference).expect_err("too much")
        };
        assert!(matches!(receive("Content-Length: 99999999999"), Fault::TooLarge));
        for length in ["18446744073709551615", "99999999999999999999", "+5", "5, 5", ""] {
            let fault = receive(&format!("Content-Length: {length}"));
            assert!(matches!(fault, Fault::Length), "{length}: {fault}");
        }
        assert!(matches!(receive("Content-Length: 5\r\nContent-Length: 5"), Fault::Length));
    }

    #[test]
    fn wrong_bytes_are_faults() {
        let receive = |answers, bytes: &[u8]| {
            let mut expectation = Expectation::default();
            expectation.expect_answers(answers);
            expectation.receive(bytes, &mut reference(10)).expect_err("wrong")
        };
        assert!(matches!(receive(1, &ANSWER.repeat(2)), Fault::Surplus));
        let other = [&ANSWER[..ANSWER.len() - 1], b"o"].concat();
        assert!(matches!(receive(1, &other), Fault::Content));
        // Behind one that was right, when nothing is read again that is the same.
        assert!(matches!(receive(2, &[ANSWER, &other].concat()), Fault::Content));
        assert!(matches!(receive(1, b"HTTP/1.1 404 Not Found\r\n\r\n"), Fault::Status(404)));
        assert!(matches!(
            receive(1, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            Fault::Length
        ));
        assert!(matches!(receive(0, b"x"), Fault::Surplus));
    }

    #[test]
    fn the_first_answer_says_what_the_others_have_to_be() {
        let mut reference = Reference::new(Box::leak(Box::default()), pattern(0), 1);
        let mut expectation = Expectation::default();
        expectation.expect_answers(2);
        expectation.receive(ANSWER, &mut reference).expect("whatever it is");
        let other = [&ANSWER[..ANSWER.len() - 1], b"o"].concat();
        let fault = expectation.receive(&other, &mut reference).expect_err("it differs");
        assert!(matches!(fault, Fault::Content));
    }

    #[test]
    fn an_answer_that_says_close_is_the_last() {
        let close = b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi";
        let old = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        for (bytes, is_last) in [(&close[..], true), (old, true), (ANSWER, false)] {
            let mut expectation = Expectation::default();
            expectation.expect_answers(1);
            let met = expectation.receive(bytes, &mut reference(0)).expect("right");
            assert_eq!(met, Met { has_switched: false, units: 1, is_last });
        }
        let mut expectation = Expectation::default();
        expectation.expect_answers(2);
        let fault = expectation.receive(&close.repeat(2), &mut reference(0)).expect_err("wrong");
        assert!(matches!(fault, Fault::Open));
    }

    #[test]
    fn a_lost_byte_is_found_where_it_was_lost() {
        let pattern = Pattern::new(600);
        let mut reference = reference(600);
        let mut expectation = Expectation::default();
        expectation.expect_echo(600);
        expectation.receive(pattern.slice(0, 300), &mut reference).expect("right");
        let lost = pattern.slice(301, 100);
        let fault = expectation.receive(lost, &mut reference).expect_err("wrong");
        assert!(matches!(fault, Fault::Echo { at: 300 }));
    }
}
