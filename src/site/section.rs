//! A table of a configuration file while it is read: each key is taken once, by its type; what is left
//! over at the end was not known. Every fault is noted with its place, and reading goes on.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Notes, suggestion};

/// A table being read.
#[derive(Debug)]
pub struct Section<'a> {
    notes: &'a Notes<'a>,
    /// Where it stands, or the key that it is the value of.
    at: Range<usize>,
    entries: Vec<Entry<'a>>,
    /// Keys that were asked for.
    known: Vec<&'static str>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: Spanned<Cow<'a, str>>,
    value: Spanned<DeValue<'a>>,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    pub(super) at: Range<usize>,
}

impl<'a> Section<'a> {
    pub(super) fn new(notes: &'a Notes<'a>, at: Range<usize>, table: DeTable<'a>) -> Section<'a> {
        let entries = table.into_iter().map(|(key, value)| Entry { key, value });
        let mut entries: Vec<_> = entries.collect();
        // In the order in which they were written.
        entries.sort_by_key(|entry| entry.key.span().start);
        Section { notes, at, entries, known: Vec::new() }
    }

    /// Notes a fault of the section as a whole.
    pub fn fault(&self, message: impl Into<String>) {
        self.notes.add(self.at.clone(), message);
    }

    /// Notes a fault of a value.
    pub fn fault_at<T>(&self, placed: &Placed<T>, message: impl Into<String>) {
        self.notes.add(placed.at.clone(), message);
    }

    /// Whether a key is there, of whatever type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| *entry.key.get_ref() == key)
    }

    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<Placed<String>> {
        let value = self.take(key)?;
        self.as_text(key, value)
    }

    /// A string, or a list of strings.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<Placed<String>>> {
        let value = self.take(key)?;
        let at = value.span();
        match value.into_inner() {
            DeValue::Array(list) => {
                Some(list.into_iter().filter_map(|item| self.as_text(key, item)).collect())
            }
            other => Some(self.as_text(key, Spanned::new(at, other)).into_iter().collect()),
        }
    }

    /// A whole number within `range`.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<Placed<u64>> {
        let value = self.take(key)?;
        let placed = self.as_number(key, &value)?;
        if !range.contains(&placed.value) {
            let (least, most) = range.into_inner();
            self.fault_at(&placed, format!("`{key}` is a number from {least} to {most}"));
            return None;
        }
        Some(placed)
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                self.mistyped(key, "true or false", other, value.span());
                None
            }
        }
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let said = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == said.value);
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let near = suggestion(&said.value, words.iter().map(|(word, _)| *word));
            self.fault_at(&said, format!("`{key}` is one of {}{near}", all.join(", ")));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A table.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let value = self.take(key)?;
        self.as_section(key, value)
    }

    /// A table for each `[[key]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let at = value.span();
        match value.into_inner() {
            DeValue::Array(list) => {
                list.into_iter().filter_map(|item| self.as_section(key, item)).collect()
            }
            other => {
                self.mistyped(
                    key,
                    &format!("a list of tables, each begun by [[{key}]]"),
                    &other,
                    at,
                );
                Vec::new()
            }
        }
    }

    /// A string, or a table: a short form, and one with more to say.
    pub fn text_or_section(&mut self, key: &'static str) -> Option<TextOrSection<'a>> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Table(_) => self.as_section(key, value).map(TextOrSection::Section),
            DeValue::String(_) => self.as_text(key, value).map(TextOrSection::Text),
            other => {
                self.mistyped(key, "a string or a table", other, value.span());
                None
            }
        }
    }

    /// A table without anything, in the same place.
    pub(super) fn nothing(&self) -> Section<'a> {
        Section::new(self.notes, self.at.clone(), DeTable::new())
    }

    /// All that was not taken, each a key with a number: for names that are data.
    pub(super) fn numbers(&mut self) -> Vec<(Placed<String>, Placed<u64>)> {
        let entries = std::mem::take(&mut self.entries);
        let number = |Entry { key, value }: Entry<'a>| {
            let name = Placed { at: key.span(), value: key.into_inner().into_owned() };
            self.as_number(&name.value, &value).map(|number| (name, number))
        };
        entries.into_iter().filter_map(number).collect()
    }

    /// All that was not taken, each a key with a string.
    pub(super) fn named_texts(&mut self) -> Vec<(Placed<String>, Placed<String>)> {
        let entries = std::mem::take(&mut self.entries);
        let text = |Entry { key, value }: Entry<'a>| {
            let name = Placed { at: key.span(), value: key.into_inner().into_owned() };
            self.as_text(&name.value, value).map(|text| (name, text))
        };
        entries.into_iter().filter_map(text).collect()
    }

    /// All that was not taken, each a key with a table.
    pub(super) fn named_sections(&mut self) -> Vec<(Placed<String>, Section<'a>)> {
        let entries = std::mem::take(&mut self.entries);
        let section = |Entry { key, value }: Entry<'a>| {
            let name = Placed { at: key.span(), value: key.into_inner().into_owned() };
            self.as_section(&name.value, value).map(|section| (name, section))
        };
        entries.into_iter().filter_map(section).collect()
    }

    /// Notes each key that nobody has asked for.
    pub fn end(self) {
        for entry in &self.entries {
            let said = entry.key.get_ref();
            let near = suggestion(said, self.known.iter().copied());
            let hint = if near.is_empty() { self.keys() } else { near };
            self.notes.add(entry.key.span(), format!("unknown key `{said}`{hint}"));
        }
    }

    fn keys(&self) -> String {
        let mut known: Vec<_> = self.known.iter().map(|key| format!("`{key}`")).collect();
        known.sort();
        match known.is_empty() {
            true => "; there is nothing to say here".to_owned(),
            false => format!("; known here are {}", known.join(", ")),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        let at = self.entries.iter().position(|entry| *entry.key.get_ref() == key)?;
        Some(self.entries.remove(at).value)
    }

    fn as_text(&self, key: &str, value: Spanned<DeValue<'a>>) -> Option<Placed<String>> {
        let at = value.span();
        match value.into_inner() {
            DeValue::String(text) => Some(Placed { value: text.into_owned(), at }),
            other => {
                self.mistyped(key, "a string", &other, at);
                None
            }
        }
    }

    fn as_number(&self, key: &str, value: &Spanned<DeValue<'a>>) -> Option<Placed<u64>> {
        let at = value.span();
        if let DeValue::Integer(number) = value.get_ref() {
            if let Ok(value) = u64::from_str_radix(number.as_str(), number.radix()) {
                return Some(Placed { value, at });
            }
            self.notes.add(at, format!("`{key}` is a whole number, not negative, below 2^64"));
        } else {
            self.mistyped(key, "a whole number", value.get_ref(), at);
        }
        None
    }

    fn as_section(&self, key: &str, value: Spanned<DeValue<'a>>) -> Option<Section<'a>> {
        let at = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Section::new(self.notes, at, table)),
            other => {
                self.mistyped(key, "a table", &other, at);
                None
            }
        }
    }

    fn mistyped(&self, key: &str, wanted: &str, found: &DeValue<'_>, at: Range<usize>) {
        self.notes.add(at, format!("`{key}` is {wanted}, not {}", kind(found)));
    }
}

/// See [`Section::text_or_section`].
#[derive(Debug)]
pub enum TextOrSection<'a> {
    /// The short form.
    Text(Placed<String>),
    /// The long one.
    Section(Section<'a>),
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
