//! Responses written as bytes: final ones made at run time, the 101 and the 100.
//!
//! Handlers build a [`Response`], the session writes it behind what the outbox already holds.
//! Fields of the server's own (Date, Content-Length, Connection, Upgrade) are added here and cannot
//! be set by a handler (U-39). A response that is sent often is better made [`Ready`] once.
//!
//! ```text
//!   status line | Server | Date | Content-Type | Content-Length | handler's fields | Connection | empty line | content
//!   └───────────────────────── written once into a Ready ─────────────────────────┘
//! ```

use std::borrow::Cow;

use super::date::Date;
use super::field::{FieldError, Fields, check_value};
use super::list::is_token;
use super::ready::Ready;
use super::status::Status;

/// The interim response that asks the client for its content.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a response says about the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: the connection persists, as HTTP/1.1 has it by default.
    #[default]
    Default,
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, said aloud to an HTTP/1.0 client.
    KeepAlive,
}

/// What differs between two writings of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form<'a> {
    /// The request was HEAD: the head alone is sent, with the fields a GET would get (RFC 9110
    /// §9.3.2).
    pub head_only: bool,
    /// What to say about the connection.
    pub persistence: Persistence,
    /// Protocols the resource could be switched to, if the answer is to name them (U-46). A
    /// response that lists protocols of its own ignores it.
    pub advertise: Option<&'a str>,
}

/// How the end of a response's content is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFraming {
    /// By Content-Length, in bytes.
    Length(u64),
    /// By the chunked coding; trailers may follow.
    Chunked,
    /// By the end of the connection: all that HTTP/1.0 has without a length.
    Close,
}

/// A final response: status, fields and whole content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: Status,
    content_type: Option<Cow<'static, [u8]>>,
    fields: Fields,
    body: Cow<'static, [u8]>,
    /// Whether `fields` holds an Upgrade line, which Connection must then name.
    advertises: bool,
}

impl Response {
    /// A response without fields or content.
    ///
    /// An interim status (1xx) cannot be final and becomes 500: only the server sends those, see
    /// U-42.
    pub fn new(status: Status) -> Self {
        let status = if status.is_interim() { Status::INTERNAL_SERVER_ERROR } else { status };
        Self {
            status,
            content_type: None,
            fields: Fields::new(),
            body: Cow::Borrowed(b""),
            advertises: false,
        }
    }

    /// A response with plain text as its content.
    pub fn text(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        let mut response = Self::new(status);
        response.content_type = Some(Cow::Borrowed(b"text/plain; charset=utf-8"));
        response.body = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        response
    }

    /// With another field. Content-Type replaces the one set before; any other name adds a line.
    ///
    /// # Errors
    /// If the name or value is malformed or the field is the server's own (U-39).
    pub fn with_field(
        mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, FieldError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        if name.eq_ignore_ascii_case(b"content-type") {
            check_value(value)?;
            self.content_type = Some(Cow::Owned(value.to_vec()));
        } else {
            self.fields.push(name, value)?;
        }
        Ok(self)
    }

    /// With these checked fields behind those set before. Give Content-Type to
    /// [`with_field`](Self::with_field) instead.
    #[must_use]
    pub fn with_fields(mut self, fields: &Fields) -> Self {
        self.fields.extend(fields);
        self
    }

    /// With this content instead of the one before.
    ///
    /// It is not sent with statuses that have none (204, 205, 304).
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Cow<'static, [u8]>>) -> Self {
        self.body = body.into();
        self
    }

    /// With an Upgrade field that lists `protocols`, best first, and `upgrade` in Connection, as a
    /// 426 needs it (U-44).
    ///
    /// # Errors
    /// If the list holds a control byte.
    pub fn with_upgrade(mut self, protocols: impl AsRef<[u8]>) -> Result<Self, FieldError> {
        check_value(protocols.as_ref())?;
        self.fields.push_checked(b"Upgrade", protocols.as_ref());
        self.advertises = true;
        Ok(self)
    }

    /// The status.
    #[inline]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The content as it was set.
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of the content that is sent with the status.
    pub(crate) fn content_len(&self) -> u64 {
        self.content().len() as u64
    }

    /// The content that is sent with the status, by ownership where it is owned.
    pub(crate) fn into_content(self) -> Cow<'static, [u8]> {
        if self.has_content() { self.body } else { Cow::Borrowed(b"") }
    }

    /// This response with everything but the date written beforehand.
    pub fn to_ready(&self) -> Ready {
        Ready::from_response(self)
    }

    /// Appends the response to `out`.
    pub fn write(&self, out: &mut Vec<u8>, date: &Date, form: Form<'_>) {
        let content = self.content();
        out.reserve(self.head_bytes_estimate() + content.len());
        let length = self.content().len() as u64;
        self.write_head(out, date, form, ContentFraming::Length(length));
        if !form.head_only {
            out.extend_from_slice(content);
        }
    }

    /// Appends the head alone, of a response whose content comes piece by piece.
    pub fn write_head(
        &self,
        out: &mut Vec<u8>,
        date: &Date,
        form: Form<'_>,
        framing: ContentFraming,
    ) {
        self.write_fields(out, date, framing);
        write_connection(out, self.advertises, form);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes everything before the Connection field and returns where in `out` the date stands.
    pub(super) fn write_fields(
        &self,
        out: &mut Vec<u8>,
        date: &Date,
        framing: ContentFraming,
    ) -> usize {
        let date_at = write_start(out, self.status, date);
        if let Some(content_type) = &self.content_type {
            out.extend_from_slice(b"Content-Type: ");
            out.extend_from_slice(content_type);
            out.extend_from_slice(b"\r\n");
        }
        // RFC 9110 §8.6: none in 204; in 304 it would have to be the length of the 200, which is
        // not known here.
        match framing {
            _ if self.status.is_without_content() => {}
            ContentFraming::Length(length) => {
                out.extend_from_slice(b"Content-Length: ");
                out.extend_from_slice(write_decimal(&mut [0; 20], length));
                out.extend_from_slice(b"\r\n");
            }
            ContentFraming::Chunked => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                // RFC 9110 §6.6.2: no other framing has a place for trailers.
                let announced = self.fields.announced();
                if !announced.is_empty() {
                    out.extend_from_slice(b"Trailer: ");
                    out.extend_from_slice(announced.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
            }
            ContentFraming::Close => {}
        }
        out.extend_from_slice(self.fields.as_bytes());
        date_at
    }

    /// The content that may be sent with the status. RFC 9110 §15.3.6: 205 has a length, and it is
    /// 0.
    pub(super) fn content(&self) -> &[u8] {
        if self.has_content() { &self.body } else { b"" }
    }

    /// Whether content may be sent with the status at all.
    pub fn has_content(&self) -> bool {
        !self.status.is_without_content() && self.status != Status::RESET_CONTENT
    }

    pub(super) fn advertises(&self) -> bool {
        self.advertises
    }

    fn head_bytes_estimate(&self) -> usize {
        let content_type = self.content_type.as_ref().map_or(0, |value| value.len());
        // The fixed parts of the longest head: status line, Server, Date, the names, Connection.
        200 + content_type + self.fields.as_bytes().len()
    }
}

/// Appends the response after which the connection speaks `protocol`, in `version` if one is given.
///
/// RFC 9110 §7.8 and §15.2.2: it names the protocol and nothing frames it, for what follows is no
/// HTTP (U-38, U-39). Protocol and version come from the registry or were read as tokens.
pub fn write_switching(out: &mut Vec<u8>, protocol: &[u8], version: Option<&[u8]>, extra: &Fields) {
    debug_assert!(check_value(protocol).is_ok() && version.is_none_or(is_token));
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ");
    out.extend_from_slice(protocol);
    if let Some(version) = version {
        out.push(b'/');
        out.extend_from_slice(version);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(extra.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends what a response says about its connection, which may be nothing.
#[inline]
pub(super) fn write_connection(out: &mut Vec<u8>, lists_protocols: bool, form: Form<'_>) {
    if let Some(protocols) = form.advertise.filter(|_| !lists_protocols) {
        out.extend_from_slice(b"Upgrade: ");
        out.extend_from_slice(protocols.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let advertises = lists_protocols || form.advertise.is_some();
    out.extend_from_slice(connection_line(advertises, form.persistence));
}

/// The Connection field of a response, which may be no field at all.
#[inline]
fn connection_line(advertises: bool, persistence: Persistence) -> &'static [u8] {
    match (advertises, persistence) {
        (false, Persistence::Default) => b"",
        (false, Persistence::Close) => b"Connection: close\r\n",
        (false, Persistence::KeepAlive) => b"Connection: keep-alive\r\n",
        // RFC 9110 §7.8: a sender of Upgrade must name it in Connection.
        (true, Persistence::Default) => b"Connection: Upgrade\r\n",
        (true, Persistence::Close) => b"Connection: Upgrade, close\r\n",
        (true, Persistence::KeepAlive) => b"Connection: Upgrade, keep-alive\r\n",
    }
}

/// Appends status line, Server and Date, and returns where in `out` the date stands.
pub(super) fn write_start(out: &mut Vec<u8>, status: Status, date: &Date) -> usize {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(write_decimal(&mut [0; 20], u64::from(status.code())));
    // RFC 9112 §4: the space behind the code is there even if the phrase is empty.
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\nServer: upring\r\nDate: ");
    let date_at = out.len();
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
    date_at
}

/// Writes a number to the end of `digits`, which hold every 64-bit number, and returns its digits.
pub(super) fn write_decimal(digits: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        start -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

    fn written(response: &Response, head_only: bool, persistence: Persistence) -> String {
        let mut out = b"before".to_vec();
        let form = Form { head_only, persistence, advertise: None };
        response.write(&mut out, &Date::at(0), form);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    fn plainly(response: &Response) -> String {
        written(response, false, Persistence::Default)
    }

    #[test]
    fn writes_fields_in_their_order() {
        let response = Response::text(Status::OK, "ok").with_field("X-A", "1").unwrap();
        assert_eq!(
            written(&response, false, Persistence::Close),
            format!(
                "HTTP/1.1 200 OK\r\nServer: upring\r\n{DATE}Content-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: 2\r\nX-A: 1\r\nConnection: close\r\n\r\nok"
            )
        );
    }

    #[test]
    fn u_46_an_advertised_upgrade_is_named_in_connection_but_not_beside_a_list_of_its_own() {
        let form = Form { advertise: Some("echo"), ..Form::default() };
        for (response, listed) in [
            (Response::new(Status::NO_CONTENT), "echo"),
            (Response::new(Status::NO_CONTENT).with_upgrade("other").unwrap(), "other"),
        ] {
            let mut out = Vec::new();
            response.write(&mut out, &Date::at(0), form);
            let (text, mut ready) = (String::from_utf8(out).unwrap(), Vec::new());
            assert!(
                text.ends_with(&format!("Upgrade: {listed}\r\nConnection: Upgrade\r\n\r\n")),
                "{text}"
            );
            response.to_ready().write(&mut ready, &Date::at(0), form);
            assert_eq!(ready, text.as_bytes());
        }
    }

    #[test]
    fn head_gets_the_length_but_not_the_content() {
        let response = Response::new(Status::OK).with_body(b"hello");
        let expected = format!("HTTP/1.1 200 OK\r\nServer: upring\r\n{DATE}Content-Length: 5\r\n");
        let keep_alive = written(&response, true, Persistence::KeepAlive);
        assert_eq!(keep_alive, format!("{expected}Connection: keep-alive\r\n\r\n"));
        let default = written(&response, true, Persistence::Default);
        assert_eq!(default, format!("{expected}\r\n"));
    }

    #[test]
    fn statuses_without_content_send_none() {
        for status in [Status::NO_CONTENT, Status::NOT_MODIFIED] {
            let text = plainly(&Response::new(status).with_body(b"hello"));
            assert!(!text.contains("Content-Length") && text.ends_with("GMT\r\n\r\n"), "{text}");
        }
        let text = plainly(&Response::new(Status::RESET_CONTENT).with_body(b"hello"));
        assert!(text.ends_with("Content-Length: 0\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_status_without_a_phrase_keeps_its_space() {
        let status = Status::new(299).unwrap();
        assert!(plainly(&Response::new(status)).starts_with("HTTP/1.1 299 \r\n"));
    }

    #[test]
    fn u_42_a_handler_cannot_send_an_interim_status() {
        let response = Response::new(Status::SWITCHING_PROTOCOLS);
        assert_eq!(response.status(), Status::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn u_39_refuses_injected_lines_and_framing_fields() {
        let response = Response::new(Status::OK);
        let injected = response.clone().with_field("X", "a\r\nY: b");
        assert_eq!(injected, Err(FieldError::ValueControl));
        let typed = response.clone().with_field("Content-Type", "a\r\nY: b");
        assert_eq!(typed, Err(FieldError::ValueControl));
        let framed = response.clone().with_field("content-length", "5");
        assert_eq!(framed, Err(FieldError::Reserved));
        let upgraded = response.with_upgrade("echo\r\nY: b");
        assert_eq!(upgraded, Err(FieldError::ValueControl));
    }

    #[test]
    fn content_type_is_sent_once() {
        let response =
            Response::text(Status::OK, "{}").with_field("content-TYPE", "application/json");
        let text = plainly(&response.unwrap());
        assert_eq!(text.matches("Content-Type: application/json\r\n").count(), 1);
        assert!(!text.contains("text/plain"));
    }

    #[test]
    fn u_44_a_426_names_the_protocols_and_the_option() {
        let response = Response::text(Status::UPGRADE_REQUIRED, "upgrade")
            .with_upgrade("websocket, echo")
            .unwrap();
        let text = plainly(&response);
        assert!(text.contains(
            "Content-Length: 7\r\nUpgrade: websocket, echo\r\nConnection: Upgrade\r\n\r\n"
        ));
        let closing = written(&response, false, Persistence::Close);
        assert!(closing.contains("Connection: Upgrade, close\r\n"), "{closing}");
        assert_eq!(closing.matches("Connection").count(), 1);
    }

    #[test]
    fn u_38_u_39_the_101_has_exactly_these_bytes() {
        let mut out = Vec::new();
        write_switching(&mut out, b"echo", None, &Fields::new());
        assert_eq!(
            out,
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        );
        out.clear();
        let mut extra = Fields::new();
        extra.push("Capsule-Protocol", "?1").unwrap();
        write_switching(&mut out, b"rta", Some(b"x11"), &extra);
        assert_eq!(
            out,
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rta/x11\r\n\
              Capsule-Protocol: ?1\r\n\r\n"
        );
    }

    #[test]
    fn trailers_are_announced_where_they_can_be_sent() {
        let mut fields = Fields::new();
        fields.announce(&["X-Sum"]).unwrap();
        let head = |status, framing| {
            let mut out = Vec::new();
            let response = Response::new(status).with_fields(&fields);
            response.write_head(&mut out, &Date::at(0), Form::default(), framing);
            String::from_utf8(out).unwrap()
        };
        for (status, framing, expected) in [
            (Status::OK, ContentFraming::Chunked, true),
            (Status::OK, ContentFraming::Length(0), false),
            (Status::OK, ContentFraming::Close, false),
            (Status::NOT_MODIFIED, ContentFraming::Length(0), false),
        ] {
            let head = head(status, framing);
            assert_eq!(head.contains("\r\nTrailer: X-Sum\r\n"), expected, "{head}");
            assert_eq!(head.contains("Trailer"), expected, "{head}");
        }
    }

    #[test]
    fn decimals_have_no_leading_zero() {
        for number in [0, 7, 10, 99, 100, 65_536, u64::MAX] {
            assert_eq!(write_decimal(&mut [0; 20], number), number.to_string().as_bytes());
        }
    }
}
