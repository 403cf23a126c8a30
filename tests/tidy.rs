//! What no compiler checks: every file says what it is for, `unsafe` is where ARCHITECTURE.md says,
//! functions fit a screen, and the documents quote what they claim to quote.

use std::fs;
use std::path::{Path, PathBuf};

use upring::config::Limits;
use upring::counters::Counters;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below a folder, its path relative to the package, its text; not what a build has left.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is part of the package") {
            let path: PathBuf = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| !path.ends_with("target")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is below").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("it is text")));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// The part of a file that is not its tests.
fn code(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests").map_or(text, |tests| &text[..tests])
}

#[test]
fn every_file_says_what_lives_there() {
    for folder in ["src", "tests", "benches", "examples", "loadtest"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{path} does not open with //!");
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    for folder in ["src", "tests", "benches", "examples", "loadtest"] {
        for (path, text) in sources(folder) {
            let mark = marks.iter().find(|mark| text.contains(&***mark));
            assert!(mark.is_none(), "{path} has a {mark:?}");
        }
    }
}

#[test]
fn every_limit_is_documented_with_the_counters_that_tell_of_it() {
    let page = read("tuning/README.md");
    let table = page.split("## Limits").nth(1).expect("the table of limits");
    let limits = Limits::default();
    for (name, value) in limits.each() {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in tuning/README.md"));
        let default = row.split('|').nth(2).expect("a default").trim();
        let said: u64 = default
            .split(|c: char| !c.is_ascii_digit())
            .find_map(|digits| digits.parse().ok())
            .expect("a default is a number");
        let unit = if default.contains("KiB") {
            1 << 10
        } else if default.contains("MiB") {
            1 << 20
        } else if default.contains("GiB") {
            1 << 30
        } else {
            1
        };
        assert_eq!(said * unit, value, "the default of {name}");
        let cell = row.rsplit('|').nth(1).expect("the counters");
        let counters: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!counters.is_empty(), "{name} has no counter in tuning/README.md");
        let known: Vec<&str> = Counters::default().each().map(|(name, _)| name).collect();
        for counter in counters {
            assert!(known.contains(&counter), "{name}: there is no counter {counter}");
        }
    }
}

#[test]
fn unsafe_is_where_the_architecture_says() {
    let listed = read("ARCHITECTURE.md");
    for (path, text) in sources("src") {
        let has_unsafe =
            ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|word| code(&text).contains(word));
        let name = path.trim_start_matches("src/");
        assert_eq!(has_unsafe, listed.contains(&format!("| `{name}` |")), "{path}");
    }
}

#[test]
fn functions_fit_a_screen() {
    for (path, text) in sources("src") {
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in code(&text).lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let starts = line.trim_start().starts_with("fn ") || line.contains(" fn ");
            match open {
                None if starts && !line.trim_start().starts_with("//") && !line.ends_with(';') => {
                    open = Some((number, indent, line));
                }
                Some((start, at, head)) if indent == at && line.trim_start().starts_with('}') => {
                    assert!(
                        number - start < 70,
                        "{path}:{} is {} lines: {head}",
                        start + 1,
                        number - start
                    );
                    open = None;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_bytes_column_asks_the_kernel_for_nothing() {
    let kernel = [
        "std::net::Tcp",
        "std::time::Instant",
        "SystemTime",
        "libc::",
        "rustix::",
        "socket2::",
        "use io_uring",
    ];
    for folder in
        ["src/scan", "src/http", "src/preface", "src/session", "src/buffer", "src/protocols"]
    {
        for (path, text) in sources(folder) {
            let word = kernel.iter().find(|word| code(&text).contains(**word));
            assert!(word.is_none(), "{path} uses {word:?}");
        }
    }
}

#[test]
fn the_architecture_fits_and_the_readme_quotes_the_example_as_it_is() {
    assert!(read("ARCHITECTURE.md").lines().count() <= 250);
    let example = read("examples/custom_protocol.rs");
    assert!(example.lines().count() <= 60, "the line protocol is at most 60 lines");
    assert!(
        read("README.md").contains(example.trim_end()),
        "README.md quotes examples/custom_protocol.rs"
    );
}
