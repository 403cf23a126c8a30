//! Reads the data files: lines led by a keyword, gathered into rows and cases. A mistake in a file
//! is an error with its line, never a case that is silently left out.

use super::case::{Case, Exchange, Expected, Level, Output, Probe, Row, RowFile, Segments};
use super::notation;

const SOURCES: [(&str, &str); 8] = [
    ("recognising", include_str!("../../conformance/recognising.txt")),
    ("choosing", include_str!("../../conformance/choosing.txt")),
    ("order", include_str!("../../conformance/order.txt")),
    ("responses", include_str!("../../conformance/responses.txt")),
    ("framing", include_str!("../../conformance/framing.txt")),
    ("connect", include_str!("../../conformance/connect.txt")),
    ("after_switch", include_str!("../../conformance/after_switch.txt")),
    ("websocket", include_str!("../../conformance/websocket.txt")),
];

/// All files of `tests/conformance`, in the order of the requirements.
///
/// # Panics
/// When a file does not parse; the message names file and line.
pub fn all() -> Vec<RowFile> {
    SOURCES
        .iter()
        .map(|(name, text)| parse(name, text).unwrap_or_else(|fault| panic!("{fault}")))
        .collect()
}

/// Reads one file. The error names file and line.
pub fn parse(name: &str, text: &str) -> Result<RowFile, String> {
    let mut drafts: Vec<RowDraft> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            take_line(&mut drafts, line, index + 1)
                .map_err(|fault| format!("{name}.txt:{}: {fault}", index + 1))?;
        }
    }
    let rows = drafts.into_iter().map(RowDraft::build).collect::<Result<_, _>>();
    Ok(RowFile { name: name.into(), rows: rows.map_err(|fault| format!("{name}.txt: {fault}"))? })
}

/// A row while its lines come in.
struct RowDraft {
    row: Row,
    /// Words of `with` lines in front of the first case: they hold for all cases.
    common: Vec<String>,
    cases: Vec<CaseDraft>,
}

#[derive(Default)]
struct CaseDraft {
    name: String,
    line: usize,
    words: Vec<String>,
    never: Vec<String>,
    exchanges: Vec<ExchangeDraft>,
}

#[derive(Default)]
struct ExchangeDraft {
    input: String,
    outputs: Vec<String>,
}

fn take_line(drafts: &mut Vec<RowDraft>, line: &str, number: usize) -> Result<(), String> {
    let (keyword, rest) = line.split_once(' ').ok_or("a keyword alone")?;
    let rest = rest.trim();
    if keyword == "row" {
        drafts.push(RowDraft::open(rest)?);
        return Ok(());
    }
    let draft = drafts.last_mut().ok_or("a line in front of the first row")?;
    match (keyword, draft.cases.last_mut()) {
        ("title", None) => append(&mut draft.row.title, rest),
        ("with", None) => draft.common.extend(words(rest)),
        ("case", _) => {
            draft.cases.push(CaseDraft { name: rest.into(), line: number, ..CaseDraft::default() })
        }
        ("with", Some(case)) => case.words.extend(words(rest)),
        ("never", Some(case)) => case.never.extend(rest.split_whitespace().map(String::from)),
        ("in", Some(case)) => case.take_input(rest),
        ("out", Some(case)) => case.take_output(rest)?,
        ("or", Some(case)) => case.take_alternative(rest)?,
        _ => return Err(format!("{keyword:?} cannot stand here")),
    }
    Ok(())
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(|word| word.trim().to_string())
}

fn append(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

impl RowDraft {
    /// `U-01 M RFC 9110 §7.8`
    fn open(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ' ');
        let id = parts.next().unwrap_or_default();
        let level = match parts.next() {
            Some("M") => Level::Must,
            Some("S") => Level::Should,
            Some("Y") => Level::Ours,
            Some("P") => Level::Policy,
            other => return Err(format!("no such level: {other:?}")),
        };
        let source = parts.next().ok_or("a row names its source")?.trim().into();
        let row = Row { id: id.into(), level, source, title: String::new(), cases: Vec::new() };
        Ok(Self { row, common: Vec::new(), cases: Vec::new() })
    }

    fn build(self) -> Result<Row, String> {
        let mut row = self.row;
        if row.title.is_empty() || self.cases.is_empty() {
            return Err(format!("{} has no title or no case", row.id));
        }
        for draft in self.cases {
            let place = format!("{}, case at line {}", row.id, draft.line);
            let case =
                draft.build(&row.id, &self.common).map_err(|fault| format!("{place}: {fault}"))?;
            row.cases.push(case);
        }
        Ok(row)
    }
}

impl CaseDraft {
    /// Behind an `in` the line goes on; behind an `out` a new exchange begins.
    fn take_input(&mut self, text: &str) {
        match self.exchanges.last_mut() {
            Some(exchange) if exchange.outputs.is_empty() => append(&mut exchange.input, text),
            _ => self.exchanges.push(ExchangeDraft { input: text.into(), outputs: Vec::new() }),
        }
    }

    fn take_output(&mut self, text: &str) -> Result<(), String> {
        let exchange = self.exchanges.last_mut().ok_or("out in front of in")?;
        match exchange.outputs.last_mut() {
            Some(output) => append(output, text),
            None => exchange.outputs.push(text.into()),
        }
        Ok(())
    }

    fn take_alternative(&mut self, text: &str) -> Result<(), String> {
        match self.exchanges.last_mut() {
            Some(exchange) if !exchange.outputs.is_empty() => exchange.outputs.push(text.into()),
            _ => return Err("or in front of out".into()),
        }
        Ok(())
    }

    fn build(self, row: &str, common: &[String]) -> Result<Case, String> {
        let exchanges: Vec<Exchange> =
            self.exchanges.iter().map(ExchangeDraft::build).collect::<Result<_, _>>()?;
        let (_, before) = exchanges.split_last().ok_or("no input")?;
        if before.iter().any(|exchange| exchange.outputs.len() > 1) {
            return Err("only the last exchange may have alternatives".into());
        }
        let mut case = Case {
            row: row.into(),
            name: self.name,
            line: self.line,
            never: self.never,
            delayed: false,
            segments: Segments::Every,
            probe: default_probe(&exchanges),
            pending: None,
            needs: None,
            exchanges,
        };
        for word in common.iter().chain(&self.words) {
            apply(&mut case, word)?;
        }
        Ok(case)
    }
}

impl ExchangeDraft {
    fn build(&self) -> Result<Exchange, String> {
        let input = notation::input(&self.input)?;
        let outputs: Vec<Output> =
            self.outputs.iter().map(|text| notation::output(text)).collect::<Result<_, _>>()?;
        if input.is_empty() || outputs.is_empty() {
            return Err("an exchange needs in and out".into());
        }
        Ok(Exchange { input, outputs })
    }
}

fn apply(case: &mut Case, word: &str) -> Result<(), String> {
    match word.split_once('=') {
        None if word == "async" => case.delayed = true,
        Some(("segments", "together")) => case.segments = Segments::Together,
        Some(("probe", "http")) => case.probe = Probe::Http,
        Some(("probe", "echo")) => case.probe = Probe::Echo,
        Some(("probe", "websocket")) => case.probe = Probe::WebSocket,
        Some(("probe", "no")) => case.probe = Probe::Silence,
        Some(("pending", change)) => case.pending = Some(change.into()),
        Some(("needs", setting)) => case.needs = Some(setting.into()),
        _ => return Err(format!("no such attribute: {word:?}")),
    }
    Ok(())
}

/// What the connection speaks at the end, as far as the expected responses tell.
fn default_probe(exchanges: &[Exchange]) -> Probe {
    let mut probe = Probe::Silence;
    for item in exchanges
        .iter()
        .filter_map(|exchange| exchange.outputs.first())
        .flat_map(|output| &output.items)
    {
        probe = match item {
            Expected::Answer { status: 200.., .. } => Probe::Http,
            Expected::Switch { token, .. }
                if token.starts_with("echo") || token.starts_with("rta/") =>
            {
                Probe::Echo
            }
            Expected::Switch { token, .. } if token == "websocket" => Probe::WebSocket,
            Expected::Switch { .. } => Probe::Silence,
            Expected::Tunnel { .. } => Probe::Echo,
            Expected::Answer { .. } | Expected::Bytes(_) => probe,
        };
    }
    probe
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::case::Step;
    use super::*;

    /// U-36 (ten thousand resets) and U-40 (layers, which come with TLS) cannot be told as one conversation.
    fn promised() -> BTreeSet<String> {
        let numbers = (1..=35).chain(37..=39).chain(41..=88).chain(104..=107).chain([114]);
        numbers.map(|number| format!("U-{number:02}")).collect()
    }

    #[test]
    fn every_file_parses_and_covers_its_rows_once() {
        let ids: Vec<String> =
            all().into_iter().flat_map(|file| file.rows).map(|row| row.id).collect();
        let unique: BTreeSet<String> = ids.iter().cloned().collect();
        assert_eq!(ids.len(), unique.len(), "an id occurs twice");
        assert_eq!(unique, promised());
    }

    #[test]
    fn case_names_are_unique_within_their_row() {
        for row in all().into_iter().flat_map(|file| file.rows) {
            let names: BTreeSet<&str> = row.cases.iter().map(|case| case.name.as_str()).collect();
            assert_eq!(names.len(), row.cases.len(), "{}", row.id);
        }
    }

    #[test]
    fn attributes_agree_with_the_paths_they_stand_for() {
        const DELAYED: [&str; 5] = ["/slow ", "wait=", "/never ", "/late ", "CONNECT later"];
        for case in all().into_iter().flat_map(|file| file.rows).flat_map(|row| row.cases) {
            let sent: Vec<u8> =
                case.exchanges.iter().flat_map(|one| &one.input).flat_map(sent_bytes).collect();
            let sent = String::from_utf8_lossy(&sent).into_owned();
            let delayed = DELAYED.iter().any(|mark| sent.contains(mark));
            assert_eq!(case.delayed, delayed, "{} at line {}", case.row, case.line);
        }
    }

    fn sent_bytes(step: &Step) -> Vec<u8> {
        match step {
            Step::Send(bytes) => bytes.clone(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn rows_hold_attributes_for_all_their_cases() {
        let text = "row U-01 M RFC 1 §2\n title One.\n title Two.\n with pending=bodies\n\
                    case a\n in G(/)⏎\n out 200(ok)\n or 200(ok) FIN\n never /log /evil\n\
                    case b\n with async, segments=together\n in \"a\"\n in \"b\"\n out nothing\n in FIN\n out FIN\n";
        let file = parse("x", text).expect("a file");
        let [row] = file.rows.as_slice() else { panic!("one row") };
        assert_eq!((row.title.as_str(), row.source.as_str()), ("One. Two.", "RFC 1 §2"));
        let [a, b] = row.cases.as_slice() else { panic!("two cases") };
        assert_eq!((a.exchanges.len(), a.exchanges[0].outputs.len(), a.never.len()), (1, 2, 2));
        assert_eq!((b.exchanges.len(), b.delayed, b.segments), (2, true, Segments::Together));
        assert!(row.cases.iter().all(|case| case.pending.as_deref() == Some("bodies")));
        assert_eq!((a.probe, b.probe), (Probe::Http, Probe::Silence));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, place) in [
            ("in G(/)⏎", "x.txt:1"),
            ("row U-01 Z RFC 1", "x.txt:1"),
            ("row U-01 M RFC 1\ntitle t\ncase a\nout 200", "x.txt:4"),
            ("row U-01 M RFC 1\ntitle t\ncase a\nin X\nout 200", "line 3"),
            ("row U-01 M RFC 1\ntitle t\ncase a\nwith hat\nin \"a\"\nout 200", "line 3"),
            ("row U-01 M RFC 1\ntitle t", "U-01"),
        ] {
            let fault = parse("x", text).expect_err(text);
            assert!(fault.contains(place), "{fault}");
        }
    }
}
