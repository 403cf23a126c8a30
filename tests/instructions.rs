//! The committed table of instructions and the bodies it is of cannot drift apart, and a body that has
//! become more than 5 % dearer is told from one that has not. Counting itself needs valgrind and a
//! release build: `cargo bench --bench instructions -- --compare`.

#[path = "../benches/support/mod.rs"]
mod support;

use std::fs;

use support::bodies;
use support::table::{Change, PATH, Table};

#[test]
fn the_table_has_a_row_for_every_body_and_no_other() {
    let text = fs::read_to_string(PATH).expect("the table is part of the package");
    let table = Table::parse(&text).unwrap_or_else(|line| panic!("no row of a table: {line:?}"));
    let rows: Vec<String> = table.rows.iter().map(|(name, _)| name.clone()).collect();
    let bodies: Vec<String> = bodies::all_counted().iter().map(bodies::Body::path).collect();
    assert_eq!(rows, bodies, "cargo bench --bench instructions -- --write");
    assert!(table.tools.starts_with("rustc "), "it says what it was written with");
    assert_eq!(table.text(), text, "it is as the bench writes it");
}

#[test]
fn the_readme_has_the_figures_of_the_table() {
    let text = fs::read_to_string(PATH).expect("the table is part of the package");
    let table = Table::parse(&text).unwrap_or_else(|line| panic!("no row of a table: {line:?}"));
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("it is part of the package");
    let (_, behind) = readme.split_once("| segments |").expect("the table of segments");
    let mut lines = behind.lines();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let segments = cells(lines.next().expect("its head"));
    let segments: Vec<_> = segments.into_iter().filter(|cell| !cell.is_empty()).collect();
    assert_eq!(segments, ["1", "2", "4", "8"]);
    for (line, kind) in lines.skip(1).zip(["request", "echo", "websocket"]) {
        for (said, segments) in cells(line)[2..].iter().zip(&segments) {
            let name = format!("switch/engine/{kind}/{segments}");
            let row = table.rows.iter().find(|(row, _)| *row == name).expect("it is counted");
            assert_eq!(said.replace(',', ""), row.1.to_string(), "{name} in README.md");
        }
    }
}

#[test]
fn more_than_five_in_a_hundred_is_a_change() {
    for (before, now, change) in [
        (1000, 1050, Change::No),
        (1000, 1051, Change::Worse),
        (1000, 950, Change::No),
        (1000, 949, Change::Better),
        (1000, 0, Change::Better),
        (100, 110, Change::No),
        (100, 111, Change::Worse),
        (100, 89, Change::Better),
        (0, 11, Change::Worse),
    ] {
        assert_eq!(Change::between(before, now), change, "{before} to {now}");
    }
}

#[test]
fn what_is_no_table_is_told_by_its_line() {
    for (text, line) in [
        ("", ""),
        ("a\t1\n", "a\t1"),
        ("# rustc\na 1\n", "a 1"),
        ("# rustc\na\tone\n", "a\tone"),
        ("# rustc\na\t-1\n", "a\t-1"),
        ("# rustc\n\t1\n", "\t1"),
        ("# rustc\na\t1\n\n", ""),
        ("# rustc\na\t1\nb\t2\na\t3\n", "a\t3"),
    ] {
        assert_eq!(Table::parse(text), Err(line.to_owned()), "{text:?}");
    }
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let rows = vec![("a/b, c".to_owned(), 1), ("d".to_owned(), 22)];
    let table = Table { tools: "rustc 1.95.0, glibc 2.36".to_owned(), rows };
    assert_eq!(Table::parse(&table.text()), Ok(table));
}
