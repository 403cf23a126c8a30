//! What one client sends, and everything it must get back: the model the server is held against.

use std::fmt::Write as _;

use upring::config::Limits;
use upring::http::{Date, Fields, Form, HeadError, Persistence, Response, Status, write_switching};
use upring::ring::sim::Random;

use super::player::Kind;
use super::stage;

/// The protocol every upgraded connection speaks: what to do is in the path.
pub(super) const PROTOCOL: &str = "play";
pub(super) const GREETING: &[u8] = b"Good morning, and welcome to the simulation! ";

/// Byte `at` of what client or answer `id` is made of: another one for each.
pub(super) fn pattern(id: u64, at: usize) -> u8 {
    let mixed = (at as u64 / 8).wrapping_add(id << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (8 * (at % 7))) as u8
}

pub(super) fn patterned(id: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| pattern(id, at)).collect()
}

/// One answer.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) bytes: Vec<u8>,
    /// The same, if the server has begun to stop: the last one then.
    pub(super) closing: Vec<u8>,
    /// It is to a HEAD: no other answer to that has content either, once enough of it has come.
    pub(super) is_head: bool,
}

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// FIN directly behind its last byte.
    Early,
    /// FIN when everything has come.
    Late,
    /// Not at all: the server has to close.
    Stay,
    /// It never reads, and does not leave.
    Stall,
    /// Closed after so many acts, whatever is on its way.
    Abrupt(u32),
    /// Reset after so many acts.
    Reset(u32),
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    pub(super) items: Vec<Item>,
    /// What follows the 101.
    pub(super) stream: Vec<u8>,
    /// The server ends it with a reset, wherever it is by then.
    pub(super) is_cut: bool,
    /// The connection leaves the engine: no end is seen.
    pub(super) is_detached: bool,
    /// The client sends bytes behind the answer that closes: they may cost it that answer.
    pub(super) is_rude: bool,
    /// Its last answer closes.
    pub(super) is_closed: bool,
    pub(super) leave: Leave,
}

impl Script {
    pub(super) fn new(id: u64, limits: &Limits, random: &mut Random) -> Script {
        let mut script = Script {
            bytes: Vec::new(),
            items: Vec::new(),
            stream: Vec::new(),
            is_cut: false,
            is_detached: false,
            is_rude: false,
            is_closed: false,
            leave: Leave::Late,
        };
        let requests = if random.chance(0.1) { 40 } else { random.index(6) };
        for number in 0..requests {
            if !script.is_closed {
                script.request(id * 100 + number as u64, requests > 10, random);
            }
        }
        match random.index(10) {
            _ if script.is_closed => script.ramble(random),
            0..6 => script.upgrade(id, random),
            6..8 => script.fault(limits, random),
            8 => script.bytes.extend_from_slice(
                &b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n"[..1 + random.index(27)],
            ),
            _ => {}
        }
        script.leave = script.choose_leave(random);
        script
    }

    /// Bytes that come back when all goes well.
    pub(super) fn expected_bytes(&self) -> usize {
        self.items.iter().map(|item| item.bytes.len()).sum::<usize>() + self.stream.len()
    }

    fn choose_leave(&self, random: &mut Random) -> Leave {
        let acts = 1 + random.below(30) as u32;
        let is_http = self.stream.is_empty() && self.items.len() < 6 && !self.is_detached;
        let is_whole = self.is_closed || self.bytes.ends_with(b"\r\n\r\n");
        match random.index(20) {
            0 => Leave::Abrupt(acts),
            1 => Leave::Reset(acts),
            2 if self.expected_bytes() > 0 => Leave::Stall,
            3 if is_http
                && !self.is_rude
                && self
                    .items
                    .last()
                    .is_none_or(|item| !item.bytes.starts_with(b"HTTP/1.1 101")) =>
            {
                Leave::Stay
            }
            4..12 if is_whole || !self.stream.is_empty() || self.is_cut || self.is_detached => {
                Leave::Late
            }
            _ => Leave::Early,
        }
    }

    fn answer(&mut self, response: &Response, is_head: bool, is_last: bool) {
        let write = |persistence| {
            let mut bytes = Vec::new();
            response.write(
                &mut bytes,
                &Date::at(0),
                Form { head_only: is_head, persistence, advertise: None },
            );
            bytes
        };
        let closing = write(Persistence::Close);
        let bytes = if is_last { closing.clone() } else { write(Persistence::Default) };
        self.items.push(Item { bytes, closing, is_head });
        self.is_closed |= is_last;
    }

    fn head(&mut self, method: &str, path: &str, fields: &str) {
        let mut text = String::new();
        write!(text, "{method} {path} HTTP/1.1\r\nHost: simulation\r\n{fields}\r\n")
            .expect("a String takes all");
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn request(&mut self, id: u64, is_small: bool, random: &mut Random) {
        let size = match random.index(if is_small { 20 } else { 40 }) {
            0..20 => random.index(100),
            20..35 => random.index(3000),
            _ => random.index(60_000),
        };
        let close = if random.chance(0.03) { "Connection: close\r\n" } else { "" };
        let whole = Response::new(Status::OK).with_body(patterned(id, size));
        match random.index(12) {
            0 => {
                self.head("GET", "/missing", close);
                let missing = Response::text(Status::NOT_FOUND, "There is nothing at this path.\n");
                self.answer(&missing, false, !close.is_empty());
            }
            1 => {
                self.head("HEAD", &format!("/now/{size}/{id}"), close);
                self.answer(&whole, true, !close.is_empty());
            }
            2 | 3 => {
                self.head("GET", &format!("/later/{size}/{id}"), close);
                self.answer(&whole, false, !close.is_empty());
            }
            4 if id.is_multiple_of(4) => self.broken(id),
            5 | 6 => self.content(size % 1500, id, random),
            _ => {
                self.head("GET", &format!("/now/{size}/{id}"), close);
                self.answer(&whole, false, !close.is_empty());
            }
        }
    }

    /// An answer that never comes, or a handler that panics.
    fn broken(&mut self, id: u64) {
        let (path, status, text) = match id % 8 {
            0 => ("/never/0/0", Status::SERVICE_UNAVAILABLE, "The answer was not ready in time.\n"),
            _ => (
                "/panic/0/0",
                Status::INTERNAL_SERVER_ERROR,
                "The handler of this resource failed.\n",
            ),
        };
        self.head("GET", path, "");
        self.answer(&Response::text(status, text), false, true);
    }

    fn content(&mut self, size: usize, id: u64, random: &mut Random) {
        let content = patterned(id, size);
        let path = if random.chance(0.5) { "/content" } else { &format!("/stream/{size}") };
        if random.chance(0.5) {
            self.head("POST", path, &format!("Content-Length: {size}\r\n"));
            self.bytes.extend_from_slice(&content);
        } else {
            self.head("POST", path, "Transfer-Encoding: chunked\r\n");
            for chunk in content.chunks(1 + random.index(400)) {
                self.bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                self.bytes.extend_from_slice(chunk);
                self.bytes.extend_from_slice(b"\r\n");
            }
            self.bytes.extend_from_slice(b"0\r\n\r\n");
        }
        self.answer(&Response::new(Status::OK).with_body(content), false, false);
    }

    fn upgrade(&mut self, id: u64, random: &mut Random) {
        let kind = random.index(Kind::ALL.len());
        let said_max = if random.chance(0.2) { 20_000 } else { 600 };
        let said = random.index(said_max);
        let count = match Kind::ALL[kind] {
            Kind::Greet if random.chance(0.1) => random.index(1 << 20),
            Kind::Greet => random.index(9000),
            _ => 1 + random.index(said.max(1)),
        };
        let (how, is_last) = match random.index(12) {
            0 => ("decline", false),
            1 => ("decline-later", false),
            2 => ("never", true),
            3..6 => ("later", false),
            _ => ("now", false),
        };
        let path = format!("/up/{how}/{kind}/{count}/{id}");
        self.head("GET", &path, &format!("Connection: upgrade\r\nUpgrade: {PROTOCOL}\r\n"));
        match how {
            "never" => {
                let text = "The switch was not decided in time.\n";
                self.answer(&Response::text(Status::SERVICE_UNAVAILABLE, text), false, is_last);
                self.ramble(random);
            }
            "now" | "later" => self.switched(Kind::ALL[kind], count, said.max(1), id),
            _ => {
                self.answer(&stage::refusal(), false, false);
                self.request(id * 100 + 99, true, random);
            }
        }
    }

    fn switched(&mut self, kind: Kind, count: usize, said: usize, id: u64) {
        let mut bytes = Vec::new();
        write_switching(&mut bytes, PROTOCOL.as_bytes(), None, &Fields::new());
        self.items.push(Item { closing: bytes.clone(), bytes, is_head: false });
        self.bytes.extend_from_slice(&patterned(id, said));
        if kind == Kind::Greet {
            self.stream.extend(GREETING.iter().cycle().take(count));
        }
        let echoed = if kind.is_counted() { count.min(said) } else { said };
        self.stream.extend_from_slice(&patterned(id, echoed));
        self.is_cut = kind.is_cut();
        self.is_detached = kind == Kind::Detach;
        self.is_rude = kind == Kind::Close && said > count;
    }

    /// Something no server may answer but with a refusal.
    fn fault(&mut self, limits: &Limits, random: &mut Random) {
        let fault = match random.index(5) {
            0 => {
                self.bytes.extend_from_slice(b"GET / HTTP/1.1\nHost: a\r\n\r\n");
                HeadError::BareLf
            }
            1 => {
                self.bytes.extend_from_slice(b"\x16\x03\x01\x02\x00 looks like TLS");
                HeadError::MethodNotToken
            }
            2 => {
                let field = format!("Long: {}\r\n", "x".repeat(limits.head_bytes_max));
                self.head("GET", "/", &field);
                HeadError::HeadTooLarge
            }
            3 if limits.head_bytes_max > 6 * limits.fields_max + 100 => {
                self.head("GET", "/", &"A: b\r\n".repeat(limits.fields_max + 1));
                HeadError::FieldsTooMany
            }
            _ => {
                self.head("CONNECT", "elsewhere:443", "");
                let text = "This server is no proxy.\n";
                self.answer(&Response::text(Status::NOT_IMPLEMENTED, text), false, true);
                return self.ramble(random);
            }
        };
        self.answer(&Response::text(fault.status(), format!("{fault}\n")), false, true);
        self.is_rude = true;
        self.ramble(random);
    }

    /// Some clients go on behind what closes.
    fn ramble(&mut self, random: &mut Random) {
        if random.chance(0.5) {
            self.is_rude = true;
            self.bytes.extend_from_slice(&patterned(7, random.index(300)));
        }
    }
}
