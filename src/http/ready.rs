//! Responses written before they are needed.
//!
//! A server that answers the same thing many times makes it [`Ready`] at its start. Writing it is
//! then one copy with the date patched in, or three copies when the connection's fate must be said.
//! Nothing is formatted at that time.

use super::date::Date;
use super::field::{FieldError, Fields};
use super::response::{ContentFraming, Form, Persistence, Response, write_connection};
use super::status::Status;

/// A response in its final bytes, but for date and Connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    status: Status,
    /// Head without Connection, empty line, content.
    bytes: Box<[u8]>,
    /// Where the empty line starts, and Connection would be inserted.
    fields_end: usize,
    /// Where the date stands.
    date_at: usize,
    advertises: bool,
}

impl Ready {
    /// Writes a response of these parts beforehand. An empty content type means no such field.
    ///
    /// # Errors
    /// If the content type holds a control byte.
    pub fn new(
        status: Status,
        content_type: &str,
        extra: &Fields,
        body: &[u8],
    ) -> Result<Self, FieldError> {
        let mut response = Response::new(status).with_body(body.to_vec());
        if !content_type.is_empty() {
            response = response.with_field("Content-Type", content_type)?;
        }
        Ok(response.with_fields(extra).to_ready())
    }

    pub(super) fn from_response(response: &Response) -> Self {
        let mut bytes = Vec::new();
        let framing = ContentFraming::Length(response.content().len() as u64);
        let date_at = response.write_fields(&mut bytes, &Date::at(0), framing);
        let fields_end = bytes.len();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(response.content());
        Self {
            status: response.status(),
            bytes: bytes.into_boxed_slice(),
            fields_end,
            date_at,
            advertises: response.advertises(),
        }
    }

    /// The status.
    #[inline]
    pub fn status(&self) -> Status {
        self.status
    }

    fn head(&self) -> &[u8] {
        self.bytes.get(..self.fields_end + 2).unwrap_or_default()
    }

    /// Appends the response to `out`.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, date: &Date, form: Form<'_>) {
        let start = out.len();
        if form.persistence == Persistence::Default && form.advertise.is_none() && !self.advertises
        {
            out.extend_from_slice(if form.head_only { self.head() } else { &self.bytes });
        } else {
            let (fields, rest) = self.bytes.split_at(self.fields_end);
            out.extend_from_slice(fields);
            write_connection(out, self.advertises, form);
            out.extend_from_slice(if form.head_only { b"\r\n" } else { rest });
        }
        let date_at = start + self.date_at;
        if let Some(place) = out.get_mut(date_at..date_at + Date::BYTES) {
            place.copy_from_slice(date.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_form() -> impl Iterator<Item = Form<'static>> {
        [Persistence::Default, Persistence::Close, Persistence::KeepAlive].into_iter().flat_map(
            |persistence| {
                [false, true].map(|head_only| Form { head_only, persistence, advertise: None })
            },
        )
    }

    #[test]
    fn writes_the_same_bytes_as_the_response_in_every_form() {
        let date = Date::at(784_111_777);
        for response in [
            Response::text(Status::OK, "ok").with_field("X-A", "1").unwrap(),
            Response::new(Status::NO_CONTENT),
            Response::new(Status::NOT_MODIFIED).with_body(b"ignored"),
            Response::text(Status::UPGRADE_REQUIRED, "no").with_upgrade("echo").unwrap(),
        ] {
            let ready = response.to_ready();
            for form in every_form() {
                let (mut expected, mut found) = (b"earlier".to_vec(), b"earlier".to_vec());
                response.write(&mut expected, &date, form);
                ready.write(&mut found, &date, form);
                assert_eq!(found, expected, "{form:?}");
            }
        }
    }

    #[test]
    fn is_made_from_its_parts() {
        let mut extra = Fields::new();
        extra.push("Allow", "GET, HEAD").unwrap();
        let ready = Ready::new(Status::METHOD_NOT_ALLOWED, "text/plain", &extra, b"no").unwrap();
        let mut out = Vec::new();
        ready.write(&mut out, &Date::at(0), Form::default());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 405 Method Not Allowed\r\nServer: upring\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/plain\r\nContent-Length: 2\r\nAllow: GET, HEAD\r\n\r\nno"
        );
    }

    #[test]
    fn refuses_a_content_type_with_a_line_end() {
        let ready = Ready::new(Status::OK, "a\r\nb", &Fields::new(), b"");
        assert_eq!(ready, Err(FieldError::ValueControl));
    }

    #[test]
    fn writing_allocates_nothing_if_there_is_room() {
        let ready = Response::text(Status::OK, "ok").to_ready();
        let mut out = Vec::with_capacity(4096);
        let before = out.as_ptr();
        for form in every_form() {
            ready.write(&mut out, &Date::at(1), form);
        }
        assert_eq!((out.as_ptr(), out.capacity()), (before, 4096));
    }
}
