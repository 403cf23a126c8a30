//! What the two opponents answer. `baseline` and `epoll` share this file, so that a difference
//! between their figures is a difference between their loops. It reads heads and writes answers; it
//! does no I/O.
//!
//! ```text
//!   input   [ head ][ head ][ hea          output  [ answer ][ answer ]
//!            ────── used ───  └ waits for the rest  ── leaves in one write
//! ```

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Request, Status};

/// Bytes one receive may bring, which is also the longest head these servers read.
pub(crate) const INPUT_BYTES: usize = 8 * 1024;

const FIELDS_MAX: usize = 32;
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nServer: upring\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nServer: upring\r\nContent-Length: 0\r\n\r\n";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nServer: upring\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const HEAD_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nServer: upring\r\nConnection: close\r\n\
      Content-Length: 0\r\n\r\n";

/// What a connection does once its output has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Reads the next head.
    Head,
    /// Sends every byte back; what stood behind the head is already in the output.
    Echo,
    /// Closes.
    Close,
}

/// The answers of one worker, rendered once a second.
pub(crate) struct Answers {
    unix_second: u64,
    plaintext: Vec<u8>,
}

impl Answers {
    pub(crate) fn new(unix_second: u64) -> Answers {
        Answers { unix_second, plaintext: render_plaintext(unix_second) }
    }

    /// Renders anew when the second has changed.
    pub(crate) fn refresh(&mut self, unix_second: u64) {
        if self.unix_second != unix_second {
            *self = Answers::new(unix_second);
        }
    }

    /// Appends to `output` an answer for every whole head in `input`. Returns how many bytes of
    /// `input` are done with; the rest is the beginning of the next head.
    pub(crate) fn answer(&self, input: &[u8], output: &mut Vec<u8>) -> (usize, Next) {
        let mut used = 0;
        while used < input.len() {
            let (head_bytes, reply) = match read_head(&input[used..]) {
                Ok(Some(read)) => read,
                Ok(None) if input.len() - used < INPUT_BYTES => break,
                Ok(None) => (0, Reply::Refuse(HEAD_TOO_LARGE)),
                Err(_) => (0, Reply::Refuse(BAD_REQUEST)),
            };
            used += head_bytes;
            match reply {
                Reply::Plaintext => output.extend_from_slice(&self.plaintext),
                Reply::NotFound => output.extend_from_slice(NOT_FOUND),
                Reply::Switch => {
                    output.extend_from_slice(SWITCH);
                    output.extend_from_slice(&input[used..]);
                    return (input.len(), Next::Echo);
                }
                Reply::Last => {
                    output.extend_from_slice(&self.plaintext);
                    return (input.len(), Next::Close);
                }
                Reply::Refuse(refusal) => {
                    output.extend_from_slice(refusal);
                    return (input.len(), Next::Close);
                }
            }
        }
        (used, Next::Head)
    }
}

enum Reply {
    Plaintext,
    /// The plaintext, after which the client wants the connection closed.
    Last,
    NotFound,
    Switch,
    Refuse(&'static [u8]),
}

/// The length of the head and what it deserves; `None` while the head is not whole.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, Reply)>, httparse::Error> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = Request::new(&mut []);
    let parser = ParserConfig::default();
    let Status::Complete(head_bytes) =
        parser.parse_request_with_uninit_headers(&mut request, bytes, &mut fields)?
    else {
        return Ok(None);
    };
    Ok(Some((head_bytes, reply_to(&request))))
}

fn reply_to(request: &Request<'_, '_>) -> Reply {
    let (mut echo_offered, mut upgrade_named, mut close_named) = (false, false, false);
    for field in request.headers.iter() {
        // One comparison of lengths keeps the fields that do not matter cheap.
        match field.name.len() {
            7 if field.name.eq_ignore_ascii_case("upgrade") => {
                echo_offered = lists(field.value, b"echo");
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                upgrade_named = lists(field.value, b"upgrade");
                close_named = lists(field.value, b"close");
            }
            // These servers read no content, so a request that may have some cannot be followed by
            // another.
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                return Reply::Refuse(BAD_REQUEST);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                return Reply::Refuse(BAD_REQUEST);
            }
            _ => {}
        }
    }
    match (request.method, request.path) {
        (Some("GET"), Some("/plaintext")) if close_named || request.version == Some(0) => {
            Reply::Last
        }
        (Some("GET"), Some("/plaintext")) => Reply::Plaintext,
        (Some("GET"), Some("/echo")) if echo_offered && upgrade_named => Reply::Switch,
        _ => Reply::NotFound,
    }
}

fn lists(value: &[u8], token: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| member.trim_ascii().eq_ignore_ascii_case(token))
}

fn render_plaintext(unix_second: u64) -> Vec<u8> {
    let date = http_date(unix_second);
    format!(
        "HTTP/1.1 200 OK\r\nServer: upring\r\nDate: {date}\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n\
         Hello, World!"
    )
    .into_bytes()
}

/// An IMF-fixdate (RFC 9110 §5.6.7).
fn http_date(unix_second: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let (day_number, second) = (unix_second / 86_400, unix_second % 86_400);
    let weekday = DAYS[(day_number % 7) as usize];

    // Years are counted from 1 March, so that the leap day is a year's last; day 0 is 1 March of
    // the year 0.
    let days = day_number + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);

    let month = MONTHS[month as usize];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_example_date_of_rfc_9110() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn renders_a_leap_day_and_the_day_after() {
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(951_868_800), "Wed, 01 Mar 2000 00:00:00 GMT");
    }

    #[test]
    fn answers_whole_heads_and_leaves_the_next_ones_beginning() {
        let input =
            b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.1\r\n\r\nGET /pl";
        let mut output = Vec::new();
        let (used, next) = Answers::new(0).answer(input, &mut output);
        assert_eq!((&input[used..], next), (&b"GET /pl"[..], Next::Head));
        assert_eq!(output.len(), 2 * Answers::new(0).plaintext.len());
    }

    #[test]
    fn echoes_what_stood_behind_the_head() {
        let input =
            b"GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: other, echo\r\n\r\nearly";
        let mut output = Vec::new();
        assert_eq!(Answers::new(0).answer(input, &mut output), (input.len(), Next::Echo));
        assert!(output.starts_with(SWITCH) && output.ends_with(b"\r\n\r\nearly"));
    }

    #[test]
    fn refuses_content_and_a_head_that_does_not_fit() {
        let mut output = Vec::new();
        let content = b"GET /plaintext HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(Answers::new(0).answer(content, &mut output).1, Next::Close);
        let endless = [b"GET /plaintext HTTP/1.1\r\nA: ".as_slice(), &[b'a'; INPUT_BYTES]].concat();
        assert_eq!(Answers::new(0).answer(&endless[..INPUT_BYTES], &mut output).1, Next::Close);
        assert!(output.starts_with(BAD_REQUEST) && output.ends_with(HEAD_TOO_LARGE));
    }
}
