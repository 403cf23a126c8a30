//! The head of a backend's answer, read strictly: what is taken for the end of an answer here and
//! not there would be taken for another answer.

use std::ops::Range;

use httparse::EMPTY_HEADER;

use super::hops::Hops;
use super::{
    ANSWER_FIELDS_MAX, ANSWER_HEAD_BYTES_MAX, BackendError, Connection, INTERIM_ANSWERS_MAX,
};
use crate::http::{ChunkLimits, Chunked, Codings, Fields, Lengths, Response, Status};
use crate::scan::{Scanned, head_end};

/// Room made for each read while a head is incomplete.
const HEAD_READ_BYTES: usize = 4096;

/// The head of one answer.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    bytes: Vec<u8>,
    status: Status,
    is_http_1_1: bool,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

/// Where the content of an answer ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Behind the head.
    Without,
    /// So many bytes behind it.
    Length(u64),
    /// Behind the last chunk.
    Chunked(Chunked),
    /// With the connection.
    UntilClose,
}

/// Reads one head, of an interim answer or of the final one, and leaves what follows it in
/// `received`.
///
/// # Errors
/// It does not come whole, or is none.
pub(crate) async fn answer_head(
    connection: &Connection,
    received: &mut Vec<u8>,
) -> Result<AnswerHead, BackendError> {
    let mut scanned = 0;
    loop {
        match head_end(received, scanned) {
            Scanned::Complete(len) if len <= ANSWER_HEAD_BYTES_MAX => {
                let rest = received.split_off(len);
                return AnswerHead::read(std::mem::replace(received, rest));
            }
            Scanned::BareLf(_) => return Err(BackendError::HeadFaulty("a line ends without CR")),
            Scanned::Partial if received.len() < ANSWER_HEAD_BYTES_MAX => scanned = received.len(),
            Scanned::Complete(_) | Scanned::Partial => return Err(BackendError::HeadTooLarge),
        }
        received.reserve(HEAD_READ_BYTES);
        match connection.receive(received).await {
            Ok(0) if received.is_empty() => return Err(BackendError::Closed),
            Ok(0) => return Err(BackendError::HeadFaulty("its head has no end")),
            Ok(_) => {}
            Err(error) => return Err(BackendError::Lost(error)),
        }
    }
}

/// Reads heads up to the final answer, or a 101, and says of a 100 that it came. Interim ones go no
/// further: a client that waits for a 100 has it from this server, and hints are dropped.
///
/// # Errors
/// As for each head; or there are too many.
pub(crate) async fn final_head(
    connection: &Connection,
    received: &mut Vec<u8>,
    on_continue: impl Fn(),
) -> Result<AnswerHead, BackendError> {
    for _ in 0..=INTERIM_ANSWERS_MAX {
        let head = answer_head(connection, received).await?;
        if !head.status.is_interim() || head.status == Status::SWITCHING_PROTOCOLS {
            return Ok(head);
        }
        if head.status == Status::CONTINUE {
            on_continue();
        }
    }
    Err(BackendError::InterimTooMany)
}

impl AnswerHead {
    /// Reads a head that is all of `bytes`.
    fn read(bytes: Vec<u8>) -> Result<AnswerHead, BackendError> {
        let mut slots = [EMPTY_HEADER; ANSWER_FIELDS_MAX];
        let mut answer = httparse::Response::new(&mut slots);
        match answer.parse(&bytes) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(BackendError::HeadTooLarge),
            Ok(_) => return Err(BackendError::HeadFaulty("its head has no end")),
            Err(httparse::Error::Version) => {
                return Err(BackendError::HeadFaulty("it is of another version"));
            }
            Err(_) => return Err(BackendError::HeadFaulty("its head is malformed")),
        }
        let status = answer.code.and_then(Status::new);
        let status = status.ok_or(BackendError::HeadFaulty("there is no such status"))?;
        let is_http_1_1 = answer.version == Some(1);
        let place = |part: &[u8]| {
            let start = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
            start..start + part.len()
        };
        let fields = answer.headers.iter();
        let fields = fields.map(|field| (place(field.name.as_bytes()), place(field.value)));
        let fields = fields.collect();
        Ok(AnswerHead { status, is_http_1_1, fields, bytes })
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Whether the connection speaks another protocol from here on. HTTP/1.0 cannot switch (RFC 9110
    /// §7.8).
    pub(crate) fn is_switching(&self) -> bool {
        self.is_http_1_1 && self.status == Status::SWITCHING_PROTOCOLS
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let part = |place: &Range<usize>| self.bytes.get(place.clone()).unwrap_or_default();
        self.fields.iter().map(move |(name, value)| (part(name), part(value)))
    }

    /// The values of the lines of one name.
    pub(crate) fn fields_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.fields();
        lines
            .filter(move |(at, _)| at.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    fn hops(&self) -> Result<Hops<'_>, BackendError> {
        let fault = BackendError::HeadFaulty("it has too many connection options");
        Hops::of(self.fields_named("connection")).ok_or(fault)
    }

    /// Whether the connection can have another request behind the answer.
    pub(crate) fn is_persistent(&self) -> bool {
        // RFC 9112 §9.3; in HTTP/1.0 it would have to be asked for.
        self.is_http_1_1 && self.hops().is_ok_and(|hops| !hops.name(b"close"))
    }

    /// The Content-Length, whether or not content follows.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.lengths() {
            Lengths::One(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn lengths(&self) -> Lengths {
        let mut lengths = Lengths::default();
        self.fields_named("content-length").for_each(|value| lengths.note(value));
        lengths
    }

    /// Where the content ends, of an answer to HEAD or to another method.
    ///
    /// # Errors
    /// It is not said once, and clearly.
    pub(crate) fn extent(&self, to_head: bool) -> Result<Extent, BackendError> {
        let mut codings = Codings::default();
        self.fields_named("transfer-encoding").for_each(|value| codings.note(value));
        let extent = match (codings, self.lengths()) {
            (Codings::Absent, Lengths::Absent) => Extent::UntilClose,
            (Codings::Absent, Lengths::One(bytes)) => Extent::Length(bytes),
            (Codings::Absent, _) => {
                return Err(BackendError::FramingFaulty("its Content-Length is not one number"));
            }
            // RFC 9112 §6.3 (3): whoever reads it otherwise would be sent another answer.
            (_, Lengths::One(_) | Lengths::Invalid | Lengths::Several) => {
                let both = "it has Content-Length and Transfer-Encoding";
                return Err(BackendError::FramingFaulty(both));
            }
            // RFC 9112 §6.1.
            (_, Lengths::Absent) if !self.is_http_1_1 => {
                return Err(BackendError::FramingFaulty("HTTP/1.0 has no Transfer-Encoding"));
            }
            (Codings::Chunked, Lengths::Absent) => {
                Extent::Chunked(Chunked::new(&ChunkLimits::default()))
            }
            // Nothing but chunked was asked for: no TE went out (RFC 9110 §10.1.4).
            (_, Lengths::Absent) => {
                let coding = "its Transfer-Encoding is not chunked alone";
                return Err(BackendError::FramingFaulty(coding));
            }
        };
        // RFC 9112 §6.3 (1). RFC 9110 §15.3.6: what a 205 has behind its head is none of its own.
        let is_without = to_head || self.status.is_without_content();
        Ok(if is_without { Extent::Without } else { extent })
    }

    /// Status and fields as they go on to the client: without those for this hop, without those
    /// that this server writes itself, and with `via` if there is one.
    ///
    /// # Errors
    /// There are too many connection options.
    pub(crate) fn response(&self, via: Option<&str>) -> Result<Response, BackendError> {
        let mut response = Response::new(self.status);
        let (mut fields, hops) = (Fields::new(), self.hops()?);
        for (name, value) in self.fields().filter(|(name, _)| !hops.end_here(name)) {
            if name.eq_ignore_ascii_case(b"content-type") {
                let typed = response.with_field(name, value);
                response = typed.map_err(|_| BackendError::HeadFaulty("a field is malformed"))?;
            } else if name.eq_ignore_ascii_case(b"trailer") {
                announce(&mut fields, value);
            } else {
                // Refused are those that are the server's own: framing, Date and Server.
                let _ = fields.push(name, value);
            }
        }
        if let Some(via) = via {
            let version = if self.is_http_1_1 { "1.1" } else { "1.0" };
            let _ = fields.push("Via", format!("{version} {via}"));
        }
        Ok(response.with_fields(&fields))
    }

    /// With the protocols of a 426, which has to name some (RFC 9110 §15.5.22): the backend's,
    /// where there are none of this server's.
    pub(crate) fn with_protocols(&self, response: Response) -> Response {
        let protocols = self.fields_named("upgrade").next();
        match protocols.filter(|_| self.status == Status::UPGRADE_REQUIRED) {
            Some(protocols) => response.clone().with_upgrade(protocols).unwrap_or(response),
            None => response,
        }
    }

    /// The fields of a 101 that go on to the client: Connection and Upgrade are made anew.
    ///
    /// # Errors
    /// There are too many connection options.
    pub(crate) fn switching_fields(&self) -> Result<Fields, BackendError> {
        let (mut fields, hops) = (Fields::new(), self.hops()?);
        for (name, value) in self.fields().filter(|(name, _)| !hops.end_here(name)) {
            // Refused are those that a 101 of this server does not have: framing, Date and Server.
            let _ = fields.push(name, value);
        }
        Ok(fields)
    }
}

/// Names the trailers that may come as trailers.
fn announce(fields: &mut Fields, value: &[u8]) {
    for name in crate::http::list::members(value) {
        if let Ok(name) = std::str::from_utf8(name) {
            let _ = fields.announce(&[name]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Date, Form};

    fn read(text: &str) -> Result<AnswerHead, BackendError> {
        AnswerHead::read(text.as_bytes().to_vec())
    }

    fn extent(fields: &str) -> Result<Extent, BackendError> {
        read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap().extent(false)
    }

    #[test]
    fn content_ends_where_one_field_says_so_and_nowhere_else() {
        let chunked = Extent::Chunked(Chunked::default());
        for (fields, expected) in [
            ("", Extent::UntilClose),
            ("Content-Length: 5\r\n", Extent::Length(5)),
            ("content-length: 0\r\n", Extent::Length(0)),
            ("Transfer-Encoding: chunked\r\n", chunked),
            ("transfer-encoding: Chunked\r\n", chunked),
        ] {
            assert_eq!(extent(fields).unwrap(), expected, "{fields:?}");
        }
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \r\n",
        ] {
            let fault = extent(fields).unwrap_err();
            assert!(matches!(fault, BackendError::FramingFaulty(_)), "{fields:?}: {fault}");
            assert_eq!(fault.status(), Status::BAD_GATEWAY);
        }
        let old = read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert!(matches!(old.extent(false), Err(BackendError::FramingFaulty(_))));
    }

    #[test]
    fn no_byte_put_anywhere_in_a_head_ends_in_a_panic() {
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, close\r\nTrailer: y\r\n\r\n";
        for at in 0..text.len() {
            for byte in 0..=255 {
                let mut bytes = text.to_vec();
                bytes[at] = byte;
                let Ok(head) = AnswerHead::read(bytes) else { continue };
                let _ = (head.extent(false), head.is_persistent(), head.switching_fields());
                let response = head.response(Some("via")).unwrap();
                let _ = head.with_protocols(response);
            }
        }
    }

    #[test]
    fn some_answers_end_behind_their_head() {
        for status in [204, 304] {
            let head = read(&format!("HTTP/1.1 {status} x\r\nContent-Length: 9\r\n\r\n")).unwrap();
            assert_eq!(head.extent(false).unwrap(), Extent::Without);
            assert_eq!(head.length(), Some(9));
        }
        let head = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(head.extent(true).unwrap(), Extent::Without);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 999 OK\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nName : value\r\n\r\n",
            "HTTP/1.1 200 OK\r\nName: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nName: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            assert!(matches!(read(text), Err(BackendError::HeadFaulty(_))), "{text:?}");
        }
        let many = "a: b\r\n".repeat(ANSWER_FIELDS_MAX + 1);
        let many = read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"));
        assert!(matches!(many, Err(BackendError::HeadTooLarge)));
    }

    #[test]
    fn fields_of_this_hop_and_those_written_here_do_not_go_on() {
        let head = read(
            "HTTP/1.1 200 OK\r\nServer: x\r\nDate: y\r\nConnection: close, X-Own\r\nX-Own: 1\r\n\
             Keep-Alive: timeout=5\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
             Content-Type: text/html\r\nUpgrade: h2c\r\nTrailer: X-Sum, Content-Length\r\n\r\n",
        )
        .unwrap();
        assert!(!head.is_persistent());
        let mut text = Vec::new();
        let response = head.response(Some("front")).unwrap();
        response.write_head(
            &mut text,
            &Date::at(0),
            Form::default(),
            crate::http::ContentFraming::Chunked,
        );
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "HTTP/1.1 200 OK\r\nServer: upring\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nVia: 1.1 front\r\n\r\n"
        );
    }

    #[test]
    fn a_101_keeps_what_belongs_to_its_protocol() {
        let head = read(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: x=\r\nsec-websocket-protocol: chat\r\nServer: y\r\n\r\n",
        )
        .unwrap();
        let fields = head.switching_fields().unwrap();
        let expected = b"Sec-WebSocket-Accept: x=\r\nsec-websocket-protocol: chat\r\n";
        assert_eq!(fields.as_bytes(), expected);
    }

    #[test]
    fn http_1_0_and_close_do_not_persist() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            assert_eq!(read(head).unwrap().is_persistent(), expected, "{head:?}");
        }
    }
}
