//! What a connection must receive, byte by byte. It is fed whatever receives bring, however the
//! answers are cut, and does no I/O. Called by `client.rs`.

use std::fmt;

use httparse::{Response, Status};

use crate::message;

const FIELDS_MAX: usize = 64;
/// A head longer than this is no answer of a server under test.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why an answer is wrong, or why there is none.
#[derive(Debug)]
pub(crate) enum Fault {
    Head(httparse::Error),
    HeadTooLarge,
    Status(u16),
    Length,
    Content,
    Token,
    Accept,
    Echo { at: u64 },
    Surplus,
    Closed,
    Late,
    Socket(std::io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Head(error) => write!(f, "the head is malformed: {error}"),
            Fault::HeadTooLarge => write!(f, "the head does not end"),
            Fault::Status(status) => write!(f, "the status is {status}"),
            Fault::Length => write!(f, "Content-Length is missing or differs"),
            Fault::Content => write!(f, "the content differs"),
            Fault::Token => write!(f, "the 101 does not name the protocol"),
            Fault::Accept => write!(f, "Sec-WebSocket-Accept is missing or differs"),
            Fault::Echo { at } => write!(f, "byte {at} of the echo differs"),
            Fault::Surplus => write!(f, "bytes came that nobody asked for"),
            Fault::Closed => write!(f, "the server closed the connection"),
            Fault::Late => write!(f, "the answer was not whole at the time limit"),
            Fault::Socket(error) => write!(f, "socket: {error}"),
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

/// What a 101 has to name.
#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Echo,
    /// The answer to the key of RFC 6455 §1.3, too.
    WebSocket,
}

impl Protocol {
    pub(crate) fn token(self) -> &'static str {
        match self {
            Protocol::Echo => "echo",
            Protocol::WebSocket => "websocket",
        }
    }
}

/// What is still to come on one connection.
#[derive(Default)]
pub(crate) struct Expectation {
    /// A 101 to this protocol has to come before anything else.
    switch: Option<Protocol>,
    /// Answers of status 200 still owed.
    answers: usize,
    /// Echoed bytes still owed.
    echo_bytes: usize,
    /// Bytes of the pattern echoed so far.
    echoed: u64,
    /// An answer that was cut.
    partial: Vec<u8>,
}

impl Expectation {
    pub(crate) fn expect_switch(&mut self, protocol: Protocol) {
        self.switch = Some(protocol);
    }

    pub(crate) fn expect_answers(&mut self, count: usize) {
        self.answers += count;
    }

    pub(crate) fn expect_echo(&mut self, bytes: usize) {
        self.echo_bytes += bytes;
    }

    pub(crate) fn is_met(&self) -> bool {
        self.switch.is_none() && self.answers == 0 && self.echo_bytes == 0
    }

    /// Compares what came with what was to come.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        content: &[u8],
        pattern: &Pattern,
    ) -> Result<(), Fault> {
        if self.partial.is_empty() {
            let used = self.compare(bytes, content, pattern)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(bytes);
            let used = self.compare(&whole, content, pattern)?;
            whole.drain(..used);
            self.partial = whole;
        }
        Ok(())
    }

    /// How many bytes are done with; the rest is the beginning of an answer.
    fn compare(&mut self, bytes: &[u8], content: &[u8], pattern: &Pattern) -> Result<usize, Fault> {
        let mut used = 0;
        if let Some(protocol) = self.switch {
            let Some(head_bytes) = read_switch(bytes, protocol)? else {
                return Ok(0);
            };
            self.switch = None;
            used = head_bytes;
        }
        while self.answers > 0 {
            let Some(answer_bytes) = read_answer(&bytes[used..], content)? else {
                return Ok(used);
            };
            self.answers -= 1;
            used += answer_bytes;
        }
        self.compare_echo(&bytes[used..], pattern)?;
        Ok(bytes.len())
    }

    fn compare_echo(&mut self, bytes: &[u8], pattern: &Pattern) -> Result<(), Fault> {
        if bytes.len() > self.echo_bytes {
            return Err(Fault::Surplus);
        }
        let expected = pattern.slice(self.echoed, bytes.len());
        if bytes != expected {
            let same = bytes.iter().zip(expected).take_while(|(came, due)| came == due).count();
            return Err(Fault::Echo { at: self.echoed + same as u64 });
        }
        self.echo_bytes -= bytes.len();
        self.echoed += bytes.len() as u64;
        Ok(())
    }
}

/// The length of a 101 that switches to `protocol`.
fn read_switch(bytes: &[u8], protocol: Protocol) -> Result<Option<usize>, Fault> {
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
        (Protocol::WebSocket, accept) if accept != Some(message::ACCEPT) => Err(Fault::Accept),
        _ => Ok(Some(head_bytes)),
    }
}

/// The length of a 200 with this content.
fn read_answer(bytes: &[u8], content: &[u8]) -> Result<Option<usize>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let Some(head_bytes) = read_head(&mut response, bytes)? else {
        return Ok(None);
    };
    match response.code {
        Some(200) => {}
        status => return Err(Fault::Status(status.unwrap_or_default())),
    }
    let length = field(&response, "content-length")
        .and_then(|value| str::from_utf8(value).ok()?.parse().ok());
    if length != Some(content.len()) {
        return Err(Fault::Length);
    }
    match bytes.get(head_bytes..head_bytes + content.len()) {
        None => Ok(None),
        Some(came) if came == content => Ok(Some(head_bytes + content.len())),
        Some(_) => Err(Fault::Content),
    }
}

fn read_head<'b>(response: &mut Response<'_, 'b>, bytes: &'b [u8]) -> Result<Option<usize>, Fault> {
    match response.parse(bytes).map_err(Fault::Head)? {
        Status::Complete(head_bytes) => Ok(Some(head_bytes)),
        Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(Fault::HeadTooLarge),
        Status::Partial => Ok(None),
    }
}

fn field<'b>(response: &Response<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    found.map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    #[test]
    fn two_answers_cut_anywhere_are_met() {
        let bytes = ANSWER.repeat(2);
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_answers(2);
            for part in [&bytes[..cut], &bytes[cut..]] {
                expectation.receive(part, b"hi", &Pattern::new(0)).expect("right");
            }
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn a_switch_and_its_echo_cut_anywhere_are_met() {
        let pattern = Pattern::new(1000);
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n".to_vec();
        bytes.extend_from_slice(pattern.slice(0, 700));
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_switch(Protocol::Echo);
            expectation.expect_echo(700);
            for part in [&bytes[..cut], &bytes[cut..]] {
                expectation.receive(part, b"", &pattern).expect("right");
            }
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
            expectation.expect_switch(Protocol::WebSocket);
            expectation.receive(head.as_bytes(), b"", &Pattern::new(0))
        };
        assert!(receive("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").is_ok());
        assert!(matches!(receive("wrong"), Err(Fault::Accept)));
    }

    #[test]
    fn wrong_bytes_are_faults() {
        let receive = |answers, bytes: &[u8]| {
            let mut expectation = Expectation::default();
            expectation.expect_answers(answers);
            expectation.receive(bytes, b"hi", &Pattern::new(10)).expect_err("wrong")
        };
        assert!(matches!(receive(1, &ANSWER.repeat(2)), Fault::Surplus));
        assert!(matches!(
            receive(1, &[&ANSWER[..ANSWER.len() - 1], b"o"].concat()),
            Fault::Content
        ));
        assert!(matches!(receive(1, b"HTTP/1.1 404 Not Found\r\n\r\n"), Fault::Status(404)));
        assert!(matches!(
            receive(1, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            Fault::Length
        ));
        assert!(matches!(receive(0, b"x"), Fault::Surplus));
    }

    #[test]
    fn a_lost_byte_is_found_where_it_was_lost() {
        let pattern = Pattern::new(600);
        let mut expectation = Expectation::default();
        expectation.expect_echo(600);
        expectation.receive(pattern.slice(0, 300), b"", &pattern).expect("right");
        let fault = expectation.receive(pattern.slice(301, 100), b"", &pattern).expect_err("wrong");
        assert!(matches!(fault, Fault::Echo { at: 300 }));
    }
}
