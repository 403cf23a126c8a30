//! What runs the server where it is deployed: the systemd unit, the seccomp profile, a container, a
//! Debian package. The real binary runs under each and answers a request.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);
const UPRING: &str = env!("CARGO_BIN_EXE_upring");

/// What default profiles of containers deny.
const RING_CALLS: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tuning(file: &str) -> PathBuf {
    repository().join("tuning").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(tuning(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = format!("{name}-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder of the build");
    folder
}

fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", tool]).status();
    let found = found.expect("there is a shell").success();
    if !found {
        eprintln!("SKIPPED: {tool} is not installed");
    }
    found
}

/// Whether a profile can be loaded here; says why not.
fn has_seccomp() -> bool {
    let profile = tuning("seccomp.json");
    let output = Command::new(tuning("seccomp-run")).arg(profile).arg("true").output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.contains("python3-seccomp"), "the profile does not load: {told}");
            eprintln!("SKIPPED: {told}");
            false
        }
        Err(error) => {
            eprintln!("SKIPPED: seccomp-run: {error}");
            false
        }
    }
}

/// Whether this machine lets anything make rings: without, nothing here can be seen.
fn has_rings() -> bool {
    let output = Command::new(UPRING).args(["doctor", "--listen", "127.0.0.1:0"]).output();
    let output = output.expect("it was built");
    let told = String::from_utf8_lossy(&output.stdout);
    let lacks = told.lines().any(|line| line.starts_with("lacks") && line.contains("io_uring"));
    if lacks {
        eprintln!("SKIPPED: this machine denies io_uring: {told}");
    }
    !lacks
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    out + &String::from_utf8_lossy(&output.stderr)
}

/// A running server, ended with the test.
struct Running {
    process: Child,
    address: String,
}

impl Running {
    /// Starts what ends in running the server; fails with what it says if it does not serve.
    fn start(command: &mut Command) -> Running {
        let told = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{told}: {error}"));
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("http://"));
        let Some(line) = line else {
            let output = process.wait_with_output().expect("it was started");
            panic!("{told}: {}", text(&output));
        };
        // What it says later is read, so that it never waits for somebody to do so.
        thread::spawn(move || lines.for_each(drop));
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.expect("an address and a path").to_owned();
        Running { process, address }
    }

    /// A request for this path, answered whole.
    fn ask(&self, head: &str) -> String {
        let mut client = TcpStream::connect(&self.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }

    /// An answer to a request, and a file, an echo through a switched connection, and a drain.
    fn serves(mut self) {
        let answer = self.ask("GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let answer = self.ask("GET /served.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(answer.ends_with("out of a file"), "{answer}");
        let head = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let mut client = TcpStream::connect(&self.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(format!("{head}first bytes").as_bytes()).expect("it reads");
        client.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it echoes and closes");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.ends_with("first bytes"), "{answer}");
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().is_ok_and(|s| s.success()));
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait().expect("it was started").is_none() {
            assert!(Instant::now() < deadline, "it does not drain");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.process.wait().expect("it ended").code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both hosts, with and without direct descriptors: they make different calls.
fn each_way() -> impl Iterator<Item = Vec<&'static str>> {
    let usual = ["--listen", "127.0.0.1:0", "--workers", "2", "--pin"];
    ["hosted", "native"].into_iter().flat_map(move |host| {
        [&[][..], &["--without-direct-descriptors"]].map(|without| {
            let mut arguments = usual.to_vec();
            arguments.extend(["--host", host]);
            arguments.extend(without);
            arguments
        })
    })
}

/// Runs the server in each way under this profile.
fn serves_under(profile: &Path, name: &str) {
    let files = folder(&format!("{name}-files"));
    fs::write(files.join("served.txt"), "out of a file").expect("a file");
    for arguments in each_way() {
        let mut command = Command::new(tuning("seccomp-run"));
        command.arg(profile).arg(UPRING).args(arguments).arg("--root").arg(&files);
        Running::start(&mut command).serves();
    }
    fs::remove_dir_all(files).expect("it is there");
}

#[test]
fn the_server_serves_under_the_profile_in_every_way() {
    if has_seccomp() && has_rings() {
        serves_under(&tuning("seccomp.json"), "profile");
    }
}

#[test]
fn without_the_calls_of_the_ring_doctor_and_the_server_name_the_profile() {
    if !has_seccomp() || !has_rings() {
        return;
    }
    for denied in RING_CALLS {
        let run = |arguments: &[&str]| {
            let mut command = Command::new(tuning("seccomp-run"));
            command.args(["--deny", denied]).arg(tuning("seccomp.json")).arg(UPRING);
            command.args(arguments).args(["--listen", "127.0.0.1:0"]).output().expect("python")
        };
        let output = run(&["doctor"]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(69), "{denied}: {told}");
        assert!(told.contains("lacks") && told.contains("seccomp"), "{denied}: {told}");
        let output = run(&[]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(69), "{denied}: {told}");
        assert!(told.contains("--security-opt seccomp"), "{denied}: {told}");
    }
}

#[test]
fn the_profile_denies_what_a_server_has_no_use_for() {
    if !has_seccomp() {
        return;
    }
    let profile = tuning("seccomp.json");
    let fails = |script: &str| {
        let mut command = Command::new(tuning("seccomp-run"));
        command.arg(&profile).args(["/usr/bin/python3", "-c", script]);
        let output = command.output().expect("python");
        let told = text(&output);
        assert!(!output.status.success() && told.contains("[Errno 1]"), "{script}: {told}");
    };
    fails("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)");
    fails("import os; os.setxattr('.', 'user.a', b'')");
    fails("import os; os.chroot('.')");
    let raises = "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); \
                  raise OSError(ctypes.get_errno(), '') if CALL < 0 else SystemExit(0)";
    for call in ["libc.unshare(0x10000000)", "libc.mount(0, 0, 0, 0, 0)", "libc.ptrace(0, 0, 0, 0)"]
    {
        fails(&raises.replace("CALL", call));
    }
}

/// The values of a setting of the unit, in their order.
fn settings<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// The calls of a word in `SystemCallFilter=`: itself, or what `systemd-analyze` says of a set.
fn calls_of(word: &str) -> Vec<String> {
    if !word.starts_with('@') {
        return vec![word.to_owned()];
    }
    let output = Command::new("systemd-analyze").args(["syscall-filter", word]).output();
    let output = output.expect("systemd-analyze");
    assert!(output.status.success(), "{word}: {}", text(&output));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = listed.lines().map(str::trim).skip(1);
    let words = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.flat_map(calls_of).collect()
}

/// The filter that systemd makes of the unit, as a profile.
fn filter_of(unit: &str) -> Value {
    // systemd.exec(5): what it needs to run the program is in any list.
    let mut allowed = calls_of("@default");
    for line in settings(unit, "SystemCallFilter") {
        match line.strip_prefix('~') {
            None => allowed.extend(line.split_whitespace().flat_map(calls_of)),
            Some(denied) => {
                let denied: Vec<String> = denied.split_whitespace().flat_map(calls_of).collect();
                allowed.retain(|call| !denied.contains(call));
            }
        }
    }
    allowed.sort();
    allowed.dedup();
    assert!(RING_CALLS.iter().all(|call| allowed.iter().any(|one| one == call)), "{allowed:?}");
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "syscalls": [{ "names": allowed, "action": "SCMP_ACT_ALLOW" }],
    })
}

#[test]
fn the_server_serves_under_the_filter_of_the_unit() {
    if !has("systemd-analyze") || !has_seccomp() || !has_rings() {
        return;
    }
    let filter = filter_of(&read("upring.service"));
    let folder = folder("filter");
    let profile = folder.join("filter.json");
    fs::write(&profile, filter.to_string()).expect("a file");
    serves_under(&profile, "filter");
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn the_unit_is_clean_to_systemd_and_exposes_little() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = folder("unit");
    // What it executes is where the build put it, so that it can be looked at.
    let unit = read("upring.service").replace("/usr/bin/upring ", &format!("{UPRING} "));
    fs::write(folder.join("upring.service"), unit).expect("a file");
    fs::write(folder.join("upring.socket"), read("upring.socket")).expect("a file");
    let units = ["upring.service", "upring.socket"].map(|unit| folder.join(unit));
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["verify", "--man=no"]).args(&units).output().expect("it is there");
    let told = text(&output);
    assert!(output.status.success() && !told.contains("upring."), "{told}");
    let mut command = Command::new("systemd-analyze");
    // In tenths: 2.0 and below is what systemd calls OK.
    command.args(["security", "--offline=true", "--threshold=20"]).arg(&units[0]);
    let output = command.output().expect("it is there");
    assert!(output.status.success(), "{}", text(&output));
    fs::remove_dir_all(folder).expect("it is there");
}

/// What runc is told: this root, this command, this filter, the host's network, no right at all.
fn bundle(root: &Path, arguments: &[&str], seccomp: &Value) -> Value {
    let spaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    let mount = |to: &str, kind: &str| json!({ "destination": to, "type": kind, "source": kind });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 65534, "gid": 65534 },
            "args": arguments,
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 20000, "soft": 20000 }],
        },
        "root": { "path": root, "readonly": true },
        "mounts": [mount("/proc", "proc"), mount("/dev", "tmpfs")],
        "linux": { "namespaces": spaces, "seccomp": seccomp },
    })
}

/// The profile as a runtime takes it: Docker chooses the architecture, and leaves out comments.
fn for_runtime(without: &[&str]) -> Value {
    let profile: Value = serde_json::from_str(&read("seccomp.json")).expect("it is JSON");
    let mut groups = profile["syscalls"].as_array().expect("groups of calls").clone();
    for group in &mut groups {
        group.as_object_mut().expect("a group").remove("comment");
        let names = group["names"].as_array_mut().expect("names");
        names.retain(|name| !without.contains(&name.as_str().expect("a name")));
    }
    groups.retain(|group| group["names"].as_array().is_some_and(|names| !names.is_empty()));
    let action = &profile["defaultAction"];
    json!({ "defaultAction": action, "defaultErrnoRet": 1, "syscalls": groups })
}

/// The server and the libraries that it is linked to, at the same paths below `root`.
fn install(root: &Path) {
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to.parent().expect("below the root")).expect("a folder");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    copy(Path::new(UPRING), &root.join("usr/bin/upring"));
    let output = Command::new("ldd").arg(UPRING).output().expect("ldd is part of the C library");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), &root.join(&library[1..]));
    }
    for mount in ["proc", "dev"] {
        fs::create_dir_all(root.join(mount)).expect("a folder");
    }
    fs::create_dir_all(root.join("srv")).expect("a folder");
    fs::write(root.join("srv/served.txt"), "out of a file").expect("a file");
}

#[test]
fn a_container_serves_with_the_profile_and_says_what_it_lacks_without() {
    if !has("runc") || !has_rings() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: a container takes root here");
    }
    let folder = folder("container");
    let root = folder.join("root");
    install(&root);
    let run = |name: &str, arguments: &[&str], seccomp: &Value| {
        let config = bundle(&root, arguments, seccomp).to_string();
        fs::write(folder.join("config.json"), config).expect("a file");
        let mut command = Command::new("runc");
        command.arg("--root").arg(folder.join("state")).arg("run").arg("--bundle").arg(&folder);
        command.arg(format!("upring-{name}-{}", std::process::id()));
        command
    };
    let output = run("plain", &["/usr/bin/upring", "--version"], &json!(null)).output();
    let output = output.expect("it is there");
    if !output.status.success() {
        let _ = fs::remove_dir_all(folder);
        return eprintln!("SKIPPED: no container can be run here: {}", text(&output));
    }
    let listen = ["--listen", "127.0.0.1:0"];
    let serve = [&["/usr/bin/upring", "--workers", "2", "--root", "/srv"], &listen[..]].concat();
    Running::start(&mut run("allowed", &serve, &for_runtime(&[]))).serves();

    let doctor = [&["/usr/bin/upring", "doctor"], &listen[..]].concat();
    let output = run("denied", &doctor, &for_runtime(&RING_CALLS)).output().expect("it is there");
    let told = text(&output);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("lacks   io_uring_setup") && told.contains("seccomp"), "{told}");
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn the_image_is_made_by_the_compiler_we_need_of_files_there_are() {
    let recipe = read("Dockerfile");
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("a version").trim_matches('"');
    assert!(recipe.contains(&format!("FROM rust:{version}-")), "rust {version}: {recipe}");
    let built = "target/release/upring";
    for line in recipe.lines().filter_map(|line| line.strip_prefix("COPY --from=build /build/")) {
        let file = line.split(' ').next().expect("what is copied");
        assert!(file == built || repository().join(file).exists(), "{file}");
    }
    let words = |key: &str| -> Vec<String> {
        let line = recipe.lines().find_map(|line| line.strip_prefix(key));
        serde_json::from_str(line.expect("it has one").trim()).expect("a list of words")
    };
    assert_eq!(words("ENTRYPOINT"), ["/usr/bin/upring"]);
    let output = Command::new(UPRING).args(words("CMD")).arg("limits").output().expect("built");
    assert!(output.status.success(), "it takes the options of the image: {}", text(&output));
}

#[test]
fn a_package_has_the_program_its_unit_and_scripts_that_run() {
    if !has("dpkg-deb") || !has("dpkg-shlibdeps") {
        return;
    }
    let folder = folder("package");
    let mut command = Command::new(tuning("package-deb"));
    command.args(["--binary", UPRING, "--output"]).arg(&folder);
    let output = command.output().expect("bash is there");
    assert!(output.status.success(), "{}", text(&output));
    let package = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert!(package.contains(&format!("/upring_{version}_")), "{package}");
    let tell = |option: &str| {
        let output =
            Command::new("dpkg-deb").args([option, &package]).output().expect("it is there");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let about = tell("-I");
    for line in ["Package: upring", &format!("Version: {version}"), "Depends: libc6", "postinst"] {
        assert!(about.contains(line), "{line}: {about}");
    }
    assert!(
        !about.contains('@') || about.matches('@').count() == 1,
        "nothing is left open: {about}"
    );
    let files = tell("-c");
    for file in [
        "./usr/bin/upring",
        "./usr/lib/systemd/system/upring.service",
        "./usr/lib/systemd/system/upring.socket",
        "./usr/lib/sysusers.d/upring.conf",
        "./etc/upring/upring.toml",
        "./usr/share/upring/tuning/knobs.sh",
        "./usr/share/doc/upring/copyright",
    ] {
        let line = files.lines().find(|line| line.ends_with(&format!(" {file}")));
        let line = line.unwrap_or_else(|| panic!("{file} is not in {files}"));
        assert!(line.contains("root/root"), "{line}");
    }
    let tree = folder.join("tree");
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree).status();
    assert!(unpacked.is_ok_and(|status| status.success()));
    let run = |program: &str, arguments: &[&str]| {
        Command::new(tree.join(program)).args(arguments).output().expect("it can be executed")
    };
    assert!(text(&run("usr/bin/upring", &["--version"])).contains(version));
    let output = run("usr/share/upring/tuning/check", &["--explain", "rps"]);
    assert!(output.status.success() && text(&output).contains("scaling.rst"), "{}", text(&output));
    let unit = fs::read_to_string(tree.join("usr/lib/systemd/system/upring.service"));
    for command in settings(&unit.expect("it is there"), "ExecStart") {
        let program = command.split(' ').next().expect("a program");
        assert!(tree.join(&program[1..]).exists(), "the unit starts what is in the package");
    }
    fs::remove_dir_all(folder).expect("it is there");
}

/// In place of systemd's: notes what it is told, and sends signals to whoever is the main process, as the
/// server itself says by sd_notify(3).
const SYSTEMCTL: &str = "#!/bin/sh\n\
    echo \"$*\" >>\"$FAKE/calls\"\n\
    case $1 in\n\
      show) cat \"$FAKE/main\" ;;\n\
      kill) [ ! -e \"$FAKE/deaf\" ] || exit 0; kill -USR2 \"$(cat \"$FAKE/main\")\" ;;\n\
    esac\n";

/// Runs the script of a package that was unpacked, beside that systemctl; what it says, and what was asked
/// of systemctl meanwhile.
fn configure(folder: &Path, before: &[&str], place: &Path) -> (String, String) {
    fs::write(folder.join("calls"), "").expect("a file");
    let path = std::env::var("PATH").expect("there is one");
    let mut command = Command::new(tuning("debian/postinst"));
    command.arg("configure").args(before).env("FAKE", folder).env("UPRING_PLACE", place);
    command.env("PATH", format!("{}:{path}", folder.display()));
    command.env("UPRING_SYSTEMD", folder).env("UPRING_PAUSE", "0.3");
    let output = command.output().expect("there is a shell");
    assert!(output.status.success(), "{}", text(&output));
    let calls = fs::read_to_string(folder.join("calls")).expect("it is there");
    (text(&output), calls)
}

#[test]
fn an_upgrade_of_the_package_refuses_no_connection() {
    if !has_rings() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("upring-postinst-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    for (name, script) in [("systemctl", SYSTEMCTL), ("systemd-sysusers", "#!/bin/sh\n")] {
        fs::write(folder.join(name), script).expect("a file");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.join(name), executable).expect("it is ours");
    }
    let (main, place) = (folder.join("main"), folder.join("place"));
    let notified = UnixDatagram::bind(folder.join("notify")).expect("it is free");
    let told = main.clone();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = notified.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if let Some(id) = text.lines().find_map(|line| line.strip_prefix("MAINPID=")) {
                fs::write(&told, id).expect("a file");
            }
        }
    });
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|at| at.local_addr());
    let listen = port.expect("a port").to_string();
    let mut command = Command::new(UPRING);
    command.args(["--listen", &listen, "--workers", "1", "--hand-over"]).arg(&place);
    let mut first = Running::start(command.env("NOTIFY_SOCKET", folder.join("notify")));
    let id = first.process.id().to_string();
    fs::write(&main, &id).expect("a file");
    let deadline = Instant::now() + PATIENCE;
    while !place.exists() {
        assert!(Instant::now() < deadline, "it offers nothing");
        thread::sleep(Duration::from_millis(10));
    }
    let (_, calls) = configure(&folder, &[], &place);
    assert!(!calls.contains("kill") && !calls.contains("restart"), "a new package: {calls}");
    let (_, calls) = configure(&folder, &["0.0.1"], &folder.join("nowhere"));
    assert!(calls.contains("try-restart") && !calls.contains("kill"), "{calls}");
    fs::write(folder.join("deaf"), "").expect("a file");
    let (said, calls) = configure(&folder, &["0.0.1"], &place);
    assert!(said.contains("journalctl -u upring") && !calls.contains("restart"), "{said} {calls}");
    fs::remove_file(folder.join("deaf")).expect("it is there");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let head = "GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                assert!(first_line(&listen, head).starts_with("HTTP/1.1 200 "));
                asked += 1;
            }
            asked
        });
        let (said, calls) = configure(&folder, &["0.0.1"], &place);
        thread::sleep(Duration::from_millis(100));
        is_over.store(true, Ordering::Relaxed);
        assert!(said.is_empty() && !calls.contains("restart"), "{said} {calls}");
        assert!(asking.join().expect("each was answered") > 10);
    });
    let next = fs::read_to_string(&main).expect("it is there");
    assert_ne!(next, id, "another process is the service");
    assert_eq!(first.process.wait().expect("it drains").code(), Some(0));
    assert!(first_line(&listen, "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 "));
    assert!(Command::new("kill").args(["-s", "TERM", &next]).status().is_ok_and(|s| s.success()));
    fs::remove_dir_all(folder).expect("it is there");
}

/// What a new connection is answered with.
fn first_line(address: &str, head: &str) -> String {
    let mut client = TcpStream::connect(address).expect("no connection is refused");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("none is reset");
    answer
}

#[test]
fn a_package_of_a_program_that_is_not_there_is_refused() {
    let output = Command::new(tuning("package-deb")).args(["--binary", "/nowhere"]).output();
    let output = output.expect("bash is there");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/nowhere is not there"), "{}", text(&output));
}
