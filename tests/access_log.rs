//! The access log of the built binary over loopback: what its lines say, and that none is lost or
//! doubled when the file is moved away, when the target is stuck, and at the end.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

#[path = "support/process.rs"]
mod process;

use process::{Folder, PATIENCE, Served, get, head};

/// A server with one worker that logs, and has an admin listener in the same folder.
fn serve(folder: &Folder, format: &str, to: &str, more: &[&str]) -> Option<Served> {
    let text = format!(
        "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n[admin]\nlisten = 'unix:{}'\n\
         [log]\naccess = '{to}'\naccess_format = '{format}'\naccess_queue_bytes_max = {}\n\
         [[route]]\npath = '/plaintext'\nanswer = {{ text = 'Hello, World!' }}\n\
         [[route]]\npath = '/echo'\nupgrade = 'echo'\n",
        folder.0.join("admin.sock").display(),
        1 << 20
    );
    let file = folder.write("upring.toml", &text);
    let arguments = [&["--config", file.to_str().expect("a name of ours")], more].concat();
    Served::start(&arguments, &[])
}

/// One counter, by the name of its metric.
fn counted(folder: &Folder, name: &str) -> u64 {
    let mut admin = UnixStream::connect(folder.0.join("admin.sock")).expect("it listens");
    admin
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    admin.read_to_string(&mut text).expect("it answers");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("upring_{name}_total ")));
    line.unwrap_or_else(|| panic!("there is no {name}: {text}")).parse().expect("a number")
}

/// Lines of a file, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "{count} lines never come: {text}");
        thread::sleep(Duration::from_millis(5));
    }
}

const TRICKY: &[u8] = b"GET /plaintext?a=%0d%0aGET%20/\"'|x HTTP/1.1\r\nHost: a\r\n\
    Referer: http://r.example/\"\\\r\nUser-Agent: \x80\xff\ta \"b\" \\n\r\n\r\n";

#[test]
fn a_line_of_each_format_cannot_be_broken_by_what_clients_send() {
    for format in ["common", "combined", "json"] {
        let folder = Folder::new(&format!("access-{format}"));
        let log = folder.0.join("access.log");
        let Some(served) = serve(&folder, format, "access.log", &[]) else { return };
        let mut stream = served.connect();
        stream.write_all(TRICKY).expect("it reads");
        let sent = head(&mut stream).len() + b"Hello, World!".len();
        let mut faulty = served.connect();
        faulty.write_all(b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        let mut answer = Vec::new();
        faulty.read_to_end(&mut answer).expect("it answers and closes");
        let written = lines(&log, 2);
        assert_eq!(written.len(), 2, "{written:?}");
        if format == "json" {
            let line: Value = serde_json::from_str(&written[0]).expect("JSON");
            assert_eq!(line["request"], "GET /plaintext?a=%0d%0aGET%20/\"'|x HTTP/1.1");
            assert_eq!(line["user_agent"], "\u{fffd}\u{fffd}\ta \"b\" \\n");
            assert_eq!((&line["status"], &line["bytes_sent"]), (&200.into(), &sent.into()));
            assert_eq!((&line["client"], &line["core"]), (&"127.0.0.1".into(), &0.into()));
            assert!(line["duration_us"].as_u64().is_some_and(|time| time < 5_000_000), "{line}");
            let line: Value = serde_json::from_str(&written[1]).expect("JSON");
            assert_eq!(
                (&line["request"], &line["status"]),
                (&"GET /\u{1} HTTP/1.1".into(), &400.into())
            );
        } else {
            assert!(written[0].starts_with("127.0.0.1 - - ["), "{written:?}");
            let request = "\"GET /plaintext?a=%0d%0aGET%20/\\x22'|x HTTP/1.1\"";
            let combined =
                " \"http://r.example/\\x22\\x5C\" \"\\x80\\xFF\\x09a \\x22b\\x22 \\x5Cn\"";
            let more = if format == "combined" { combined } else { "" };
            let end = format!(" +0000] {request} 200 {sent}{more}");
            assert!(written[0].ends_with(&end), "{} not {end}", written[0]);
            let faulty = format!("\"GET /\\x01 HTTP/1.1\" 400 {}", answer.len());
            assert!(written[1].contains(&faulty), "{written:?} not {faulty}");
        }
        assert_eq!(served.end().0, Some(0));
    }
}

#[test]
fn a_switched_connection_has_a_line_at_the_switch_and_one_at_its_end() {
    let folder = Folder::new("access-switch");
    let Some(served) = serve(&folder, "json", "access.log", &[]) else { return };
    let mut stream = served.connect();
    stream
        .write_all(
            b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly",
        )
        .expect("it reads");
    let sent = head(&mut stream).len();
    let parsed = |line: &String| serde_json::from_str::<Value>(line).expect("JSON");
    let switch = lines(&folder.0.join("access.log"), 1).iter().map(parsed).next().expect("one");
    assert_eq!((&switch["status"], &switch["bytes_sent"]), (&101.into(), &sent.into()));
    assert_eq!((&switch["upgrade"], &switch["result"]), (&"echo".into(), &"switched".into()));
    stream.write_all(&[b'x'; 1000]).expect("it reads");
    stream.read_exact(&mut [0; 1005]).expect("it echoes");
    thread::sleep(Duration::from_millis(20));
    drop(stream);
    let end = lines(&folder.0.join("access.log"), 2).iter().map(parsed).nth(1).expect("two");
    assert_eq!((&end["event"], &end["upgrade"]), (&"end".into(), &"echo".into()));
    assert_eq!((&end["bytes_received"], &end["bytes_sent"]), (&1005.into(), &1005.into()));
    assert_eq!((&end["reason"], &end["target"]), (&"finished".into(), &"/echo".into()));
    assert_eq!(end["connection"], switch["connection"]);
    assert!(end["duration_us"].as_u64().is_some_and(|time| time >= 20_000), "{end}");
    assert_eq!(served.end().0, Some(0));
}

/// Asks for `count` paths of its own, sixteen at a time.
fn ask(served: &Served, client: usize, count: usize) {
    let mut asker = Asker::new(served, client);
    (0..count / 16).for_each(|_| asker.ask_sixteen());
}

/// A client that asks for paths of its own.
struct Asker {
    stream: TcpStream,
    client: usize,
    asked: usize,
    answer: Vec<u8>,
}

impl Asker {
    fn new(served: &Served, client: usize) -> Asker {
        Asker { stream: served.connect(), client, asked: 0, answer: vec![0; 16 * 1024] }
    }

    fn ask_sixteen(&mut self) {
        let client = self.client;
        let all: String = (self.asked..self.asked + 16)
            .map(|at| format!("GET /plaintext?{client}-{at} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        self.stream.write_all(all.as_bytes()).expect("it reads");
        let mut seen = Vec::new();
        while memchr::memmem::find_iter(&seen, b"Hello, World!").count() < 16 {
            let read = self.stream.read(&mut self.answer).expect("it answers");
            assert!(read > 0, "it stays open");
            seen.extend_from_slice(&self.answer[..read]);
        }
        self.asked += 16;
    }
}

const CLIENTS: usize = 3;
/// Requests of each client at most: where all is fast the test is bounded all the same.
const REQUESTS_MAX: usize = 160_000;
const MOVES: usize = 12;

#[test]
fn no_line_is_lost_or_doubled_while_the_file_is_moved_away_again_and_again() {
    let folder = Folder::new("access-rotation");
    let Some(served) = serve(&folder, "common", "access.log", &["--workers", "2"]) else { return };
    let log = folder.0.join("access.log");
    let mut moved: Vec<PathBuf> = Vec::new();
    let is_over = AtomicBool::new(false);
    let asked: usize = thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let mut asker = Asker::new(&served, client);
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) && asker.asked < REQUESTS_MAX {
                        asker.ask_sixteen();
                    }
                    asker.asked
                })
            })
            .collect();
        while moved.len() < MOVES {
            lines(&log, 1);
            let to = folder.0.join(format!("access.log.{}", moved.len()));
            fs::rename(&log, &to).expect("it is there");
            moved.push(to);
            served.signal(Signal::USR1);
        }
        is_over.store(true, Ordering::Relaxed);
        asking.into_iter().map(|client| client.join().expect("it is answered")).sum()
    });
    // At once: what waits is written at the end.
    let (status, said) = served.end();
    assert_eq!(status, Some(0), "{said}");
    moved.push(log);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for file in &moved {
        let text = fs::read_to_string(file).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{file:?} ends in the middle of a line");
        for line in text.lines() {
            let path = line.split('?').nth(1).and_then(|rest| rest.split(' ').next());
            *seen.entry(path.unwrap_or(line).to_owned()).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), asked, "each request has a line");
    assert!(seen.values().all(|count| *count == 1), "and no more than one");
}

#[test]
fn all_that_was_answered_is_in_the_file_when_the_server_has_ended() {
    for host in ["hosted", "native"] {
        let folder = Folder::new(&format!("access-end-{host}"));
        let Some(served) = serve(&folder, "combined", "access.log", &["--host", host]) else {
            return;
        };
        ask(&served, 0, 3200);
        assert_eq!(served.end().0, Some(0));
        let text = fs::read_to_string(folder.0.join("access.log")).expect("it is there");
        assert_eq!(text.lines().count(), 3200, "{host}");
    }
}

#[test]
fn a_fifo_that_nobody_reads_costs_lines_and_no_answer() {
    let folder = Folder::new("access-fifo");
    let made = Command::new("mkfifo").arg(folder.0.join("access.log")).status();
    assert!(made.expect("mkfifo is there").success());
    let Some(served) = serve(&folder, "combined", "access.log", &[]) else { return };
    // A pipe and a queue hold some twelve thousand lines.
    let started = Instant::now();
    while counted(&folder, "access_lines_dropped") == 0 {
        assert!(started.elapsed() < PATIENCE, "nothing is dropped");
        ask(&served, 0, 3200);
    }
    assert!(served.get("/plaintext").ends_with("Hello, World!"), "it serves");
    let stopped = Instant::now();
    let (status, said) = served.end();
    assert_eq!(status, Some(0), "{said}");
    assert!(stopped.elapsed() < Duration::from_secs(8), "the end waits only so long");
    assert!(said.contains("takes nothing: "), "{said}");
}

#[test]
fn a_fifo_that_is_read_gets_whole_lines() {
    let folder = Folder::new("access-fifo-read");
    let fifo = folder.0.join("access.log");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo is there").success());
    let Some(served) = serve(&folder, "common", "access.log", &["--workers", "2"]) else { return };
    let reader = thread::spawn(move || fs::read_to_string(fifo).expect("the server ends it"));
    thread::scope(|scope| {
        (0..2).for_each(|client| {
            drop(scope.spawn({
                let served = &served;
                move || ask(served, client, 1600)
            }))
        });
    });
    assert_eq!(served.end().0, Some(0));
    let text = reader.join().expect("it reads");
    assert_eq!(text.lines().count(), 3200);
    assert!(text.lines().all(|line| line.starts_with("127.0.0.1 - - [")), "{text}");
}

#[test]
fn a_full_disk_is_counted_said_once_and_keeps_nobody_waiting() {
    let folder = Folder::new("access-full");
    let Some(served) = serve(&folder, "common", "/dev/full", &[]) else { return };
    ask(&served, 0, 160);
    served.hears("cannot write to the access log /dev/full", 1);
    ask(&served, 1, 160);
    let deadline = Instant::now() + PATIENCE;
    while counted(&folder, "access_lines_lost") < 320 {
        assert!(Instant::now() < deadline, "{} are lost", counted(&folder, "access_lines_lost"));
        thread::sleep(Duration::from_millis(5));
    }
    assert!(counted(&folder, "access_write_errors") > 1);
    assert_eq!(served.log().matches("cannot write to the access log").count(), 1);
    assert_eq!(served.end().0, Some(0));
}

// A limit on the size of files has the kernel write a part of the last line, as a full disk does.
#[test]
fn a_line_that_was_cut_by_a_full_disk_is_no_part_of_the_next() {
    let folder = Folder::new("access-cut");
    let log = folder.0.join("access.log");
    let mut server = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"", process::UPRING])
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--access-log"])
        .arg(&log)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut said = BufReader::new(server.stdout.take().expect("piped")).lines();
    let line = said.find_map(|line| line.ok().filter(|line| line.contains("http://")));
    let Some(line) = line else {
        return eprintln!("SKIPPED, the server cannot start here: {:?}", server.wait());
    };
    let address = line.split('/').nth(2).expect("a line has an address").trim();
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = || fs::metadata(&log).map_or(0, |about| about.len());
    let deadline = Instant::now() + PATIENCE;
    while length() % 4096 != 0 || length() == 0 {
        assert!(Instant::now() < deadline, "{} bytes are no limit", length());
        (0..16).for_each(|_| drop(get(&mut stream, "/plaintext")));
        thread::sleep(Duration::from_millis(10));
    }
    get(&mut stream, "/plaintext");
    thread::sleep(Duration::from_millis(50));
    let text = fs::read_to_string(&log).expect("it is there");
    assert!(!text.ends_with('\n'), "the last line is cut");
    fs::OpenOptions::new().write(true).open(&log).expect("ours").set_len(0).expect("it is ours");
    (0..2).for_each(|_| drop(get(&mut stream, "/plaintext")));
    let lines = lines(&log, 3);
    assert!(lines[0].is_empty(), "the end of the line before: {lines:?}");
    assert!(lines[1..].iter().all(|line| line.starts_with("127.0.0.1 - - [")), "{lines:?}");
    drop(stream);
    rustix::process::kill_process(rustix::process::Pid::from_child(&server), Signal::TERM)
        .expect("it runs");
    assert_eq!(server.wait().expect("it was started").code(), Some(0));
}

#[test]
fn sigusr1_without_a_file_changes_nothing_and_one_that_cannot_be_opened_keeps_the_old() {
    let folder = Folder::new("access-none");
    let Some(served) = serve(&folder, "common", "off", &["--access-log", "stderr"]) else { return };
    served.signal(Signal::USR1);
    assert!(served.get("/plaintext").starts_with("200"));
    served.hears("\"GET /plaintext HTTP/1.1\" 200 ", 1);
    assert_eq!(served.end().0, Some(0));
    let Some(served) = serve(&folder, "common", "off", &[]) else { return };
    served.signal(Signal::USR1);
    assert!(served.get("/plaintext").starts_with("200"), "a server without a log goes on");
    assert_eq!(served.end().0, Some(0));

    let logs = folder.0.join("logs");
    fs::create_dir(&logs).expect("it is ours");
    let Some(served) = serve(&folder, "common", "logs/access.log", &[]) else { return };
    let mut stream = served.connect();
    get(&mut stream, "/plaintext");
    let gone = folder.0.join("gone");
    fs::rename(&logs, &gone).expect("it is ours");
    served.signal(Signal::USR1);
    served.hears("its lines go where they went", 1);
    get(&mut stream, "/plaintext");
    assert_eq!(lines(&gone.join("access.log"), 2).len(), 2);
    assert_eq!(served.end().0, Some(0));
}

#[test]
fn a_log_that_cannot_be_opened_is_said_and_a_reload_cannot_change_one() {
    let folder = Folder::new("access-start");
    let output = Command::new(process::UPRING)
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--access-log", "/none/access.log"])
        .output()
        .expect("it is built");
    let said = String::from_utf8_lossy(&output.stderr);
    if !said.contains("io_uring_setup") {
        assert_eq!(output.status.code(), Some(69), "{}: {said}", output.status);
        assert!(
            said.contains("cannot open the access log /none/access.log: No such file"),
            "{said}"
        );
    }
    let Some(served) = serve(&folder, "common", "access.log", &[]) else { return };
    let file = folder.0.join("upring.toml");
    let text = fs::read_to_string(&file).expect("it is ours");
    fs::write(&file, text.replace("'common'", "'json'")).expect("it is ours");
    served.signal(Signal::HUP);
    served.hears("`log.access` is fixed once the server runs", 1);
    assert_eq!(served.end().0, Some(0));
}
