//! The table of instructions that is committed, and what has changed since it was written. The bench
//! `instructions` writes it and compares with it; a test sees to it that it names every body that is
//! counted, and no other.

use std::fmt::Write as _;

/// Where it is.
pub const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.tsv");

/// More than so many in a hundred more, or fewer, are a change.
const PERCENT: u64 = 5;
/// Unless they are so few: which registers a small function saves changes with what it is inlined
/// into.
const INSTRUCTIONS_MIN: u64 = 10;

/// Instructions by the path of a body, for one of its units.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it was written with: compiler, C library, valgrind.
    pub tools: String,
    pub rows: Vec<(String, u64)>,
}

/// What has become of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Worse,
    Better,
    No,
}

impl Table {
    /// Reads a table: a line that says with what it was written, and one for each body.
    ///
    /// # Errors
    /// The line that is none of a table.
    pub fn parse(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let tools = first.strip_prefix("# ").ok_or_else(|| first.to_owned())?;
        tools.clone_into(&mut table.tools);
        for line in rest.lines() {
            let (name, count) = line.split_once('\t').ok_or_else(|| line.to_owned())?;
            let count = count.parse().map_err(|_| line.to_owned())?;
            if name.is_empty() || table.instructions(name).is_some() {
                return Err(line.to_owned());
            }
            table.rows.push((name.to_owned(), count));
        }
        Ok(table)
    }

    /// The text of a table.
    pub fn text(&self) -> String {
        let mut text = format!("# {}\n", self.tools);
        for (name, count) in &self.rows {
            let _ = writeln!(text, "{name}\t{count}");
        }
        text
    }

    /// Instructions of the body at a path.
    pub fn instructions(&self, path: &str) -> Option<u64> {
        self.rows.iter().find(|(name, _)| name == path).map(|(_, count)| *count)
    }
}

impl Change {
    /// From so many instructions to so many.
    pub fn between(before: u64, now: u64) -> Change {
        let slack = (before * PERCENT / 100).max(INSTRUCTIONS_MIN);
        if now > before + slack {
            Change::Worse
        } else if now + slack < before {
            Change::Better
        } else {
            Change::No
        }
    }
}
