//! Instructions of every body that the other benches time, counted by callgrind: figures that,
//! unlike times, are the same in every run. What the simulated kernel does is left out.
//!
//! ```sh
//! cargo bench --bench instructions                  # each body and its figure; words choose among bodies
//! cargo bench --bench instructions -- --compare     # against benches/instructions.tsv; fails where one has 5 % more
//! cargo bench --bench instructions -- --write       # writes that table anew
//! ```
//!
//! One that has become better is told, and is no failure: what a table has gains or loses some per
//! cent with the folder it is built in and the compiler.
//!
//! Each body runs under valgrind in a process of its own, so that no other decides what memory it
//! finds. With `-- --test` each runs once, without valgrind.

#[path = "support/mod.rs"]
mod support;

use std::env;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::bodies::{self, Body, Run};
use support::counted::PREPARED;
use support::table::{Change, PATH, Table};

/// Rounds before the count: memory that is used again is there, and every branch was taken.
const ROUNDS_BEFORE: u64 = PREPARED;
const ROUNDS: u64 = 2 * PREPARED;

/// What enters or leaves the account: each entering and leaving of these functions.
const TOGGLES: [&str; 2] = ["*support::counted::counted*", "*Watched*::uncounted*"];
/// What is counted before this function does not count.
const ZERO: &str = "*from_here_on*";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if let [scenario, path] = &arguments[..]
        && scenario == "--scenario"
    {
        return run(path);
    }
    const OPTIONS: [&str; 4] = ["--bench", "--test", "--compare", "--write"];
    let is_unknown = |word: &&String| word.starts_with("--") && !OPTIONS.contains(&word.as_str());
    if let Some(unknown) = arguments.iter().find(is_unknown) {
        println!("there is no option {unknown}: {OPTIONS:?}");
        return ExitCode::FAILURE;
    }
    // A table is of all of them.
    let words = if has("--write") { Vec::new() } else { words(&arguments) };
    let bodies = chosen(&words);
    if bodies.is_empty() {
        println!("no body is called {words:?}");
        return ExitCode::FAILURE;
    }
    // As criterion does it: cargo says `--bench` to measure, and nothing to test.
    if has("--test") || !has("--bench") {
        bodies.iter().for_each(|body| _ = body.begin()(1));
        return ExitCode::SUCCESS;
    }
    let Some(tools) = tools() else {
        println!("SKIPPED, instructions are counted by valgrind, on an x86-64 processor with AVX2");
        return ExitCode::SUCCESS;
    };
    let table = Table { tools, rows: count(&bodies) };
    if has("--write") {
        write(&table)
    } else if has("--compare") {
        compare(&table, words.is_empty())
    } else {
        print(&table)
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect()
}

/// The bodies whose paths contain one of the words; all, if there is none.
fn chosen(words: &[&str]) -> Vec<Body> {
    let is_chosen =
        |body: &Body| words.is_empty() || words.iter().any(|word| body.path().contains(word));
    bodies::all_counted().into_iter().filter(is_chosen).collect()
}

/// What counts are true of. None where they cannot be had, or would be of other instructions.
fn tools() -> Option<String> {
    let says = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.lines().next()?.split(" (").next()?.to_owned())
    };
    let valgrind = says("valgrind", "--version").filter(|_| has_avx2())?;
    let rustc = says("rustc", "--version").unwrap_or_default();
    let libc = says("getconf", "GNU_LIBC_VERSION").unwrap_or_default();
    Some(format!("{rustc}, {libc}, {valgrind}"))
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// Instructions of each body, for one unit of it. Each core has a process at a time.
fn count(bodies: &[Body]) -> Vec<(String, u64)> {
    let next = AtomicUsize::new(0);
    let paths: Vec<(String, u64)> = bodies.iter().map(|body| (body.path(), body.units)).collect();
    let work = || {
        let mut rows = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some((path, units)) = paths.get(at)
        {
            rows.push((at, path.clone(), collected(path) / ROUNDS / units));
        }
        rows
    };
    let mut rows: Vec<_> = thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it has no fault")).collect()
    });
    rows.sort();
    rows.into_iter().map(|(_, path, count)| (path, count)).collect()
}

/// What callgrind collects of one body. Environment and arguments are the same wherever this is:
/// they lie on the stack, and what lies behind them would be aligned otherwise.
fn collected(path: &str) -> u64 {
    let program = env::current_exe().expect("it is running");
    let (folder, name) = (program.parent(), program.file_name());
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(TOGGLES.map(|pattern| format!("--toggle-collect={pattern}")))
        .arg(format!("--zero-before={ZERO}"))
        .arg(Path::new(".").join(name.expect("it is a file")))
        .args(["--scenario", path])
        .current_dir(folder.expect("a file is in a folder"))
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("it was there a moment ago");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}:\n{text}");
    let count = text.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    count.unwrap_or_else(|| panic!("valgrind does not count {path}:\n{text}"))
}

/// One body, as it is run under valgrind.
fn run(path: &str) -> ExitCode {
    let body = bodies::all_counted().into_iter().find(|body| body.path() == path);
    let mut run = body.expect("it was named by this program").begin();
    run(ROUNDS_BEFORE);
    from_here_on(&mut run);
    ExitCode::SUCCESS
}

/// In a function of its own, whose entry callgrind sees.
#[inline(never)]
fn from_here_on(run: &mut Run) {
    run(ROUNDS);
}

fn print(table: &Table) -> ExitCode {
    table.rows.iter().for_each(|(path, count)| println!("{count:>9} {path}"));
    ExitCode::SUCCESS
}

fn write(table: &Table) -> ExitCode {
    fs::write(PATH, table.text()).expect("the table can be written");
    println!("{} rows written", table.rows.len());
    ExitCode::SUCCESS
}

/// Says what has changed. Fails if something is worse, or if it cannot be said.
fn compare(now: &Table, is_all: bool) -> ExitCode {
    let text = fs::read_to_string(PATH).expect("the table is part of the package");
    let before = Table::parse(&text).unwrap_or_else(|line| panic!("no row of a table: {line:?}"));
    let (mut worse, mut better) = (0, 0);
    for (path, count) in &now.rows {
        let Some(was) = before.instructions(path) else {
            println!("  new           {count:>9}  {path}");
            worse += 1;
            continue;
        };
        let word = match Change::between(was, *count) {
            Change::Worse => "WORSE",
            Change::Better => "better",
            Change::No => continue,
        };
        let percent = 100.0 * (*count as f64 - was as f64) / was as f64;
        println!("  {word:<6} {percent:+6.1} % {count:>9}, was {was}: {path}");
        worse += usize::from(word == "WORSE");
        better += usize::from(word == "better");
    }
    // A choice of bodies says nothing of the others.
    let is_counted = |name: &str| now.rows.iter().any(|(path, _)| path == name);
    let gone = before.rows.iter().filter(|(name, _)| is_all && !is_counted(name));
    for (name, was) in gone {
        println!("  gone          {was:>9}  {name}");
        worse += 1;
    }
    println!("{} bodies: {worse} worse, {better} better by more than 5 %", now.rows.len());
    if worse + better > 0 {
        println!("what is meant to be so: cargo bench --bench instructions -- --write");
    }
    if worse > 0 && before.tools != now.tools {
        println!("the table was written with {}, and this is {}", before.tools, now.tools);
    }
    if worse > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
