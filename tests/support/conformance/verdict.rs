//! Compares what came with what a case expects. Pure: `run` asks it while bytes come in (is it
//! worth to wait?) and once more when they have stopped (is it right?).

use super::answer::Answer;
use super::case::{Demand, Expected, Output, Probe};
use super::notation::show;
use super::peer::{Collected, Ending, Wait};

/// How far `bytes` have come towards the expected items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// All items, and not a byte more.
    Full,
    /// A beginning of them.
    Partial,
    Wrong(String),
}

/// `ended`: no byte will follow.
pub fn progress(items: &[Expected], bytes: &[u8], ended: bool) -> Progress {
    let mut rest = bytes;
    for (index, item) in items.iter().enumerate() {
        match item_len(item, rest, ended) {
            Ok(Some(len)) => rest = &rest[len..],
            Ok(None) => return Progress::Partial,
            Err(why) => return Progress::Wrong(format!("item {}: {why}", index + 1)),
        }
    }
    if rest.is_empty() {
        Progress::Full
    } else {
        Progress::Wrong(format!("surplus bytes {}", show(rest)))
    }
}

/// The reason why `collected` is not this output.
pub fn judge(output: &Output, collected: &Collected) -> Result<(), String> {
    match progress(&output.items, &collected.bytes, collected.ending != Ending::Open) {
        Progress::Wrong(why) => Err(why),
        Progress::Partial => {
            Err(format!("the output is incomplete, the connection {}", named(collected.ending)))
        }
        Progress::Full if collected.ending != output.ending => Err(format!(
            "the connection {}, expected is that it {}",
            named(collected.ending),
            named(output.ending)
        )),
        Progress::Full => Ok(()),
    }
}

/// Whether more can come that matters. An open end is settled by the probe, if there is one.
pub fn wait(outputs: &[Output], probe: Probe, bytes: &[u8]) -> Wait {
    let stand = |output: &Output| (progress(&output.items, bytes, false), output.ending);
    let stands: Vec<(Progress, Ending)> = outputs.iter().map(stand).collect();
    let has = |wanted: &dyn Fn(&Progress, Ending) -> bool| {
        stands.iter().any(|(one, ending)| wanted(one, *ending))
    };
    let open = has(&|one, ending| *one == Progress::Full && ending == Ending::Open);
    let going_on = has(&|one, ending| match one {
        Progress::Full => ending != Ending::Open,
        Progress::Partial => true,
        Progress::Wrong(_) => false,
    });
    match (open, going_on) {
        (true, false) if probe != Probe::Silence => Wait::NoLonger,
        (true, _) => Wait::ForSilence,
        (false, true) => Wait::ForMore,
        (false, false) => Wait::NoLonger,
    }
}

fn named(ending: Ending) -> &'static str {
    match ending {
        Ending::Open => "stays open",
        Ending::Finished => "ends with FIN",
        Ending::Reset => "is reset",
    }
}

/// Length of the item at the start of `rest`; `Ok(None)`: it is not complete yet.
fn item_len(item: &Expected, rest: &[u8], ended: bool) -> Result<Option<usize>, String> {
    match item {
        Expected::Bytes(bytes) if rest.starts_with(bytes) => Ok(Some(bytes.len())),
        Expected::Bytes(bytes) if bytes.starts_with(rest) => Ok(None),
        Expected::Bytes(bytes) => {
            let same = bytes.iter().zip(rest).take_while(|(one, other)| one == other).count();
            Err(format!(
                "bytes differ at {same}: expected {}, got {}",
                show(&bytes[same..]),
                show(&rest[same..])
            ))
        }
        Expected::Answer { head_only, .. } => response_len(item, rest, *head_only, ended),
        Expected::Switch { .. } => response_len(item, rest, false, ended),
        Expected::Tunnel { .. } => response_len(item, rest, true, ended),
    }
}

fn response_len(
    item: &Expected,
    rest: &[u8],
    head_only: bool,
    ended: bool,
) -> Result<Option<usize>, String> {
    let Some((answer, len)) = Answer::read(rest, head_only, ended)? else {
        return Ok(None);
    };
    match item {
        Expected::Switch { token, demands } => check_switch(token, demands, &answer)?,
        Expected::Tunnel { status, demands } => check_tunnel(*status, demands, &answer)?,
        Expected::Answer { status, body, closes, demands, .. } => {
            check_answer(*status, body.as_deref(), *closes, &answer)?;
            check_demands(demands, &answer)?;
        }
        Expected::Bytes(_) => {}
    }
    Ok(Some(len))
}

fn check_answer(
    status: u16,
    body: Option<&[u8]>,
    closes: bool,
    answer: &Answer,
) -> Result<(), String> {
    if answer.status != status {
        return Err(format!("status {}, expected {status}", answer.status));
    }
    if let Some(body) = body.filter(|body| *body != answer.body) {
        return Err(format!("content {}, expected {}", show(&answer.body), show(body)));
    }
    if closes && !answer.lists("Connection", "close") {
        return Err(format!("{status} does not carry Connection: close"));
    }
    if !closes && status >= 200 && answer.lists("Connection", "close") {
        // Legal before a close, but then the case says so by `!`, or by FIN alone for an HTTP/1.0
        // client.
        return Err(format!("{status} carries Connection: close"));
    }
    Ok(())
}

/// RFC 9110 §7.8, §15.2.2: Upgrade names what is in effect, Connection lists it.
fn check_switch(token: &str, demands: &[Demand], answer: &Answer) -> Result<(), String> {
    if answer.status != 101 {
        return Err(format!("status {}, expected 101({token})", answer.status));
    }
    let own =
        |name: &str| ["Connection", "Upgrade"].iter().any(|one| name.eq_ignore_ascii_case(one));
    let named = |name: &str| demands.iter().any(|demand| name.eq_ignore_ascii_case(demand.name()));
    if let Some((name, _)) = answer.fields.iter().find(|(name, _)| !own(name) && !named(name)) {
        return Err(format!("the 101 carries {name}"));
    }
    let own_lines = answer.fields.iter().filter(|(name, _)| own(name)).count();
    let connection = answer.list("Connection");
    if own_lines != 2 || connection.len() != 1 || !connection[0].eq_ignore_ascii_case("Upgrade") {
        return Err(format!("the 101 has fields {:?}", answer.fields));
    }
    if answer.list("Upgrade").join(", ") != token {
        return Err(format!("the 101 names {:?}, expected {token}", answer.list("Upgrade")));
    }
    check_demands(demands, answer)
}

/// RFC 9110 §9.3.6, RFC 9112 §6.3 (2): no framing fields, and nothing of a close.
fn check_tunnel(status: u16, demands: &[Demand], answer: &Answer) -> Result<(), String> {
    if let Some(name) = ["Content-Length", "Transfer-Encoding"].iter().find(|at| answer.has(at)) {
        return Err(format!("the {} to CONNECT carries {name}", answer.status));
    }
    check_answer(status, None, false, answer)?;
    check_demands(demands, answer)
}

fn check_demands(demands: &[Demand], answer: &Answer) -> Result<(), String> {
    let is = |name: &str, value: &str| answer.has(name) && answer.list(name) == list(value);
    let met = |demand: &Demand| match demand {
        Demand::Has(name) => answer.has(name),
        Demand::Lacks(name) => !answer.has(name),
        Demand::Is(name, value) => is(name, value),
        Demand::IsNot(name, value) => !is(name, value),
        Demand::Lists(name, member) => answer.lists(name, member),
        Demand::ListsNot(name, member) => !answer.lists(name, member),
    };
    match demands.iter().find(|demand| !met(demand)) {
        Some(demand) => {
            Err(format!("{} does not meet {demand:?}: {:?}", answer.status, answer.fields))
        }
        None => Ok(()),
    }
}

fn list(value: &str) -> Vec<&str> {
    value.split(',').map(str::trim).filter(|member| !member.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::notation;
    use super::*;

    const SWITCH: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    const TUNNEL: &str = "HTTP/1.1 200 OK\r\nVia: b\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const FAULT: &str =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    fn verdict(expected: &str, got: &str, ending: Ending) -> Result<(), String> {
        let output = notation::output(expected).expect(expected);
        judge(&output, &Collected { bytes: got.into(), ending })
    }

    #[test]
    fn accepts_what_is_expected() {
        for (expected, got, ending) in [
            ("200(ok)", OK.into(), Ending::Open),
            ("200(ok)200", format!("{OK}{OK}"), Ending::Open),
            ("400!", FAULT.into(), Ending::Finished),
            ("400! RST", FAULT.into(), Ending::Reset),
            ("FIN", String::new(), Ending::Finished),
            ("nothing", String::new(), Ending::Open),
            ("100 200(ok)", format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"), Ending::Open),
            ("101(echo)\"B=;x\"", format!("{SWITCH}B=;x"), Ending::Open),
            ("101(echo)\"B=;x\" FIN", format!("{SWITCH}B=;x"), Ending::Finished),
            ("200 tunnel \"B=;\"", format!("{TUNNEL}B=;"), Ending::Open),
            ("200 tunnel + \"Via\" FIN", TUNNEL.into(), Ending::Finished),
            (
                "101(echo)",
                SWITCH.replace("Connection: Upgrade", "CONNECTION:  upgrade"),
                Ending::Open,
            ),
            (
                "101(echo) + \"X: y\"",
                SWITCH.replace("Upgrade: e", "X: y\r\nUpgrade: e"),
                Ending::Open,
            ),
            (
                "200 + \"Content-Length: 2\" - \"Upgrade\" - \"Connection ∋ upgrade\"",
                OK.into(),
                Ending::Open,
            ),
        ] {
            assert_eq!(verdict(expected, &got, ending), Ok(()), "{expected}");
        }
    }

    #[test]
    fn refuses_what_is_not() {
        for (expected, got, ending) in [
            ("200(ok)", OK.into(), Ending::Finished),
            ("200(no)", OK.into(), Ending::Open),
            ("201(ok)", OK.into(), Ending::Open),
            ("200(ok)", format!("{OK}x"), Ending::Open),
            ("200(ok)200(ok)", OK.into(), Ending::Open),
            ("200(ok)!", OK.into(), Ending::Finished),
            ("400", FAULT.into(), Ending::Finished),
            ("400!", FAULT.into(), Ending::Open),
            ("400!", FAULT.into(), Ending::Reset),
            ("nothing", "x".into(), Ending::Open),
            ("101(echo)\"B=;x\"", format!("{SWITCH}B=;"), Ending::Open),
            ("101(echo)\"B=;x\"", format!("{SWITCH}B=;y"), Ending::Open),
            ("101(echo)", SWITCH.replace("echo", "ECHO"), Ending::Open),
            ("101(echo)", SWITCH.replace("echo", "echo, h2c"), Ending::Open),
            ("101(echo)", SWITCH.replace(": Upgrade", ": Upgrade, close"), Ending::Open),
            ("101(echo)", SWITCH.replace("Upgrade: e", "Upgrade:\r\nUpgrade: e"), Ending::Open),
            ("101(echo)", SWITCH.replace("Upgrade: e", "Date: x\r\nUpgrade: e"), Ending::Open),
            ("101(echo)", OK.into(), Ending::Open),
            ("200 tunnel \"ok\"", OK.into(), Ending::Open),
            ("200 tunnel", TUNNEL.replace("200", "204"), Ending::Open),
            ("200 tunnel", TUNNEL.replace("Via: b", "Connection: close"), Ending::Open),
            ("200 tunnel", TUNNEL.replace("Via: b", "Transfer-Encoding: chunked"), Ending::Open),
            ("200 tunnel - \"Via\"", TUNNEL.into(), Ending::Open),
            ("200 + \"Upgrade\"", OK.into(), Ending::Open),
            ("200 - \"Content-Length: 2\"", OK.into(), Ending::Open),
            ("200 + \"Content-Length ∋ 3\"", OK.into(), Ending::Open),
        ] {
            assert!(verdict(expected, &got, ending).is_err(), "{expected}: {got:?}");
        }
    }

    #[test]
    fn waits_no_longer_than_it_must() {
        let outputs = |texts: &[&str]| {
            texts.iter().map(|text| notation::output(text).expect(text)).collect::<Vec<_>>()
        };
        let open = outputs(&["200(ok)"]);
        assert_eq!(wait(&open, Probe::Http, b"HTTP/1.1 2"), Wait::ForMore);
        assert_eq!(wait(&open, Probe::Http, OK.as_bytes()), Wait::NoLonger);
        assert_eq!(wait(&open, Probe::Silence, OK.as_bytes()), Wait::ForSilence);
        assert_eq!(wait(&open, Probe::Http, b"HTTP/1.0"), Wait::NoLonger);
        let either = outputs(&["200(ok)", "200(ok) FIN"]);
        assert_eq!(wait(&either, Probe::Http, OK.as_bytes()), Wait::ForSilence);
        let closing = outputs(&["400!", "FIN"]);
        assert_eq!(wait(&closing, Probe::Http, b""), Wait::ForMore);
        assert_eq!(wait(&closing, Probe::Http, FAULT.as_bytes()), Wait::ForMore);
        assert_eq!(wait(&outputs(&["nothing"]), Probe::Echo, b"x"), Wait::NoLonger);
    }
}
