//! What came of it, for people and for machines.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::exchange::Exchange;
use super::vector::{Level, Vector};
use super::verdict::Verdict;

/// Bytes of what was sent and received that a person is shown.
const SHOWN_MAX: usize = 300;

/// One vector, judged.
#[derive(Debug, Clone)]
pub struct Result {
    /// What was tried.
    pub vector: Vector,
    /// What it came to.
    pub verdict: Verdict,
    /// The bytes sent; none if it was skipped.
    pub sent: Vec<u8>,
    /// What came back.
    pub exchange: Exchange,
    /// How long that took.
    pub took: Duration,
}

impl Result {
    pub(super) fn skipped(vector: Vector, why: String) -> Result {
        let (sent, took) = (Vec::new(), Duration::ZERO);
        Result { vector, verdict: Verdict::Skip(why), sent, exchange: Exchange::default(), took }
    }

    /// A line of the matrix; below it what was exchanged, unless all is well.
    pub fn text(&self) -> String {
        let Vector { row, title, source, .. } = self.vector;
        let mut text = format!("{:<7} {row:<6} {title}\n", self.verdict.word());
        match &self.verdict {
            Verdict::Pass => {}
            Verdict::Skip(why) => text += &format!("{:15}{why}\n", ""),
            Verdict::Differs(why) | Verdict::Fail(why) => {
                for (name, what) in [
                    ("so", why.clone()),
                    ("see", source.to_owned()),
                    ("sent", shown(&self.sent)),
                    ("got", self.got()),
                ] {
                    // Writing to a string does not fail.
                    let _ = writeln!(text, "{:15}{name:<5} {what}", "");
                }
            }
        }
        text
    }

    fn got(&self) -> String {
        let end = if self.exchange.is_ended { "the end" } else { "nothing more" };
        format!("{} then {end}", shown(&self.exchange.received))
    }

    fn json(&self) -> serde_json::Value {
        let Vector { row, class, source, title, .. } = self.vector;
        serde_json::json!({
            "row": row,
            "level": match self.vector.level {
                Level::Must => "must",
                Level::Should => "should",
                Level::May => "may",
            },
            "class": class,
            "source": source,
            "title": title,
            "verdict": self.verdict.word().to_ascii_lowercase(),
            "why": self.verdict.why(),
            "sent": self.sent.escape_ascii().to_string(),
            "received": self.exchange.received.escape_ascii().to_string(),
            "ended": self.exchange.is_ended,
            "milliseconds": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
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

    /// The line at the end.
    pub fn totals(&self) -> String {
        let counts = ["pass", "differs", "FAIL", "skip"]
            .map(|word| format!("{} {}", self.count(word), word.to_ascii_lowercase()));
        format!("{} ({}): {}\n", self.address, self.server, counts.join(", "))
    }

    /// All of it, as one document: `target`, `server`, `version` of the linter, `totals` by
    /// verdict, and `results`, each with `row`, `level`, `class`, `source`, `title`, `verdict`,
    /// `why`, `sent` and `received` (bytes outside of ASCII escaped as in Rust), `ended` and
    /// `milliseconds`.
    pub fn json(&self) -> String {
        let results: Vec<serde_json::Value> = self.results.iter().map(Result::json).collect();
        let document = serde_json::json!({
            "target": self.address.to_string(),
            "server": self.server,
            "version": env!("CARGO_PKG_VERSION"),
            "totals": {
                "pass": self.count("pass"),
                "differs": self.count("differs"),
                "fail": self.count("FAIL"),
                "skip": self.count("skip"),
            },
            "results": results,
        });
        format!("{document:#}\n")
    }
}

/// Bytes for a person: escaped, and not too many.
fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_MAX)];
    let more = match bytes.len() - cut.len() {
        0 => String::new(),
        more => format!(" ... and {more} more"),
    };
    format!("\"{}\"{more}", cut.escape_ascii())
}
