//! The rules by which an exchange is judged: a verdict, a pattern of what came back, and why. The first
//! rule that matches decides, and it decides as soon as nothing that comes later could change it.

use super::answers::{Answer, End, Event};
use super::frames::{Frame, Kind};
use super::notation::Words;
use super::verdict::Verdict;

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    outcome: Outcome,
    /// Only for a target that accepts CONNECT.
    is_for_proxies: bool,
    pattern: Vec<Element>,
    why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Differs,
    Unclear,
    Fail,
}

/// One thing that has to come, behind those before it.
#[derive(Debug, Clone)]
enum Element {
    /// Interim answers before it are passed over, unless it is one.
    Answer {
        statuses: Vec<Status>,
        stage: Option<usize>,
        conditions: Vec<Condition>,
    },
    /// Other frames before it are passed over; a Close ends the search.
    Frame {
        kind: Kind,
        payload: Option<&'static str>,
        codes: Vec<u16>,
    },
    /// Among the bytes of another protocol.
    Bytes(&'static str),
    Junk,
    End(&'static [End]),
}

#[derive(Debug, Clone, Copy)]
enum Status {
    Is(u16),
    Within(u16, u16),
    /// As a plain GET is answered.
    Plain,
}

/// What has to be so of an answer's fields.
#[derive(Debug, Clone)]
struct Condition {
    name: &'static str,
    is_wanted: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    Lists(&'static str),
    Is(&'static str),
    Contains(&'static str),
}

/// Whether a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// Whatever comes now.
    Yes,
    No,
    /// More has to come.
    Maybe,
}

/// What is known of the target where rules ask for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) words: Words<'a>,
    pub(super) plain_status: u16,
    pub(super) is_proxy: bool,
}

/// The verdict of the first rule that matches, or `None` if that is still open.
pub(super) fn decide(rules: &[Rule], events: &[Event], known: &Known<'_>) -> Option<Verdict> {
    if events.iter().any(|event| matches!(event, Event::Frame(frame) if frame.is_masked)) {
        return Some(Verdict::Fail("a frame of the server is masked (RFC 6455 §5.1)".into()));
    }
    if events.last() == Some(&Event::End(End::Flooded)) {
        return Some(Verdict::Unclear(
            "more came than is read: --path names a smaller page".into(),
        ));
    }
    let can_fail = rules.iter().any(Rule::is_fail);
    let rules = rules.iter().filter(|rule| !rule.is_for_proxies || known.is_proxy);
    for rule in rules {
        match matches(&rule.pattern, events, known) {
            Match::No => {}
            Match::Maybe => return None,
            Match::Yes => return Some(rule.verdict()),
        }
    }
    Some(match events.iter().find_map(junk) {
        // Something is demanded, and it is not that either.
        Some(what) if can_fail => Verdict::Fail(format!("what came back is {what}")),
        Some(what) => Verdict::Unclear(format!("what came back is {what}")),
        None => Verdict::Unclear("what came back is not foreseen".into()),
    })
}

fn junk(event: &Event) -> Option<&str> {
    match event {
        Event::Junk(what) => Some(what),
        _ => None,
    }
}

impl Rule {
    fn verdict(&self) -> Verdict {
        let why = self.why.to_owned();
        match self.outcome {
            Outcome::Pass => Verdict::Pass,
            Outcome::Differs => Verdict::Differs(why),
            Outcome::Unclear => Verdict::Unclear(why),
            Outcome::Fail => Verdict::Fail(why),
        }
    }

    pub(super) fn is_fail(&self) -> bool {
        self.outcome == Outcome::Fail
    }

    /// Whether it says why, as all but a pass must.
    #[cfg(test)]
    pub(super) fn is_explained(&self) -> bool {
        self.outcome == Outcome::Pass || !self.why.is_empty()
    }

    /// Reads `[if proxy] PATTERN [: WHY]`.
    pub(super) fn read(outcome: Outcome, text: &'static str) -> Rule {
        let text = text.trim();
        let (pattern, why) = match text.strip_prefix(": ") {
            Some(why) => ("", why),
            None => text.split_once(" : ").unwrap_or((text, "")),
        };
        let (is_for_proxies, pattern) = match pattern.trim().strip_prefix("if proxy") {
            Some(pattern) => (true, pattern),
            None => (false, pattern),
        };
        let pattern = pattern.split_whitespace().map(Element::read).collect();
        Rule { outcome, is_for_proxies, pattern, why: why.trim() }
    }
}

fn matches(pattern: &[Element], events: &[Event], known: &Known<'_>) -> Match {
    let mut at = 0;
    for element in pattern {
        loop {
            let Some(event) = events.get(at) else {
                let is_over = matches!(events.last(), Some(Event::End(_)));
                return if is_over { Match::No } else { Match::Maybe };
            };
            match element.meets(event, known) {
                Meeting::Is => break,
                Meeting::PassOver => at += 1,
                Meeting::IsNot => return Match::No,
                Meeting::NotYet => {
                    let is_last = at + 1 == events.len();
                    return if is_last { Match::Maybe } else { Match::No };
                }
            }
        }
        // Bytes of another protocol are one event: what is searched for may be in them again.
        at += usize::from(!matches!(element, Element::Bytes(_)));
    }
    Match::Yes
}

/// What an event is to an element.
enum Meeting {
    Is,
    PassOver,
    IsNot,
    /// It may become it.
    NotYet,
}

impl Element {
    fn meets(&self, event: &Event, known: &Known<'_>) -> Meeting {
        match (self, event) {
            (Element::Answer { .. }, Event::Answer(answer)) => self.is_answer(answer, known),
            (Element::Frame { .. }, Event::Frame(frame)) => self.is_frame(frame, known),
            (Element::Bytes(needle), Event::Bytes(bytes)) => {
                let needle = known.words.bytes(needle);
                let is_there = bytes.windows(needle.len()).any(|window| window == needle);
                if is_there { Meeting::Is } else { Meeting::NotYet }
            }
            (Element::Junk, Event::Junk(_)) => Meeting::Is,
            (Element::End(ends), Event::End(end)) if ends.contains(end) => Meeting::Is,
            (Element::End(_) | Element::Junk, Event::Frame(_) | Event::Bytes(_)) => {
                Meeting::PassOver
            }
            (_, Event::Answer(answer)) if !answer.is_final() && answer.status != 101 => {
                Meeting::PassOver
            }
            _ => Meeting::IsNot,
        }
    }

    fn is_answer(&self, answer: &Answer, known: &Known<'_>) -> Meeting {
        let Element::Answer { statuses, stage, conditions } = self else { return Meeting::IsNot };
        let is_status = statuses.iter().any(|status| match *status {
            Status::Is(status) => answer.status == status,
            Status::Within(from, to) => (from..to).contains(&answer.status),
            Status::Plain => answer.status == known.plain_status,
        });
        let is_in_time = stage.is_none_or(|stage| answer.stage <= stage);
        let is_it = is_status
            && is_in_time
            && conditions.iter().all(|condition| condition.is_met(answer, known));
        match is_it {
            true => Meeting::Is,
            false if !answer.is_final() && answer.status != 101 => Meeting::PassOver,
            false => Meeting::IsNot,
        }
    }

    fn is_frame(&self, frame: &Frame, known: &Known<'_>) -> Meeting {
        let Element::Frame { kind, payload, codes } = self else { return Meeting::IsNot };
        let is_it = frame.kind == *kind
            && payload.is_none_or(|text| frame.payload == known.words.bytes(text))
            && (codes.is_empty() || frame.code().is_some_and(|code| codes.contains(&code)));
        match (is_it, frame.kind) {
            (true, _) => Meeting::Is,
            // RFC 6455 §5.5.1: nothing that is waited for follows a Close.
            (false, Kind::Close) => Meeting::IsNot,
            (false, _) => Meeting::PassOver,
        }
    }

    /// Reads one word of a pattern.
    fn read(word: &'static str) -> Element {
        match word {
            "junk" => return Element::Junk,
            "end" => return Element::End(&[End::Closed, End::Reset]),
            "reset" => return Element::End(&[End::Reset]),
            "open" => return Element::End(&[End::Open]),
            _ => {}
        }
        if let Some((name, text)) = word.split_once('"') {
            let text = text.strip_suffix('"').unwrap_or_else(|| unreachable!("no end: {word}"));
            return match name {
                "bytes" => Element::Bytes(text),
                _ => frame(name, Some(text)),
            };
        }
        if word.starts_with(|first: char| first.is_ascii_digit())
            || ["ok", "bad", "final", "plain"].iter().any(|name| word.starts_with(name))
        {
            return read_answer(word);
        }
        frame(word, None)
    }
}

/// `close`, `close:1002|1007`, `pong"hi"`.
fn frame(word: &'static str, payload: Option<&'static str>) -> Element {
    let (name, codes) = word.split_once(':').unwrap_or((word, ""));
    let kind = match name {
        "text" => Kind::Text,
        "binary" => Kind::Binary,
        "close" => Kind::Close,
        "ping" => Kind::Ping,
        "pong" => Kind::Pong,
        _ => unreachable!("no such element in vectors: {word}"),
    };
    Element::Frame { kind, payload, codes: codes.split('|').flat_map(str::parse).collect() }
}

/// `400|501(allow,!upgrade)@1`.
fn read_answer(word: &'static str) -> Element {
    let (word, stage) = match word.rsplit_once('@') {
        Some((word, stage)) => (word, stage.parse().ok()),
        None => (word, None),
    };
    let (statuses, conditions) = match word.split_once('(') {
        Some((statuses, conditions)) => (statuses, conditions.strip_suffix(')')),
        None => (word, Some("")),
    };
    let conditions = conditions.unwrap_or_else(|| unreachable!("no end: {word}"));
    let conditions = conditions.split(',').filter(|condition| !condition.is_empty());
    Element::Answer {
        statuses: statuses.split('|').map(read_status).collect(),
        stage,
        conditions: conditions.map(Condition::read).collect(),
    }
}

fn read_status(word: &str) -> Status {
    match word {
        "plain" => Status::Plain,
        "ok" => Status::Within(200, 400),
        "bad" => Status::Within(400, 600),
        "final" => Status::Within(200, 600),
        "2xx" => Status::Within(200, 300),
        "4xx" => Status::Within(400, 500),
        "5xx" => Status::Within(500, 600),
        _ => Status::Is(word.parse().unwrap_or_else(|_| unreachable!("no status: {word}"))),
    }
}

impl Condition {
    /// `name`, `!name`, `name:member`, `name=value`, `name~part`.
    fn read(text: &'static str) -> Condition {
        let (is_wanted, text) = match text.strip_prefix('!') {
            Some(text) => (false, text),
            None => (true, text),
        };
        let (name, test) = match text.find([':', '=', '~']).map(|at| text.split_at(at)) {
            None => (text, Test::Exists),
            Some((name, test)) => match test.split_at(1) {
                (":", member) => (name, Test::Lists(member)),
                ("=", value) => (name, Test::Is(value)),
                (_, part) => (name, Test::Contains(part)),
            },
        };
        Condition { name, is_wanted, test }
    }

    fn is_met(&self, answer: &Answer, known: &Known<'_>) -> bool {
        let text = |text: &str| String::from_utf8_lossy(&known.words.bytes(text)).into_owned();
        let is_so = match (&self.test, self.name) {
            (Test::Is(value), "version") => format!("1.{}", answer.minor) == *value,
            (Test::Exists, name) => answer.field(name).is_some(),
            (Test::Lists(member), name) => answer.lists(name, &text(member)),
            (Test::Is(value), name) => answer.values(name).any(|at| at == text(value)),
            (Test::Contains(part), name) => answer.values(name).any(|at| at.contains(&text(part))),
        };
        is_so == self.is_wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::answers::Reader;
    use crate::lint::target::Target;

    /// What `pattern` says of an exchange that came to this, and has ended so, or goes on.
    fn matched(pattern: &'static str, received: &[u8], end: Option<End>) -> Match {
        let target = Target::new(([127, 0, 0, 1], 1).into());
        let words = Words { target: &target, post: "/", upgrade: None, patience: 1 };
        let known = Known { words, plain_status: 200, is_proxy: false };
        let mut reader = Reader::new(b"GET ");
        reader.read(received);
        if let Some(end) = end {
            reader.end(received, end);
        }
        matches(&Rule::read(Outcome::Fail, pattern).pattern, &reader.events, &known)
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVary: a, B\r\nETag: a=b:\r\n\r\n";
    const BAD: &[u8] = b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_pattern_matches_as_soon_as_nothing_can_change_it() {
        let both = [BAD, OK].concat();
        let (open, closed) = (Some(End::Open), Some(End::Closed));
        for (pattern, received, end, expected) in [
            ("400", BAD, None, Match::Yes),
            ("400 end", BAD, None, Match::Maybe),
            ("400 end", BAD, closed, Match::Yes),
            ("400 end", BAD, Some(End::Reset), Match::Yes),
            ("400 reset", BAD, closed, Match::No),
            ("400 end", BAD, open, Match::No),
            ("400 open", BAD, open, Match::Yes),
            ("400 end", &both, None, Match::No),
            ("bad ok", &both, None, Match::Yes),
            ("400 plain", BAD, closed, Match::No),
            ("501|4xx", BAD, None, Match::Yes),
            ("ok", BAD, None, Match::No),
            ("end", b"", closed, Match::Yes),
            ("", b"", None, Match::Yes),
            ("junk", b"SSH-2.0\r\n", None, Match::Yes),
            ("final", b"SSH-2.0\r\n", None, Match::No),
        ] {
            assert_eq!(matched(pattern, received, end), expected, "{pattern} {end:?}");
        }
    }

    #[test]
    fn interim_answers_are_passed_over_unless_they_are_asked_for() {
        let text = [&b"HTTP/1.1 100 Go\r\n\r\n"[..], OK].concat();
        assert_eq!(matched("ok", &text, None), Match::Yes);
        assert_eq!(matched("100 ok", &text, None), Match::Yes);
        assert_eq!(matched("100", OK, None), Match::No);
    }

    #[test]
    fn conditions_are_about_fields() {
        for (pattern, expected) in [
            ("200(vary)", Match::Yes),
            ("200(!vary)", Match::No),
            ("200(vary:b,!vary:c)", Match::Yes),
            ("200(vary=a)", Match::No),
            ("200(vary~B)", Match::Yes),
            ("200(etag~=b:)", Match::Yes),
            ("200(etag~a=b:c)", Match::No),
            ("200(version=1.1)", Match::Yes),
        ] {
            assert_eq!(matched(pattern, OK, None), expected, "{pattern}");
        }
    }

    #[test]
    fn frames_are_found_among_others_but_not_behind_a_close() {
        let head = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n";
        let text = [&head[..], b"\x81\x02hi\x8a\x01x\x88\x02\x03\xea"].concat();
        for (pattern, expected) in [
            ("101 pong\"x\"", Match::Yes),
            ("101 text\"hi\" close:1000|1002", Match::Yes),
            ("101 pong\"x\" text\"hi\"", Match::No),
            ("101 close:1000", Match::No),
            ("101 close end", Match::Maybe),
        ] {
            assert_eq!(matched(pattern, &text, None), expected, "{pattern}");
        }
        let raw = b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\nping";
        assert_eq!(matched("101 bytes\"in\"", raw, None), Match::Yes);
        assert_eq!(matched("101 bytes\"no\"", raw, None), Match::Maybe);
        assert_eq!(matched("101 bytes\"no\"", raw, Some(End::Closed)), Match::No);
    }
}
