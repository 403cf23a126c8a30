//! The judgment of one exchange.

use super::Target;
use super::exchange::{Answer, Exchange, Plain};
use super::vector::{Level, Vector, Want};

/// What a server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What is wanted.
    Pass,
    /// Another thing, which the standard allows or only advises against.
    Differs(String),
    /// What the standard forbids.
    Fail(String),
    /// Nothing was sent, and why.
    Skip(String),
}

impl Verdict {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Differs(_) => "differs",
            Verdict::Fail(_) => "FAIL",
            Verdict::Skip(_) => "skip",
        }
    }

    /// Why it is not a pass; empty if it is.
    pub fn why(&self) -> &str {
        match self {
            Verdict::Pass => "",
            Verdict::Differs(why) | Verdict::Fail(why) | Verdict::Skip(why) => why,
        }
    }
}

pub(super) fn judge(
    vector: &Vector,
    target: &Target,
    plain: &Plain,
    exchange: &Exchange,
) -> Verdict {
    match (wrong(vector.want, target, plain, exchange), vector.level) {
        (None, _) => Verdict::Pass,
        (Some(why), Level::Must) => Verdict::Fail(why),
        (Some(why), Level::Should | Level::May) => Verdict::Differs(why),
    }
}

/// What is wrong with an exchange.
fn wrong(want: Want, target: &Target, plain: &Plain, exchange: &Exchange) -> Option<String> {
    if exchange.is_torn {
        return Some("what came back is not HTTP".into());
    }
    let finals: Vec<&Answer> =
        exchange.answers.iter().filter(|answer| answer.status >= 200).collect();
    let switch = exchange.answers.iter().find(|answer| answer.status == 101);
    match (want, switch) {
        (Want::Switched, Some(answer)) => bad_switch(target, answer),
        (Want::Switched, None) => Some(format!("not switched: {}", statuses(&finals))),
        (_, Some(_)) => Some("switched to another protocol".into()),
        (Want::Refused, _) => not_refused(&finals, exchange),
        (Want::Rejected, _) => match finals.first() {
            Some(answer) if answer.status < 400 => Some(format!("accepted with {}", answer.status)),
            None if !exchange.is_ended => Some("neither an answer nor the end".into()),
            _ => None,
        },
        (Want::Once, _) => not_once(&finals, exchange),
        (Want::Unswitched, _) => finals.is_empty().then(|| "no answer".into()),
        (Want::Continued, _) => not_continued(&finals, plain, exchange),
        (Want::Served(count), _) => not_served(count, &finals, plain),
    }
}

fn not_refused(finals: &[&Answer], exchange: &Exchange) -> Option<String> {
    match finals {
        [] if exchange.is_ended => None,
        [] => Some("neither an answer nor the end of the connection".into()),
        [answer] if answer.status < 400 => Some(format!("accepted with {}", answer.status)),
        [answer] if !exchange.is_ended => {
            Some(format!("{}, but the connection goes on", answer.status))
        }
        [_] => None,
        several => Some(format!(
            "{}: what stands behind the request was read as another one",
            statuses(several)
        )),
    }
}

fn not_once(finals: &[&Answer], exchange: &Exchange) -> Option<String> {
    match finals {
        [] | [_] if exchange.is_ended => None,
        [] => Some("neither an answer nor the end of the connection".into()),
        [answer] => Some(format!("{}, but the connection goes on", answer.status)),
        several => Some(format!("{}: what stands behind was answered, too", statuses(several))),
    }
}

fn not_continued(finals: &[&Answer], plain: &Plain, exchange: &Exchange) -> Option<String> {
    let is_told = exchange.answers.first().is_some_and(|answer| answer.status == 100);
    match finals {
        [] => Some("no answer".into()),
        // A refusal may come without asking for the content.
        [answer] if answer.status >= 400 => None,
        _ if is_told => not_served(1, finals, plain),
        _ => Some("answered without a 100, though the client waited for it".into()),
    }
}

fn not_served(count: usize, finals: &[&Answer], plain: &Plain) -> Option<String> {
    let is_fine = |answer: &&&Answer| answer.status < 400 || answer.status == plain.status;
    let bad = finals.iter().find(|answer| !is_fine(answer));
    match bad {
        Some(answer) => Some(format!("refused with {}", answer.status)),
        None if finals.len() != count => {
            Some(format!("{} answers instead of {count}", finals.len()))
        }
        None => None,
    }
}

/// RFC 9110 §15.2.2, §7.8; RFC 6455 §4.2.2.
fn bad_switch(target: &Target, answer: &Answer) -> Option<String> {
    let lists = |name: &str, member: &str| {
        let value = answer.field(name).unwrap_or_default();
        value.split(',').any(|at| at.trim().eq_ignore_ascii_case(member))
    };
    if !lists("connection", "upgrade") {
        return Some("the 101 has no Connection: Upgrade".into());
    }
    if !lists("upgrade", &target.token) {
        return Some(format!("the 101 does not name {}", target.token));
    }
    for name in ["content-length", "transfer-encoding"] {
        if answer.field(name).is_some() {
            return Some(format!("the 101 carries {name}"));
        }
    }
    // The answer to the key of RFC 6455 §1.3.
    let accept = answer.field("sec-websocket-accept");
    (target.is_websocket() && accept != Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        .then(|| format!("Sec-WebSocket-Accept is {accept:?}"))
}

fn statuses(answers: &[&Answer]) -> String {
    let codes: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
    match codes.is_empty() {
        true => "no answer".into(),
        false => codes.join(", "),
    }
}
