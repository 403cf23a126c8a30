//! What a connection must receive, byte by byte. It is fed whatever receives bring, however the
//! answers are cut, and does no I/O. Called by `rounds.rs` and `storm.rs`.

use std::borrow::Cow;
use std::fmt;

use httparse::{Response, Status};
use upring::ring::Errno;

use crate::script::Protocol;
use crate::websocket;

const FIELDS_MAX: usize = 64;
/// A head longer than this is no answer of a server under test.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why an answer is wrong, or why there is none.
#[derive(Debug)]
pub(crate) enum Fault {
    Connect(std::io::Error),
    Head(httparse::Error),
    HeadTooLarge,
    Status(u16),
    Length,
    Chunk,
    Content,
    Token,
    Accept,
    Echo { at: u64 },
    Surplus,
    Closed,
    Open,
    Late,
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
            Fault::Content => write!(f, "the content differs"),
            Fault::Token => write!(f, "the 101 does not name the protocol"),
            Fault::Accept => write!(f, "Sec-WebSocket-Accept is missing or differs"),
            Fault::Echo { at } => write!(f, "byte {at} of the echo differs"),
            Fault::Surplus => write!(f, "bytes came that nobody asked for"),
            Fault::Closed => write!(f, "the server closed the connection"),
            Fault::Open => write!(f, "the server answered behind its last answer"),
            Fault::Late => write!(f, "the answer was not whole at the time limit"),
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
    /// Bytes whose period is prime, so that one lost, repeated or reordered shows wherever a receive is
    /// cut. Can lend slices of up to `slice_bytes_max`.
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
    /// The content every answer must have: as given, or that of the first answer.
    content: Option<Vec<u8>>,
    /// The last answer that was right: one that is the same byte for byte need not be read.
    answer: Vec<u8>,
    /// What comes back on a switched connection, in messages of so many bytes.
    echoed: &'static Pattern,
    message_bytes: usize,
}

impl Reference {
    pub(crate) fn new(
        content: Option<Vec<u8>>,
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
    /// Echoed bytes still owed.
    echo_bytes: usize,
    /// Bytes of the pattern echoed so far.
    echoed: u64,
    /// What has to come behind everything else.
    farewell: &'static [u8],
    /// An answer that was cut.
    partial: Vec<u8>,
}

impl Expectation {
    pub(crate) fn expect_switch(&mut self, protocol: &'static Protocol) {
        self.switch = Some(protocol);
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
            let Some(answer_bytes) = reference.read_answer(&bytes[used..], met)? else {
                return Ok(used);
            };
            self.answers -= 1;
            met.units += 1;
            used += answer_bytes;
        }
        let (echo, rest) = bytes[used..].split_at(self.echo_bytes.min(bytes.len() - used));
        self.compare_echo(echo, reference, met)?;
        match self.farewell.strip_prefix(rest) {
            Some(left) => self.farewell = left,
            None => return Err(Fault::Surplus),
        }
        Ok(bytes.len())
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
        let expected = reference.echoed.slice(self.echoed, bytes.len());
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

impl Reference {
    /// The length of a 200 with the right content.
    fn read_answer(&mut self, bytes: &[u8], met: &mut Met) -> Result<Option<usize>, Fault> {
        if !self.answer.is_empty() && bytes.starts_with(&self.answer) {
            return Ok(Some(self.answer.len()));
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let Some(head_bytes) = read_head(&mut response, bytes)? else {
            return Ok(None);
        };
        match response.code {
            Some(200) => {}
            status => return Err(Fault::Status(status.unwrap_or_default())),
        }
        let behind_head = &bytes[head_bytes..];
        let (content, content_bytes) = match framing(&response)? {
            Framing::Length(length)
                if self.content.as_ref().is_some_and(|due| length != due.len()) =>
            {
                return Err(Fault::Length);
            }
            Framing::Length(length) => match behind_head.get(..length) {
                Some(content) => (Cow::Borrowed(content), length),
                None => return Ok(None),
            },
            Framing::Chunked => match read_chunks(behind_head)? {
                Some((content, used)) => (Cow::Owned(content), used),
                None => return Ok(None),
            },
        };
        if *content != **self.content.get_or_insert_with(|| content.to_vec()) {
            return Err(Fault::Content);
        }
        let end = head_bytes + content_bytes;
        if is_last(&response) {
            met.is_last = true;
        } else {
            self.answer.clear();
            self.answer.extend_from_slice(&bytes[..end]);
        }
        Ok(Some(end))
    }
}

/// Where the content of an answer ends.
enum Framing {
    Length(usize),
    Chunked,
}

/// RFC 9112 §6.3, but for an answer that ends with its connection.
fn framing(response: &Response<'_, '_>) -> Result<Framing, Fault> {
    match (field(response, "transfer-encoding"), field(response, "content-length")) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, Some(length)) => {
            let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            length.map(Framing::Length).ok_or(Fault::Length)
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

/// The length of a 101 that switches to `protocol`.
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
    let token = protocol.token().as_bytes();
    if !field(&response, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(token)) {
        return Err(Fault::Token);
    }
    match (protocol, field(&response, "sec-websocket-accept")) {
        (Protocol::WebSocket, accept) if accept != Some(websocket::ACCEPT) => Err(Fault::Accept),
        _ => Ok(Some(head_bytes)),
    }
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
    let options = field(response, "connection").unwrap_or_default();
    let has = |wanted: &[u8]| {
        options
            .split(|byte| *byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    has(b"close") || (response.version == Some(0) && !has(b"keep-alive"))
}

fn field<'b>(response: &Response<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    found.map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    fn pattern(slice_bytes_max: usize) -> &'static Pattern {
        Box::leak(Box::new(Pattern::new(slice_bytes_max)))
    }

    fn reference(pattern_bytes: usize) -> Reference {
        Reference::new(Some(b"hi".to_vec()), pattern(pattern_bytes), 100)
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
        let bytes = ANSWER.repeat(2);
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_answers(2);
            assert_eq!(receive(&mut expectation, [&bytes[..cut], &bytes[cut..]], 0), 2);
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn chunked_answers_cut_anywhere_are_met() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
            1;x=y\r\nh\r\n001\r\ni\r\n0\r\nT: v\r\n\r\n";
        let bytes = [&chunked[..], ANSWER, chunked].concat();
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_answers(3);
            assert_eq!(receive(&mut expectation, [&bytes[..cut], &bytes[cut..]], 0), 3);
            assert!(expectation.is_met());
        }
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
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n".to_vec();
        bytes.extend_from_slice(pattern.slice(0, 700));
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_switch(Box::leak(Box::new(Protocol::named("echo"))));
            expectation.expect_echo(700);
            assert_eq!(receive(&mut expectation, [&bytes[..cut], &bytes[cut..]], 1000), 7);
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn a_websocket_is_known_by_the_answer_to_its_key() {
        let receive = |accept: &str| {
            let head = format!(
                "HTTP/1.1 101 \r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let mut expectation = Expectation::default();
            expectation.expect_switch(&Protocol::WebSocket);
            expectation.receive(head.as_bytes(), &mut reference(0))
        };
        assert!(receive("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").expect("right").has_switched);
        assert!(matches!(receive("wrong"), Err(Fault::Accept)));
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
        let mut reference = Reference::new(None, pattern(0), 1);
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
