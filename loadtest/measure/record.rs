//! Tables, for people on standard output and for later in a JSON file that also says when, where
//! and how they came to be.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::Finding;

/// Rows of named figures.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub(crate) fn new(columns: &[&'static str]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One figure a column.
    pub(crate) fn push(&mut self, row: &[Value]) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row.to_vec());
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    fn to_json(&self) -> Value {
        let row = |row: &Vec<Value>| {
            let named = self.columns.iter().map(|column| (*column).to_owned());
            Value::Object(named.zip(row.iter().cloned()).collect::<Map<_, _>>())
        };
        self.rows.iter().map(row).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: Vec<String> = self.columns.iter().map(|column| (*column).to_owned()).collect();
        let text = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            figure => figure.to_string(),
        };
        let rows = self.rows.iter().map(|row| row.iter().map(text).collect());
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        for line in &lines {
            for (column, cell) in line.iter().enumerate() {
                let width = lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
                write!(f, "{cell:>width$}  ")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Whether a record can be written there, before anything is measured. What is there already stays
/// as it is.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let opened = File::options().append(true).create(true).open(path);
    let file = opened.map_err(|error| format!("--record {}: {error}", path.display()))?;
    // It was not there before: an empty file is no record.
    if file.metadata().is_ok_and(|found| found.len() == 0 && found.is_file()) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Writes the table with date, topic, notes, machine, kernel, compiler, commit, command, profiles and what
/// failed, and says where. A table without a row is no record, and what is there already stays.
pub(crate) fn write(
    path: &Path,
    topic: &str,
    notes: &[String],
    finding: &Finding,
) -> Result<(), Box<dyn Error>> {
    if finding.table.rows.is_empty() {
        eprintln!("no record: there is no row");
        return Ok(());
    }
    let record = record(topic, notes, finding)?;
    let problem = |error| format!("--record {}: {error}", path.display());
    fs::write(path, format!("{record:#}\n")).map_err(problem)?;
    eprintln!("record: {}", path.canonicalize().map_err(problem)?.display());
    Ok(())
}

fn record(topic: &str, notes: &[String], finding: &Finding) -> io::Result<Value> {
    let command: Vec<String> = std::env::args().collect();
    let notes = [notes, &finding.notes].concat();
    Ok(json!({
        "date": output_of("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "topic": topic,
        "notes": notes,
        "machine": machine()?,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "rustc": output_of("rustc", &["--version"]),
        "commit": output_of("git", &["describe", "--always", "--dirty"]),
        "command": command,
        "profiles": finding.profiles,
        "failures": finding.failures,
        "table": finding.table.to_json(),
    }))
}

fn machine() -> io::Result<String> {
    let processor = field("/proc/cpuinfo", "model name")?;
    let memory = field("/proc/meminfo", "MemTotal")?;
    // Not what this process may use: it has confined itself to one.
    let cores = fs::read_to_string("/proc/cpuinfo")?.matches("processor\t:").count();
    Ok(format!("{processor}, {cores} cores, {memory} memory"))
}

/// The first value of a `name : value` file.
fn field(path: &str, name: &str) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    Ok(value.map_or("unknown", |(_, value)| value.trim()).to_owned())
}

/// What a command prints, or nothing where there is no such command.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["target", "calls"]);
        table.push(&["one".into(), 2.5.into()]);
        table.push(&["another".into(), Value::Null]);
        table
    }

    #[test]
    fn a_table_is_aligned_and_what_is_not_known_is_a_dash() {
        assert_eq!(table().to_string(), " target  calls  \n    one    2.5  \nanother      -  \n");
    }

    #[test]
    fn where_no_record_can_be_is_said_before_and_by_name() {
        let path = std::env::temp_dir().join(format!("measure-test-{}-no", std::process::id()));
        let error = check(&path.join("record.json")).unwrap_err();
        let said = format!("--record {}/record.json: No such file", path.display());
        assert!(error.starts_with(&said), "{error}");
        check(&path).unwrap();
        assert!(!path.exists(), "a check leaves nothing");
        fs::write(&path, "{}").unwrap();
        check(&path).unwrap();
        // Nor does a run of which nothing came.
        write(&path, "compare", &[], &Finding::new(Table::new(&["target"]))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        write(&path, "compare", &[], &Finding::new(table())).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\"topic\": \"compare\""));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_record_says_when_where_and_how_and_what_failed() {
        let mut finding = Finding::new(table());
        finding.profiles = BTreeMap::from([("a".to_owned(), "http".to_owned())]);
        finding.failures.push("one, a: wrong".to_owned());
        finding.notes.push("left out: two".to_owned());
        let record = record("compare", &["nginx 1".to_owned()], &finding).unwrap();
        assert_eq!(record["topic"], "compare");
        assert_eq!(record["notes"], json!(["nginx 1", "left out: two"]));
        assert_eq!(record["failures"][0], "one, a: wrong");
        assert_eq!(record["profiles"]["a"], "http");
        assert_eq!(record["table"][1], json!({"target": "another", "calls": null}));
        let date = record["date"].as_str().unwrap();
        assert!(date.len() == 20 && date.ends_with('Z') && date.as_bytes()[10] == b'T', "{date}");
        for field in ["machine", "kernel", "rustc"] {
            assert!(!record[field].as_str().unwrap().is_empty(), "{field}");
        }
    }
}
