//! `tuning/check`, `apply` and `revert`, on a fake machine in a folder: what they say, what they
//! change, and that all of it can be undone. The real machine is changed only within a namespace
//! of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

const JOURNAL: &str = "var/lib/upring/tuning.journal";

fn tuning(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(script)
}

/// A machine of files: four cores, and a card with two receive and two transmit queues.
struct Machine {
    root: PathBuf,
}

/// What of it there is at first, beside the card.
const FILES: &[(&str, &str)] = &[
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
    ("proc/sys/kernel/io_uring_group", "-1\n"),
    ("proc/sys/net/core/somaxconn", "128\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/net/core/busy_read", "0\n"),
    ("proc/sys/net/core/busy_poll", "0\n"),
    ("proc/sys/net/core/rps_sock_flow_entries", "0\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "2\n"),
    ("proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/net/softnet_stat", "00000010 00000000 00000000\n0000000a 00000000 00000000\n"),
    ("proc/irq/41/smp_affinity_list", "0-3\n"),
    ("proc/irq/42/smp_affinity_list", "0-3\n"),
    ("proc/irq/43/smp_affinity_list", "0-3\n"),
    ("proc/irq/44/smp_affinity_list", "0-3\n"),
    ("proc/irq/45/smp_affinity_list", "0-3\n"),
    ("sys/devices/system/cpu/online", "0-2,3\n"),
    ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpufreq/policy2/scaling_governor", "powersave\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/42", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/43", "msix\n"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
    ("etc/group", "root:x:0:\nupring:x:977:\n"),
];

/// Two cards name their interrupts in two ways; 45 is no queue of any.
const INTERRUPTS: &str = "\
            CPU0       CPU1       CPU2       CPU3
  8:          0          0          0          0  IO-APIC   8-edge      rtc0
 41:          7          0          0          0  PCI-MSIX-0000:00:03.0  0-edge  virtio2-config
 42:          7          0          0          0  PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0
 43:          7          0          0          0  PCI-MSIX-0000:00:03.0  2-edge  virtio2-input.1
 44:          7          0          0          0  PCI-MSIX-0000:00:04.0   0-edge      eth0-TxRx-5
 45:          7          0          0          0  PCI-MSIX-0000:00:05.0   0-edge      eth01-TxRx-0
";

impl Machine {
    fn new() -> Machine {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("machine-{}-{number}", std::process::id());
        let machine = Machine { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name) };
        for (path, text) in FILES {
            machine.write(path, text);
        }
        machine.write("proc/interrupts", INTERRUPTS);
        for queue in 0..2 {
            let queues = "sys/class/net/eth0/queues";
            machine.write(&format!("{queues}/rx-{queue}/rps_cpus"), "00000000,00000000\n");
            machine.write(&format!("{queues}/rx-{queue}/rps_flow_cnt"), "0\n");
            machine.write(&format!("{queues}/tx-{queue}/xps_cpus"), "0\n");
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        let text = fs::read_to_string(self.root.join(path));
        text.unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }

    /// A value of the kernel, without the brackets that a choice of words is kept in.
    fn sysctl(&self, name: &str) -> String {
        self.read(&format!("proc/sys/{}", name.replace('.', "/")))
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(tuning(script));
        command.arg("--root").arg(&self.root).args(arguments).env_remove("UPRING_ROOT");
        command.output().expect("bash is there")
    }

    /// What it prints, if it ends with this status.
    fn says(&self, script: &str, arguments: &[&str], status: i32) -> String {
        let output = self.run(script, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{script} {arguments:?}: {text}");
        text
    }

    fn rows(&self) -> Vec<Value> {
        let text = self.says("check", &["--json"], 0);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The verdict on a knob, and what mends it.
    fn verdict(&self, name: &str) -> (String, String) {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not in {rows:?}"));
        let word = |key: &str| row[key].as_str().expect("a word").to_owned();
        (word("verdict"), word("apply"))
    }

    /// Every file but the journal, with its text in the words the kernel compares.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.starts_with(self.root.join("var")) {
                    let text = fs::read_to_string(&path).expect("text");
                    let words: Vec<&str> = text.split_whitespace().collect();
                    let mut text = words.join(" ");
                    if path.ends_with("transparent_hugepage/enabled") {
                        // A kernel moves the brackets; a file is what was written.
                        let chosen = text.split(['[', ']']).nth(1).unwrap_or(&text);
                        text = chosen.to_owned();
                    }
                    found.insert(path, text);
                }
            }
        }
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", tool]).status();
    let found = found.expect("there is a shell").success();
    if !found {
        eprintln!("SKIPPED: {tool} is not installed");
    }
    found
}

#[test]
fn the_scripts_are_clean_to_shellcheck() {
    if !has("shellcheck") {
        return;
    }
    let scripts = ["check", "apply", "revert", "knobs.sh", "package-deb", "burst"];
    let maintainer = ["debian/postinst", "debian/prerm", "debian/postrm"];
    let scripts = scripts.iter().chain(&maintainer).map(|script| tuning(script));
    let output = Command::new("shellcheck").arg("-x").args(scripts).output().expect("it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn check_says_of_each_knob_what_it_is_and_what_mends_it() {
    let machine = Machine::new();
    let mends = |name: &str| ("change".to_owned(), name.to_owned());
    let ok = ("ok".to_owned(), "-".to_owned());
    for name in ["kernel.io_uring_disabled", "net.core.somaxconn", "net.ipv4.ip_local_port_range"] {
        assert_eq!(machine.verdict(name), mends(name));
    }
    for name in ["fs.file-max", "fs.nr_open", "net.ipv4.tcp_syncookies"] {
        assert_eq!(machine.verdict(name), ok, "{name}");
    }
    let choose = ("choose".to_owned(), "net.core.busy_read=VALUE".to_owned());
    assert_eq!(machine.verdict("net.core.busy_read"), choose);
    assert_eq!(machine.verdict("rps=eth0"), ("choose".to_owned(), "rps=eth0".to_owned()));
    let rows = machine.rows();
    let row = rows.iter().find(|row| row["name"] == "irq=eth0").expect("the card has a row");
    assert_eq!(row["value"], "0-3");
    assert_eq!(row["wanted"], "0, 1", "queues 0 and 1, and queue 5 of four cores is core 1");
    let text = machine.says("check", &[], 0);
    assert_eq!(text.lines().count(), rows.len() + 1, "a line each, and the head: {text}");
    assert!(!text.contains("=lo"), "loopback has no hardware: {text}");
}

#[test]
fn io_uring_for_one_group_alone_is_enough() {
    let machine = Machine::new();
    machine.says("apply", &["kernel.io_uring_disabled=1"], 0);
    assert_eq!(machine.verdict("kernel.io_uring_disabled").0, "change", "nobody is in the group");
    machine.says("apply", &["kernel.io_uring_group=upring"], 0);
    assert_eq!(machine.sysctl("kernel.io_uring_group"), "977", "by its name in /etc/group");
    assert_eq!(machine.verdict("kernel.io_uring_disabled").0, "ok");
}

#[test]
fn a_queue_that_dropped_packets_is_to_be_longer() {
    let machine = Machine::new();
    assert_eq!(machine.verdict("net.core.netdev_max_backlog").0, "ok");
    machine.write("proc/net/softnet_stat", "00000010 0000001f 00000000\n");
    assert_eq!(machine.verdict("net.core.netdev_max_backlog").0, "change");
    machine.says("apply", &["net.core.netdev_max_backlog"], 0);
    assert_eq!(machine.sysctl("net.core.netdev_max_backlog"), "10000");
    assert_eq!(machine.verdict("net.core.netdev_max_backlog").0, "ok");
}

#[test]
fn check_changes_nothing() {
    let machine = Machine::new();
    let before = machine.files();
    for arguments in [&[][..], &["--json"], &["--explain"], &["--explain", "rps"]] {
        machine.says("check", arguments, 0);
        assert_eq!(machine.files(), before, "{arguments:?}");
    }
    assert!(!machine.root.join("var").exists(), "nor is there a journal");
}

#[test]
fn a_check_that_can_read_nothing_fails() {
    let machine = Machine::new();
    for folder in ["proc", "sys"] {
        fs::remove_dir_all(machine.root.join(folder)).expect("it is there");
    }
    assert!(machine.says("check", &[], 1).contains("nothing can be read"));
}

/// Every knob, in every way that it is asked for.
const ALL: &[&str] = &[
    "server",
    "generator",
    "kernel.io_uring_group=upring",
    "net.ipv4.tcp_max_syn_backlog=4096",
    "net.ipv4.tcp_tw_reuse=1",
    "net.ipv4.tcp_notsent_lowat=131072",
    "net.core.busy_read=50",
    "net.core.busy_poll=50",
    "irq=eth0",
    "rps=eth0",
    "rfs=eth0",
    "xps=eth0",
    "hugepages=never",
    "governor=performance",
    "nofile=web",
    "memlock=web",
];

#[test]
fn everything_that_is_applied_can_be_reverted() {
    let machine = Machine::new();
    let before = machine.files();
    let told = machine.says("apply", &[&["--keep"], ALL].concat(), 0);
    assert!(
        told.contains("net.core.somaxconn: /proc/sys/net/core/somaxconn: 128 -> 4096"),
        "{told}"
    );
    assert_eq!(machine.sysctl("kernel.io_uring_disabled"), "0");
    assert_eq!(machine.sysctl("net.ipv4.ip_local_port_range"), "10240 65535");
    assert_eq!(machine.sysctl("net.core.rps_sock_flow_entries"), "32768");
    let kept = machine.read("etc/sysctl.d/60-upring-net.core.somaxconn.conf");
    assert_eq!(kept, "net.core.somaxconn = 4096");
    let limits = machine.read("etc/security/limits.d/60-upring-web-nofile.conf");
    assert_eq!(limits, "web - nofile 1048576");
    let queues = "sys/class/net/eth0/queues";
    assert_eq!(machine.read(&format!("{queues}/rx-1/rps_cpus")), "f");
    assert_eq!(machine.read(&format!("{queues}/rx-1/rps_flow_cnt")), "16384");
    assert_eq!(machine.read(&format!("{queues}/tx-0/xps_cpus")), "5", "cores 0 and 2");
    assert_eq!(machine.read(&format!("{queues}/tx-1/xps_cpus")), "a", "cores 1 and 3");
    let affinity = |number| machine.read(&format!("proc/irq/{number}/smp_affinity_list"));
    assert_eq!([41, 42, 43, 44, 45].map(affinity), ["0-3", "0", "1", "1", "0-3"]);

    assert_eq!(machine.says("revert", &[], 0).lines().count(), told.matches(" -> ").count());
    assert_eq!(machine.files(), before);
    assert_eq!(machine.read(JOURNAL), "", "nothing is left to revert");
    assert!(machine.says("revert", &[], 0).contains("nothing to revert"));
}

#[test]
fn applying_twice_changes_nothing_the_second_time() {
    let machine = Machine::new();
    machine.says("apply", &[&["--keep"], ALL].concat(), 0);
    let (files, journal) = (machine.files(), machine.read(JOURNAL));
    let told = machine.says("apply", &[&["--keep"], ALL].concat(), 0);
    assert!(!told.contains("->"), "{told}");
    assert_eq!((machine.files(), machine.read(JOURNAL)), (files, journal));
}

#[test]
fn a_mask_that_the_kernel_writes_otherwise_is_the_same_mask() {
    let machine = Machine::new();
    let path = "sys/class/net/eth0/queues/rx-0/rps_cpus";
    machine.says("apply", &["rps=eth0"], 0);
    machine.write(path, "00000000,0000000f\n");
    assert_eq!(machine.verdict("rps=eth0").0, "ok");
    machine.says("revert", &[], 0);
    assert_eq!(machine.read(path), "00000000,00000000");
}

#[test]
fn a_mask_of_many_cores_is_written_in_words() {
    let machine = Machine::new();
    machine.write("sys/devices/system/cpu/online", "0-33,70\n");
    machine.says("apply", &["rps=eth0"], 0);
    let mask = machine.read("sys/class/net/eth0/queues/rx-0/rps_cpus");
    assert_eq!(mask, "40,00000003,ffffffff");
}

#[test]
fn a_value_that_somebody_else_changed_since_is_left_alone() {
    let machine = Machine::new();
    machine.says("apply", &["net.core.somaxconn=4096", "net.core.busy_read=50"], 0);
    machine.write("proc/sys/net/core/somaxconn", "9000\n");
    let told = machine.says("revert", &[], 0);
    assert!(told.contains("somaxconn is left alone: apply made it 4096"), "{told}");
    assert!(told.contains("somebody made it 9000 since"), "{told}");
    assert_eq!(machine.sysctl("net.core.somaxconn"), "9000");
    assert_eq!(machine.sysctl("net.core.busy_read"), "0", "the other is reverted");
    assert_eq!(machine.read(JOURNAL), "");
}

#[test]
fn a_value_that_was_applied_twice_goes_back_to_the_first() {
    let machine = Machine::new();
    machine.says("apply", &["net.core.somaxconn=4096"], 0);
    machine.says("apply", &["net.core.somaxconn=8192"], 0);
    machine.says("revert", &[], 0);
    assert_eq!(machine.sysctl("net.core.somaxconn"), "128");
}

#[test]
fn what_cannot_be_undone_stays_in_the_journal() {
    let machine = Machine::new();
    machine.says("apply", &["net.core.busy_read=50"], 0);
    let journal = machine.root.join(JOURNAL);
    let own = fs::read_to_string(&journal).expect("the journal");
    for foreign in ["/etc/group", "/proc/sys/../../etc/group", "/usr/bin/upring"] {
        let line = format!("{foreign}\troot\troot:x:0: upring:x:977:\thugepages\tnow\n");
        fs::write(&journal, format!("{own}{line}")).expect("the journal");
        let told = machine.says("revert", &[], 1);
        assert!(told.contains("left alone"), "{told}");
        assert_eq!(fs::read_to_string(&journal).expect("the journal"), line);
    }
    assert_eq!(machine.read("etc/group"), "root:x:0:\nupring:x:977:");
    assert_eq!(machine.sysctl("net.core.busy_read"), "0", "the rest was undone");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let machine = Machine::new();
    let before = machine.files();
    let would = machine.says("apply", &[&["--dry-run", "--keep"], ALL].concat(), 0);
    assert_eq!(machine.files(), before);
    assert!(!machine.root.join("var").exists(), "nor is there a journal");
    let does = machine.says("apply", &[&["--keep"], ALL].concat(), 0);
    assert_eq!(would, does);
    let (applied, journal) = (machine.files(), machine.read(JOURNAL));
    let would = machine.says("revert", &["--dry-run"], 0);
    assert_eq!((machine.files(), machine.read(JOURNAL)), (applied, journal));
    assert_eq!(would, machine.says("revert", &[], 0));
}

#[test]
fn a_knob_that_there_is_none_of_is_refused_with_what_may_have_been_meant() {
    let machine = Machine::new();
    let before = machine.files();
    for (typed, meant) in [
        ("net.core.somaxcon=4096", "net.core.somaxconn"),
        ("somaxconn", "net.core.somaxconn"),
        ("rsp=eth0", "rps"),
        ("sever", "server"),
        ("transparent", ""),
    ] {
        let told = machine.says("apply", &["net.core.busy_read=50", typed], 64);
        let name = typed.split('=').next().expect("a name");
        assert!(told.contains(&format!("no knob called {name}")), "{told}");
        assert_eq!(told.contains("did you mean"), !meant.is_empty(), "{told}");
        assert!(told.contains(meant), "{typed}: {told}");
        assert_eq!(machine.files(), before, "what was named before it is not changed either");
    }
}

#[test]
fn a_value_that_a_knob_cannot_have_is_refused() {
    let machine = Machine::new();
    let before = machine.files();
    for wrong in [
        "net.core.somaxconn=many",
        "net.core.somaxconn=-1",
        "net.core.somaxconn=",
        "kernel.io_uring_disabled=3",
        "kernel.io_uring_group=nobody-of-this-name",
        "net.ipv4.ip_local_port_range=1024",
        "net.ipv4.ip_local_port_range=60000 1024",
        "net.ipv4.ip_local_port_range=1024 70000",
        "hugepages=sometimes",
        "rps=eth7",
        "rps=../net/eth0",
        "nofile=../../passwd",
        "irq",
        "nofile",
        "net.core.busy_read",
        "--loud",
    ] {
        let told = machine.says("apply", &[wrong], 64);
        assert!(told.starts_with("tuning/apply: "), "{wrong}: {told}");
        assert_eq!(machine.files(), before, "{wrong}");
    }
    assert!(machine.says("apply", &[], 64).contains("no knob was named"));
}

#[test]
fn a_change_that_the_kernel_refuses_is_told_and_the_others_are_made() {
    let machine = Machine::new();
    // A folder in its place is read by nobody.
    fs::remove_file(machine.root.join("proc/irq/42/smp_affinity_list")).expect("it is there");
    machine.write("proc/irq/42/smp_affinity_list/folder", "");
    let told = machine.says("apply", &["irq=eth0", "net.core.somaxconn"], 1);
    assert!(told.contains("/proc/irq/42/smp_affinity_list cannot be read"), "{told}");
    assert_eq!(machine.read("proc/irq/43/smp_affinity_list"), "1");
    assert_eq!(machine.sysctl("net.core.somaxconn"), "4096");
}

#[test]
fn who_is_not_root_is_told_so() {
    let now = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("the real value");
    // What it is already: even as root this would change nothing.
    let knob = format!("net.core.somaxconn={}", now.trim());
    for (script, argument) in [("apply", Some(knob.as_str())), ("revert", None)] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]).arg(tuning(script)).args(argument);
        if !rustix::process::geteuid().is_root() {
            command = Command::new(tuning(script));
            command.args(argument);
        } else if !has("setpriv") {
            return;
        }
        let output = command.env_remove("UPRING_ROOT").output().expect("it can be started");
        let told = String::from_utf8_lossy(&output.stderr);
        if told.contains("Permission denied") && !told.contains("needs root") {
            return eprintln!("SKIPPED: another user cannot read this repository: {told}");
        }
        assert_eq!(output.status.code(), Some(77), "{script}: {told}");
        assert!(told.contains("needs root"), "{script}: {told}");
    }
}

/// Within the namespace: the journal is on a file system of its own, and so is the setting.
const IN_A_NAMESPACE: &str = r#"
set -eu
mount -t tmpfs none /var/lib
cat /proc/sys/net/core/somaxconn
"$0/apply" net.core.somaxconn=777
cat /proc/sys/net/core/somaxconn
"$0/revert"
cat /proc/sys/net/core/somaxconn
"#;

#[test]
fn a_setting_of_a_real_kernel_is_changed_and_reverted_in_a_namespace() {
    let outside = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("the real value");
    let unshare = ["-r", "-n", "-m", "bash", "-c"];
    let possible = Command::new("unshare").args(["-r", "-n", "-m", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return eprintln!("SKIPPED: no namespace can be made here (unshare -rnm)");
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(IN_A_NAMESPACE).arg(tuning("")).env_remove("UPRING_ROOT");
    let output = command.output().expect("it was there a moment ago");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let values: Vec<&str> = told.lines().filter(|line| !line.contains(':')).collect();
    assert_eq!(values.len(), 3, "{told}");
    assert_ne!(values[0], "777");
    assert_eq!(values, [values[0], "777", values[0]], "{told}");
    let now = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("the real value");
    assert_eq!(now, outside, "the machine itself is as it was");
}

// No more at once than the backlog holds: then none is refused, on the slowest machine either.
#[test]
fn with_the_backlog_that_is_wanted_a_burst_overflows_nothing() {
    if !["unshare", "ip", "nstat", "python3"].into_iter().all(has) {
        return;
    }
    let mut command = Command::new(tuning("burst"));
    command.args(["--binary", env!("CARGO_BIN_EXE_upring"), "--connections", "500"]);
    let output = command.args(["--rounds", "1"]).output().expect("bash is there");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let is_denied = why.contains("does not start") || why.contains("unshare");
        assert!(is_denied, "{told}{why}");
        return eprintln!("SKIPPED: no namespace or no io_uring here: {why}");
    }
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[1].contains("somaxconn 4096: of 500 connections"), "{told}");
    assert!(lines[1].ends_with("0 failed, 0 never, 0 overflows"), "{told}");
    assert!(lines[0].contains("somaxconn 128: of 500") && lines[0].contains(" 0 never"), "{told}");
}

#[test]
fn every_knob_is_in_the_page_and_says_where_its_claim_is_from() {
    let page = fs::read_to_string(tuning("README.md")).expect("the page");
    let explained = Machine::new().says("check", &["--explain"], 0);
    let blocks: Vec<&str> = explained.lines().collect();
    assert!(blocks.len() > 60 && blocks.len().is_multiple_of(4), "{explained}");
    for block in blocks.chunks(4) {
        let name = block[0];
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in tuning/README.md"));
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 6, "{name}: what, why, see, set, undo or source: {row}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{name}: {row}");
        for (line, key) in block[1..].iter().zip(["what", "why", "source"]) {
            assert!(line.trim_start().starts_with(key), "{name}: {line}");
        }
    }
}
