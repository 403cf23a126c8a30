//! One connection to a target: what is written, and what comes back, read as answers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Target;
use super::vector::Want;

/// Between two writes of one vector.
const PAUSE: Duration = Duration::from_millis(150);

/// What an answer may hold. More is nothing a linter waits for.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Every byte.
    pub received: Vec<u8>,
    /// The connection was ended, or reset.
    pub is_ended: bool,
    /// The answers among the bytes.
    pub(super) answers: Vec<Answer>,
    /// Bytes behind the last answer that are none.
    pub(super) is_torn: bool,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(at, _)| at == name).map(|(_, value)| &**value)
    }
}

/// How the target answers an ordinary request.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    pub(super) status: u16,
    pub(super) server: String,
}

/// Asks for the target's path as anybody would.
pub(super) fn plain(target: &Target) -> Result<Plain, String> {
    let Target { path, host, .. } = target;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let stream = TcpStream::connect_timeout(&target.address, target.timeout);
    drop(stream.map_err(|error| error.to_string())?);
    let exchange = converse(target, &[request.into_bytes()], Want::Served(1));
    match exchange.answers.iter().find(|answer| answer.status >= 200) {
        Some(answer) if answer.status < 400 => Ok(Plain {
            status: answer.status,
            server: answer.field("server").unwrap_or("unknown").to_owned(),
        }),
        Some(answer) => Err(format!("status {}; --path names another path", answer.status)),
        None => Err("no answer of HTTP came".to_owned()),
    }
}

/// Writes, and reads until all that is wanted has come, the connection ends or the time is up.
pub(super) fn converse(target: &Target, writes: &[Vec<u8>], want: Want) -> Exchange {
    let mut exchange = Exchange::default();
    let Ok(mut stream) = TcpStream::connect_timeout(&target.address, target.timeout) else {
        exchange.is_ended = true;
        return exchange;
    };
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(target.timeout));
    for (number, bytes) in writes.iter().enumerate() {
        if number > 0 {
            read_for(&mut stream, PAUSE, &mut exchange, |_| false);
        }
        // A target that has seen enough may end the connection: what it said is read all the same.
        if stream.write_all(bytes).is_err() {
            break;
        }
    }
    read_for(&mut stream, target.timeout, &mut exchange, |exchange| is_enough(exchange, want));
    exchange.parse();
    exchange
}

/// Whether nothing that comes later could change the verdict, but for a moment's wait.
fn is_enough(exchange: &mut Exchange, want: Want) -> bool {
    exchange.parse();
    let finals = exchange.answers.iter().filter(|answer| answer.status >= 200).count();
    match want {
        Want::Served(count) => finals >= count,
        Want::Switched | Want::Unswitched => {
            finals > 0 || exchange.answers.iter().any(|answer| answer.status == 101)
        }
        Want::Continued | Want::Rejected => finals > 0,
        Want::Refused | Want::Once => false,
    }
}

fn read_for(
    stream: &mut TcpStream,
    time: Duration,
    exchange: &mut Exchange,
    mut is_enough: impl FnMut(&mut Exchange) -> bool,
) {
    let until = Instant::now() + time;
    let mut bytes = [0; 16 * 1024];
    while !exchange.is_ended && !is_enough(exchange) && exchange.received.len() < BYTES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut bytes) {
            Ok(0) => exchange.is_ended = true,
            Ok(count) => exchange.received.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => exchange.is_ended = true,
        }
    }
}

impl Exchange {
    /// Reads the bytes as answers, one after the other.
    fn parse(&mut self) {
        self.answers.clear();
        self.is_torn = false;
        let mut rest = &self.received[..];
        while !rest.is_empty() {
            let Some((answer, head)) = read_answer(rest) else {
                self.is_torn = true;
                return;
            };
            let is_switch = answer.status == 101;
            let Some(content) = content_len(&answer, &rest[head..], self.is_ended) else { return };
            rest = &rest[head + content..];
            self.answers.push(answer);
            if is_switch {
                return;
            }
        }
    }
}

/// One head, and its length.
fn read_answer(bytes: &[u8]) -> Option<(Answer, usize)> {
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut slots);
    let Ok(httparse::Status::Complete(length)) = response.parse(bytes) else { return None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = response.headers.iter();
    let fields = fields.map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
    Some((Answer { status: response.code?, fields }, length))
}

/// Bytes of content behind the head, or `None` if they have not all come.
fn content_len(answer: &Answer, behind: &[u8], is_ended: bool) -> Option<usize> {
    if matches!(answer.status, 100..=199 | 204 | 304) {
        return Some(0);
    }
    let is_chunked = answer.field("transfer-encoding").is_some_and(|at| at.contains("chunked"));
    let length = answer.field("content-length").and_then(|length| length.parse::<usize>().ok());
    match (is_chunked, length) {
        (true, _) => chunked_len(behind),
        (false, Some(length)) => (behind.len() >= length).then_some(length),
        (false, None) => is_ended.then_some(behind.len()),
    }
}

fn chunked_len(bytes: &[u8]) -> Option<usize> {
    let mut decoder = crate::http::Chunked::default();
    let mut at = 0;
    loop {
        use crate::http::ChunkStep::{Data, Done, More, Trailer};
        match decoder.step(&bytes[at..]).ok()? {
            Data { consumed, len } | Trailer { consumed, len } => at += consumed + len,
            More { .. } => return None,
            Done { consumed } => return Some(at + consumed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
                    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
                    HTTP/1.1 204 No\r\n\r\nHTTP/1.0 400 Bad\r\n\r\nto the end";
        let mut exchange =
            Exchange { received: text.into(), is_ended: true, ..Exchange::default() };
        exchange.parse();
        let statuses: Vec<u16> = exchange.answers.iter().map(|answer| answer.status).collect();
        assert_eq!((statuses, exchange.is_torn), (vec![100, 200, 200, 204, 400], false));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let mut exchange = Exchange { received: b"SSH-2.0\r\n".to_vec(), ..Exchange::default() };
        exchange.parse();
        assert!(exchange.is_torn && exchange.answers.is_empty());
    }
}
