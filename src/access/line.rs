//! One line, in each of the formats. What a client sent is escaped, and cut at a bound.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::escape::{write_json, write_plain};
use super::stamp::Stamp;
use crate::config::{AccessFormat, Millis};
use crate::http::{Request, Version};

/// Bytes of a request line that stand in a log; of a longer one its beginning does, and `...`.
pub(super) const REQUEST_LINE_BYTES_MAX: usize = 4096;

/// The same of every other text.
pub(super) const FIELD_BYTES_MAX: usize = 1024;

/// Digits that a duration has room for: it is known at the end of the turn.
const DURATION_DIGITS: usize = 10;

/// What a line says of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts<'a> {
    /// As it was received; empty if nothing of it was.
    pub(super) line: &'a [u8],
    /// What of the line is the target.
    pub(super) target: &'a [u8],
    pub(super) version: Option<Version>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) referer: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(request: Request<'a>) -> Facts<'a> {
        Facts {
            line: request.line(),
            target: request.target(),
            version: Some(request.version()),
            host: request.host(),
            referer: request.field("referer"),
            user_agent: request.field("user-agent"),
        }
    }

    /// Of a request whose head is not whole, or faulty.
    pub(super) fn of_line(line: &'a [u8]) -> Facts<'a> {
        Facts { line, ..Facts::default() }
    }
}

/// Whose line it is, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) client: Option<SocketAddr>,
    pub(super) key: u64,
    pub(super) core: usize,
    pub(super) now: Millis,
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) status: u16,
    pub(super) bytes_sent: u64,
    pub(super) token: Option<&'a str>,
    pub(super) result: Option<&'static str>,
}

/// What became of a switched connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) target: &'a [u8],
    pub(super) token: &'a str,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) lasted_ms: Millis,
    pub(super) reason: &'a str,
}

/// Where lines are made.
pub(super) struct Page<'a> {
    pub(super) format: AccessFormat,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) stamp: &'a mut Stamp,
}

impl Page<'_> {
    /// Appends the line of an answer; where its duration goes, if the format has it.
    pub(super) fn write_answer(
        &mut self,
        facts: &Facts<'_>,
        place: Place,
        answered: Answered<'_>,
    ) -> Option<usize> {
        if self.format == AccessFormat::Json {
            return Some(self.write_json_answer(facts, place, answered));
        }
        self.begin(place);
        self.or_dash(facts.line, REQUEST_LINE_BYTES_MAX);
        self.say("\" ");
        self.number(answered.status);
        self.out.push(b' ');
        self.count_or_dash(answered.bytes_sent);
        if self.format == AccessFormat::Combined {
            self.say(" \"");
            self.or_dash(facts.referer.unwrap_or_default(), FIELD_BYTES_MAX);
            self.say("\" \"");
            self.or_dash(facts.user_agent.unwrap_or_default(), FIELD_BYTES_MAX);
            self.out.push(b'"');
        }
        self.out.push(b'\n');
        None
    }

    /// Appends the line of an end. In the formats that have no place for it the request line says END,
    /// what was asked for and the protocol, and the last text what the others have fields for.
    pub(super) fn write_end(&mut self, place: Place, ended: Ended<'_>) {
        if self.format == AccessFormat::Json {
            return self.write_json_end(place, ended);
        }
        self.begin(place);
        self.say("END ");
        write_plain(self.out, ended.target, FIELD_BYTES_MAX);
        self.out.push(b' ');
        write_plain(self.out, ended.token.as_bytes(), FIELD_BYTES_MAX);
        self.say("\" 101 ");
        self.count_or_dash(ended.bytes_sent);
        if self.format == AccessFormat::Combined {
            let Ended { reason, lasted_ms, bytes_received, .. } = ended;
            // Writing to memory does not fail.
            let _ = write!(
                self.out,
                " \"-\" \"{reason}; {lasted_ms} ms; {bytes_received} bytes received\""
            );
        }
        self.out.push(b'\n');
    }

    /// Up to the quotation mark of the request line.
    fn begin(&mut self, place: Place) {
        match place.client {
            Some(client) => self.ip(client.ip()),
            None => self.out.push(b'-'),
        }
        self.say(" - - ");
        self.stamp.write(self.out, place.now);
        self.say(" \"");
    }

    fn write_json_answer(
        &mut self,
        facts: &Facts<'_>,
        place: Place,
        answered: Answered<'_>,
    ) -> usize {
        self.begin_json("request", place);
        self.text_field("request", Some(facts.line), REQUEST_LINE_BYTES_MAX);
        let version = facts.version.map(|version| match version {
            Version::Http10 => &b"HTTP/1.0"[..],
            Version::Http11 => b"HTTP/1.1",
        });
        self.text_field("version", version, FIELD_BYTES_MAX);
        self.text_field("host", facts.host, FIELD_BYTES_MAX);
        self.number_field("status", answered.status);
        self.number_field("bytes_sent", answered.bytes_sent);
        self.text_field("referer", facts.referer, FIELD_BYTES_MAX);
        self.text_field("user_agent", facts.user_agent, FIELD_BYTES_MAX);
        self.text_field("upgrade", answered.token.map(str::as_bytes), FIELD_BYTES_MAX);
        self.text_field("result", answered.result.map(str::as_bytes), FIELD_BYTES_MAX);
        self.say(",\"duration_us\":");
        let duration_at = self.out.len();
        self.out.extend_from_slice(&[b' '; DURATION_DIGITS]);
        self.say("}\n");
        duration_at
    }

    fn write_json_end(&mut self, place: Place, ended: Ended<'_>) {
        self.begin_json("end", place);
        self.text_field("target", Some(ended.target), FIELD_BYTES_MAX);
        self.text_field("upgrade", Some(ended.token.as_bytes()), FIELD_BYTES_MAX);
        self.number_field("bytes_sent", ended.bytes_sent);
        self.number_field("bytes_received", ended.bytes_received);
        self.text_field("reason", Some(ended.reason.as_bytes()), FIELD_BYTES_MAX);
        self.number_field("duration_us", ended.lasted_ms.saturating_mul(1000));
        self.say("}\n");
    }

    fn begin_json(&mut self, event: &str, place: Place) {
        self.say("{\"time\":\"");
        self.stamp.write(self.out, place.now);
        self.say("\",\"event\":\"");
        self.say(event);
        self.out.push(b'"');
        self.number_field("core", place.core);
        let (slot, generation) = (place.key as u32, place.key >> 32);
        self.say(",\"connection\":\"");
        self.number(slot);
        self.out.push(b'.');
        self.number(generation);
        self.say("\",\"client\":");
        match place.client {
            Some(client) => {
                self.out.push(b'"');
                self.ip(client.ip());
                self.out.push(b'"');
                self.number_field("port", client.port());
            }
            None => self.say("null,\"port\":null"),
        }
    }

    fn text_field(&mut self, name: &str, text: Option<&[u8]>, bytes_max: usize) {
        self.say(",\"");
        self.say(name);
        match text {
            Some(text) => {
                self.say("\":\"");
                write_json(self.out, text, bytes_max);
                self.out.push(b'"');
            }
            None => self.say("\":null"),
        }
    }

    fn number_field(&mut self, name: &str, number: impl TryInto<u64>) {
        self.say(",\"");
        self.say(name);
        self.say("\":");
        self.number(number);
    }

    fn or_dash(&mut self, text: &[u8], bytes_max: usize) {
        match text {
            [] => self.out.push(b'-'),
            _ => write_plain(self.out, text, bytes_max),
        }
    }

    fn count_or_dash(&mut self, count: u64) {
        match count {
            0 => self.out.push(b'-'),
            _ => self.number(count),
        }
    }

    fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                self.number(a);
                for octet in [b, c, d] {
                    self.out.push(b'.');
                    self.number(octet);
                }
            }
            // Writing to memory does not fail.
            IpAddr::V6(ip) => drop(write!(self.out, "{ip}")),
        }
    }

    fn say(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: impl TryInto<u64>) {
        write_number(self.out, number.try_into().unwrap_or_default());
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    let (digits, start) = digits(number);
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// A number in decimal at the end of so many bytes, and where it starts.
fn digits(mut number: u64) -> ([u8; 20], usize) {
    let (mut digits, mut start) = ([b' '; 20], 20);
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        start -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    (digits, start)
}

/// Writes a duration where there was left room for it: a JSON number may have spaces before it.
pub(super) fn fill_in(out: &mut [u8], at: usize, duration_us: u64) {
    let (digits, _) = digits(duration_us.min(9_999_999_999));
    let room = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<DURATION_DIGITS>());
    if let (Some(room), Some(digits)) = (room, digits.last_chunk::<DURATION_DIGITS>()) {
        *room = *digits;
    }
}
