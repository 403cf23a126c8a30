//! The vectors as data: read from `vectors.txt`, which is part of the program.

use super::Target;

const VECTORS: &str = include_str!("vectors.txt");

/// The key of RFC 6455 §1.3.
pub(super) const HANDSHAKE: &str =
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// How much a standard wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It says MUST: another behaviour is a failure.
    Must,
    /// It says SHOULD.
    Should,
    /// It allows several ways, and this one is the safest.
    May,
}

/// What must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A refusal, or silence, and the end of the connection.
    Refused,
    /// A refusal, or the end of the connection; what comes behind is another matter.
    Rejected,
    /// So many answers to requests, none of them a switch.
    Served(usize),
    /// One answer, and the end.
    Once,
    /// 100, and then an answer.
    Continued,
    /// 101.
    Switched,
    /// A final answer.
    Unswitched,
}

/// What has to be known of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// A path that reads content.
    Post,
    /// A path that switches.
    Upgrade,
    /// A path that switches to `websocket`.
    Websocket,
}

/// One conversation.
#[derive(Debug, Clone, Copy)]
pub struct Vector {
    /// The requirement it shows.
    pub row: &'static str,
    /// How much it is required.
    pub level: Level,
    /// What it is about, in a word.
    pub class: &'static str,
    /// The sections of standards, or the class of attack.
    pub source: &'static str,
    /// What a server does.
    pub title: &'static str,
    pub(super) needs: Needs,
    pub(super) want: Want,
    send: &'static str,
}

/// All of them, in the order of the file.
///
/// # Panics
/// If the file is not in its own notation: a test reads it.
pub fn vectors() -> Vec<Vector> {
    let entries = VECTORS.split("\n\n").filter(|entry| entry.starts_with("vector "));
    entries.map(read).collect()
}

fn read(entry: &'static str) -> Vector {
    let mut vector = Vector {
        row: "",
        level: Level::Must,
        class: "",
        source: "",
        title: "",
        needs: Needs::Nothing,
        want: Want::Refused,
        send: "",
    };
    for line in entry.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match name {
            "vector" => {
                let mut words = rest.split(' ');
                vector.row = words.next().unwrap_or_default();
                vector.level = level(words.next());
                vector.class = words.next().unwrap_or_default();
            }
            "source" => vector.source = rest,
            "title" => vector.title = rest,
            "needs" => vector.needs = needs(rest),
            "send" => vector.send = rest,
            "want" => vector.want = want(rest),
            _ => unreachable!("no such line in vectors.txt: {line}"),
        }
    }
    vector
}

fn level(word: Option<&str>) -> Level {
    match word {
        Some("must") => Level::Must,
        Some("should") => Level::Should,
        Some("may") => Level::May,
        _ => unreachable!("no such level in vectors.txt: {word:?}"),
    }
}

fn needs(word: &str) -> Needs {
    match word {
        "post" => Needs::Post,
        "upgrade" => Needs::Upgrade,
        "websocket" => Needs::Websocket,
        _ => unreachable!("no such need in vectors.txt: {word}"),
    }
}

fn want(text: &str) -> Want {
    match text {
        "refused" => Want::Refused,
        "rejected" => Want::Rejected,
        "once" => Want::Once,
        "continued" => Want::Continued,
        "switched" => Want::Switched,
        "unswitched" => Want::Unswitched,
        "served 1" => Want::Served(1),
        "served 2" => Want::Served(2),
        "served 3" => Want::Served(3),
        _ => unreachable!("no such want in vectors.txt: {text}"),
    }
}

impl Needs {
    /// The options that say it.
    pub(super) fn option(self) -> &'static str {
        match self {
            Needs::Nothing => "nothing",
            Needs::Post => "--post-path",
            Needs::Upgrade => "--upgrade-path and --token",
            Needs::Websocket => "--upgrade-path of a websocket",
        }
    }

    fn is_met(self, target: &Target) -> bool {
        match self {
            Needs::Nothing => true,
            Needs::Post => target.post_path.is_some(),
            Needs::Upgrade => target.upgrade_path.is_some(),
            Needs::Websocket => target.upgrade_path.is_some() && target.is_websocket(),
        }
    }
}

impl Vector {
    /// What is written to `target`, a pause between each two; `None` if too little is known of it.
    pub(super) fn writes(&self, target: &Target) -> Option<Vec<Vec<u8>>> {
        if !self.needs.is_met(target) {
            return None;
        }
        Some(self.send.split('‖').map(|part| expand(part, target)).collect())
    }
}

fn expand(text: &str, target: &Target) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '{'
            && let Some((name, behind)) = rest[1..].split_once('}')
        {
            bytes.extend_from_slice(&macro_bytes(name, target));
            rest = behind;
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '⏎' => bytes.extend_from_slice(b"\r\n"),
            '␊' => bytes.push(b'\n'),
            '␍' => bytes.push(b'\r'),
            '␀' => bytes.push(0),
            '␉' => bytes.push(b'\t'),
            '␋' => bytes.push(0x0b),
            '␠' => bytes.push(b' '),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn macro_bytes(name: &str, target: &Target) -> Vec<u8> {
    let Target { path, host, token, .. } = target;
    if let Some((what, times)) = name.split_once('*') {
        let times = times.parse().unwrap_or_else(|_| unreachable!("no number in {name}"));
        return what.repeat(times).into_bytes();
    }
    match name {
        "path" => path.clone(),
        "post" => target.post_path.clone().unwrap_or_else(|| path.clone()),
        "upgrade" => target.upgrade_path.clone().unwrap_or_default(),
        "host" => host.clone(),
        "token" => token.clone(),
        "handshake" if target.is_websocket() => HANDSHAKE.to_owned(),
        "handshake" => String::new(),
        "canary" => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        _ => unreachable!("no such word in vectors.txt: {name}"),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_says_what_it_is_about() {
        let target = Target {
            post_path: Some("/post".into()),
            upgrade_path: Some("/up".into()),
            ..Target::new(([127, 0, 0, 1], 1).into())
        };
        let all = vectors();
        assert!(all.len() > 60, "{}", all.len());
        for vector in all {
            assert!(vector.row.starts_with("U-") && !vector.class.is_empty(), "{vector:?}");
            assert!(vector.source.contains("RFC ") && vector.title.ends_with('.'), "{vector:?}");
            let writes = vector.writes(&target).expect("all is known of it");
            let text = String::from_utf8_lossy(&writes.concat()).into_owned();
            assert!(!text.contains(['⏎', '{', '}', '␠']), "{text}");
        }
    }

    #[test]
    fn the_notation_is_bytes() {
        let target = Target::new(([127, 0, 0, 1], 1).into());
        assert_eq!(expand("A {path}⏎␊␍␀␉␋␠{ab*2}", &target), b"A /\r\n\n\r\0\t\x0b abab");
    }
}
