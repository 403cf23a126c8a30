//! Rehearses every case of the data files against a scripted peer that says what the case expects,
//! and against peers that get it wrong in one way each. It proves the runner and the data; no
//! server is here.

use std::sync::LazyLock;

use super::super::case::Demand;
use super::super::peer::Wait;
use super::super::rows;
use super::super::segments::Cuts;
use super::*;

static FILES: LazyLock<Vec<RowFile>> = LazyLock::new(rows::all);

/// How a scripted peer departs from what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    None,
    /// One byte more than expected.
    Surplus,
    /// One byte less.
    Short,
    /// The other ending.
    Ending,
    /// Every path is routed.
    Routes,
}

/// Says the outputs of one case, whatever it is sent; knows the probes.
struct Script {
    parts: Vec<Vec<u8>>,
    said: Vec<u8>,
    heard: Vec<u8>,
    ending: Ending,
    collected: usize,
}

impl Peer for Script {
    fn send(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
    }

    fn wait_ms(&mut self, _ms: u64) {}

    fn finish(&mut self) {}

    fn collect(&mut self, _wait: &dyn Fn(&[u8]) -> Wait) -> Collected {
        let last = self.collected + 1 == self.parts.len();
        if let Some(part) = self.parts.get(self.collected) {
            self.said.extend_from_slice(part);
            let ending = if last { self.ending } else { Ending::Open };
            self.collected += 1;
            return Collected { bytes: self.said.clone(), ending };
        }
        let mut ending = self.ending;
        if self.heard.ends_with(PROBE_REQUEST) {
            self.said.extend(spoken(&last_answer()));
            ending = Ending::Finished;
        } else if self.heard.ends_with(PROBE_DATA) {
            self.said.extend_from_slice(PROBE_DATA);
        } else if self.heard.ends_with(PROBE_PING.0) {
            self.said.extend_from_slice(PROBE_PING.1);
        }
        Collected { bytes: self.said.clone(), ending }
    }
}

/// Serves scripts: `case` must be set before each case, which `supports` does.
struct Stage {
    slip: Slip,
    alternative: usize,
    case: Option<Case>,
    replays: usize,
}

impl Target for Stage {
    fn name(&self) -> &str {
        "rehearsal"
    }

    fn supports(&self, case: &Case) -> Result<(), String> {
        let ours =
            self.case.as_ref().is_some_and(|one| one.line == case.line && one.row == case.row);
        if ours { Ok(()) } else { Err("another case is on stage".into()) }
    }

    fn connect(&mut self) -> Box<dyn Peer> {
        self.replays += 1;
        let case = self.case.as_ref().expect("a case is on stage");
        let (last, before) = case.exchanges.split_last().expect("an exchange");
        let output = &last.outputs[self.alternative];
        let mut parts: Vec<Vec<u8>> =
            before.iter().map(|exchange| speech(&exchange.outputs[0])).collect();
        parts.push(speech(output));
        let end = parts.last_mut().expect("a part");
        match self.slip {
            Slip::Surplus => end.push(b'!'),
            Slip::Short => end.truncate(end.len().saturating_sub(1)),
            Slip::None | Slip::Ending | Slip::Routes => {}
        }
        let ending = match (self.slip, output.ending) {
            (Slip::Ending, Ending::Open) => Ending::Finished,
            (Slip::Ending, _) => Ending::Open,
            (_, ending) => ending,
        };
        Box::new(Script { parts, said: Vec::new(), heard: Vec::new(), ending, collected: 0 })
    }

    fn routed_log(&mut self) -> Vec<String> {
        match self.slip {
            Slip::Routes => vec!["/log".into(), "/evil".into()],
            _ => Vec::new(),
        }
    }
}

fn speech(output: &Output) -> Vec<u8> {
    output.items.iter().flat_map(spoken).collect()
}

/// Bytes that meet an expectation.
fn spoken(item: &Expected) -> Vec<u8> {
    match item {
        Expected::Bytes(bytes) => bytes.clone(),
        Expected::Switch { token, demands } => {
            let fields = demanded(demands);
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{fields}\r\n").into()
        }
        Expected::Answer { status: status @ 100..200, demands, .. }
        | Expected::Tunnel { status, demands } => {
            format!("HTTP/1.1 {status} \r\n{}\r\n", demanded(demands)).into()
        }
        Expected::Answer { status, body, head_only, closes, demands } => {
            let body =
                if *head_only { Vec::new() } else { body.clone().unwrap_or_else(|| b"any".into()) };
            let close = if *closes { "Connection: close\r\n" } else { "" };
            let fields = demanded(demands);
            let head = format!(
                "HTTP/1.1 {status} \r\n{close}{fields}Content-Length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        }
    }
}

/// Field lines that meet the demands; Content-Length is there anyhow.
fn demanded(demands: &[Demand]) -> String {
    let line = |demand: &Demand| match demand {
        Demand::Has(name) if name == "Content-Length" => String::new(),
        Demand::Has(name) => format!("{name}: x\r\n"),
        Demand::Is(name, value) | Demand::Lists(name, value) => format!("{name}: {value}\r\n"),
        Demand::Lacks(_) | Demand::IsNot(..) | Demand::ListsNot(..) => String::new(),
    };
    demands.iter().map(line).collect()
}

fn rehearse(case: &Case, alternative: usize, slip: Slip, variants: Variants) -> Report {
    let mut stage = Stage { slip, alternative, case: Some(case.clone()), replays: 0 };
    let report = run(&mut stage, &FILES, variants);
    assert_eq!(report.runs, stage.replays);
    report
}

fn cases() -> Vec<Case> {
    FILES.iter().cloned().flat_map(|file| file.rows).flat_map(|row| row.cases).collect()
}

#[test]
fn every_alternative_of_every_case_can_be_met() {
    for case in cases() {
        for alternative in 0..case.exchanges.last().expect("an exchange").outputs.len() {
            let report = rehearse(&case, alternative, Slip::None, Variants::WHOLE);
            assert!(report.passed(), "{report}");
            assert_eq!((report.rows, report.cases), (1, 1));
        }
    }
}

#[test]
fn every_case_notices_a_surplus_or_missing_byte() {
    for case in cases() {
        let report = rehearse(&case, 0, Slip::Surplus, Variants::WHOLE);
        assert!(!report.passed(), "{} at line {}", case.row, case.line);
        let silent = speech(&case.exchanges.last().expect("an exchange").outputs[0]).is_empty();
        let report = rehearse(&case, 0, Slip::Short, Variants::WHOLE);
        assert!(silent || !report.passed(), "{} at line {}", case.row, case.line);
    }
}

#[test]
fn every_case_notices_the_wrong_ending() {
    for case in cases() {
        let outputs = &case.exchanges.last().expect("an exchange").outputs;
        if outputs.len() == 1 {
            let report = rehearse(&case, 0, Slip::Ending, Variants::WHOLE);
            assert!(!report.passed(), "{} at line {}", case.row, case.line);
        }
    }
}

#[test]
fn a_path_that_must_not_be_routed_is_noticed() {
    let mut noticed = 0;
    for case in cases().iter().filter(|case| !case.never.is_empty()) {
        let report = rehearse(case, 0, Slip::Routes, Variants::WHOLE);
        assert!(!report.passed(), "{} at line {}", case.row, case.line);
        noticed += 1;
    }
    assert!(noticed > 0);
}

#[test]
fn segmentations_multiply_the_runs_of_short_cases() {
    let case = cases().into_iter().find(|case| case.row == "U-08").expect("U-08");
    let whole = rehearse(&case, 0, Slip::None, Variants::WHOLE);
    let every = rehearse(&case, 0, Slip::None, Variants::EVERY);
    assert_eq!(whole.runs, 1);
    let Step::Send(bytes) = &case.exchanges[0].input[0] else { panic!("one write") };
    assert_eq!(every.runs, 2 + bytes.len() - 1);
    let near =
        Variants { byte_by_byte_max: 0, cuts: Cuts::AroundHeads, cuts_when_waiting: Cuts::None };
    assert_eq!(rehearse(&case, 0, Slip::None, near).runs, 1 + 6); // nothing lies behind the end of the input
}

#[test]
fn a_failing_case_is_not_replayed_without_end() {
    let case = cases().into_iter().find(|case| case.row == "U-08").expect("U-08");
    let report = rehearse(&case, 0, Slip::Surplus, Variants::EVERY);
    assert_eq!(report.failures.len(), FAILED_VARIANTS_MAX);
}

#[test]
fn a_failure_tells_what_was_sent_expected_and_got() {
    let case = cases().into_iter().find(|case| case.row == "U-03").expect("U-03");
    let report = rehearse(&case, 0, Slip::Surplus, Variants::WHOLE);
    let text = report.to_string();
    for part in [
        "U-03",
        "recognising.txt:",
        "as written",
        "Upgrade: echo⏎",
        "expected 200(ok)",
        "surplus bytes \"!\"",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(report.skips.values().sum::<usize>() > 100, "skips are counted");
}
