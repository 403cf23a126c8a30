//! Each fault of a start, against the built binary: it ends at once, with one line that names the call or
//! the key, the likely cause and the command that mends it, and with the status that says whose it is.
//! What an operator sees where io_uring is turned off for the machine cannot be tried without doing
//! so: that is a pure function in `src/ring/error.rs`, and tested there.

#[path = "support/process.rs"]
mod process;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process::{Folder, PATIENCE, Served, UPRING, outcome, switched};
use rustix::process::Signal;

/// Wrong in the environment, and wrong in what was configured (sysexits.h).
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

/// A port of this machine that nobody else has.
const ANY: &[&str] = &["--listen", "127.0.0.1:0"];

/// One way to start it that cannot work.
struct Row {
    fault: &'static str,
    /// What the shell does before it executes the program.
    before: &'static str,
    /// Whether it is started as nobody instead of root.
    is_nobody: bool,
    arguments: &'static [&'static str],
    status: i32,
    /// What the line says: the call or key, the cause, the command.
    told: &'static [&'static str],
}

const ROW: Row =
    Row { fault: "", before: "", is_nobody: false, arguments: ANY, status: UNAVAILABLE, told: &[] };

const ROWS: &[Row] = &[
    Row {
        fault: "an address of another host",
        arguments: &["--listen", "192.0.2.1:8080"],
        told: &["bind on 192.0.2.1:8080", "no interface of this host", "`ip address`"],
        ..ROW
    },
    Row {
        fault: "a port below 1024 without the right to it",
        is_nobody: true,
        arguments: &["--listen", "127.0.0.1:80"],
        told: &["bind on 127.0.0.1:80", "needs a capability", "`setcap cap_net_bind_service=+ep`"],
        ..ROW
    },
    Row {
        fault: "too few files",
        before: "ulimit -n 16",
        arguments: &["--listen", "127.0.0.1:0", "--workers", "8"],
        told: &["RLIMIT_NOFILE is 16", "`ulimit -n 1048576`"],
        ..ROW
    },
    // From Linux 5.12 on the memory of rings was charged to the memory cgroup alone, and counts as
    // locked again since 6.14 (io_create_region() in io_uring/memmap.c). With CAP_IPC_LOCK it does not.
    Row {
        fault: "too little memory that may be locked",
        before: "ulimit -l 8",
        is_nobody: true,
        told: &["RLIMIT_MEMLOCK is 8192 bytes", "`ulimit -l unlimited`", "LimitMEMLOCK="],
        ..ROW
    },
    Row {
        fault: "a seccomp profile without io_uring",
        before: "set -- tuning/seccomp-run --deny io_uring_setup tuning/seccomp.json \"$@\"",
        told: &["io_uring_setup", "a seccomp profile", "--security-opt seccomp=PROFILE.json"],
        ..ROW
    },
    Row {
        fault: "a user there is not",
        arguments: &["--listen", "127.0.0.1:0", "--user", "nobody-at-all"],
        status: CONFIG,
        told: &["there is no user `nobody-at-all`", "`useradd --system"],
        ..ROW
    },
    Row {
        fault: "a group there is not",
        arguments: &["--listen", "127.0.0.1:0", "--user", "nobody", "--group", "none-at-all"],
        status: CONFIG,
        told: &["there is no group `none-at-all`", "`groupadd --system"],
        ..ROW
    },
    Row {
        fault: "a group without a user",
        arguments: &["--listen", "127.0.0.1:0", "--group", "nogroup"],
        status: CONFIG,
        told: &["a `group` goes with a `user`"],
        ..ROW
    },
    Row {
        fault: "a user to become without being root",
        is_nobody: true,
        arguments: &["--listen", "127.0.0.1:0", "--user", "daemon"],
        status: CONFIG,
        told: &["becoming the user daemon", "takes root", "start it as root"],
        ..ROW
    },
    Row {
        fault: "a configuration file there is not",
        arguments: &["--config", "/nowhere/upring.toml"],
        status: CONFIG,
        told: &["/nowhere/upring.toml", "it cannot be read", "No such file"],
        ..ROW
    },
    Row {
        fault: "a configuration file that may not be read",
        is_nobody: true,
        // Of root alone on every Linux that has it.
        arguments: &["--config", "/etc/shadow"],
        status: CONFIG,
        told: &["/etc/shadow", "Permission denied", "tried as uid 65534", "`namei -l`"],
        ..ROW
    },
    Row {
        fault: "a limit that lets nothing through",
        arguments: &["--listen", "127.0.0.1:0", "--limit", "leases_max=0"],
        status: CONFIG,
        told: &["`leases_max` lets nothing through", "tuning/README.md"],
        ..ROW
    },
    Row {
        fault: "a directory there is not",
        arguments: &["--listen", "127.0.0.1:0", "--root", "/nowhere"],
        told: &["cannot serve the files of /nowhere", "No such file"],
        ..ROW
    },
];

/// The program where everybody may execute it, gone with its test.
struct Program(PathBuf);

impl Program {
    fn copy(name: &str) -> Program {
        let path = std::env::temp_dir().join(format!("upring-{name}-{}", std::process::id()));
        fs::copy(UPRING, &path).expect("it is built");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Program(path)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Starts it so, and waits until it ends.
fn run(row: &Row, program: &Program) -> Output {
    let id = "65534";
    let nobody = ["setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--"];
    let mut command = Command::new("sh");
    let before = if row.before.is_empty() { ":" } else { row.before };
    command.args(["-c", &format!("{before} && exec \"$@\""), "sh"]);
    if row.is_nobody {
        command.args(nobody);
    }
    command.arg(&program.0).args(row.arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut process =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("there is a shell");
    let deadline = Instant::now() + PATIENCE;
    while process.try_wait().expect("it was started").is_none() {
        if Instant::now() > deadline {
            process.kill().expect("it runs");
            panic!("{}: it does not end", row.fault);
        }
        thread::sleep(Duration::from_millis(10));
    }
    process.wait_with_output().expect("it was started")
}

/// Why it cannot be tried here.
fn lacks(row: &Row) -> Option<&'static str> {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let python = || Command::new("/usr/bin/python3").args(["-c", "import seccomp"]).output();
    if row.is_nobody && !rustix::process::geteuid().is_root() {
        return Some("it takes root to become nobody");
    }
    if row.fault.starts_with("a port below") && first_free.is_ok_and(|first| first.trim() != "1024")
    {
        return Some("this machine leaves port 80 to everybody");
    }
    if row.before.contains("seccomp-run") && !python().is_ok_and(|run| run.status.success()) {
        return Some("python3-seccomp is not installed");
    }
    if row.before.contains("ulimit -l") && !charges_rings() {
        return Some("this kernel charges no ring to RLIMIT_MEMLOCK");
    }
    None
}

/// Whether the memory of rings counts as locked.
fn charges_rings() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14)
}

#[test]
fn each_fault_of_a_start_is_told_in_one_line_with_its_cause_and_what_mends_it() {
    let program = Program::copy("faults");
    for row in ROWS {
        if let Some(why) = lacks(row) {
            eprintln!("SKIPPED: {}: {why}", row.fault);
            continue;
        }
        let output = run(row, &program);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(row.status), "{}: {told}", row.fault);
        assert!(output.stdout.is_empty(), "{}: it has served", row.fault);
        // Warnings of the log may stand before it.
        let line = told.lines().last().unwrap_or_default();
        for part in row.told {
            assert!(line.contains(part), "{}: no {part:?} in {told}", row.fault);
        }
        let count = told.lines().filter(|line| !line.contains(" WARN ")).count();
        assert_eq!(count, 1, "{}: {told}", row.fault);
        eprintln!("{:<44} {:>3}  {line}", row.fault, row.status);
    }
}

/// Wherever threads run out: of what a start has begun nothing is left, and nothing panics.
#[test]
fn threads_that_run_out_are_told_as_any_other_fault() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: it takes root to become a user who has no threads yet");
    }
    let program = Program::copy("threads");
    let place = std::env::temp_dir().join(format!("upring-place-{}", std::process::id()));
    fs::create_dir_all(&place).expect("there is room");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let user = "64997";
    let mut told_of = Vec::new();
    for threads in 1..32 {
        let mut shell = Command::new("sh");
        let command = shell
            .args(["-c", &format!("ulimit -p {threads} && exec \"$@\""), "sh"])
            .args(["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"])
            .arg(&program.0)
            .args(["--listen", "127.0.0.1:0", "--workers", "2", "--admin", "127.0.0.1:0"])
            .args(["--access-log", "/dev/null", "--hand-over"])
            .arg(place.join("place"));
        let (is_served, output) = outcome(command, Signal::KILL);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if is_served || told.contains("io_uring_setup") {
            break;
        }
        assert_eq!(output.status.code(), Some(UNAVAILABLE), "{threads}: {told}");
        assert!(!told.contains("panicked"), "{threads}: {told}");
        let line = told.lines().last().unwrap_or_default();
        for part in [&format!("RLIMIT_NPROC of this user is {threads}"), "TasksMax="] {
            assert!(line.starts_with("upring: ") && line.contains(part), "{threads}: {told}");
        }
        told_of.push(line.to_owned());
    }
    fs::remove_dir_all(&place).expect("it is ours");
    eprintln!("{}", told_of.join("\n"));
    assert!((8..31).contains(&told_of.len()), "{told_of:?}");
}

#[test]
fn few_descriptors_are_told_once_and_not_by_each_worker() {
    let mut shell = Command::new("sh");
    let command = shell.args(["-c", "ulimit -n 300 && exec \"$@\"", "sh", UPRING]).args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "4",
    ]);
    let (is_served, output) = outcome(command, Signal::TERM);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !is_served && told.contains("io_uring") {
        return eprintln!("SKIPPED, the server cannot start here: {told}");
    }
    assert_eq!(told.matches("the limit on descriptors bounds connections").count(), 1, "{told}");
}

#[test]
fn a_port_that_is_taken_is_told_with_who_can_name_its_owner() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = Command::new(UPRING).args(["--listen", &address]).output().expect("it is built");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(UNAVAILABLE), "{told}");
    assert!(told.starts_with(&format!("upring: bind on {address}")), "{told}");
    assert!(
        told.contains("another process listens there") && told.contains("`ss -ltnp`"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// Stopped and started again, while a connection of the one before has not ended.
#[test]
fn an_admin_listener_that_is_taken_is_told_with_the_server_that_may_be_ending() {
    let folder = Folder::new("admin-taken");
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").to_string();
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let (listen, tcp) = (port(&free[0]), port(&free[1]));
    drop(free);
    for admin in [tcp, format!("unix:{}", folder.socket().display())] {
        let arguments = ["--listen", &listen, "--workers", "1", "--admin", &admin];
        let Some(mut first) = Served::start(&arguments, &[]) else { return };
        let open = switched(&first.address);
        first.signal(Signal::TERM);
        first.hears("stopping", 1);
        let output = Command::new(UPRING).args(arguments).output().expect("it is built");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(UNAVAILABLE), "{told}");
        let line = told.lines().last().unwrap_or_default();
        let start = format!("upring: the admin listener: bind on {admin}");
        assert!(line.starts_with(&start), "{told}");
        for part in ["another process listens there", "a server that is ending", "`hand_over`"] {
            assert!(line.contains(part), "{told}");
        }
        drop(open);
        assert_eq!(first.process.wait().expect("it was started").code(), Some(0));
        let second = Served::start(&arguments, &[]).expect("the one before could");
        assert_eq!(second.end().0, Some(0));
    }
}
