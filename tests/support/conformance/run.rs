//! Plays rows against a [`Target`]: every case in every chosen segmentation, a fresh connection
//! each. It decides nothing about bytes; `verdict` does.

use std::collections::BTreeMap;
use std::fmt;

use super::case::{Case, Exchange, Expected, Output, Probe, RowFile, Step};
use super::notation::show;
use super::peer::{Collected, Ending, Peer, Target};
use super::segments::{Variant, Variants};
use super::verdict::{judge, wait};

/// A case that failed in so many segmentations is not replayed in more: each failure costs
/// patience.
const FAILED_VARIANTS_MAX: usize = 3;
/// Failures a printed report shows in full.
const SHOWN_FAILURES_MAX: usize = 20;

const PROBE_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const PROBE_DATA: &[u8] = b"probe";
/// A Ping, and its Pong.
const PROBE_PING: (&[u8], &[u8]) = (b"\x89\x81\0\0\0\0?", b"\x8a\x01?");

/// What a run has done and found.
#[derive(Debug, Default)]
pub struct Report {
    pub target: String,
    /// Rows and cases of which something was run.
    pub rows: usize,
    pub cases: usize,
    /// Conversations: cases times segmentations.
    pub runs: usize,
    /// Skipped cases by the target's reason.
    pub skips: BTreeMap<String, usize>,
    pub failures: Vec<Failure>,
}

/// One conversation that went wrong.
#[derive(Debug)]
pub struct Failure {
    pub row: String,
    /// Title of the row.
    pub title: String,
    /// File and line, and the name of the case.
    pub case: String,
    pub variant: Variant,
    /// What was sent, in the notation of the files.
    pub sent: String,
    pub expected: String,
    pub got: String,
    pub why: String,
}

/// Plays all rows of `files` that `target` supports.
pub fn run(target: &mut dyn Target, files: &[RowFile], variants: Variants) -> Report {
    let mut report = Report { target: target.name().into(), ..Report::default() };
    for file in files {
        for row in &file.rows {
            let cases_before = report.cases;
            for case in &row.cases {
                match target.supports(case) {
                    Ok(()) => replay(target, case, variants, &mut report),
                    Err(reason) => *report.skips.entry(reason).or_default() += 1,
                }
            }
            report.rows += usize::from(report.cases > cases_before);
            for failure in report.failures.iter_mut().filter(|failure| failure.title.is_empty()) {
                failure.title.clone_from(&row.title);
                failure.case = format!("{}.txt:{}", file.name, failure.case);
            }
        }
    }
    report
}

impl Report {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Takes in what another run of the same target over other rows has done.
    pub fn add(&mut self, other: Self) {
        self.target = other.target;
        self.rows += other.rows;
        self.cases += other.cases;
        self.runs += other.runs;
        for (reason, count) in other.skips {
            *self.skips.entry(reason).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, cases, runs) = (self.rows, self.cases, self.runs);
        writeln!(
            out,
            "{}: {rows} rows, {cases} cases, {runs} conversations, {} failed",
            self.target,
            self.failures.len()
        )?;
        for (reason, count) in &self.skips {
            writeln!(out, "  skipped {count} cases: {reason}")?;
        }
        for failure in self.failures.iter().take(SHOWN_FAILURES_MAX) {
            write!(out, "{failure}")?;
        }
        if self.failures.len() > SHOWN_FAILURES_MAX {
            writeln!(out, "... and {} more", self.failures.len() - SHOWN_FAILURES_MAX)?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{} {}", self.row, self.title)?;
        writeln!(out, "  case     {} ({})", self.case, self.variant)?;
        writeln!(out, "  sent     {}", self.sent)?;
        writeln!(out, "  expected {}", self.expected)?;
        writeln!(out, "  got      {}", self.got)?;
        writeln!(out, "  so       {}", self.why)
    }
}

fn replay(target: &mut dyn Target, case: &Case, variants: Variants, report: &mut Report) {
    report.cases += 1;
    target.prepare(case);
    let mut failed = 0;
    for variant in variants.of(case) {
        report.runs += 1;
        let Err(fault) = play(target, case, variant) else {
            continue;
        };
        report.failures.push(fault.told(case, variant));
        failed += 1;
        if failed == FAILED_VARIANTS_MAX {
            return;
        }
    }
}

/// Why one conversation failed, before it is put in words.
struct Fault {
    expected: String,
    got: Collected,
    why: String,
}

impl Fault {
    fn told(self, case: &Case, variant: Variant) -> Failure {
        Failure {
            row: case.row.clone(),
            title: String::new(),
            case: format!("{} {}", case.line, case.name),
            variant,
            sent: case
                .exchanges
                .iter()
                .flat_map(|one| &one.input)
                .map(told_step)
                .collect::<Vec<_>>()
                .join(" "),
            expected: self.expected,
            got: format!("{} then {:?}", show(&self.got.bytes), self.got.ending),
            why: self.why,
        }
    }
}

fn told_step(step: &Step) -> String {
    match step {
        Step::Send(bytes) => show(bytes),
        Step::WaitMs(ms) => format!("~{ms}"),
        Step::Finish => "FIN".into(),
    }
}

/// One conversation on one connection, and what the server's log says of it.
fn play(target: &mut dyn Target, case: &Case, variant: Variant) -> Result<(), Fault> {
    if !case.never.is_empty() {
        target.routed_log(); // what earlier conversations left there
    }
    let mut peer = target.connect();
    let (output, collected) = converse(peer.as_mut(), case, variant)?;
    if collected.ending == Ending::Open && !case.finishes() {
        probe(peer.as_mut(), case.probe, output)?;
    }
    if case.never.is_empty() {
        return Ok(());
    }
    let routed = target.routed_log();
    match case.never.iter().find(|path| routed.contains(path)) {
        Some(path) => Err(Fault {
            expected: format!("never {path}"),
            got: collected,
            why: format!("routed: {routed:?}"),
        }),
        None => Ok(()),
    }
}

/// Exchange by exchange; returns the alternative that matched, with all items since the start.
fn converse(
    peer: &mut dyn Peer,
    case: &Case,
    variant: Variant,
) -> Result<(Output, Collected), Fault> {
    let mut items: Vec<Expected> = Vec::new();
    let mut matched = None;
    for (index, exchange) in case.exchanges.iter().enumerate() {
        for step in variant.steps(index, &exchange.input) {
            match step {
                Step::Send(bytes) => peer.send(&bytes),
                Step::WaitMs(ms) => peer.wait_ms(ms),
                Step::Finish => peer.finish(),
            }
        }
        let outputs: Vec<Output> =
            exchange.outputs.iter().map(|output| continued(&items, output)).collect();
        let settled = settled_by(case, index, exchange);
        let collected = peer.collect(&|bytes| wait(&outputs, settled, bytes));
        let output = choose(outputs, &collected)?;
        items.clone_from(&output.items);
        matched = Some((output, collected));
    }
    Ok(matched.expect("a case has an exchange"))
}

/// `output` with the items of the exchanges before it in front.
fn continued(before: &[Expected], output: &Output) -> Output {
    Output { items: before.iter().chain(&output.items).cloned().collect(), ..output.clone() }
}

/// What will show that nothing else came: in the middle of a case the next exchange does, but for
/// silence.
fn settled_by(case: &Case, index: usize, exchange: &Exchange) -> Probe {
    let last = index + 1 == case.exchanges.len();
    let silent = exchange.outputs.iter().any(|output| output.items.is_empty());
    match (last, silent) {
        (_, true) => Probe::Silence,
        (true, false) if case.finishes() => Probe::Silence,
        (true, false) => case.probe,
        (false, false) => Probe::Http,
    }
}

fn choose(outputs: Vec<Output>, collected: &Collected) -> Result<Output, Fault> {
    let expected =
        outputs.iter().map(|output| output.text.as_str()).collect::<Vec<_>>().join("  or  ");
    let mut faults = Vec::new();
    for output in outputs {
        match judge(&output, collected) {
            Ok(()) => return Ok(output),
            Err(why) => faults.push(why),
        }
    }
    faults.dedup();
    Err(Fault { expected, got: collected.clone(), why: faults.join("; or: ") })
}

/// Uses the connection once more: it must be in the state the case left it in, with nothing before.
fn probe(peer: &mut dyn Peer, probe: Probe, mut output: Output) -> Result<(), Fault> {
    let (sent, reply, ending) = match probe {
        Probe::Silence => return Ok(()),
        Probe::Echo => (PROBE_DATA, Expected::Bytes(PROBE_DATA.into()), Ending::Open),
        Probe::WebSocket => (PROBE_PING.0, Expected::Bytes(PROBE_PING.1.into()), Ending::Open),
        Probe::Http => (PROBE_REQUEST, last_answer(), Ending::Finished),
    };
    peer.send(sent);
    output.items.push(reply);
    output.ending = ending;
    output.text = format!("{}, and on being probed by {} its answer", output.text, show(sent));
    let outputs = vec![output];
    let collected = peer.collect(&|bytes| wait(&outputs, probe, bytes));
    choose(outputs, &collected).map(|_| ())
}

/// What `PROBE_REQUEST` is answered.
fn last_answer() -> Expected {
    Expected::Answer {
        status: 200,
        body: Some(b"ok".into()),
        head_only: false,
        closes: true,
        demands: Vec::new(),
    }
}

#[cfg(test)]
#[path = "rehearsal.rs"]
mod rehearsal;
