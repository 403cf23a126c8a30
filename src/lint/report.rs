//! What came of it, for people and for machines.

use std::net::SocketAddr;

use super::answers::{End, Event};
use super::connection::Exchange;
use super::frames::{Frame, Kind};
use super::vector::Vector;
use super::verdict::Verdict;

/// Characters of what was sent that a person is shown, at the beginning and at the end.
const SHOWN: (usize, usize) = (60, 100);

/// Bytes of one frame, or of another protocol, that a person is shown.
const PAYLOAD_SHOWN_MAX: usize = 24;

/// A byte that is repeated so often is shown once.
const RUN_MIN: usize = 16;

/// One vector, judged.
#[derive(Debug, Clone)]
pub struct Result {
    /// What was tried.
    pub vector: Vector,
    /// What it came to.
    pub verdict: Verdict,
    /// What was said; nothing if it was skipped.
    pub exchange: Exchange,
    /// What stands for the further request in what is shown.
    pub(super) canary: String,
}

impl Result {
    pub(super) fn skipped(vector: Vector, why: String) -> Result {
        let exchange = Exchange::default();
        Result { vector, verdict: Verdict::Skip(why), exchange, canary: String::new() }
    }

    /// A line of the matrix, and below it why, unless all is well.
    pub fn text(&self) -> String {
        let Vector { row, title, source, class, .. } = &self.vector;
        let word = self.verdict.word();
        let mut text = format!("{word:<7} {row:<5} | {source} ({class}) | {title}");
        if !self.exchange.sent.is_empty() {
            text += &format!(" | sent {} | got {}", self.sent(), self.got());
        }
        text.push('\n');
        if !self.verdict.why().is_empty() {
            text += &format!("{:15}so: {}\n", "", self.verdict.why());
        }
        text
    }

    /// What was sent, escaped and shortened.
    pub fn sent(&self) -> String {
        let text = escaped(&self.exchange.sent);
        let canary = escaped(self.canary.as_bytes());
        let text = match text.split_at_checked(1) {
            // What a vector begins with is its own request.
            Some((first, rest)) if !canary.is_empty() => {
                format!("{first}{}", rest.replace(&canary, "[canary]"))
            }
            _ => text,
        };
        let count = text.chars().count();
        if count <= SHOWN.0 + SHOWN.1 {
            return format!("\"{text}\"");
        }
        let beginning: String = text.chars().take(SHOWN.0).collect();
        let end: String = text.chars().skip(count - SHOWN.1).collect();
        format!("\"{beginning} ... {end}\"")
    }

    /// What came back: statuses, frames, and how it ended, if that was waited for.
    pub fn got(&self) -> String {
        let words: Vec<String> = self.exchange.events.iter().map(event_text).collect();
        match words.is_empty() {
            true => "nothing".into(),
            false => words.join(", "),
        }
    }

    fn json(&self) -> serde_json::Value {
        let Vector { row, class, source, title, level, .. } = &self.vector;
        let is_ended = matches!(self.exchange.end(), Some(End::Closed | End::Reset));
        serde_json::json!({
            "row": row,
            "level": level.word(),
            "class": class,
            "source": source,
            "title": title,
            "verdict": self.verdict.word().to_ascii_lowercase(),
            "why": self.verdict.why(),
            "sent": self.exchange.sent.escape_ascii().to_string(),
            "sent_shortened": self.sent(),
            "received": self.exchange.received.escape_ascii().to_string(),
            "got": self.got(),
            "ended": is_ended,
            "milliseconds": u64::try_from(self.exchange.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Everything that was tried on one server.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it calls itself.
    pub server: String,
    /// In the order of sending.
    pub results: Vec<Result>,
    /// Why the run ended before all was sent: the target died.
    pub death: Option<String>,
}

impl Report {
    /// Results with this verdict.
    pub fn count(&self, word: &str) -> usize {
        self.results.iter().filter(|result| result.verdict.word() == word).count()
    }

    /// Whether nothing is there that a standard forbids.
    pub fn is_clean(&self) -> bool {
        self.count("FAIL") == 0
    }

    /// Why nothing was tried, each reason once; nothing if something was.
    pub fn untried(&self) -> Option<String> {
        if self.count("skip") < self.results.len() {
            return None;
        }
        let mut reasons: Vec<&str> = Vec::new();
        for why in self.results.iter().map(|result| result.verdict.why()) {
            if !reasons.contains(&why) {
                reasons.push(why);
            }
        }
        Some(reasons.join("; "))
    }

    /// The line at the end.
    pub fn totals(&self) -> String {
        let words = Verdict::WORDS.iter().filter(|word| **word != "DIED");
        let counts: Vec<String> = words
            .map(|word| format!("{} {}", self.count(word), word.to_ascii_lowercase()))
            .collect();
        format!("{} ({}): {}\n", self.address, self.server, counts.join(", "))
    }

    /// All of it, as one document: `target`, `server`, `version` of the linter, `totals` by
    /// verdict, `death` (or null), and `results`, each with `row`, `level`, `class`, `source`,
    /// `title`, `verdict`, `why`, `sent` and `received` (bytes outside of ASCII escaped as in Rust),
    /// both shortened as `sent_shortened` and `got`, `ended` and `milliseconds`.
    pub fn json(&self) -> String {
        let results: Vec<serde_json::Value> = self.results.iter().map(Result::json).collect();
        let totals: serde_json::Map<String, serde_json::Value> = Verdict::WORDS
            .iter()
            .map(|word| (word.to_ascii_lowercase(), self.count(word).into()))
            .collect();
        let document = serde_json::json!({
            "target": self.address.to_string(),
            "server": self.server,
            "version": env!("CARGO_PKG_VERSION"),
            "totals": totals,
            "death": self.death,
            "results": results,
        });
        format!("{document:#}\n")
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Answer(answer) => answer.status.to_string(),
        Event::Frame(frame) => frame_text(frame),
        Event::Bytes(bytes) => format!("bytes {}", payload(bytes)),
        Event::Junk(what) => what.clone(),
        Event::End(End::Closed) => "end".into(),
        Event::End(End::Reset) => "reset".into(),
        Event::End(End::Open) => "nothing more".into(),
        Event::End(End::Flooded) => "a flood".into(),
    }
}

fn frame_text(frame: &Frame) -> String {
    match (frame.kind, frame.code()) {
        (Kind::Close, Some(code)) => format!("close {code}"),
        (Kind::Close, None) => "close".into(),
        (Kind::Text, _) => format!("text {}", payload(&frame.payload)),
        (Kind::Binary, _) => format!("binary {}", payload(&frame.payload)),
        (Kind::Ping, _) => format!("ping {}", payload(&frame.payload)),
        (Kind::Pong, _) => format!("pong {}", payload(&frame.payload)),
    }
}

fn payload(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(PAYLOAD_SHOWN_MAX)];
    match bytes.len() - cut.len() {
        0 => format!("\"{}\"", cut.escape_ascii()),
        more => format!("\"{}\" and {more} more", cut.escape_ascii()),
    }
}

/// Bytes as text: escaped, long runs of one byte as `a*70000`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        match run.len() {
            length if length < RUN_MIN => text += &run.escape_ascii().to_string(),
            length => text += &format!("{{{}*{length}}}", run[..1].escape_ascii()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_shown_short_and_whole() {
        let bytes = [b"GET /\r\n\0".as_slice(), &[b'a'; 70_000], b"bb"].concat();
        assert_eq!(escaped(&bytes), "GET /\\r\\n\\x00{a*70000}bb");
    }
}
