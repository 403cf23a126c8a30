//! Reading a request head: httparse finds the fields, and one pass over them notes every fact the
//! server acts on.
//!
//! The session calls [`read_head`] with the bytes that `scan::head_end` delimited, if
//! [`read_whole_head`](super::read_whole_head) did not take them. The result
//! points into those bytes and borrows nothing. Nothing is allocated once the caller's list of
//! fields has grown to its usual size.
//!
//! httparse is lenient in a few places; each is closed here or by the scan: lone LF (scan), bytes
//! in the target and the form of it (`target`), Host, and everything about framing (`framing`).

use std::mem::MaybeUninit;

use super::authority::is_authority;
use super::diagnosis::{fields_fault, head_fault, request_line};
use super::error::HeadError;
use super::field::{Field, HEAD_BYTES_MAX, Span};
use super::framing::{Codings, Lengths};
use super::list::{is_token, members, split_once};
use super::method::Method;
use super::response::Persistence;
use super::target::{Target, TargetForm, read_target};

/// The most field lines a head can have, whatever [`HeadLimits::fields_max`] says.
pub const FIELDS_CAPACITY: usize = 256;

/// Bounds on one head. Its length in bytes is bounded by the caller, and never above
/// [`HEAD_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Field lines; more are answered with 431. Values above [`FIELDS_CAPACITY`] count as that.
    pub fields_max: usize,
    /// Bytes of the request target; a longer one is answered with 414.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    /// 100 fields, as most servers allow, and 8192 bytes: RFC 9112 §3 asks for a request line of at
    /// least 8000.
    fn default() -> Self {
        Self { fields_max: 100, target_bytes_max: 8192 }
    }
}

/// The version a request is treated as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes by default, and no 1xx may be sent.
    Http10,
    /// HTTP/1.1, and any later HTTP/1.x.
    Http11,
}

/// The connection options this server knows, over all lines of Connection (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`: the client sends no further request.
    pub close: bool,
    /// `keep-alive`: an HTTP/1.0 client asks for persistence.
    pub keep_alive: bool,
    /// `upgrade`: the Upgrade field is meant for this hop.
    pub upgrade: bool,
}

/// What a request head says. Spans count from the start of the head's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The form of the target.
    pub form: TargetForm,
    /// The method as spelled.
    pub method_span: Span,
    /// The target as sent.
    pub target: Span,
    /// The authority, if the target names one.
    pub authority: Option<Span>,
    /// The target's path; empty in authority-form, and in absolute-form without a path.
    pub path: Span,
    /// What follows the first `?` of the target.
    pub query: Option<Span>,
    /// The value of Host. Absent only in HTTP/1.0, and possibly empty.
    pub host: Option<Span>,
    /// The options named in Connection.
    pub connection: ConnectionOptions,
    /// Whether there is an Upgrade field, whatever its value.
    pub has_upgrade: bool,
    /// Whether the client waits for a 100 before it sends content. Never in HTTP/1.0 (RFC 9110
    /// §10.1.1).
    pub expects_continue: bool,
    /// The Content-Length lines.
    pub lengths: Lengths,
    /// The Transfer-Encoding lines.
    pub codings: Codings,
}

/// Reads one complete head.
///
/// `bytes` is exactly one head as `scan::head_end` delimited it, without empty lines before it.
/// `fields` is cleared and then filled with the field lines in order; after an error its content
/// means nothing. Faults of Content-Length and Transfer-Encoding are noted in the head and raised
/// by [`framing`](fn@super::framing), which must be asked before the request is processed.
///
/// # Errors
/// For every head that RFC 9112 §2 to §5 or a limit refuses; the connection is closed after the
/// answer.
pub fn read_head(
    bytes: &[u8],
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Result<Head, HeadError> {
    fields.clear();
    if bytes.len() > HEAD_BYTES_MAX {
        return Err(HeadError::HeadTooLarge);
    }
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
    let slots = limited(&mut slots, limits);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::FieldsTooMany),
        Err(httparse::Error::Version) => return read_later_minor(bytes, fields, limits),
        Err(_) => return Err(head_fault(bytes)),
    }
    let method = request.method.unwrap_or_default().as_bytes();
    let target = request.path.unwrap_or_default().as_bytes();
    let version = match request.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let mut head = Head::from_line(bytes, (method, target, version), limits)?;
    head.read_fields(bytes, request.headers, fields)?;
    Ok(head)
}

/// Names the limit that a head broke which filled the receive bound without ending.
///
/// `bytes` is all of the head that was received. If its method is longer than any we know the answer
/// is 501 (RFC 9112 §3, U-65); if its request line is incomplete or its target too long, 414, otherwise
/// 431 (U-66).
pub fn overflow_fault(bytes: &[u8], limits: &HeadLimits) -> HeadError {
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !is_token(method) {
        return HeadError::MethodNotToken;
    }
    if method.len() > Method::BYTES_MAX {
        return HeadError::MethodTooLong;
    }
    let Some((line, _)) = split_once(bytes, b'\n') else {
        return HeadError::TargetTooLong;
    };
    let target = line.split(|byte| *byte == b' ').nth(1);
    if target.is_some_and(|target| target.len() > limits.target_bytes_max) {
        HeadError::TargetTooLong
    } else {
        HeadError::HeadTooLarge
    }
}

/// RFC 9112 §2.3, RFC 9110 §2.5: a minor version above ours is read as ours. httparse knows only 0
/// and 1.
#[cold]
fn read_later_minor(
    bytes: &[u8],
    fields: &mut Vec<Field>,
    limits: &HeadLimits,
) -> Result<Head, HeadError> {
    let line = request_line(bytes)?;
    if line.minor == 0 {
        return Err(HeadError::Malformed);
    }
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_CAPACITY];
    let slots = limited(&mut slots, limits);
    let headers = match httparse::parse_headers(line.rest, slots) {
        Ok(httparse::Status::Complete((length, headers))) if length == line.rest.len() => headers,
        Ok(_) => return Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::FieldsTooMany),
        Err(_) => return Err(fields_fault(line.rest)),
    };
    let parts = (line.method, line.target, Version::Http11);
    let mut head = Head::from_line(bytes, parts, limits)?;
    head.read_fields(bytes, headers, fields)?;
    Ok(head)
}

/// As many slots as a head may have fields.
fn limited<'a, T>(slots: &'a mut [T; FIELDS_CAPACITY], limits: &HeadLimits) -> &'a mut [T] {
    let (slots, _) = slots.split_at_mut(limits.fields_max.min(FIELDS_CAPACITY));
    slots
}

impl Head {
    /// Whether the connection may carry another request after this one (RFC 9112 §9.3).
    #[inline]
    pub fn is_persistent(&self) -> bool {
        !self.connection.close && (self.version == Version::Http11 || self.connection.keep_alive)
    }

    /// What the response must say about the connection, if the server too wants it to persist.
    ///
    /// An HTTP/1.0 client takes silence for a close, so persistence is said aloud to it.
    #[inline]
    pub fn persistence(&self) -> Persistence {
        match (self.is_persistent(), self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, Version::Http11) => Persistence::Default,
        }
    }

    /// Whether the client asks to switch protocols in a way that can be granted, by version,
    /// Connection and the presence of Upgrade (U-01 to U-04). What Upgrade says is not looked at.
    #[inline]
    pub fn asks_for_upgrade(&self) -> bool {
        self.has_upgrade && self.connection.upgrade && self.version == Version::Http11
    }

    /// A head with the facts of its request line, which consists of method, target and version.
    #[inline]
    fn from_line(
        bytes: &[u8],
        (method_name, target, version): (&[u8], &[u8], Version),
        limits: &HeadLimits,
    ) -> Result<Self, HeadError> {
        if target.len() > limits.target_bytes_max {
            return Err(HeadError::TargetTooLong);
        }
        let method = Method::from_bytes(method_name);
        let parts = read_target(bytes, method, target)?;
        let spans = (Span::within(bytes, method_name), Span::within(bytes, target));
        Ok(Self::of_line(method, version, spans, parts))
    }

    /// No head: what [`read_whole_head`](super::read_whole_head) reads one into.
    pub const EMPTY: Self = Self::of_line(
        Method::Other,
        Version::Http11,
        (Span { start: 0, len: 0 }, Span { start: 0, len: 0 }),
        Target::EMPTY,
    );

    /// A head with these facts of its request line; the spans are those of method and target.
    #[inline(always)]
    pub(super) const fn of_line(
        method: Method,
        version: Version,
        (method_span, target): (Span, Span),
        parts: Target,
    ) -> Self {
        Self {
            method,
            version,
            form: parts.form,
            method_span,
            target,
            authority: parts.authority,
            path: parts.path,
            query: parts.query,
            host: None,
            connection: ConnectionOptions { close: false, keep_alive: false, upgrade: false },
            has_upgrade: false,
            expects_continue: false,
            lengths: Lengths::Absent,
            codings: Codings::Absent,
        }
    }

    /// Records where each field lies and what it means, in one pass.
    #[inline]
    fn read_fields(
        &mut self,
        bytes: &[u8],
        headers: &[httparse::Header<'_>],
        fields: &mut Vec<Field>,
    ) -> Result<(), HeadError> {
        fields.reserve(headers.len());
        for header in headers {
            let name = header.name.as_bytes();
            let field =
                Field { name: Span::within(bytes, name), value: Span::within(bytes, header.value) };
            fields.push(field);
            self.note(name, header.value, field, || is_authority(header.value))?;
        }
        self.finish()
    }

    /// Looks at the fields as a whole, when all are noted.
    #[inline]
    pub(super) fn finish(&mut self) -> Result<(), HeadError> {
        // RFC 9112 §3.2: an HTTP/1.1 request without Host is answered with 400.
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(HeadError::HostMissing);
        }
        // RFC 9110 §10.1.1: the expectation of an HTTP/1.0 request is ignored.
        self.expects_continue &= self.version == Version::Http11;
        Ok(())
    }

    /// Notes the facts of one field. Length and first letter tell nearly all fields apart before
    /// any name is compared.
    ///
    /// `is_authority` says whether the value is a host, and is asked only if it has to be one.
    #[inline(always)]
    pub(super) fn note(
        &mut self,
        name: &[u8],
        value: &[u8],
        field: Field,
        is_authority: impl FnOnce() -> bool,
    ) -> Result<(), HeadError> {
        let first = name.first().map_or(0, |byte| byte | 0x20);
        match (name.len(), first) {
            (4, b'h') if is_named(name, b"Host") => self.note_host(field.value, is_authority)?,
            (6, b'e') if is_named(name, b"Expect") => {
                self.expects_continue |=
                    members(value).any(|member| is_named(member, b"100-continue"));
            }
            (7, b'u') if is_named(name, b"Upgrade") => self.has_upgrade = true,
            (10, b'c') if is_named(name, b"Connection") => self.connection.note(value),
            (14, b'c') if is_named(name, b"Content-Length") => self.lengths.note(value),
            (17, b't') if is_named(name, b"Transfer-Encoding") => self.codings.note(value),
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 §3.2: more than one Host, or an invalid one, is answered with 400, in HTTP/1.0 too.
    #[inline(always)]
    fn note_host(
        &mut self,
        span: Span,
        is_authority: impl FnOnce() -> bool,
    ) -> Result<(), HeadError> {
        if self.host.is_some() {
            return Err(HeadError::HostRepeated);
        }
        // RFC 9110 §7.2: an empty Host says that the target has no authority; the caller decides
        // about it (U-62).
        if span.len > 0 && !is_authority() {
            return Err(HeadError::HostInvalid);
        }
        self.host = Some(span);
        Ok(())
    }
}

impl ConnectionOptions {
    /// Adds the options of one Connection line; whole members in any case (U-05).
    fn note(&mut self, value: &[u8]) {
        // What is usual is spelled like that: by all browsers, by Firefox when it opens a WebSocket, by
        // curl and Java when they offer h2c.
        match value {
            b"keep-alive" => self.keep_alive = true,
            b"close" => self.close = true,
            b"Upgrade" | b"Upgrade, HTTP2-Settings" => self.upgrade = true,
            b"keep-alive, Upgrade" => (self.keep_alive, self.upgrade) = (true, true),
            _ => members(value).for_each(|option| self.note_member(option)),
        }
    }

    fn note_member(&mut self, option: &[u8]) {
        match option.len() {
            5 => self.close |= option.eq_ignore_ascii_case(b"close"),
            7 => self.upgrade |= option.eq_ignore_ascii_case(b"upgrade"),
            10 => self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive"),
            _ => {}
        }
    }
}

/// Whether `name` is `usual` in any case: nearly always it is spelled like that, which is one
/// comparison of words.
#[inline]
fn is_named<const N: usize>(name: &[u8], usual: &[u8; N]) -> bool {
    name == usual || name.eq_ignore_ascii_case(usual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::framing::{Framing, framing};
    use crate::scan::{Scanned, head_end};

    fn read(text: impl AsRef<[u8]>) -> Result<Head, HeadError> {
        let bytes = text.as_ref();
        assert_eq!(head_end(bytes, 0), Scanned::Complete(bytes.len()));
        read_head(bytes, &mut Vec::new(), &HeadLimits::default())
    }

    fn get(fields: &str) -> Result<Head, HeadError> {
        read(format!("GET /e HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    fn framed(fields: &str) -> Result<Framing, HeadError> {
        framing(&get(fields)?)
    }

    #[test]
    fn finds_every_fact_in_one_head() {
        let bytes: &[u8] = b"POST /e?x=1 HTTP/1.1\r\nHost: a:80\r\nconnection: Keep-Alive, UPGRADE\r\n\
            Connection: close\r\nUpgrade: echo\r\nExpect: 100-Continue\r\nContent-Length: 4\r\nX:\r\n\r\n";
        let mut fields = Vec::new();
        let head = read_head(bytes, &mut fields, &HeadLimits::default()).unwrap();
        assert_eq!(head.method, Method::Post);
        assert_eq!(head.method_span.of(bytes), b"POST");
        assert_eq!(head.target.of(bytes), b"/e?x=1");
        assert_eq!(head.path.of(bytes), b"/e");
        assert_eq!(head.query.map(|query| query.of(bytes)), Some(&b"x=1"[..]));
        assert_eq!(head.host.map(|host| host.of(bytes)), Some(&b"a:80"[..]));
        assert!(head.connection.close && head.connection.keep_alive && head.connection.upgrade);
        assert!(head.has_upgrade && head.expects_continue && head.asks_for_upgrade());
        assert_eq!(framing(&head), Ok(Framing::Length(4)));
        assert_eq!(fields.len(), 7);
        assert_eq!(fields[1].name.of(bytes), b"connection");
        assert_eq!(fields[6].value.of(bytes), b"");
    }

    #[test]
    fn allocates_nothing_once_the_list_of_fields_is_warm() {
        let mut fields = Vec::with_capacity(4);
        let before = fields.as_ptr();
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        read_head(text, &mut fields, &HeadLimits::default()).unwrap();
        assert_eq!((fields.as_ptr(), fields.len(), fields.capacity()), (before, 2, 4));
    }

    #[test]
    fn u_02_http_1_0_neither_upgrades_nor_expects() {
        let head = read(
            "GET /e HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: echo\r\n\
             Expect: 100-continue\r\n\r\n",
        )
        .unwrap();
        assert!(!head.asks_for_upgrade() && !head.expects_continue);
        assert_eq!(head.persistence(), Persistence::KeepAlive);
    }

    #[test]
    fn u_03_u_04_an_upgrade_needs_the_field_and_the_option() {
        assert!(!get("Upgrade: echo\r\n").unwrap().asks_for_upgrade());
        assert!(!get("Connection: Upgrade\r\n").unwrap().asks_for_upgrade());
        let empty = get("Connection: Upgrade\r\nUpgrade:\r\n").unwrap();
        assert!(empty.asks_for_upgrade() && empty.is_persistent());
    }

    #[test]
    fn u_05_connection_is_a_list_of_whole_tokens() {
        let head = get("Connection: keep-alive\r\nConnection: ,, UPGRADE ,\r\n").unwrap();
        assert!(head.connection.upgrade && head.connection.keep_alive);
        let head = get("Connection: upgrades, x-upgrade, xclose, clos\r\n").unwrap();
        assert_eq!(head.connection, ConnectionOptions::default());
    }

    #[test]
    fn u_12_u_49_to_u_53_framing_faults_are_raised() {
        for (fields, expected) in [
            ("Content-Length: 4, 5\r\n", HeadError::LengthRepeated),
            ("Content-Length: 2\r\ncontent-length: 2\r\n", HeadError::LengthRepeated),
            ("Content-Length: +5\r\n", HeadError::LengthInvalid),
            ("Content-Length:\r\n", HeadError::LengthInvalid),
            ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", HeadError::LengthWithCoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", HeadError::LengthWithCoding),
            ("Transfer-Encoding: gzip, chunked\r\n", HeadError::CodingUnsupported),
            ("Transfer-Encoding: xchunked\r\n", HeadError::CodingInvalid),
            ("Transfer-Encoding:\r\n", HeadError::CodingInvalid),
        ] {
            assert_eq!(framed(fields), Err(expected), "{fields:?}");
        }
        assert_eq!(framed("transfer-encoding: chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(framed(""), Ok(Framing::None));
        let old = read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(framing(&old), Err(HeadError::CodingInHttp10));
    }

    #[test]
    fn u_59_to_u_61_refuses_lines_that_parsers_disagree_about() {
        for (fields, expected) in [
            ("Upgrade : echo\r\n", HeadError::SpaceBeforeColon),
            ("X: a\r\n b\r\n", HeadError::FieldFolded),
            ("X: a\r\n\tb\r\n", HeadError::FieldFolded),
            ("X:\r\n b\r\n", HeadError::FieldFolded),
            ("X: a\rb\r\n", HeadError::LoneCr),
            ("X: a\r\r\n", HeadError::LoneCr),
            ("\rX: a\r\n", HeadError::LoneCr),
            ("X: a\0b\r\n", HeadError::FieldValue),
            ("X: a\u{7f}\r\n", HeadError::FieldValue),
            ("Transfer-Encoding: \u{b}chunked\r\n", HeadError::FieldValue),
            ("H\u{e9}ader: x\r\n", HeadError::FieldName),
            (": x\r\n", HeadError::FieldName),
            ("X\tY: z\r\n", HeadError::FieldName),
            ("X\r\n", HeadError::FieldName),
        ] {
            assert_eq!(get(fields), Err(expected), "{fields:?}");
        }
        let leading = read("GET / HTTP/1.1\r\n Host: a\r\n\r\n");
        assert_eq!(leading, Err(HeadError::SpaceBeforeFields));
    }

    #[test]
    fn u_61_no_byte_slips_through_a_vector_lane() {
        // Every byte at every place of a long name, value and target, so that all of httparse's
        // loops are visited.
        for byte in (0..=255u8).filter(|byte| *byte != b'\n') {
            for place in 0..70 {
                let mut part = vec![b'a'; 70];
                part[place] = byte;
                let with = |before: &[u8], after: &[u8]| read([before, &part, after].concat());
                let name = with(b"GET / HTTP/1.1\r\nHost: a\r\n", b": x\r\n\r\n");
                let is_colon = byte == b':' && place > 0;
                assert_eq!(
                    name.is_ok(),
                    is_colon || crate::http::list::is_token_byte(byte),
                    "{byte} {place}"
                );
                let value = with(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"\r\n\r\n");
                assert_eq!(value.is_ok(), crate::http::list::is_value_byte(byte), "{byte} {place}");
                let target = with(b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n");
                let allowed = byte.is_ascii_graphic() && byte != b'#' && byte != b'\\';
                assert_eq!(target.is_ok(), allowed, "{byte} {place}");
            }
        }
    }

    #[test]
    fn u_62_host_is_there_once_and_valid() {
        assert_eq!(read("GET / HTTP/1.1\r\n\r\n"), Err(HeadError::HostMissing));
        assert_eq!(get("Host: a\r\n"), Err(HeadError::HostRepeated));
        for host in ["a/b", "u@a", "a, b"] {
            let found = read(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(found, Err(HeadError::HostInvalid), "{host}");
        }
        assert!(read("GET / HTTP/1.0\r\n\r\n").unwrap().host.is_none());
        let empty = read("GET / HTTP/1.1\r\nHost:\r\n\r\n").unwrap();
        assert_eq!(empty.host.map(|host| host.len), Some(0));
    }

    #[test]
    fn u_64_u_68_refuses_request_lines_of_another_shape() {
        for (line, expected) in [
            ("GET * HTTP/1.1", HeadError::TargetForm),
            ("GET a:80 HTTP/1.1", HeadError::TargetForm),
            ("CONNECT x:0 HTTP/1.1", HeadError::TargetAuthority),
            ("GET /a b HTTP/1.1", HeadError::RequestLineShape),
            ("GET /#x HTTP/1.1", HeadError::TargetSyntax),
            ("GET /caf\u{e9} HTTP/1.1", HeadError::TargetSyntax),
            ("GET /a\rb HTTP/1.1", HeadError::TargetSyntax),
            ("GET  / HTTP/1.1", HeadError::RequestLineShape),
            ("GET\t/ HTTP/1.1", HeadError::MethodNotToken),
            ("GET /\tHTTP/1.1", HeadError::TargetSyntax),
            ("G(T / HTTP/1.1", HeadError::MethodNotToken),
            (" GET / HTTP/1.1", HeadError::RequestLineShape),
            ("GET / HTTP/1.1 ", HeadError::RequestLineShape),
        ] {
            let found = read(format!("{line}\r\nHost: a\r\n\r\n"));
            assert_eq!(found, Err(expected), "{line:?}");
        }
    }

    #[test]
    fn u_65_unknown_methods_are_read_as_other() {
        for method in ["get", "BREW", "M-SEARCH"] {
            let head = read(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            assert_eq!(head.method, Method::Other, "{method}");
        }
    }

    #[test]
    fn u_66_limits_have_their_own_status() {
        let long = |bytes: usize| {
            let target = "a".repeat(bytes - 1);
            read(format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n"))
        };
        assert!(long(8000).is_ok() && long(8192).is_ok());
        assert_eq!(long(8193), Err(HeadError::TargetTooLong));
        assert_eq!(long(70_000), Err(HeadError::HeadTooLarge));
        assert!(get(&"X: y\r\n".repeat(99)).is_ok());
        assert_eq!(get(&"X: y\r\n".repeat(100)), Err(HeadError::FieldsTooMany));
        assert_eq!(get(&"X: y\r\n".repeat(300)), Err(HeadError::FieldsTooMany));
    }

    #[test]
    fn u_66_an_endless_head_is_blamed_on_its_target_or_its_fields() {
        let limits = HeadLimits::default();
        let target = "a".repeat(70_000);
        let unended = format!("GET /{target}");
        let ended = format!("GET /{target} HTTP/1.1\r\nX: y");
        assert_eq!(overflow_fault(unended.as_bytes(), &limits), HeadError::TargetTooLong);
        assert_eq!(overflow_fault(ended.as_bytes(), &limits), HeadError::TargetTooLong);
        assert_eq!(overflow_fault(b"GET / HTTP/1.1\r\nX: ", &limits), HeadError::HeadTooLarge);
    }

    #[test]
    fn u_65_an_endless_method_is_one_that_is_not_known() {
        let limits = HeadLimits::default();
        let method = "A".repeat(40_000);
        for rest in ["", " ", " / HTTP/1.1\r\nX: y"] {
            let bytes = format!("{method}{rest}");
            let fault = overflow_fault(bytes.as_bytes(), &limits);
            assert_eq!(fault, HeadError::MethodTooLong, "{rest:?}");
        }
        assert_eq!(overflow_fault(&[0x16; 40_000], &limits), HeadError::MethodNotToken);
    }

    #[test]
    fn u_67_later_minor_versions_are_read_as_1_1() {
        let head =
            read("GET /e HTTP/1.9\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
                .unwrap();
        assert_eq!(head.version, Version::Http11);
        assert!(head.asks_for_upgrade());
        assert_eq!(read("GET / HTTP/1.2\r\n\r\n"), Err(HeadError::HostMissing));
        assert_eq!(read("GET / HTTP/1.2\r\nX : y\r\n\r\n"), Err(HeadError::SpaceBeforeColon));
        let many = format!("GET / HTTP/1.2\r\n{}\r\n", "X: y\r\n".repeat(101));
        assert_eq!(read(many), Err(HeadError::FieldsTooMany));
    }

    #[test]
    fn u_67_other_versions_are_refused() {
        for (version, expected) in [
            ("HTTP/2.0", HeadError::VersionUnsupported),
            ("HTTP/0.9", HeadError::VersionUnsupported),
            ("HTTP/1.10", HeadError::VersionShape),
            ("http/1.1", HeadError::VersionShape),
            ("HTTP/1", HeadError::VersionShape),
            ("HTTP/11", HeadError::VersionShape),
            ("", HeadError::VersionShape),
        ] {
            let found = read(format!("GET / {version}\r\nHost: a\r\n\r\n"));
            assert_eq!(found, Err(expected), "{version:?}");
        }
        assert_eq!(read("PRI * HTTP/2.0\r\n\r\n"), Err(HeadError::VersionUnsupported));
        assert_eq!(read("GET /\r\n\r\n"), Err(HeadError::VersionShape));
    }

    #[test]
    fn u_69_persistence_follows_version_and_connection() {
        for (version, options, expected) in [
            ("1.1", "x", Persistence::Default),
            ("1.1", "close", Persistence::Close),
            ("1.1", "keep-alive, Close", Persistence::Close),
            ("1.0", "x", Persistence::Close),
            ("1.0", "Keep-Alive", Persistence::KeepAlive),
            ("1.0", "keep-alive, close", Persistence::Close),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {options}\r\n\r\n");
            assert_eq!(read(&text).unwrap().persistence(), expected, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_single_head_are_refused_without_panic() {
        let limits = HeadLimits::default();
        for bytes in [&b""[..], b"\r\n", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore"] {
            assert!(read_head(bytes, &mut Vec::new(), &limits).is_err(), "{bytes:?}");
        }
    }
}
