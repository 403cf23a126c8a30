//! A response written straight into the outgoing bytes, field by field: for handlers that make each
//! answer anew and allocate nothing for it.
//!
//! ```text
//!   ResponseWriter::new ──► field* ──► body | body_with ──► done, or nothing was written at all
//! ```

use std::fmt::{self, Write as _};

use super::date::Date;
use super::field::{FieldError, check_name, check_value};
use super::response::{Form, write_connection, write_decimal, write_start};
use super::status::Status;

/// Digits of the largest Content-Length.
const LENGTH_DIGITS_MAX: usize = 20;

/// A response whose head is being written.
#[must_use = "a response is complete with its body"]
pub struct ResponseWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the response starts in `out`.
    start: usize,
    status: Status,
    form: Form<'a>,
    fault: Option<FieldError>,
}

impl<'a> ResponseWriter<'a> {
    /// Begins a response at the end of `out`. An interim status becomes 500 (U-42).
    pub fn new(
        out: &'a mut Vec<u8>,
        date: &Date,
        status: Status,
        form: Form<'a>,
    ) -> ResponseWriter<'a> {
        let status = if status.is_interim() { Status::INTERNAL_SERVER_ERROR } else { status };
        let start = out.len();
        write_start(out, status, date);
        ResponseWriter { out, start, status, form, fault: None }
    }

    /// With the field `name: value`. One that is malformed or the server's own (U-39) is told when
    /// the response is complete, and then nothing of it is sent.
    pub fn field(self, name: &str, value: impl AsRef<[u8]>) -> ResponseWriter<'a> {
        self.field_with(name, |out| out.extend_from_slice(value.as_ref()))
    }

    /// With a field whose value is written as it is displayed.
    pub fn field_display(self, name: &str, value: impl fmt::Display) -> ResponseWriter<'a> {
        self.field_with(name, |out| {
            // Appending to a vector does not fail; a value that cannot be displayed is cut short.
            let _ = write!(Text(out), "{value}");
        })
    }

    fn field_with(mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> ResponseWriter<'a> {
        if let Err(fault) = check_name(name.as_bytes()) {
            self.fault.get_or_insert(fault);
            return self;
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        let value_at = self.out.len();
        write(self.out);
        if let Err(fault) = check_value(self.out.get(value_at..).unwrap_or_default()) {
            self.fault.get_or_insert(fault);
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Completes the response with this content.
    ///
    /// # Errors
    /// The first field that cannot be sent. `out` is then as it was before.
    pub fn body(self, content: &[u8]) -> Result<(), FieldError> {
        self.body_with(|out| out.extend_from_slice(content))
    }

    /// Completes the response with the content that `write` appends.
    ///
    /// # Errors
    /// See [`ResponseWriter::body`].
    pub fn body_with(self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), FieldError> {
        let ResponseWriter { out, start, status, form, fault } = self;
        if let Some(fault) = fault {
            out.truncate(start);
            return Err(fault);
        }
        write_connection(out, false, form);
        if status.is_without_content() {
            out.extend_from_slice(b"\r\n");
            return Ok(());
        }
        // The length is written last and stands before the content: the longest one is made room
        // for, and the content then moves up to the one there is.
        out.extend_from_slice(b"Content-Length: ");
        let length_at = out.len();
        out.resize(length_at + LENGTH_DIGITS_MAX, b'0');
        out.extend_from_slice(b"\r\n\r\n");
        let content_at = out.len();
        if status != Status::RESET_CONTENT {
            write(out);
        }
        let length = out.len() - content_at;
        if form.head_only {
            out.truncate(content_at);
        }
        let mut digits = [0; LENGTH_DIGITS_MAX];
        let digits = write_decimal(&mut digits, length as u64);
        let surplus = LENGTH_DIGITS_MAX - digits.len();
        out.copy_within(length_at + LENGTH_DIGITS_MAX.., length_at + digits.len());
        out.truncate(out.len() - surplus);
        if let Some(place) = out.get_mut(length_at..length_at + digits.len()) {
            place.copy_from_slice(digits);
        }
        Ok(())
    }
}

impl fmt::Debug for ResponseWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseWriter").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Text appended to bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;
    use crate::http::response::Persistence;

    fn written(
        form: Form<'_>,
        status: Status,
        fields: &[(&str, &str)],
        content: &[u8],
    ) -> (Vec<u8>, Result<(), FieldError>) {
        let mut out = b"before".to_vec();
        let writer = ResponseWriter::new(&mut out, &Date::at(0), status, form);
        let writer = fields.iter().fold(writer, |writer, (name, value)| writer.field(name, value));
        let outcome = writer.body(content);
        (out.split_off(6), outcome)
    }

    #[test]
    fn says_the_same_as_a_response_made_of_the_same_parts() {
        let lines = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let (head, content) = text.split_once("\r\n\r\n").expect("a head ends");
            let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
            lines.sort();
            (lines, content.to_owned())
        };
        let persistences = [Persistence::Default, Persistence::Close, Persistence::KeepAlive];
        for status in [200, 204, 205, 304, 404] {
            let status = Status::new(status).expect("a valid status");
            for content in [&b""[..], b"hello", &[b'x'; 12_345]] {
                for (persistence, head_only) in
                    persistences.iter().flat_map(|at| [(*at, false), (*at, true)])
                {
                    let form = Form { persistence, head_only, advertise: Some("echo") };
                    let response = Response::new(status).with_body(content.to_vec());
                    let response = response.with_field("X-A", "1").expect("a valid field");
                    let mut expected = Vec::new();
                    response.write(&mut expected, &Date::at(0), form);
                    let (found, outcome) = written(form, status, &[("X-A", "1")], content);
                    assert_eq!(outcome, Ok(()));
                    assert_eq!(lines(&found), lines(&expected), "{status} {form:?}");
                }
            }
        }
    }

    #[test]
    fn u_39_nothing_is_written_of_a_response_with_a_bad_field() {
        for (name, value, fault) in [
            ("X", "a\r\nY: b", FieldError::ValueControl),
            ("X Y", "a", FieldError::NameNotToken),
            ("Content-Length", "5", FieldError::Reserved),
        ] {
            let fields = [("X-A", "1"), (name, value), ("X-B", "2")];
            let found = written(Form::default(), Status::OK, &fields, b"hello");
            assert_eq!(found, (Vec::new(), Err(fault)), "{name}");
        }
    }

    #[test]
    fn values_are_written_as_they_are_displayed() {
        let mut out = Vec::new();
        let writer = ResponseWriter::new(&mut out, &Date::at(0), Status::OK, Form::default());
        let outcome = writer.field_display("Age", 86_400).body_with(|out| out.push(b'x'));
        let text = String::from_utf8(out).expect("it is text");
        assert!(outcome.is_ok() && text.contains("\r\nAge: 86400\r\n"), "{text}");
        assert!(text.ends_with("\r\nContent-Length: 1\r\n\r\nx"), "{text}");
    }
}
