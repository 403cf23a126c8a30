//! Tables, for people on standard output and for later in a JSON file that also says where and how
//! they came to be.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

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
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
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

/// Writes the table with machine, kernel, compiler, commit and command.
pub(crate) fn write(path: &Path, table: &Table) -> io::Result<()> {
    let command: Vec<String> = std::env::args().collect();
    let record = json!({
        "machine": machine()?,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "rustc": output_of("rustc", &["--version"]),
        "commit": output_of("git", &["describe", "--always", "--dirty"]),
        "command": command,
        "table": table.to_json(),
    });
    fs::write(path, format!("{record:#}\n"))
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
