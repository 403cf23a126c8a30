//! What is wrong with a configuration file: each fault with its line, the words that stand there, and
//! what may have been meant. All faults of a file are told at once.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use crate::privilege::refused_to;

/// Bytes of a line that are shown of it.
const SHOWN_CHARS_MAX: usize = 120;

/// Faults of one file that are told: who has more has another kind of file.
const FAULTS_MAX: usize = 100;

/// What is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// What the file is called.
    name: String,
    found: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub message: String,
    /// Where, if it is anywhere in particular.
    pub place: Option<Place>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The first line is 1.
    pub line: usize,
    /// The first character of a line is 1.
    pub column: usize,
    /// The line.
    text: String,
    /// Characters of it that are meant.
    width: usize,
}

impl Faults {
    /// A file that cannot be read at all.
    pub(super) fn unreadable(name: &str, error: &std::io::Error) -> Faults {
        let message = format!("it cannot be read: {}", refused_to(error));
        Faults { name: name.to_owned(), found: vec![Fault { message, place: None }] }
    }

    /// What was found, in the order in which it stands in the file.
    pub fn each(&self) -> impl Iterator<Item = &Fault> {
        self.found.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.name)?;
            match &fault.place {
                None => write!(f, ": {}", fault.message)?,
                Some(place) => {
                    let Place { line, column, text, width } = place;
                    write!(f, ":{line}:{column}: {}\n{line:>5} | {text}\n", fault.message)?;
                    write!(f, "      | {:1$}{2}", "", column - 1, "^".repeat(*width))?;
                }
            }
        }
        Ok(())
    }
}

/// Where faults are noted while a file is read.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    name: &'a str,
    text: &'a str,
    found: RefCell<Vec<(usize, Fault)>>,
}

impl<'a> Notes<'a> {
    pub(super) fn on(name: &'a str, text: &'a str) -> Notes<'a> {
        Notes { name, text, found: RefCell::default() }
    }

    /// Notes what is wrong with the bytes `at` of the file.
    pub(super) fn add(&self, at: Range<usize>, message: impl Into<String>) {
        if self.count() >= FAULTS_MAX {
            return;
        }
        if self.count() == FAULTS_MAX - 1 {
            return self.add_to_all("and more: what is above comes first");
        }
        let place = Some(place(self.text, at.clone()));
        let fault = Fault { message: message.into(), place };
        self.found.borrow_mut().push((at.start, fault));
    }

    /// Notes what is wrong with the file as a whole.
    pub(super) fn add_to_all(&self, message: impl Into<String>) {
        let fault = Fault { message: message.into(), place: None };
        self.found.borrow_mut().push((usize::MAX, fault));
    }

    /// The line of a byte of the file; the first is 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        place(self.text, at..at).line
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// What was noted, if anything was.
    pub(super) fn into_faults(self) -> Result<(), Faults> {
        let mut found = self.found.into_inner();
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|(at, _)| *at);
        let found = found.into_iter().map(|(_, fault)| fault).collect();
        Err(Faults { name: self.name.to_owned(), found })
    }
}

fn place(text: &str, at: Range<usize>) -> Place {
    let start = text.floor_char_boundary(at.start.min(text.len()));
    let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let shown: String = text[begin..end].chars().map(visible).take(SHOWN_CHARS_MAX).collect();
    let meant = text.floor_char_boundary(at.end.min(end)).max(start);
    Place {
        line: text[..begin].matches('\n').count() + 1,
        column: text[begin..start].chars().count() + 1,
        text: shown.trim_end().to_owned(),
        width: text[start..meant].chars().count().clamp(1, SHOWN_CHARS_MAX),
    }
}

/// A control character, a tab among them, is shown as one blank, so that the marks stand below what
/// they mean.
fn visible(char: char) -> char {
    if char.is_control() { ' ' } else { char }
}

/// `; did you mean ...?`, if one of `known` is close to what was said.
pub(super) fn suggestion<'a>(said: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let far = 1 + said.chars().count() / 4;
    let distance = |known: &str| strsim::damerau_levenshtein(said, known);
    let close = known.into_iter().map(|known| (distance(known), known));
    let close = close.filter(|(distance, known)| {
        *distance <= far || (said.len() >= 4 && (known.contains(said) || said.contains(known)))
    });
    close.min().map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_shown_with_its_line_and_below_what_is_meant() {
        let text = "workers = 2\n\tliste = \"größer\" # yes\n";
        let notes = Notes::on("a.toml", text);
        let at = text.find("liste").expect("it is there");
        notes.add_to_all("something else");
        notes.add(at..at + 5, "no");
        let faults = notes.into_faults().expect_err("there are two");
        let told = "a.toml:2:2: no\n    2 |  liste = \"größer\" # yes\n      |  ^^^^^\na.toml: something else";
        assert_eq!(faults.to_string(), told);
    }

    #[test]
    fn any_range_has_a_place() {
        for text in ["", "\n", "a", "ü\nü", "\r\nü = 1\n\n"] {
            for start in 0..text.len() + 2 {
                for end in start..text.len() + 2 {
                    let Place { line, width, .. } = place(text, start..end);
                    assert!(line >= 1 && width >= 1, "{text:?} {start}..{end}");
                }
            }
        }
    }

    #[test]
    fn what_is_close_is_suggested_and_nothing_else() {
        let known = ["address", "backlog", "proxy_protocol"];
        for (said, meant) in
            [("adress", "address"), ("addres", "address"), ("proxy", "proxy_protocol")]
        {
            assert_eq!(suggestion(said, known), format!("; did you mean `{meant}`?"));
        }
        assert_eq!(suggestion("colour", known), "");
    }
}
