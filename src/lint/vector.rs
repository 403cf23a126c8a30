//! The vectors as data: read from `vectors/`, which is part of the program. `vectors.txt` explains how
//! they are written, and holds the judgments that many of them share.

use super::rule::{Outcome, Rule};

const SHARED: &str = include_str!("vectors.txt");

/// In the order of sending.
const VECTORS: [&str; 7] = [
    include_str!("vectors/handshake.txt"),
    include_str!("vectors/frames.txt"),
    include_str!("vectors/deflate.txt"),
    include_str!("vectors/upgrade.txt"),
    include_str!("vectors/smuggling.txt"),
    include_str!("vectors/head.txt"),
    include_str!("vectors/connection.txt"),
];

/// How much a standard wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It says MUST: another behaviour is a failure.
    Must,
    /// It says SHOULD.
    Should,
    /// It allows several ways, and this one is the safest.
    May,
    /// No standard speaks of it: it is what this project wants.
    Policy,
}

impl Level {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::May => "may",
            Level::Policy => "policy",
        }
    }
}

/// What has to be so of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A path that takes content.
    Post,
    /// And takes it in chunks.
    Chunked,
    /// A path that is said to switch to `websocket`.
    WebsocketPath,
    /// And does.
    Websocket,
    /// And sends messages back.
    Messages,
    /// And agrees to permessage-deflate.
    Deflate,
    /// A path that switches, to whatever protocol.
    Upgrade,
    /// A protocol other than `websocket` that sends bytes back.
    Echo,
}

/// One conversation, and how it is judged.
#[derive(Debug, Clone)]
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
    pub(super) needs: Vec<Need>,
    pub(super) send: &'static str,
    pub(super) rules: Vec<Rule>,
}

/// All of them, in the order of sending.
///
/// # Panics
/// If a file is not in its own notation: a test reads them.
pub fn vectors() -> Vec<Vector> {
    let entries = VECTORS.iter().flat_map(|text| text.split("\n\n"));
    entries.filter(|entry| entry.starts_with("vector ")).map(read).collect()
}

fn read(entry: &'static str) -> Vector {
    let mut vector = Vector {
        row: "",
        level: Level::Must,
        class: "",
        source: "",
        title: "",
        needs: Vec::new(),
        send: "",
        rules: Vec::new(),
    };
    for (name, rest) in entry.lines().filter(|line| !line.starts_with('#')).map(split) {
        match name {
            "vector" => {
                let mut words = rest.split(' ');
                vector.row = words.next().unwrap_or_default();
                vector.level = level(words.next().unwrap_or_default());
                vector.class = words.next().unwrap_or_default();
            }
            "source" => vector.source = rest,
            "title" => vector.title = rest,
            "needs" => vector.needs = rest.split(' ').map(need).collect(),
            "send" => vector.send = rest,
            _ => vector.rules.extend(rules(name, rest)),
        }
    }
    vector
}

fn split(line: &'static str) -> (&'static str, &'static str) {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    (name, rest.trim())
}

/// Of one line: a rule, or those of a shared judgment.
fn rules(name: &'static str, rest: &'static str) -> Vec<Rule> {
    let outcome = match name {
        "pass" => Outcome::Pass,
        "differs" => Outcome::Differs,
        "unclear" => Outcome::Unclear,
        "fail" => Outcome::Fail,
        "judge" => return shared(rest),
        _ => unreachable!("no such line in vectors: {name} {rest}"),
    };
    vec![Rule::read(outcome, rest)]
}

/// The rules of the judgment `name`.
fn shared(name: &str) -> Vec<Rule> {
    let mut entries = SHARED.split("\n\n").filter_map(|entry| entry.strip_prefix("judgment "));
    let entry = entries.find_map(|entry| {
        let (at, rules) = entry.split_once('\n')?;
        (at.trim() == name).then_some(rules)
    });
    let entry = entry.unwrap_or_else(|| unreachable!("no such judgment: {name}"));
    entry.lines().map(split).flat_map(|(name, rest)| rules(name, rest)).collect()
}

fn level(word: &str) -> Level {
    let all = [Level::Must, Level::Should, Level::May, Level::Policy];
    let level = all.into_iter().find(|level| level.word() == word);
    level.unwrap_or_else(|| unreachable!("no such level in vectors: {word}"))
}

fn need(word: &str) -> Need {
    match word {
        "post" => Need::Post,
        "chunked" => Need::Chunked,
        "websocket-path" => Need::WebsocketPath,
        "websocket" => Need::Websocket,
        "messages" => Need::Messages,
        "deflate" => Need::Deflate,
        "upgrade" => Need::Upgrade,
        "echo" => Need::Echo,
        _ => unreachable!("no such need in vectors: {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::notation::Words;
    use crate::lint::target::{Target, Upgrade};

    #[test]
    fn every_vector_says_what_it_is_about_and_can_be_sent() {
        let target = Target::new(([127, 0, 0, 1], 1).into());
        let upgrade = Upgrade { path: "/up".into(), token: "websocket".into() };
        let words = Words { target: &target, post: "/p", upgrade: Some(&upgrade), patience: 1 };
        let all = vectors();
        assert!(all.len() > 200, "{}", all.len());
        for vector in all {
            let told = format!("{} {}", vector.row, vector.title);
            assert!(vector.row.starts_with("U-") && !vector.class.is_empty(), "{told}");
            assert!(vector.source.contains("RFC "), "{told}");
            assert!(vector.title.ends_with('.'), "{told}");
            assert!(!words.steps(vector.send).is_empty(), "{told}");
            assert!(vector.rules.iter().all(Rule::is_explained), "{told}");
        }
    }

    #[test]
    fn only_what_a_standard_demands_can_fail() {
        let all = vectors().into_iter();
        let wrong: Vec<Vector> = all
            .filter(|vector| {
                vector.rules.iter().any(Rule::is_fail) != (vector.level == Level::Must)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn no_two_vectors_are_alike() {
        let all = vectors();
        for (at, vector) in all.iter().enumerate() {
            let twin = all[..at].iter().find(|other| other.title == vector.title);
            assert!(twin.is_none(), "{} {}", vector.row, vector.title);
        }
    }
}
