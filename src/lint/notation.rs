//! The notation of `vectors/`: from text with glyphs and words in braces to the steps of a client.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};

use super::connection::Step;
use super::target::{Target, Upgrade};

/// The key of RFC 6455 §1.3.
pub(super) const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What answers it.
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What `{bomb}` becomes when it is inflated.
const BOMB_BYTES: usize = 16 * 1024 * 1024;

/// Where `‖` stands.
const PAUSE: Duration = Duration::from_millis(150);

/// What the words in braces stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) target: &'a Target,
    /// Where content is taken.
    pub(super) post: &'a str,
    /// What is offered where.
    pub(super) upgrade: Option<&'a Upgrade>,
    /// All waiting is so many times as long.
    pub(super) patience: u32,
}

impl Words<'_> {
    /// A further request, which is answered where the one before has ended.
    pub(super) fn canary(&self) -> String {
        let Target { path, host, .. } = self.target;
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    }

    fn upgrade(&self) -> (&str, &str) {
        self.upgrade.map_or(("", ""), |upgrade| (&upgrade.path, &upgrade.token))
    }

    /// The text of a word, or `None` if it is none.
    pub(super) fn text(&self, word: &str) -> Option<String> {
        let Target { path, host, authority, .. } = self.target;
        let (upgrade, token) = self.upgrade();
        let get = format!("GET {upgrade} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n");
        let handshake = match token.eq_ignore_ascii_case("websocket") {
            true => format!("Sec-WebSocket-Version: 13\r\n{KEY}"),
            false => String::new(),
        };
        Some(match word {
            "path" => path.clone(),
            "post" => self.post.to_owned(),
            "host" => host.clone(),
            "authority" => authority.clone(),
            "upgrade" => upgrade.to_owned(),
            "token" => token.to_owned(),
            "key" => KEY.to_owned(),
            "accept" => ACCEPT.to_owned(),
            "handshake" => handshake,
            "get" => format!("{get}Upgrade: {token}\r\n"),
            "offer" => format!("{get}Upgrade: {token}\r\n{handshake}"),
            "canary" => self.canary(),
            _ => return None,
        })
    }

    /// What a client does that sends `text`.
    pub(super) fn steps(&self, text: &str) -> Vec<Step> {
        let mut steps = Steps { done: Vec::new(), bytes: Vec::new(), is_dripping: false };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let behind = &rest[first.len_utf8()..];
            rest = match (first, first_of(behind, first)) {
                ('{', Some((word, behind))) => {
                    self.word(word, &mut steps);
                    behind
                }
                ('<', Some((hex, behind))) => {
                    steps.bytes.extend(bytes_of_hex(hex));
                    behind
                }
                ('‖', _) => {
                    steps.then(Step::Pause(PAUSE * self.patience));
                    behind
                }
                _ => {
                    push_glyph(first, &mut steps.bytes);
                    behind
                }
            };
        }
        steps.flush();
        steps.done
    }

    fn word(&self, word: &str, steps: &mut Steps) {
        let millis = |text: &str| {
            let millis = text.parse().unwrap_or_else(|_| unreachable!("no number in {{{word}}}"));
            Duration::from_millis(millis) * self.patience
        };
        match word.split_once(' ') {
            Some(("wait", time)) => return steps.then(Step::Pause(millis(time))),
            Some(("deaf", time)) => return steps.then(Step::Deaf(millis(time))),
            _ => {}
        }
        match word {
            "await" => steps.then(Step::Await),
            "switched" => steps.then(Step::AwaitSwitch),
            "fin" => steps.then(Step::Fin),
            "idle" => steps.then(Step::Pause(self.target.timeout * 3)),
            "drip" => {
                steps.flush();
                steps.is_dripping = true;
            }
            "switch" => {
                steps.bytes.extend(self.text("offer").unwrap_or_default().bytes());
                steps.bytes.extend_from_slice(b"\r\n");
                steps.then(Step::AwaitSwitch);
            }
            _ => steps.bytes.extend(self.bytes_of(word)),
        }
    }

    fn bytes_of(&self, word: &str) -> Vec<u8> {
        if let Some((what, times)) = word.rsplit_once('*') {
            let times = times.parse().unwrap_or_else(|_| unreachable!("no number in {word}"));
            let mut bytes = Vec::new();
            what.chars().for_each(|glyph| push_glyph(glyph, &mut bytes));
            return bytes.repeat(times);
        }
        if word == "bomb" {
            return bomb();
        }
        let text = self.text(word);
        text.unwrap_or_else(|| unreachable!("no such word in vectors: {word}")).into_bytes()
    }

    /// Text without steps: what a pattern compares with.
    pub(super) fn bytes(&self, text: &str) -> Vec<u8> {
        let steps = self.steps(text).into_iter();
        let bytes = steps.map(|step| match step {
            Step::Write(bytes) => bytes,
            _ => unreachable!("a step in a pattern: {text}"),
        });
        bytes.flatten().collect()
    }
}

/// A compressed binary message of zeros (RFC 7692 §7.2.1), a thousandth of what it becomes.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; BOMB_BYTES];
    let mut payload = Vec::with_capacity(BOMB_BYTES / 100);
    let compressed = Compress::new(Compression::best(), false).compress_vec(
        &zeros,
        &mut payload,
        FlushCompress::Sync,
    );
    debug_assert!(compressed.is_ok() && payload.ends_with(&[0, 0, 0xff, 0xff]));
    payload.truncate(payload.len().saturating_sub(4));
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    [&[0xc2, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4], &payload].concat()
}

/// Up to the bracket that closes `open`, and what stands behind.
fn first_of(text: &str, open: char) -> Option<(&str, &str)> {
    match open {
        '{' => text.split_once('}'),
        '<' => text.split_once('>'),
        _ => None,
    }
}

fn push_glyph(glyph: char, bytes: &mut Vec<u8>) {
    match glyph {
        '⏎' => bytes.extend_from_slice(b"\r\n"),
        '␊' => bytes.push(b'\n'),
        '␍' => bytes.push(b'\r'),
        '␀' => bytes.push(0),
        '␁' => bytes.push(1),
        '␉' => bytes.push(b'\t'),
        '␋' => bytes.push(0x0b),
        '␠' => bytes.push(b' '),
        '␡' => bytes.push(0x7f),
        other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| u8::try_from(digit).expect("a digit is below 16"))
        .collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect()
}

struct Steps {
    done: Vec<Step>,
    bytes: Vec<u8>,
    /// What comes up to the next step is written byte by byte.
    is_dripping: bool,
}

impl Steps {
    fn then(&mut self, step: Step) {
        self.flush();
        self.done.push(step);
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            self.done.push(match std::mem::take(&mut self.is_dripping) {
                true => Step::Drip(bytes),
                false => Step::Write(bytes),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bomb_is_one_frame() {
        let bomb = bomb();
        let length = usize::from(u16::from_be_bytes([bomb[2], bomb[3]]));
        assert!((10_000..60_000).contains(&length) && bomb.len() == 8 + length, "{length}");
    }

    #[test]
    fn the_notation_is_steps() {
        let target = Target::new(([127, 0, 0, 1], 1).into());
        let upgrade = Upgrade { path: "/e".into(), token: "echo".into() };
        let words = Words { target: &target, post: "/p", upgrade: Some(&upgrade), patience: 2 };
        let write = |text: &str| Step::Write(text.as_bytes().to_vec());
        assert_eq!(words.bytes("A {path}⏎␊␍␀␁␉␋␠␡{ab*2}"), b"A /\r\n\n\r\0\x01\t\x0b \x7fabab");
        assert_eq!(words.bytes("<81 02 c3>é{post}"), b"\x81\x02\xc3\xc3\xa9/p");
        assert_eq!(
            words.steps("a‖b{fin}{drip}cd{await}e{deaf 5}{wait 7}"),
            [
                write("a"),
                Step::Pause(PAUSE * 2),
                write("b"),
                Step::Fin,
                Step::Drip(b"cd".to_vec()),
                Step::Await,
                write("e"),
                Step::Deaf(Duration::from_millis(10)),
                Step::Pause(Duration::from_millis(14)),
            ]
        );
        let head =
            "GET /e HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        assert_eq!(words.steps("{switch}x"), [write(head), Step::AwaitSwitch, write("x")]);
    }
}
