//! Fields: where they lie in a received head, and the checked lines a handler adds to a response.
//!
//! [`Span`] and [`Field`] are written by the head reader and resolved by `Request`. [`Fields`] is
//! filled by handlers and copied whole into responses; it is the one gate through which a handler's
//! bytes reach a head (U-39).

use std::fmt;

use super::list::{is_token, is_value_byte};

/// The longest head that spans can describe, in bytes.
pub const HEAD_BYTES_MAX: usize = u16::MAX as usize;

/// A range of bytes within one head of at most [`HEAD_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte, counted from the start of the head.
    pub start: u16,
    /// Length in bytes.
    pub len: u16,
}

impl Span {
    /// The place of `part` within `bytes`. `part` must be a slice of `bytes`, and `bytes` at most
    /// [`HEAD_BYTES_MAX`] long.
    #[inline]
    pub(super) fn within(bytes: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        debug_assert!(bytes.len() <= HEAD_BYTES_MAX);
        debug_assert!(start <= bytes.len() && part.len() <= bytes.len() - start);
        Self { start: start as u16, len: part.len() as u16 }
    }

    /// The bytes this span names in `bytes`, which must be the head it was read from; none, if they
    /// are too short to be that.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        bytes.get(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

/// One field line of a head: 8 bytes that point at its name and its trimmed value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name, as the client spelled it.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
}

/// Why a field cannot be added to a response. The fault is the handler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldError {
    /// The name is empty or holds a byte outside the token grammar.
    NameNotToken,
    /// The value holds CR, LF, NUL or another control byte.
    ValueControl,
    /// The field belongs to the server: it frames the message or is written by it anyway.
    Reserved,
    /// The field cannot be sent behind the content: it is needed before.
    NotInTrailers,
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NameNotToken => "the field name is not a token",
            Self::ValueControl => "the field value contains a control byte such as CR, LF or NUL",
            Self::Reserved => "the field is written by the server and cannot be set by a handler",
            Self::NotInTrailers => "the field is needed before the content and cannot be a trailer",
        })
    }
}

impl std::error::Error for FieldError {}

/// Field lines that passed the checks of U-39, stored as they will be sent.
///
/// An empty set owns no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    lines: Vec<u8>,
    /// The names of trailers to come, as Trailer lists them; empty if none is announced.
    announced: String,
}

impl Fields {
    /// No fields.
    pub const fn new() -> Self {
        Self { lines: Vec::new(), announced: String::new() }
    }

    /// Adds the line `name: value`.
    ///
    /// # Errors
    /// If the name is no token or is reserved for the server, or the value holds a control byte;
    /// nothing is added then.
    pub fn push(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), FieldError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        check_name(name)?;
        check_value(value)?;
        self.push_checked(name, value);
        Ok(())
    }

    /// Has the head of an answer in chunks say what will come behind its content, by `Trailer: names`
    /// (RFC 9110 §6.6.2). Other answers have no trailers, and do not say it.
    ///
    /// ```
    /// use upring::{Fields, Response, Status};
    ///
    /// let mut fields = Fields::new();
    /// fields.announce(&["X-Sum"])?;
    /// let response = Response::new(Status::OK).with_fields(&fields);
    /// # Ok::<(), upring::http::FieldError>(())
    /// ```
    ///
    /// # Errors
    /// If a name is no token or cannot be one of a trailer; nothing is added then.
    pub fn announce(&mut self, names: &[&str]) -> Result<(), FieldError> {
        for name in names {
            check_name(name.as_bytes())?;
            if !is_trailer(name.as_bytes()) {
                return Err(FieldError::NotInTrailers);
            }
        }
        self.announce_checked(&names.join(", "));
        Ok(())
    }

    fn announce_checked(&mut self, names: &str) {
        if !self.announced.is_empty() && !names.is_empty() {
            self.announced.push_str(", ");
        }
        self.announced.push_str(names);
    }

    /// The names of trailers to come, as Trailer lists them; empty if none is announced.
    pub(super) fn announced(&self) -> &str {
        &self.announced
    }

    /// The lines, for a trailer section: those that may stand there, and the names of the others.
    pub(crate) fn trailers(&self) -> impl Iterator<Item = Result<&[u8], &[u8]>> {
        self.lines.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if is_trailer(name) { Ok(line) } else { Err(name) }
        })
    }

    /// Adds a line whose name the server chose and whose value was checked.
    pub(super) fn push_checked(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_token(name) && check_value(value).is_ok());
        self.lines.reserve(name.len() + value.len() + 4);
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Adds all lines of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.lines.extend_from_slice(&other.lines);
        self.announce_checked(&other.announced);
    }

    /// The lines as they go on the wire, each ended by CR LF; what was announced is not among them.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }

    /// Whether no line was added, and none announced.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.announced.is_empty()
    }
}

/// Refuses names that are no tokens or the server's own.
pub(super) fn check_name(name: &[u8]) -> Result<(), FieldError> {
    if !is_token(name) {
        Err(FieldError::NameNotToken)
    } else if is_reserved(name) {
        Err(FieldError::Reserved)
    } else {
        Ok(())
    }
}

/// Refuses control bytes in a value (RFC 9110 §5.5).
pub(super) fn check_value(value: &[u8]) -> Result<(), FieldError> {
    if value.iter().all(|byte| is_value_byte(*byte)) {
        Ok(())
    } else {
        Err(FieldError::ValueControl)
    }
}

/// Fields a handler may not set: the first five are U-39, Date and Server would be there twice.
fn is_reserved(name: &[u8]) -> bool {
    const RESERVED: [&[u8]; 7] = [
        b"connection",
        b"upgrade",
        b"content-length",
        b"transfer-encoding",
        b"trailer",
        b"date",
        b"server",
    ];
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

/// Whether a field may stand in a trailer section.
///
/// RFC 9110 §6.5.1: not if it has to be known before the content, as what frames, routes, modifies,
/// authenticates, directs or describes does.
fn is_trailer(name: &[u8]) -> bool {
    const NEEDED_BEFORE: [&str; 43] = [
        // Framing and the connection.
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        // Routing.
        "forwarded",
        "host",
        "max-forwards",
        "via",
        // Modifiers of a request.
        "accept",
        "accept-encoding",
        "accept-language",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "pragma",
        "range",
        // Authentication.
        "authorization",
        "cookie",
        "proxy-authenticate",
        "proxy-authorization",
        "set-cookie",
        "www-authenticate",
        // What a client does with the answer.
        "age",
        "allow",
        "cache-control",
        "date",
        "expires",
        "location",
        "retry-after",
        "server",
        "vary",
        // The format of the content.
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-type",
    ];
    !NEEDED_BEFORE.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_takes_eight_bytes() {
        assert_eq!(size_of::<Field>(), 8);
    }

    #[test]
    fn a_span_gives_back_the_bytes_it_was_made_from() {
        let bytes = b"Host: example";
        let span = Span::within(bytes, &bytes[6..]);
        assert_eq!(span, Span { start: 6, len: 7 });
        assert_eq!(span.of(bytes), b"example");
        assert_eq!(Span::within(bytes, &bytes[13..]).of(bytes), b"");
    }

    #[test]
    fn keeps_lines_in_the_order_they_were_added() {
        let mut fields = Fields::new();
        assert!(fields.is_empty());
        fields.push("X-A", "1").unwrap();
        fields.push(b"X-B", b"caf\xc3\xa9\t!").unwrap();
        assert_eq!(fields.as_bytes(), b"X-A: 1\r\nX-B: caf\xc3\xa9\t!\r\n");
    }

    #[test]
    fn u_39_refuses_every_control_byte_in_a_value() {
        for byte in (0..=255u8).filter(|byte| !is_value_byte(*byte)) {
            let mut fields = Fields::new();
            let value = [b'a', byte, b'Y'];
            assert_eq!(fields.push("X", value), Err(FieldError::ValueControl));
            assert!(fields.is_empty());
        }
    }

    #[test]
    fn u_39_refuses_names_that_are_no_tokens() {
        for name in ["", "X Y", "X:", "X\r\nY", "H\u{e9}"] {
            assert_eq!(Fields::new().push(name, "a"), Err(FieldError::NameNotToken), "{name:?}");
        }
    }

    #[test]
    fn u_39_refuses_the_fields_that_frame_the_message() {
        for name in [
            "Connection",
            "UPGRADE",
            "content-length",
            "Transfer-Encoding",
            "Trailer",
            "Date",
            "Server",
        ] {
            assert_eq!(Fields::new().push(name, "a"), Err(FieldError::Reserved), "{name}");
        }
    }

    #[test]
    fn what_is_needed_before_the_content_is_no_trailer() {
        let mut fields = Fields::new();
        let mut kept = Vec::new();
        for (name, is_kept) in [
            ("X-Sum", true),
            ("content-TYPE", false),
            ("Set-Cookie", false),
            ("ETag", true),
            ("WWW-Authenticate", false),
            ("Content-Digest", true),
            ("Server-Timing", true),
            ("Host", false),
        ] {
            fields.push(name, "a:b").unwrap();
            if is_kept {
                kept.extend_from_slice(format!("{name}: a:b\r\n").as_bytes());
            }
            let expected = if is_kept { Ok(()) } else { Err(FieldError::NotInTrailers) };
            assert_eq!(Fields::new().announce(&["X", name]), expected, "{name}");
        }
        let sent: Vec<_> = fields.trailers().flatten().collect();
        assert_eq!(sent.concat(), kept);
        let refused: Vec<_> = fields.trailers().filter_map(Result::err).collect();
        assert_eq!(refused.concat(), b"content-TYPESet-CookieWWW-AuthenticateHost");
    }

    #[test]
    fn trailers_are_announced_in_one_line_that_is_none_itself() {
        let mut fields = Fields::new();
        fields.announce(&[]).unwrap();
        assert!(fields.is_empty());
        for (name, error) in [("a, b", FieldError::NameNotToken), ("Trailer", FieldError::Reserved)]
        {
            assert_eq!(fields.announce(&["X", name]), Err(error));
            assert!(fields.is_empty());
        }
        fields.announce(&["X-Sum", "ETag"]).unwrap();
        assert_eq!(fields.announced(), "X-Sum, ETag");
        assert!(!fields.is_empty() && fields.as_bytes().is_empty());
        assert_eq!(fields.trailers().count(), 0);
        let mut more = fields.clone();
        more.announce(&["X"]).unwrap();
        fields.extend(&Fields::new());
        fields.extend(&more);
        assert_eq!(fields.announced(), "X-Sum, ETag, X-Sum, ETag, X");
    }
}
