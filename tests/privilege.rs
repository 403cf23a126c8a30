//! The built binary started as root on a port below 1024: it serves as the user it was told to become, in
//! every thread and without a capability, and goes on to reload and to stop. Who cannot become that
//! user is told so. Takes root; without it each test says that it is skipped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);
const UPRING: &str = env!("CARGO_BIN_EXE_upring");

/// A user that every Linux has, and its number (`getent passwd nobody`).
const USER: &str = "nobody";
const USER_ID: u32 = 65_534;

/// Whether this can be tried here; says so if not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: a change of users takes root");
    }
    is_root
}

/// A folder that anybody may look into, gone with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("upring-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("files")).expect("a folder for temporary files");
        let folder = Folder(path);
        folder.allow("", 0o755);
        folder.allow("files", 0o755);
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a name of ours").to_owned()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.0.join(name), text).expect("it is ours");
        self.allow(name, mode);
    }

    fn allow(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.0.join(name), mode).expect("it is ours");
    }

    /// The program where everybody may execute it.
    fn program(&self) -> String {
        fs::copy(UPRING, self.0.join("upring")).expect("it is built");
        self.allow("upring", 0o755);
        self.path("upring")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that takes a capability, and nobody listens on.
fn privileged_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (600..1024).find(free).expect("not all of them are taken")
}

/// A running server, ended with its test.
struct Served {
    process: Child,
    address: String,
    said: Arc<Mutex<String>>,
}

impl Served {
    fn start(mut command: Command) -> Served {
        let told = format!("{command:?}");
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{told}: {error}"));
        let said = Arc::<Mutex<String>>::default();
        let (errors, heard) = (process.stderr.take().expect("it is piped"), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                *heard.lock().expect("nobody panics") += &(line + "\n");
            }
        });
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("http://"));
        let Some(line) = line else {
            let _ = process.wait();
            thread::sleep(Duration::from_millis(100));
            panic!("{told}: {}", said.lock().expect("nobody panics"));
        };
        thread::spawn(move || lines.for_each(drop));
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.expect("an address and a path").to_owned();
        Served { process, address, said }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
    }

    /// Waits until it has said something so many times.
    fn hears(&self, words: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        let log = || self.said.lock().expect("nobody panics").clone();
        while log().matches(words).count() < times {
            assert!(Instant::now() < deadline, "it never says {words:?}: {}", log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What comes back for these bytes until the server closes.
    fn ask(&self, bytes: &str) -> String {
        let mut client = TcpStream::connect(&self.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(bytes.as_bytes()).expect("it reads");
        client.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }

    /// The status of each thread, the kernel's worker threads among them.
    fn threads(&self) -> Vec<String> {
        let folder = format!("/proc/{}/task", self.process.id());
        let tasks = fs::read_dir(folder).expect("it runs").flatten();
        let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        status.collect()
    }

    fn end(self) {
        self.signal(Signal::TERM);
        self.ends();
    }

    fn ends(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait().expect("it was started").is_none() {
            assert!(Instant::now() < deadline, "it does not drain");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.process.wait().expect("it ended").code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a status says of `key`.
fn value<'a>(status: &'a str, key: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{key} in {status}")).split_whitespace().collect()
}

/// No thread has anything of root.
fn has_nothing_of_root(served: &Served, told: &str) {
    let threads = served.threads();
    // The main one and two workers, at least.
    assert!(threads.len() >= 3, "{told}: {threads:?}");
    let id = USER_ID.to_string();
    for status in threads {
        for key in ["Uid", "Gid"] {
            assert_eq!(value(&status, key), [id.as_str(); 4], "{told}: {status}");
        }
        assert_eq!(value(&status, "Groups"), [id.as_str()], "{told}: {status}");
        for key in ["CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(value(&status, key), ["0000000000000000"], "{told}: {status}");
        }
        assert_eq!(value(&status, "NoNewPrivs"), ["1"], "{told}: {status}");
    }
}

fn configuration(folder: &Folder, port: u16, text: &str) -> String {
    format!(
        "user = '{USER}'\nworkers = 2\n[[listen]]\naddress = '127.0.0.1:{port}'\n\
         [[route]]\npath = '/text'\nanswer = {{ text = '{text}' }}\n\
         [[route]]\npath = '/echo'\nupgrade = 'echo'\n\
         [[route]]\npath = '/files/*'\nfiles = '{}'\n",
        folder.path("files")
    )
}

#[test]
fn a_server_started_as_root_serves_reloads_and_stops_as_the_user_alone() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("drop");
    folder.write("files/served.txt", "for everybody", 0o644);
    folder.write("files/secret.txt", "for root alone", 0o600);
    symlink("served.txt", folder.0.join("files/link.txt")).expect("a link");
    for host in ["hosted", "native"] {
        for without in [&[][..], &["--without-direct-descriptors"]] {
            let told = format!("{host} {without:?}");
            let port = privileged_port();
            let file = "upring.toml";
            folder.write(file, &configuration(&folder, port, "before"), 0o644);
            let mut command = Command::new(UPRING);
            command.args(["--config", &folder.path(file), "--host", host]).args(without);
            let served = Served::start(command);
            assert!(served.address.ends_with(&format!(":{port}")), "{told}: {}", served.address);
            has_nothing_of_root(&served, &told);
            serves(&served, &told);
            // Worker threads of the kernel that have been made since are no better off.
            has_nothing_of_root(&served, &told);
            // Whoever is the same user may not look into its memory (prctl(2), PR_SET_DUMPABLE).
            let memory = fs::metadata(format!("/proc/{}/mem", served.process.id()));
            assert_eq!(memory.expect("it runs").uid(), 0, "{told}");

            folder.write(file, &configuration(&folder, port, "after"), 0o644);
            served.signal(Signal::HUP);
            served.hears("reloaded: 3 routes", 1);
            assert!(served.get("/text").ends_with("after"), "{told}");
            folder.allow(file, 0o600);
            served.signal(Signal::HUP);
            served.hears("not reloaded, everything stays as it was", 1);
            served.hears("Permission denied (os error 13); it was tried as uid 65534", 1);
            assert!(served.get("/text").ends_with("after"), "{told}");
            served.end();
        }
    }
}

/// Answers, files as far as the user may read them, links, and a switch.
fn serves(served: &Served, told: &str) {
    let answer = served.get("/text");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("before"), "{told}: {answer}");
    for path in ["/files/served.txt", "/files/link.txt"] {
        let answer = served.get(path);
        assert!(answer.ends_with("for everybody"), "{told}: {path}: {answer}");
    }
    let answer = served.get("/files/secret.txt");
    assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("for root"), "{told}: {answer}");
    let head = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let answer = served.ask(&format!("{head}first bytes"));
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("first bytes"), "{answer}");
}

/// What a thread has called, in its order.
fn calls_of(trace: &str, thread: &str) -> Vec<String> {
    let calls = trace.lines().filter_map(|line| line.strip_prefix(thread)?.strip_prefix(' '));
    calls.map(|call| call.trim_start().to_owned()).collect()
}

#[test]
fn no_core_asks_its_ring_for_anything_before_the_ring_is_confined_and_it_is_the_user() {
    let strace = Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|run| run.status.success()) {
        return eprintln!("SKIPPED: strace is not installed");
    }
    if !is_root() {
        return;
    }
    let folder = Folder::new("order");
    for host in ["hosted", "native"] {
        let file = folder.path(host);
        let mut command = Command::new("strace");
        let traced = "trace=prctl,setresuid,io_uring_register,io_uring_enter";
        command.args(["-f", "-o", &file, "-e", traced, UPRING]);
        command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--user", USER, "--host", host]);
        let served = Served::start(command);
        assert!(served.get("/plaintext").starts_with("HTTP/1.1 200 "), "{host}");
        // The server ends by the signal; strace with it.
        let children = format!("/proc/{0}/task/{0}/children", served.process.id());
        let server = fs::read_to_string(children).expect("strace has a child");
        let server = server.trim().parse().ok().and_then(Pid::from_raw).expect("one child");
        kill_process(server, Signal::TERM).expect("it runs");
        served.ends();
        let trace = fs::read_to_string(&file).expect("strace has written it");
        let workers = trace.lines().filter(|line| line.contains("PR_SET_NAME, \"upring-"));
        let workers: Vec<_> = workers.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(workers.len(), 2, "{host}: {trace}");
        for worker in workers {
            let calls = calls_of(&trace, worker);
            let is_made = |made: &str, ways: &[&str]| ways.iter().any(|way| made.contains(way));
            let first = |ways: &[&str]| calls.iter().position(|made| is_made(made, ways));
            let became = first(&[&format!("setresuid({USER_ID}, {USER_ID}, {USER_ID}")]);
            // By number, with IORING_REGISTER_USE_REGISTERED_RING, strace names neither.
            let confining = ["IORING_REGISTER_RESTRICTIONS", "0x8000000b"];
            let confined = first(&confining);
            let enabled = first(&["IORING_REGISTER_ENABLE_RINGS", "0x8000000c"]);
            let entered = first(&["io_uring_enter("]);
            assert!(became.is_some() && became < entered, "{host}: {calls:?}");
            assert!(confined.is_some() && confined < enabled && enabled < entered, "{calls:?}");
            let refused = |made: &String| is_made(made, &confining) && made.contains("= -1");
            assert!(!calls.iter().any(refused), "{host}: {calls:?}");
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it as this user, which was it already when the program began.
fn as_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    let user = USER_ID.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(program);
    command.current_dir(Path::new("/"));
    command
}

#[test]
fn who_is_not_root_becomes_nobody_else_and_may_name_itself() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("other");
    let program = folder.program();
    let mut command = as_user(&program);
    command.args(["--listen", "127.0.0.1:0", "--user", "daemon"]);
    let output = command.output().expect("setpriv is there");
    let told = text(&output);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("becoming the user daemon") && told.contains("takes root"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");

    let mut command = as_user(&program);
    command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--user", USER]);
    let served = Served::start(command);
    has_nothing_of_root_but_groups(&served);
    served.end();
}

/// As above; there are no supplementary groups where they were cleared.
fn has_nothing_of_root_but_groups(served: &Served) {
    for status in served.threads() {
        assert_eq!(value(&status, "Uid"), [USER_ID.to_string().as_str(); 4], "{status}");
        assert_eq!(value(&status, "CapEff"), ["0000000000000000"], "{status}");
        assert_eq!(value(&status, "NoNewPrivs"), ["1"], "{status}");
    }
}

#[test]
fn a_root_that_may_not_change_users_does_not_serve_as_root() {
    if !is_root() {
        return;
    }
    for (lacking, call) in [("setuid", "setresuid"), ("setgid", "initgroups")] {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", &format!("-{lacking}"), "--", UPRING]);
        command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--user", USER]);
        let output = command.output().expect("setpriv is there");
        let told = text(&output);
        assert_eq!(output.status.code(), Some(69), "{told}");
        assert!(told.contains(&format!("{call}: Operation not permitted")), "{told}");
        assert!(told.contains("--cap-add SETUID"), "{told}");
        assert!(output.stdout.is_empty(), "it has not served: {output:?}");
    }
}

#[test]
fn a_container_s_profile_lets_it_change_users() {
    let python = Command::new("/usr/bin/python3").args(["-c", "import seccomp"]).output();
    if !python.is_ok_and(|run| run.status.success()) {
        return eprintln!("SKIPPED: python3-seccomp is not installed");
    }
    if !is_root() {
        return;
    }
    for host in ["hosted", "native"] {
        let mut command = Command::new("tuning/seccomp-run");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tuning/seccomp.json", UPRING]);
        command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--user", USER, "--host", host]);
        let served = Served::start(command);
        has_nothing_of_root(&served, host);
        assert!(served.get("/plaintext").starts_with("HTTP/1.1 200 "), "{host}");
        served.end();
    }
}

#[test]
fn a_capability_that_outlives_the_change_of_users_ends_the_start() {
    if !is_root() {
        return;
    }
    // With this bit a change of users takes no capability away (capabilities(7)).
    let mut command = Command::new("setpriv");
    command.args(["--securebits", "+no_setuid_fixup", "--", UPRING]);
    command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--user", USER]);
    let output = command.output().expect("setpriv is there");
    let told = text(&output);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("a capability is left after the change to nobody"), "{told}");
}
