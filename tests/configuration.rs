//! The built binary and its configuration: what goes before what, what is said of a wrong one, and a
//! reload that no connection notices.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

#[path = "support/process.rs"]
mod process;

use process::{Folder, PATIENCE, Served, UPRING, get, head};

fn run(arguments: &[&str]) -> Output {
    Command::new(UPRING).args(arguments).output().expect("it is built")
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a name of ours")
}

const LISTEN: &str = "[[listen]]\naddress = '127.0.0.1:0'\n";

#[test]
fn a_wrong_file_is_told_with_all_its_faults_and_status_78() {
    let folder = Folder::new("wrong");
    let file = folder.write("a.toml", "wrokers = 1\n[limits]\nlease_max = 1\n");
    for arguments in [
        &["check", shown(&file)][..],
        &["serve", "--config", shown(&file)],
        &["--config", shown(&file), "check"],
        &["--config", shown(&file)],
    ] {
        let output = run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {told}");
        for words in ["a.toml:1:1: unknown key `wrokers`; did you mean `workers`?", "a.toml:3:1: "]
        {
            assert!(told.contains(words), "{arguments:?}: {told}");
        }
    }
    let output = run(&["check", "none.toml"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(78) && told.contains("cannot be read"), "{told}");
}

#[test]
fn what_serve_would_refuse_is_told_by_check_in_the_same_words() {
    let folder = Folder::new("beforehand");
    let missing = folder.0.join("missing");
    let under = |name: &str| missing.join(name).display().to_string();
    let file = folder.write("a.toml", LISTEN);
    let unix = format!("unix:{}", under("s"));
    let listen = format!("[[listen]]\naddress = '{unix}'\n");
    let same = folder.0.join("same").display().to_string();
    let at_same = format!("unix:{same}");
    let respelled = folder.0.join("./www/../same").display().to_string();
    let at_respelled = format!("unix:{respelled}");
    fs::create_dir(folder.0.join("www")).expect("the folder is there");
    let circle = folder.0.join("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("the folder is there");
    let circle = circle.display().to_string();
    let in_circle = format!("unix:{circle}/s");
    let socket = folder.0.join("socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("it is free"));
    // What the process id is put behind.
    let long = format!("/tmp/{}", "p".repeat(100));
    for (text, options, told) in [
        (LISTEN, vec!["--admin", "192.0.2.1:80"], "192.0.2.1:80 is no loopback address"),
        (LISTEN, vec!["--admin", &unix], "No such file or directory"),
        (LISTEN, vec!["--root", &under("www")], "cannot serve the files of "),
        (LISTEN, vec!["--access-log", &under("log")], "cannot open the access log "),
        (LISTEN, vec!["--access-log", shown(&folder.0)], "Is a directory"),
        (LISTEN, vec!["--hand-over", &under("place")], "RuntimeDirectory"),
        (LISTEN, vec!["--hand-over", shown(&file)], "File exists"),
        (LISTEN, vec!["--hand-over", &long], "at most 99 bytes"),
        (LISTEN, vec!["--hand-over", &respelled, "--listen", &at_same], "`hand_over`: unix:"),
        (LISTEN, vec!["--admin", &at_respelled, "--listen", &at_same], "the admin listener: unix:"),
        (LISTEN, vec!["--listen", &at_respelled, "--listen", &at_same], "one path by two names"),
        (LISTEN, vec!["--access-log", &respelled, "--listen", &at_same], "the access log: "),
        (LISTEN, vec!["--access-log", &same, "--hand-over", &respelled], "the access log: "),
        (LISTEN, vec!["--access-log", &circle], "Too many levels of symbolic links"),
        (LISTEN, vec!["--access-log", shown(&socket)], "No such device or address"),
        (LISTEN, vec!["--listen", &in_circle], "lead in a circle"),
        (LISTEN, vec!["--hand-over", &same, "--listen", &at_same], "`hand_over`: unix:"),
        (LISTEN, vec!["--hand-over", &same, "--admin", &at_same], "`hand_over`: unix:"),
        (LISTEN, vec!["--listen", &unix], "RuntimeDirectory"),
        (LISTEN, vec!["--listen", "127.0.0.1:9", "--admin", "127.0.0.1:9"], "one of the addresses"),
        (&format!("hand_over = '{}'\n{LISTEN}", under("place")), vec![], "RuntimeDirectory"),
        (&format!("{LISTEN}[log]\naccess = '{}'\n", under("log")), vec![], "the access log "),
        (&format!("{LISTEN}[admin]\nlisten = '{unix}'\n"), vec![], "the admin listener: bind on"),
        (&listen, vec![], "RuntimeDirectory"),
    ] {
        folder.write("a.toml", text);
        let said = |command: &str| {
            let output = run(&[&[command, "--config", shown(&file)], &options[..]].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), said)
        };
        let (code, checked) = said("check");
        assert_eq!(code, Some(78), "{text} {options:?}: {checked}");
        assert!(checked.starts_with("upring: ") && checked.contains(told), "{checked}");
        let (code, served) = said("serve");
        assert_eq!((code, served), (Some(69), checked), "{text} {options:?}");
    }
    // All of it at once.
    folder.write("a.toml", &listen);
    let output = run(&["check", shown(&file), "--admin", "[::]:1", "--root", &under("www")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("upring: ").count(), 3, "{told}");
}

/// The working directory is that of whoever starts it: `/` under a service manager.
#[test]
fn paths_are_relative_to_the_file_that_says_them_and_those_of_options_to_the_working_directory() {
    let folder = Folder::new("relative");
    let elsewhere = folder.0.join("elsewhere");
    fs::create_dir_all(elsewhere.join("sub")).expect("it is ours");
    let route = "[[route]]\npath = '/plain'\nanswer = {}\n";
    let config = |below: &str| {
        let text = format!(
            "workers = 1\nhand_over = '{below}place'\n[[listen]]\naddress = 'unix:{below}web'\n\
             [admin]\nlisten = 'unix:{below}admin'\n[log]\naccess = '{below}access.log'\n{route}"
        );
        folder.write("a.toml", &text);
    };
    let command = |arguments: &[&str]| {
        let mut command = Command::new(UPRING);
        command.args(arguments).current_dir(&elsewhere);
        command
    };
    let there = |folder: &Path, names: &[&str]| {
        names.iter().filter(|name| folder.join(name).exists()).count()
    };
    config("");
    let checked = command(&["check", "../a.toml"]).output().expect("it is built");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let Some(served) = Served::of(command(&["--config", "../a.toml"])) else { return };
    let names = ["place", "web", "admin", "access.log"];
    wait_for(|| there(&folder.0, &names) == 4);
    assert_eq!(there(&elsewhere, &names), 0);
    let (code, log) = served.end();
    assert_eq!((code, there(&folder.0, &names)), (Some(0), 1), "{log}");
    // Of options.
    let options = ["--listen", "unix:web", "--admin", "unix:admin", "--hand-over", "place"];
    let arguments = [&["--config", "../a.toml"][..], &options].concat();
    let served = Served::of(command(&arguments)).expect("it could before");
    wait_for(|| there(&elsewhere, &names) == 3);
    assert_eq!((served.end().0, there(&elsewhere, &names)), (Some(0), 0));
    // A folder that is in the working directory alone: told beforehand, and in the same words.
    config("sub/");
    let said = |arguments: &[&str]| {
        let output = command(arguments).output().expect("it is built");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, checked) = said(&["check", "../a.toml"]);
    assert_eq!(code, Some(78), "{checked}");
    for path in ["unix:../sub/web", "unix:../sub/admin", "../sub/access.log", "../sub/place"] {
        assert!(checked.contains(path), "no {path} in {checked}");
    }
    assert_eq!(said(&["serve", "--config", "../a.toml"]), (Some(69), checked));
}

fn wait_for(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_defaults_that_are_printed_are_a_file_that_is_right() {
    let folder = Folder::new("defaults");
    let output = run(&["config", "--defaults"]);
    assert!(output.status.success());
    let file = folder.write("a.toml", &String::from_utf8(output.stdout).expect("it is text"));
    let output = run(&["check", shown(&file)]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("ok, 7 routes, 1 listeners"), "{told}");
}

#[test]
fn an_option_goes_before_the_environment_before_the_file_before_the_default() {
    let folder = Folder::new("precedence");
    let file = folder.write("a.toml", "[limits]\nleases_max = 3\nfields_max = 33\n");
    let file = shown(&file);
    for (option, variable, expected) in [
        (Some("leases_max=5"), Some("leases_max=4"), ["leases_max=5", "fields_max=33"]),
        (None, Some("leases_max=4,fields_max=44"), ["leases_max=4", "fields_max=44"]),
        (None, None, ["leases_max=3", "fields_max=33"]),
    ] {
        let mut command = Command::new(UPRING);
        command.args(["limits", "--config", file]);
        option.map(|value| command.args(["--limit", value]));
        variable.map(|value| command.env("UPRING_LIMIT", value));
        let output = command.output().expect("it is built");
        let told = String::from_utf8_lossy(&output.stdout);
        for line in expected {
            assert!(told.lines().any(|said| said == line), "{option:?} {variable:?}: {told}");
        }
        assert!(told.contains("\ntarget_bytes_max=8192\n"), "{told}");
    }
}

#[test]
fn the_operator_is_told_of_every_variable_that_the_program_takes() {
    let help = String::from_utf8(run(&["--help"]).stdout).expect("it is text");
    let names = |text: &str, mark: &str| {
        let parts = text.split(mark).skip(1);
        let name = |part: &str| {
            let end = part.find(|byte: char| byte != '_' && !byte.is_ascii_uppercase());
            part[..end.unwrap_or(part.len())].to_owned()
        };
        parts.map(name).filter(|name| name.starts_with("UPRING_")).collect::<BTreeSet<_>>()
    };
    let taken = names(&help, "[env: ");
    assert!(taken.contains("UPRING_CONFIG") && taken.len() > 9, "{help}");
    let document = include_str!("../OPERATING.md");
    let (_, order) = document.split_once("**What goes before what**").expect("it is there");
    let (order, _) = order.split_once(", the file, the default").expect("it ends so");
    assert_eq!(names(order, "`"), taken);
}

#[test]
fn each_kind_of_route_is_served_by_host() {
    let folder = Folder::new("routes");
    fs::create_dir(folder.0.join("www")).expect("it is ours");
    folder.write("www/page.txt", "a file");
    folder.write("body.txt", "of a file");
    let text = "
        [[route]]
        path = '/fixed'
        answer = { status = 203, text = 'fixed', fields = { X-A = 'b' }, methods = ['GET', 'POST'] }
        [[route]]
        path = '/whole'
        answer = { file = 'body.txt' }
        [[route]]
        path = '/moved/{name}'
        redirect = { to = '/new/{name}', status = 301 }
        [[route]]
        path = '/talk'
        upgrade = 'echo'
        [[site]]
        names = ['files', '*.b']
        [[site.route]]
        path = '/*'
        files = { root = 'www', cache_control = 'max-age=9' }
    ";
    let file = folder.write("a.toml", &format!("workers = 1\n{LISTEN}{text}"));
    let Some(served) = Served::start(&["--config", shown(&file)], &[]) else { return };
    for (path, answer) in [
        ("/fixed", "203 fixed"),
        ("/whole", "200 of a file"),
        ("/moved/x", "301 "),
        ("/talk", "426 This resource needs"),
        ("/page.txt", "404 "),
    ] {
        let found = served.get(path);
        assert!(found.starts_with(answer), "{path}: {found}");
    }
    for (host, status) in [("files", 200), ("a.b", 200), ("b", 404)] {
        let mut other = served.connect();
        write!(other, "GET /page.txt HTTP/1.0\r\nHost: {host}\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        other.read_to_string(&mut answer).expect("it is closed");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
    assert_eq!(served.end().0, Some(0));
}

/// Sets a flag when its scope ends, however that is.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps asking and speaking on connections of its own until it is told to stop, and counts.
fn talk(address: &str, is_over: &AtomicBool) -> (u64, u64) {
    let mut asking = TcpStream::connect(address).expect("it listens");
    let mut speaking = TcpStream::connect(address).expect("it listens");
    for stream in [&asking, &speaking] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    let offer = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    speaking.write_all(offer.as_bytes()).expect("it reads");
    let answer = head(&mut speaking);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let (mut asked, mut spoken) = (0, 0_u64);
    while !is_over.load(Ordering::Relaxed) {
        let answer = get(&mut asking, "/first");
        assert!(answer == "200 one" || answer == "200 two", "{answer}");
        asked += 1;
        speaking.write_all(&spoken.to_ne_bytes()).expect("it reads");
        let mut back = [0; 8];
        speaking.read_exact(&mut back).expect("it comes back");
        assert_eq!(u64::from_ne_bytes(back), spoken);
        spoken += 1;
    }
    (asked, spoken)
}

#[test]
fn a_reload_touches_no_connection_whether_it_is_taken_or_refused() {
    let folder = Folder::new("reload");
    let route = |path: &str, text: &str| {
        format!("[[route]]\npath = '{path}'\nanswer = {{ text = '{text}' }}\n")
    };
    let echo = "[[route]]\npath = '/echo'\nupgrade = 'echo'\n";
    let before = format!("workers = 2\n{LISTEN}{echo}{}", route("/first", "one"));
    let after = format!("workers = 2\n{LISTEN}{}", route("/first", "two") + &route("/new", "new"));
    for host in ["hosted", "native"] {
        let file = folder.write("a.toml", &before);
        let Some(served) = Served::start(&["--config", shown(&file), "--host", host], &[]) else {
            return;
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = SetAtEnd(&is_over);
            let talkers = [(); 8].map(|()| scope.spawn(|| talk(&served.address, &is_over)));
            let wrong = [
                ("wrokers = 1", "a.toml:1:1: unknown key `wrokers`"),
                ("[[route]", "unclosed array table"),
                ("[[route]]\npath = 'x'\nanswer = {}", "must begin with a slash"),
                (&before.replace("workers = 2", "workers = 3"), "`workers` is fixed"),
                ("workers = 2\n[[listen]]\naddress = '127.0.0.1:9'", "`listen` is fixed"),
                (
                    &before.replacen("[[route]]", "[limits]\nleases_max = 0\n[[route]]", 1),
                    "leases_max",
                ),
            ];
            for (count, (text, why)) in wrong.into_iter().enumerate() {
                folder.write("a.toml", text);
                served.signal(Signal::HUP);
                served.hears("not reloaded", count + 1);
                served.hears(why, 1);
                assert_eq!(served.get("/first"), "200 one", "{why}");
            }
            fs::remove_file(&file).expect("it is there");
            served.signal(Signal::HUP);
            served.hears("cannot be read", 1);
            folder.write("a.toml", &after);
            served.signal(Signal::HUP);
            served.hears("reloaded: 2 routes", 1);
            let deadline = Instant::now() + PATIENCE;
            while served.get("/first") != "200 two" {
                assert!(Instant::now() < deadline, "every core serves what is new");
            }
            let mut connections = [(); 16].map(|()| served.connect());
            for connection in &mut connections {
                assert_eq!(get(connection, "/new"), "200 new");
                assert!(get(connection, "/echo").starts_with("404 "), "its route is gone");
            }
            thread::sleep(Duration::from_millis(100));
            drop(over);
            for talker in talkers {
                let (asked, spoken) = talker.join().expect("nothing was lost");
                assert!(asked > 10 && spoken > 10, "{asked} {spoken}");
            }
        });
        let (code, log) = served.end();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(log.matches("not reloaded").count(), 7, "{log}");
    }
}

/// A resolver that takes twelve seconds for each name, in place of the C library's.
const SLOW_RESOLVER: &str = "#include <netdb.h>\n#include <unistd.h>\n\
    int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,\n\
    struct addrinfo **found) { sleep(12); return EAI_AGAIN; }\n";

/// `None`, aloud, where there is no C compiler.
fn slow_resolver(folder: &Folder) -> Option<String> {
    let (source, library) = (folder.write("slow.c", SLOW_RESOLVER), folder.0.join("slow.so"));
    let mut compiler = Command::new("cc");
    let compiled = compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED, there is no C compiler");
        return None;
    }
    Some(shown(&library).to_owned())
}

const NAMED: &str = "[[route]]\npath = '/*'\nproxy = 'backend.example:80'\n";

/// How long it takes to end once it is told to.
fn time_to_end(process: &mut Child) -> Duration {
    let told_at = Instant::now();
    kill_process(Pid::from_child(process), Signal::TERM).expect("it runs");
    let status = process.wait().expect("it was started");
    assert_eq!(status.code(), Some(0));
    told_at.elapsed()
}

#[test]
fn a_signal_to_stop_does_not_wait_for_the_resolver() {
    let folder = Folder::new("resolver");
    let Some(library) = slow_resolver(&folder) else { return };
    let environment = [("LD_PRELOAD", &*library)];
    let route = "[[route]]\npath = '/plain'\nanswer = {}\n";
    let file = folder.write("a.toml", &format!("workers = 1\n{LISTEN}{route}"));
    let arguments = ["--config", shown(&file)];
    let Some(mut served) = Served::start(&arguments, &environment) else { return };
    let plain = fs::read_to_string(&file).expect("it is there");
    folder.write("a.toml", &format!("{plain}{NAMED}"));
    served.signal(Signal::HUP);
    // Two at once would be one.
    thread::sleep(Duration::from_millis(500));
    served.signal(Signal::HUP);
    served.hears("a reload is under way", 1);
    let took = time_to_end(&mut served.process);
    assert!(took < Duration::from_secs(4), "{took:?}: {}", served.log());
    // And there is an end to it.
    let mut command = Command::new(UPRING);
    command.args(["check", shown(&file)]).envs(environment).stderr(Stdio::piped());
    let checking = command.spawn().expect("it is built");
    // A start is told to stop before it serves.
    let mut command = Command::new(UPRING);
    let mut starting = command.args(arguments).envs(environment).spawn().expect("it is built");
    thread::sleep(Duration::from_secs(1));
    let took = time_to_end(&mut starting);
    assert!(took < Duration::from_secs(4), "{took:?}");
    let output = checking.wait_with_output().expect("it was started");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(78) && told.contains("no answer within 10 s"), "{told}");
}

#[test]
fn a_reload_takes_the_level_of_the_log_and_new_limits_along() {
    let folder = Folder::new("level");
    let route = "[[route]]\npath = '/a'\nanswer = {}\n";
    let file = folder.write("a.toml", &format!("workers = 1\n{LISTEN}{route}"));
    let Some(served) = Served::start(&["--config", shown(&file)], &[]) else { return };
    assert!(served.get("/aaaaaaaaaa").starts_with("404 "));
    let more = "[limits]\ntarget_bytes_max = 5\n[log]\nlevel = 'error'\n";
    folder.write("a.toml", &format!("workers = 1\n{LISTEN}{route}{more}"));
    served.signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while !served.get("/aaaaaaaaaa").starts_with("414 ") {
        assert!(Instant::now() < deadline, "the limit holds");
    }
    // Said at `info`, which is not said any more.
    folder.write("a.toml", &format!("workers = 1\n{LISTEN}{route}[log]\nlevel = 'info'\n"));
    served.signal(Signal::HUP);
    served.hears("reloaded: 1 routes", 1);
    let (code, log) = served.end();
    assert_eq!((code, log.matches("reloaded: ").count()), (Some(0), 1), "{log}");
}
