//! What comes back, read as it comes: answers of HTTP/1.1; behind a 101 or an accepted CONNECT the
//! frames of a WebSocket or the bare bytes of another protocol. `connection` feeds it; it judges
//! nothing.

use super::frames::{Frame, Frames};
use crate::http::{ChunkStep, Chunked};

/// Bytes of one head. No server has a reason to send more.
const HEAD_BYTES_MAX: usize = 1024 * 1024;

/// Fields of one head, at first and at most.
const FIELDS: usize = 128;
const FIELDS_MAX: usize = 8192;

/// One thing that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Answer(Answer),
    Frame(Frame),
    /// What came so far of a protocol that is no WebSocket.
    Bytes(Vec<u8>),
    /// What cannot be read, and why.
    Junk(String),
    End(End),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The target ended its direction.
    Closed,
    Reset,
    /// The time was up, and nothing more had come.
    Open,
    /// More came than is read.
    Flooded,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The version of its status line: 0 or 1.
    pub(super) minor: u8,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    /// Writes that had been made when its head was there.
    pub(super) stage: usize,
}

impl Answer {
    pub(super) fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// The first value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(at, _)| at == name).map(|(_, value)| &**value)
    }

    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(at, _)| at == name).map(|(_, value)| &**value)
    }

    /// Whether a field that is a list has this member.
    pub(super) fn lists(&self, name: &str, member: &str) -> bool {
        let mut members = self.values(name).flat_map(|value| value.split(','));
        members.any(|at| at.trim().eq_ignore_ascii_case(member))
    }
}

/// What the next bytes are.
#[derive(Debug)]
enum Expected {
    Head,
    Content(u64),
    Chunks(Chunked),
    /// Content to the end of the connection.
    Rest,
    Frames(Box<Frames>),
    Bytes,
    /// Nothing that can be read.
    Nothing,
}

/// The reader of one connection.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) events: Vec<Event>,
    /// Writes made so far.
    pub(super) stage: usize,
    expected: Expected,
    /// Of the requests, as far as they change how answers are read.
    methods: Vec<&'static str>,
    /// Bytes of those received that were read.
    at: usize,
}

impl Reader {
    /// For the answers to what is going to be sent.
    pub(super) fn new(sent: &[u8]) -> Reader {
        let method = ["HEAD", "CONNECT"].into_iter().find(|method| {
            sent.strip_prefix(method.as_bytes()).is_some_and(|behind| behind.starts_with(b" "))
        });
        Reader {
            events: Vec::new(),
            stage: 0,
            expected: Expected::Head,
            methods: method.into_iter().collect(),
            at: 0,
        }
    }

    /// Reads on in all that was received so far.
    pub(super) fn read(&mut self, received: &[u8]) {
        while let Some(taken) = self.step(&received[self.at..]) {
            self.at += taken;
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, received: &[u8], end: End) {
        self.read(received);
        let is_cut = match self.expected {
            Expected::Rest | Expected::Bytes | Expected::Nothing => false,
            Expected::Content(_) | Expected::Chunks(_) => true,
            Expected::Head | Expected::Frames(_) => self.at < received.len(),
        };
        // A reset may destroy what was on its way.
        if is_cut && end == End::Closed {
            self.events.push(Event::Junk("something that ends before it is whole".into()));
        }
        self.events.push(Event::End(end));
    }

    /// Takes the next piece and says how long it was, or `None` if more has to come.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        match &mut self.expected {
            Expected::Head => self.head(bytes),
            Expected::Content(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    self.expected = Expected::Head;
                }
                Some(taken)
            }
            Expected::Chunks(decoder) => match decoder.step(bytes) {
                Ok(ChunkStep::Data { consumed, len } | ChunkStep::Trailer { consumed, len }) => {
                    Some(consumed + len)
                }
                Ok(ChunkStep::More { consumed }) => Some(consumed).filter(|taken| *taken > 0),
                Ok(ChunkStep::Done { consumed }) => {
                    self.expected = Expected::Head;
                    Some(consumed)
                }
                Err(error) => self.give_up(format!("its chunks cannot be read: {error}")),
            },
            Expected::Frames(frames) => match frames.step(bytes) {
                Ok(None) => None,
                Ok(Some((taken, frame))) => {
                    self.events.extend(frame.map(Event::Frame));
                    Some(taken)
                }
                Err(why) => self.give_up(why.to_owned()),
            },
            Expected::Bytes => {
                match self.events.last_mut() {
                    Some(Event::Bytes(all)) => all.extend_from_slice(bytes),
                    _ => self.events.push(Event::Bytes(bytes.to_vec())),
                }
                Some(bytes.len())
            }
            Expected::Rest | Expected::Nothing => Some(bytes.len()),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Option<usize> {
        match read_head(bytes) {
            Ok(None) => None,
            Ok(Some((mut answer, length))) => {
                answer.stage = self.stage;
                let method = self.method_of(&answer);
                match behind(&answer, method) {
                    Ok(expected) => self.expected = expected,
                    Err(why) => return self.give_up(why),
                }
                self.events.push(Event::Answer(answer));
                Some(length)
            }
            Err(why) => self.give_up(why),
        }
    }

    /// Of the request that a final answer answers.
    fn method_of(&mut self, answer: &Answer) -> &'static str {
        match answer.is_final() && !self.methods.is_empty() {
            true => self.methods.remove(0),
            false => "",
        }
    }

    fn give_up(&mut self, why: String) -> Option<usize> {
        self.events.push(Event::Junk(why));
        self.expected = Expected::Nothing;
        None
    }
}

/// One head and its length, or `None` if it has not all come.
fn read_head(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let mut slots = FIELDS;
    loop {
        let mut fields = vec![httparse::EMPTY_HEADER; slots];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => {
                return Ok(Some((answer(&response), length)));
            }
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => {
                return Err("a head of more than a megabyte".into());
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) if slots < FIELDS_MAX => slots *= 4,
            Err(httparse::Error::TooManyHeaders) => {
                return Err(format!("a head of more than {FIELDS_MAX} fields"));
            }
            // Too little to tell what it is instead.
            Err(_) if bytes.len() < 4 => return Ok(None),
            Err(error) => return Err(what_it_is(bytes, error)),
        }
    }
}

fn answer(response: &httparse::Response<'_, '_>) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = response.headers.iter();
    let fields = fields.map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
    let status = response.code.unwrap_or_default();
    Answer { status, minor: response.version.unwrap_or_default(), fields, stage: 0 }
}

/// Names bytes that are no head of HTTP/1.
fn what_it_is(bytes: &[u8], error: httparse::Error) -> String {
    match *bytes {
        // A record of TLS: an alert or a handshake, version 3.x.
        [0x15 | 0x16, 3, ..] => "TLS, not HTTP".into(),
        [0, 0, _, 4, ..] => "HTTP/2, not HTTP/1.1".into(),
        _ if bytes.starts_with(b"HTTP/1.") => format!("an answer that cannot be read: {error}"),
        _ => "not HTTP".into(),
    }
}

/// What stands behind a head (RFC 9112 §6.3).
fn behind(answer: &Answer, method: &str) -> Result<Expected, String> {
    if answer.status == 101 {
        return Ok(match answer.lists("upgrade", "websocket") {
            true => Expected::Frames(Box::new(Frames::new(
                answer.values("sec-websocket-extensions").any(|at| at.contains("deflate")),
            ))),
            false => Expected::Bytes,
        });
    }
    if method == "CONNECT" && answer.status / 100 == 2 {
        return Ok(Expected::Bytes);
    }
    if method == "HEAD" || matches!(answer.status, 100..=199 | 204 | 304) {
        return Ok(Expected::Head);
    }
    if answer.lists("transfer-encoding", "chunked") {
        return Ok(Expected::Chunks(Chunked::default()));
    }
    match answer.field("content-length").map(|length| length.trim().parse::<u64>()) {
        Some(Ok(0)) => Ok(Expected::Head),
        Some(Ok(length)) => Ok(Expected::Content(length)),
        Some(Err(_)) => Err("a Content-Length that is no number".into()),
        None => Ok(Expected::Rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, whole and byte by byte.
    fn events(sent: &str, text: impl AsRef<[u8]>, end: End) -> Vec<Event> {
        let bytes = text.as_ref();
        let (mut whole, mut slow) = (Reader::new(sent.as_bytes()), Reader::new(sent.as_bytes()));
        for at in 0..bytes.len() {
            slow.read(&bytes[..at]);
        }
        whole.end(bytes, end);
        slow.end(bytes, end);
        assert_eq!(whole.events, slow.events);
        whole.events
    }

    fn statuses(events: &[Event]) -> Vec<u16> {
        let status = |event: &Event| match event {
            Event::Answer(answer) => Some(answer.status),
            _ => None,
        };
        events.iter().filter_map(status).collect()
    }

    #[test]
    fn answers_are_told_apart() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
                    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
                    HTTP/1.1 204 No\r\n\r\nHTTP/1.0 400 Bad\r\n\r\nto the end";
        let events = events("GET / ", text, End::Closed);
        assert_eq!(statuses(&events), [100, 200, 200, 204, 400]);
        assert_eq!(events.last(), Some(&Event::End(End::Closed)));
        assert_eq!(events.len(), 6);
    }

    #[test]
    fn the_answer_to_head_has_no_content_and_a_tunnel_none_either() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(statuses(&events("HEAD / ", text, End::Closed)), [200, 404]);
        let tunnel = events("CONNECT a:1 ", text, End::Open);
        assert!(matches!(&tunnel[1], Event::Bytes(bytes) if bytes.starts_with(b"HTTP/1.1 404")));
    }

    #[test]
    fn what_is_no_answer_is_told_as_what_it_is() {
        for (bytes, told) in [
            (&b"SSH-2.0\r\n"[..], "not HTTP"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "TLS, not HTTP"),
            (b"\0\0\x12\x04\0\0\0\0\0", "HTTP/2, not HTTP/1.1"),
        ] {
            assert_eq!(events("", bytes, End::Closed)[0], Event::Junk(told.into()));
        }
        let mut many = String::from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        many += &"X: y\r\n".repeat(200);
        assert_eq!(statuses(&events("", many + "\r\n", End::Open)), [200]);
        let cut = events("", "HTTP/1.1 200 OK\r\nContent-Le", End::Closed);
        assert!(matches!(cut[0], Event::Junk(_)), "{cut:?}");
    }

    #[test]
    fn behind_a_switch_there_are_frames_or_bytes() {
        let head = "HTTP/1.1 101 S\r\nUpgrade: WebSocket\r\n\r\n\u{1}";
        let frames = events("", [head.as_bytes(), b"\x02He\x80\x01y"].concat(), End::Open);
        assert!(matches!(&frames[1], Event::Frame(frame) if frame.payload == b"Hey"), "{frames:?}");
        let bytes = events("", "HTTP/1.1 101 S\r\nUpgrade: echo\r\n\r\nHTTP/", End::Open);
        assert_eq!(bytes[1], Event::Bytes(b"HTTP/".to_vec()));
    }
}
