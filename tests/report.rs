//! `loadtest/report`, on invented records (`tests/report`) and on all committed ones: every figure is in the page, the
//! page needs nothing else, a bad record is named, and in Chromium no label covers another. Skipped, aloud,
//! where there is no Python or no Chromium.

#[path = "clients/running.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
mod running;
#[path = "support/serving.rs"]
#[allow(dead_code, reason = "running starts servers for others")]
mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use running::{is_there, script};
use serde_json::{Map, Value, json};

/// A figure for each of them is in the page of the samples or in that of the committed records.
const CHARTS: [&str; 13] = [
    "glance",
    "rate",
    "cpu",
    "cpu-by-connections",
    "switch",
    "latency",
    "tail",
    "tail-latency",
    "memory",
    "resident",
    "calls",
    "calls-by-burst",
    "attack",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("target can be written");
    folder
}

fn has_python() -> bool {
    is_there("python3", &["--version"], "python3")
}

fn report(arguments: &[&Path]) -> Output {
    let mut report = Command::new(root().join("loadtest/report"));
    report.args(arguments).output().expect("it can be executed")
}

/// Runs it and returns what it wrote.
fn written(file: &Path, arguments: &[&Path]) -> String {
    let output = report(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(file).expect("it was written")
}

fn page(file: &Path, records: &[PathBuf]) -> String {
    let mut arguments = vec![Path::new("-o"), file];
    arguments.extend(records.iter().map(PathBuf::as_path));
    written(file, &arguments)
}

fn chart(file: &Path, name: &str, record: &Path) -> String {
    written(file, &[Path::new("--chart"), Path::new(name), Path::new("--svg"), file, record])
}

fn records(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(root().join(folder)).expect("it is part of the package");
    let mut files: Vec<PathBuf> =
        files.map(|file| file.expect("it can be listed").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "{folder} has records");
    files
}

fn read(record: &Path) -> Value {
    let text = fs::read_to_string(record).expect("it can be read");
    serde_json::from_str(&text).expect("it is JSON")
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#x27;")
}

/// The rows of a record as the page writes them, each figure as it is in the file.
fn lines(record: &Value) -> Vec<String> {
    let rows = record["table"].as_array().expect("a table");
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let is_word = |column: &str| rows.iter().any(|row| row[column].is_string());
    let cell = |(column, value): (&String, &Value)| {
        let said = match value {
            Value::Null => "–".to_owned(),
            Value::String(word) => escaped(word),
            figure => figure.to_string(),
        };
        let class = if is_word(column) { " class=\"word\"" } else { "" };
        format!("<td{class}>{said}</td>")
    };
    rows.iter()
        .map(|row| format!("<tr>{}</tr>", row.iter().map(cell).collect::<String>()))
        .collect()
}

#[test]
fn every_figure_of_every_record_is_in_the_page() {
    if !has_python() {
        return;
    }
    let folder = folder("figures");
    let mut pages = String::new();
    for from in ["tests/report", "loadtest/record"] {
        let page = page(&folder.join("page.html"), &records(from));
        for record in records(from) {
            let record = read(&record);
            for line in lines(&record) {
                assert!(page.contains(&line), "{line}");
            }
            for key in ["machine", "kernel", "rustc", "commit"] {
                let said = escaped(record[key].as_str().expect("it is known"));
                assert!(page.contains(&format!("<dd>{said}</dd>")), "{key} {said}");
            }
            for word in record["command"].as_array().expect("words") {
                let word = escaped(word.as_str().expect("a word"));
                assert!(page.contains(&word), "{word}");
            }
        }
        pages += &page;
    }
    for name in CHARTS {
        assert!(pages.contains(&format!("class=\"chart-{name}\"")), "there is no chart {name}");
    }
    assert!(pages.contains("Other tables"), "what no chart is known for is shown all the same");
}

#[test]
fn a_chart_says_the_figures_that_it_draws() {
    if !has_python() {
        return;
    }
    let file = folder("values").join("chart.svg");
    let sample = root().join("tests/report/sample-compare.json");
    let rows = read(&sample)["table"].as_array().expect("a table").clone();
    let cpu = chart(&file, "cpu", &sample);
    let rate = chart(&file, "rate", &sample);
    assert!(!cpu.contains("…</text>"), "a name is shortened");
    for row in rows {
        let figure = |column: &str| row[column].as_f64().expect("a figure");
        assert!(cpu.contains(&format!("{:.2}×", figure("ratio"))), "{row}");
        // Three digits: of 5.053 microseconds, 5.05.
        let decimals = (2.0 - figure("cpu_us").log10().floor()) as usize;
        let said = format!(">{:.decimals$}", figure("cpu_us"));
        let trimmed = said.trim_end_matches('0');
        assert!(cpu.contains(trimmed), "{trimmed} of {row}");
        assert!(rate.contains(if figure("rate") < 999_500.0 { " k<" } else { " M<" }), "{row}");
    }
}

#[test]
fn pages_and_charts_are_well_formed_and_fetch_nothing() {
    if !has_python() {
        return;
    }
    let folder = folder("formed");
    let odd = odd(&folder);
    let mut files = Vec::new();
    for (file, page) in pages(&folder, &odd) {
        assert_refers_to_nothing(&page);
        files.push(file);
    }
    for name in ["glance", "rate", "cpu", "switch", "latency", "resident", "calls"] {
        for record in [&root().join("tests/report/sample-compare.json"), &odd] {
            let file = folder.join(format!("{name}-{}.svg", files.len()));
            let chart = chart(&file, name, record);
            let space = " xmlns=\"http://www.w3.org/2000/svg\"";
            assert_eq!(chart.matches(space).count(), 1, "it is an SVG file");
            assert_refers_to_nothing(&chart.replace(space, ""));
            files.push(file);
        }
    }
    // A page is as well-formed as the charts in it.
    let parse =
        "import sys, xml.etree.ElementTree as tree\nfor file in sys.argv[1:]: tree.parse(file)";
    let parsed = Command::new("python3").args(["-c", parse]).args(&files).output();
    let parsed = parsed.expect("it is there");
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
}

/// A page of each kind of records, and what it holds.
fn pages(folder: &Path, odd: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let kinds = [
        ("samples", records("tests/report")),
        ("committed", records("loadtest/record")),
        ("odd", vec![odd.to_owned()]),
    ];
    kinds.into_iter().map(|(name, records)| {
        let file = folder.join(format!("{name}.html"));
        let page = page(&file, &records);
        (file, page)
    })
}

fn assert_refers_to_nothing(document: &str) {
    for reference in ["http:", "https:", "url(", "@import", "src=", "<link", "<script", "<base"] {
        assert!(!document.contains(reference), "it refers to something: {reference}");
    }
    for target in document.split("href=\"").skip(1) {
        let target = target.split('"').next().expect("it is closed");
        let part = target.strip_prefix('#').expect("it is a part of the page");
        assert!(document.contains(&format!("id=\"{part}\"")), "there is no {target}");
    }
}

/// A record of what tables may hold besides what they usually do: names of any length that are no names, servers
/// that nobody knows, figures that are missing, none, below zero or far from each other.
fn odd(folder: &Path) -> PathBuf {
    let mut rows = Vec::new();
    for profile in [
        "switch-<&>\"'",
        "plaintext",
        "churn",
        "an extraordinarily long profile name that has no end",
    ] {
        for server in 0..14_u8 {
            let name = match server {
                0 => "hosted".to_owned(),
                1 => "upring-with-all-the-limits-that-there-are".to_owned(),
                2 => "native".to_owned(),
                3 => "<script>\u{1}&amp;".to_owned(),
                _ => format!("{}{server}", "WM".repeat(usize::from(server))),
            };
            let figure = 10f64.powf(f64::from(server) - 4.0) * 1.2345678;
            rows.push(json!({
                "profile": profile, "target": name, "rate": figure * 1e5, "p50_us": server * 7, "p99_us": figure * 1e3,
                "p999_us": if server == 5 { Value::Null } else { json!(figure * 1e4) }, "cpu_us": figure,
                "cpu_us_lowest": figure / 2.0, "cpu_us_highest": figure * 2.0, "ratio": figure,
                "calls": if server % 2 == 0 { json!(-0.01) } else { Value::Null }, "rss_mib": 0,
            }));
        }
    }
    let file = folder.join("2026-01-01-odd.json");
    write_record(&file, &json!(rows));
    file
}

fn write_record(file: &Path, table: &Value) {
    let record = json!({
        "machine": "none", "kernel": "none", "rustc": null, "commit": null, "table": table,
        "command": ["measure", "--profile", "plaintext=http --path 'a b' --content \"<&>\"", ""],
    });
    fs::write(file, record.to_string()).expect("target can be written");
}

#[test]
fn a_bad_record_is_named_and_nothing_is_written() {
    if !has_python() {
        return;
    }
    let folder = folder("bad");
    let whole =
        json!({"machine": "m", "kernel": "k", "rustc": "r", "commit": "c", "command": ["measure"]});
    let with = |key: &str, value: Value| {
        let mut record = whole.clone();
        record["table"] = json!([{"target": "hosted", "profile": "a", "cpu_us": 1}]);
        record[key] = value;
        record.to_string()
    };
    let page = folder.join("page.html");
    for (name, text, said) in [
        ("no-json.json", "{".to_owned(), "it is no JSON"),
        ("no-text.json", "\"\\ud800".to_owned(), "it is no JSON"),
        ("deep.json", "[".repeat(100_000), "it is no JSON"),
        ("list.json", "[]".to_owned(), "it is no JSON object"),
        ("no-table.json", whole.to_string(), "`table` is no list of rows"),
        ("no-rows.json", with("table", json!([])), "`table` is no list of rows"),
        ("no-row.json", with("table", json!([{"a": 1}, 2])), "row 2: it is no object"),
        ("nested.json", with("table", json!([{"a": [1]}])), "row 1: `a` is neither a figure"),
        ("no-machine.json", with("machine", json!(1)), "`machine` is no text"),
        ("no-failure.json", with("failures", json!([1])), "`failures` is no list of words"),
        ("no-command.json", with("command", json!("measure")), "`command` is no list of words"),
        ("nan.json", with("table", json!([{"a": 0}])).replace('0', "NaN"), "NaN is no number"),
        ("large.json", with("table", json!([{"a": 0}])).replace('0', "1e999"), "too large"),
        (
            "word.json",
            with("table", json!([{"target": "a", "profile": "b", "cpu_us": "fast"}])),
            "row 1: `cpu_us` is no number: 'fast'",
        ),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).expect("target can be written");
        assert_refused(&report(&[Path::new("-o"), &page, &file]), 1, &[name, said]);
    }
    let missing = folder.join("missing.json");
    assert_refused(
        &report(&[Path::new("-o"), &page, &missing]),
        1,
        &["missing.json", "No such file"],
    );
    let sample = root().join("tests/report/sample-tail.json");
    assert_refused(
        &report(&[Path::new("-o"), &page, &sample, &sample]),
        1,
        &["sample-tail", "two"],
    );
    assert!(!page.exists(), "a page of bad records was written");
    let chart = |name| {
        [Path::new("--chart"), Path::new(name), Path::new("--svg"), &page, &sample]
            .map(Path::to_owned)
    };
    let call =
        |arguments: &[PathBuf]| report(&arguments.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    assert_refused(&call(&chart("cpu")), 1, &["`cpu`", "none of the records"]);
    assert_refused(&call(&chart("pie")), 2, &["pie", "glance"]);
    assert_refused(&call(&chart("tail")[..2]), 2, &["--svg"]);
}

/// One line that says all of `parts`; usage comes before what is said about it.
fn assert_refused(output: &Output, status: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    let line = said.lines().last().unwrap_or_default();
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} is not in {said}");
    assert!(status == 2 || said.lines().count() == 1, "{said}");
}

#[test]
fn a_record_of_failures_alone_is_shown_beside_the_others() {
    if !has_python() {
        return;
    }
    let folder = folder("failures");
    write_record(&folder.join("2026-01-01-tea.json"), &json!([{"minutes": 11}]));
    let failed = folder.join("2026-01-02-coffee.json");
    write_record(&failed, &json!([]));
    let mut record = read(&failed);
    record["failures"] = json!(["hosted, <a>: the generator reports: {}"]);
    fs::write(&failed, record.to_string()).expect("target can be written");
    let page = page(&folder.join("page.html"), std::slice::from_ref(&folder));
    assert!(page.contains("<td>11</td>"), "the others are there");
    assert!(page.contains("<li>hosted, &lt;a&gt;: the generator reports: {}</li>"));
    assert_eq!(page.matches("What failed").count(), 1);
    assert_refers_to_nothing(&page);
}

#[test]
fn at_a_glance_is_what_the_column_of_ratios_says() {
    if !has_python() {
        return;
    }
    let folder = folder("glance");
    let file = folder.join("2026-01-01-compare.json");
    let glance = |ratios: [Value; 3]| {
        let [hosted, native, epoll] = ratios;
        let row = |target: &str, cpu_us: f64, ratio: Value| json!({"profile": "plaintext", "target": target, "cpu_us": cpu_us, "ratio": ratio});
        let rows = json!([
            row("hosted", 6.0, hosted),
            row("native", 3.0, native),
            row("epoll", 4.0, epoll)
        ]);
        write_record(&file, &rows);
        chart(&folder.join("chart.svg"), "glance", &file)
    };
    let by_ratio = glance([json!(1.0), json!(0.6), json!(0.8)]);
    assert!(by_ratio.contains(">1.25×<") && by_ratio.contains(">0.75×<"), "{by_ratio}");
    let by_median = glance([json!(1.0), json!(0.5), Value::Null]);
    assert!(by_median.contains(">1.50×<") && by_median.contains(">0.75×<"), "{by_median}");
}

#[test]
fn each_server_of_the_scripts_is_described() {
    if !has_python() {
        return;
    }
    let script = fs::read_to_string(root().join("loadtest/common.sh")).expect("it can be read");
    let commands = script.split("command=(\n").nth(1).expect("the servers");
    let commands = commands.split("\n)").next().expect("it is closed");
    let name = |line: &str| Some(line.trim().strip_prefix('[')?.split_once(']')?.0.to_owned());
    let names: Vec<String> = commands.lines().filter_map(name).collect();
    assert!(names.len() > 5, "{names:?}");
    let folder = folder("described");
    let file = folder.join("2026-01-01-compare.json");
    write_record(&file, &names.iter().map(|name| json!({"target": name})).collect());
    let page = page(&folder.join("page.html"), &[file]);
    assert_eq!(page.matches("class=\"about\"").count(), names.len(), "{names:?}");
}

#[test]
fn of_a_folder_the_newest_of_each_topic_is_shown() {
    if !has_python() {
        return;
    }
    let folder = folder("newest");
    for (name, figure) in
        [("2026-01-02-tea", 11), ("2025-12-31-tea", 22), ("2025-01-01-tea-cold", 33)]
    {
        write_record(&folder.join(name).with_extension("json"), &json!([{"minutes": figure}]));
    }
    let page = page(&folder.join("page.html"), std::slice::from_ref(&folder));
    for (figure, is_shown) in [(11, true), (22, false), (33, true)] {
        assert_eq!(page.contains(&format!("<td>{figure}</td>")), is_shown, "{figure}");
    }
    let empty = folder.join("empty");
    fs::create_dir(&empty).expect("target can be written");
    assert_refused(&report(&[&empty]), 1, &["empty: there is no record in it"]);
}

#[test]
fn in_chromium_no_label_leaves_its_chart_or_covers_another() {
    if !has_python() || !is_there("chromium", &["--version"], "chromium") {
        return;
    }
    let folder = folder("seen");
    let odd = odd(&folder);
    let sample = root().join("tests/report/sample-compare.json");
    let mut files: Vec<PathBuf> = pages(&folder, &odd).map(|(file, _)| file).collect();
    for name in ["glance", "cpu", "switch", "latency"] {
        let file = folder.join(format!("{name}.svg"));
        chart(&file, name, &sample);
        files.push(file);
    }
    script("python3", "chromium_report.py", &files);
}
