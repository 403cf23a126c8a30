//! One line, in each of the formats. What a client sent is escaped, and cut at a bound.

use std::net::{IpAddr, SocketAddr};

use super::escape::{write_json, write_plain};
use super::lines::{Lines, Pen, digits};
use super::stamp::{JSON_TIME_BYTES, Stamp, TIME_BYTES};
use crate::config::{AccessFormat, Millis, TlsVersion};
use crate::http::{Request, Secured, Version};

/// Bytes of a request line that stand in a log; of a longer one its beginning does, and `...`.
pub(super) const REQUEST_LINE_BYTES_MAX: usize = 4096;

/// The same of every other text.
pub(super) const FIELD_BYTES_MAX: usize = 1024;

/// Digits that a duration has room for: it is known at the end of the turn.
const DURATION_DIGITS: usize = 10;

/// Bytes of a line beside its texts: no line has as many.
const FIXED_BYTES_MAX: usize = 512;

/// Bytes before the request line: an address has 45 at most, what is behind it 35.
const FRONT_BYTES_MAX: usize = 80;

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
    /// Of a connection inside TLS.
    pub(super) tls: Option<TlsVersion>,
    pub(super) server_name: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// What lines of this format say of it, and the target.
    #[inline]
    pub(crate) fn of(request: Request<'a>, format: AccessFormat) -> Facts<'a> {
        let [referer, user_agent] = match format {
            AccessFormat::Common => [None; 2],
            AccessFormat::Combined | AccessFormat::Json => {
                request.first_fields(["referer", "user-agent"])
            }
        };
        Facts {
            line: request.line(),
            target: request.target(),
            version: Some(request.version()),
            host: request.host(),
            referer,
            user_agent,
            tls: request.secured().map(|secured| secured.version),
            server_name: request.secured().and_then(|secured| secured.server_name.as_deref()),
        }
    }

    /// Of a request whose head is not whole, or faulty.
    pub(super) fn of_line(line: &'a [u8], secured: Option<&'a Secured>) -> Facts<'a> {
        let tls = secured.map(|secured| secured.version);
        let server_name = secured.and_then(|secured| secured.server_name.as_deref());
        Facts { line, tls, server_name, ..Facts::default() }
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
    pub(super) out: &'a mut Lines,
    pub(super) stamp: &'a mut Stamp,
    pub(super) front: &'a mut Front,
    /// Memory for texts that need an escape.
    pub(super) escaped: &'a mut Vec<u8>,
}

impl Page<'_> {
    /// Appends the line of an answer; where its duration goes, if the format has it.
    #[inline]
    pub(super) fn write_answer(
        &mut self,
        facts: &Facts<'_>,
        place: Place,
        answered: Answered<'_>,
    ) -> Option<usize> {
        let is_combined = match self.format {
            AccessFormat::Json => return Some(self.write_json_answer(facts, place, answered)),
            AccessFormat::Combined => true,
            AccessFormat::Common => false,
        };
        self.front.refresh(place, self.stamp);
        let Front { text: front, len: front_len, .. } = *self.front;
        let texts = [facts.line, or_nothing(facts.referer), or_nothing(facts.user_agent)];
        self.write(texts, REQUEST_LINE_BYTES_MAX, |pen, [line, referer, user_agent]| {
            pen.put_front(&front, front_len);
            text_or_dash(pen, line);
            pen.put(b"\" ");
            pen.number(answered.status.into());
            pen.put(b" ");
            count_or_dash(pen, answered.bytes_sent);
            match is_combined {
                true => end_combined(pen, referer, user_agent),
                false => pen.put(b"\n"),
            }
        });
        None
    }

    /// Appends the line of an end. In the formats that have no place for it the request line says END,
    /// what was asked for and the protocol, and the last text what the others have fields for.
    pub(super) fn write_end(&mut self, place: Place, ended: Ended<'_>) {
        if self.format == AccessFormat::Json {
            return self.write_json_end(place, ended);
        }
        self.front.refresh(place, self.stamp);
        let Front { text: front, len: front_len, .. } = *self.front;
        let is_combined = self.format == AccessFormat::Combined;
        let texts = [ended.target, ended.token.as_bytes(), ended.reason.as_bytes()];
        self.write(texts, FIELD_BYTES_MAX, |pen, [target, token, reason]| {
            pen.put_front(&front, front_len);
            pen.put(b"END ");
            pen.text(target);
            pen.put(b" ");
            pen.text(token);
            pen.put(b"\" 101 ");
            count_or_dash(pen, ended.bytes_sent);
            if is_combined {
                pen.put(b" \"-\" \"");
                pen.text(reason);
                pen.put(b"; ");
                pen.number(ended.lasted_ms);
                pen.put(b" ms; ");
                pen.number(ended.bytes_received);
                pen.put(b" bytes received\"");
            }
            pen.put(b"\n");
        });
    }

    #[inline(never)]
    fn write_json_answer(
        &mut self,
        facts: &Facts<'_>,
        place: Place,
        answered: Answered<'_>,
    ) -> usize {
        const END: &[u8; DURATION_DIGITS + 2] = b"          }\n";
        let time = *self.stamp.in_json(place.now);
        let Facts { host, referer, user_agent, version, .. } = *facts;
        let (token, result) =
            (answered.token.map(str::as_bytes), answered.result.map(str::as_bytes));
        let name = facts.server_name.map(str::as_bytes);
        let [host_text, referer_text, agent_text, token_text, result_text, name_text] =
            [host, referer, user_agent, token, result, name].map(or_nothing);
        let texts =
            [facts.line, host_text, referer_text, agent_text, token_text, result_text, name_text];
        self.write(texts, REQUEST_LINE_BYTES_MAX, |pen, texts| {
            let [line, host_text, referer_text, agent_text, token_text, result_text, name_text] =
                texts;
            begin_json(pen, b"\",\"event\":\"request\",\"core\":", place, &time);
            pen.put(b",\"request\":\"");
            pen.text(line);
            match version {
                Some(Version::Http10) => pen.put(b"\",\"version\":\"HTTP/1.0\",\"host\":"),
                Some(Version::Http11) => pen.put(b"\",\"version\":\"HTTP/1.1\",\"host\":"),
                None => pen.put(b"\",\"version\":null,\"host\":"),
            }
            text_or_null(pen, host.is_some(), host_text);
            number(pen, b",\"status\":", answered.status.into());
            number(pen, b",\"bytes_sent\":", answered.bytes_sent);
            pen.put(b",\"referer\":");
            text_or_null(pen, referer.is_some(), referer_text);
            pen.put(b",\"user_agent\":");
            text_or_null(pen, user_agent.is_some(), agent_text);
            pen.put(b",\"upgrade\":");
            text_or_null(pen, token.is_some(), token_text);
            pen.put(b",\"result\":");
            text_or_null(pen, result.is_some(), result_text);
            if let Some(version) = facts.tls {
                match version {
                    TlsVersion::Tls12 => pen.put(b",\"tls\":\"1.2\",\"server_name\":"),
                    TlsVersion::Tls13 => pen.put(b",\"tls\":\"1.3\",\"server_name\":"),
                }
                text_or_null(pen, name.is_some(), name_text);
            }
            pen.put(b",\"duration_us\":");
            pen.put(END);
        });
        self.out.len() - END.len()
    }

    fn write_json_end(&mut self, place: Place, ended: Ended<'_>) {
        let time = *self.stamp.in_json(place.now);
        let texts = [ended.target, ended.token.as_bytes(), ended.reason.as_bytes()];
        self.write(texts, FIELD_BYTES_MAX, |pen, [target, token, reason]| {
            begin_json(pen, b"\",\"event\":\"end\",\"core\":", place, &time);
            pen.put(b",\"target\":\"");
            pen.text(target);
            pen.put(b"\",\"upgrade\":\"");
            pen.text(token);
            number(pen, b"\",\"bytes_sent\":", ended.bytes_sent);
            number(pen, b",\"bytes_received\":", ended.bytes_received);
            pen.put(b",\"reason\":\"");
            pen.text(reason);
            number(pen, b"\",\"duration_us\":", ended.lasted_ms.saturating_mul(1000));
            pen.put(b"}\n");
        });
    }

    /// Appends a line. Nearly all texts are short and need no escape: it is written with them as they
    /// are, and once more if they turn out to be others.
    #[inline(always)]
    fn write<const COUNT: usize>(
        &mut self,
        texts: [&[u8]; COUNT],
        first_bytes_max: usize,
        write: impl Fn(&mut Pen<'_>, [&[u8]; COUNT]),
    ) {
        let (mut texts, bytes_max) = (texts, bounds(first_bytes_max));
        let is_long = texts.iter().zip(bytes_max).any(|(text, most)| text.len() > most);
        let mut room_for_escaped = Some(&mut *self.escaped);
        if is_long && let Some(room) = room_for_escaped.take() {
            texts = escape(texts, bytes_max, self.format, room);
        }
        // Once, or twice.
        loop {
            let bytes: usize = texts.iter().map(|text| text.len()).sum();
            let mut pen = self.out.pen(FIXED_BYTES_MAX + bytes);
            write(&mut pen, texts);
            match room_for_escaped.take_if(|_| pen.needs_escape()) {
                Some(room) => texts = escape(texts, bytes_max, self.format, room),
                None => {
                    let room_left = pen.room_left();
                    return self.out.keep(room_left);
                }
            }
        }
    }
}

/// The texts as they may stand in a line.
#[cold]
#[inline(never)]
fn escape<'a, const COUNT: usize>(
    texts: [&[u8]; COUNT],
    bytes_max: [usize; COUNT],
    format: AccessFormat,
    room: &'a mut Vec<u8>,
) -> [&'a [u8]; COUNT] {
    room.clear();
    let mut ends = [0; COUNT];
    for ((text, bytes_max), end) in texts.into_iter().zip(bytes_max).zip(&mut ends) {
        match format {
            AccessFormat::Json => write_json(room, text, bytes_max),
            AccessFormat::Common | AccessFormat::Combined => write_plain(room, text, bytes_max),
        }
        *end = room.len();
    }
    let (escaped, mut start) = (&*room, 0);
    ends.map(|end| {
        let text = escaped.get(start..end).unwrap_or_default();
        start = end;
        text
    })
}

/// What lines have up to the quotation mark of the request line. Those of a turn with the same client
/// have the same.
#[derive(Debug)]
pub(super) struct Front {
    /// Whose it is, and which time of the stamp.
    client: Option<IpAddr>,
    time: u64,
    text: [u8; FRONT_BYTES_MAX],
    len: usize,
}

impl Default for Front {
    fn default() -> Front {
        Front { client: None, time: 0, text: [0; FRONT_BYTES_MAX], len: 0 }
    }
}

impl Front {
    /// Makes it that of this line.
    #[inline(always)]
    fn refresh(&mut self, place: Place, stamp: &mut Stamp) {
        let client = place.client.map(|client| client.ip());
        stamp.at(place.now);
        if self.client != client || self.time != stamp.count() {
            self.render(client, stamp.at(place.now));
            self.time = stamp.count();
        }
    }

    #[inline(never)]
    fn render(&mut self, client: Option<IpAddr>, time: &[u8; TIME_BYTES]) {
        self.client = client;
        let mut pen = Pen::new(&mut self.text);
        match client {
            Some(client) => ip(&mut pen, client),
            None => pen.put(b"-"),
        }
        pen.put(b" - - ");
        pen.put(time);
        pen.put(b" \"");
        self.len = FRONT_BYTES_MAX - pen.room_left();
    }
}

/// The first text has a bound of its own.
fn bounds<const COUNT: usize>(first_bytes_max: usize) -> [usize; COUNT] {
    std::array::from_fn(|at| if at == 0 { first_bytes_max } else { FIELD_BYTES_MAX })
}

fn or_nothing(text: Option<&[u8]>) -> &[u8] {
    text.unwrap_or_default()
}

/// Who sent the client, what it says it is, and the end of the line.
#[inline(always)]
fn end_combined(pen: &mut Pen<'_>, referer: &[u8], user_agent: &[u8]) {
    if referer.is_empty() && user_agent.is_empty() {
        return pen.put(b" \"-\" \"-\"\n");
    }
    pen.put(b" \"");
    text_or_dash(pen, referer);
    pen.put(b"\" \"");
    text_or_dash(pen, user_agent);
    pen.put(b"\"\n");
}

/// What all objects begin with; `event` is what is between the time and the number of the core.
#[inline(always)]
fn begin_json<const COUNT: usize>(
    pen: &mut Pen<'_>,
    event: &[u8; COUNT],
    place: Place,
    time: &[u8; JSON_TIME_BYTES],
) {
    pen.put(b"{\"time\":\"");
    pen.put(time);
    number(pen, event, place.core as u64);
    let (slot, generation) = (place.key & u64::from(u32::MAX), place.key >> 32);
    number(pen, b",\"connection\":\"", slot);
    number(pen, b".", generation);
    match place.client {
        Some(client) => {
            pen.put(b"\",\"client\":\"");
            ip(pen, client.ip());
            number(pen, b"\",\"port\":", client.port().into());
        }
        None => pen.put(b"\",\"client\":null,\"port\":null"),
    }
}

#[inline(always)]
fn text_or_null(pen: &mut Pen<'_>, is_some: bool, text: &[u8]) {
    if !is_some {
        return pen.put(b"null");
    }
    pen.put(b"\"");
    pen.text(text);
    pen.put(b"\"");
}

#[inline(always)]
fn number<const COUNT: usize>(pen: &mut Pen<'_>, before: &[u8; COUNT], number: u64) {
    pen.put(before);
    pen.number(number);
}

#[inline(always)]
fn text_or_dash(pen: &mut Pen<'_>, text: &[u8]) {
    match text {
        [] => pen.put(b"-"),
        _ => pen.text(text),
    }
}

#[inline(always)]
fn count_or_dash(pen: &mut Pen<'_>, count: u64) {
    match count {
        0 => pen.put(b"-"),
        _ => pen.number(count),
    }
}

#[inline(always)]
fn ip(pen: &mut Pen<'_>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => pen.ip_v4(ip.octets()),
        IpAddr::V6(ip) => pen.ip_v6(ip),
    }
}

/// Writes a duration where there was left room for it: a JSON number may have spaces before it.
pub(super) fn fill_in(room: &mut [u8], duration_us: u64) {
    let (digits, _) = digits(duration_us.min(9_999_999_999));
    if let (Some(room), Some(digits)) = (room.first_chunk_mut(), digits.last_chunk()) {
        let room: &mut [u8; DURATION_DIGITS] = room;
        *room = *digits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_line_has_room_beside_its_texts() {
        let client = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().ok();
        let place = Place { client, key: u64::MAX, core: usize::MAX, now: 0 };
        let facts = Facts {
            line: b"line",
            host: Some(b"host"),
            referer: Some(b"referer"),
            user_agent: Some(b"agent"),
            version: Some(Version::Http11),
            tls: Some(TlsVersion::Tls13),
            server_name: Some("name"),
            ..Facts::default()
        };
        let (token, bytes) = ("token", u64::MAX);
        let answered =
            Answered { status: u16::MAX, bytes_sent: bytes, token: Some(token), result: Some("r") };
        let ended = Ended {
            target: b"target",
            token,
            bytes_received: bytes,
            bytes_sent: bytes,
            lasted_ms: bytes,
            reason: "reason",
        };
        for format in [AccessFormat::Common, AccessFormat::Combined, AccessFormat::Json] {
            let (mut out, mut stamp) = (Lines::default(), Stamp::new(format));
            let (mut front, mut escaped) = (Front::default(), Vec::new());
            let mut page = Page {
                format,
                out: &mut out,
                stamp: &mut stamp,
                front: &mut front,
                escaped: &mut escaped,
            };
            page.write_answer(&facts, place, answered);
            page.write_end(place, ended);
            let text = str::from_utf8(out.written()).expect("text");
            assert_eq!(text.lines().count(), 2, "{text}");
            for line in text.lines() {
                assert!(line.contains("1111:2222:3333:4444:5555:6666:7777:8888"), "{line}");
                assert!(line.contains(&bytes.to_string()), "{line}");
                // What is written beyond a short number is beyond it by less than a number.
                assert!(line.len() < FIXED_BYTES_MAX - 8, "{line}");
            }
        }
    }
}
