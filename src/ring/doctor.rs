//! What this kernel and the limits of this process offer a configuration, line by line, each lack
//! with the command that mends it. For an operator, before the first start and when one has failed.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use super::Errno;
use super::error::{Cause, SetupError, sysctl};
use super::listen::listen;
use super::probe::{self, Step};
use super::setup::{self, Limit};
use super::shared::SharedListener;
use super::tier::Tier;
use crate::config::{Config, ListenAddress, Listener};
use crate::privilege::{self, Account};

/// The findings, to be displayed.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    verdict: Verdict,
    subject: &'static str,
    finding: String,
    remedy: Option<String>,
}

/// What a line says about its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Ok,
    /// The server works, with less than was configured or more slowly.
    Limits,
    /// The server does not start.
    Lacks,
}

/// Looks at kernel, limits and addresses. Listens on each address of `config` for a moment.
pub fn report(config: &Config) -> Report {
    let mut report = Report::default();
    if report.io_uring(config) {
        report.tier(Tier::Plain);
        report.tier(Tier::Direct);
    }
    report.account(config);
    report.descriptors(config);
    report.locked_memory(config);
    report.backlog(config);
    for listener in &config.listen {
        report.listener(listener);
    }
    report
}

impl Report {
    /// Whether a server with this configuration starts.
    pub fn healthy(&self) -> bool {
        self.lines.iter().all(|line| line.verdict != Verdict::Lacks)
    }

    fn add(
        &mut self,
        verdict: Verdict,
        subject: &'static str,
        finding: impl Into<String>,
        remedy: Option<String>,
    ) {
        self.lines.push(Line { verdict, subject, finding: finding.into(), remedy });
    }

    fn io_uring(&mut self, config: &Config) -> bool {
        let disabled = sysctl("kernel/io_uring_disabled");
        match disabled {
            None => self.add(
                Verdict::Ok,
                "kernel.io_uring_disabled",
                "no such setting on this kernel",
                None,
            ),
            Some(0) => self.add(
                Verdict::Ok,
                "kernel.io_uring_disabled",
                "0: allowed for every process",
                None,
            ),
            Some(value) => {
                let remedy = Cause::Disabled(value.clamp(1, 2) as u8).to_string();
                self.add(
                    Verdict::Limits,
                    "kernel.io_uring_disabled",
                    value.to_string(),
                    Some(remedy),
                );
            }
        }
        match setup::build(&config.ring) {
            Ok(ring) => {
                let (submissions, completions) =
                    (ring.params().sq_entries(), ring.params().cq_entries());
                let sizes = format!("{submissions} submissions, {completions} completions");
                self.add(Verdict::Ok, "io_uring_setup", sizes, None);
            }
            Err(error) => {
                self.refusal("io_uring_setup", &error);
                return false;
            }
        }
        let flags = "SINGLE_ISSUER, DEFER_TASKRUN, TASKRUN_FLAG: completions when we ask for them";
        self.add(Verdict::Ok, "setup flags", flags, None);
        self.optional(
            "NO_SQARRAY",
            "one indirection less for each submission",
            setup::with_flags(8, 16, true).is_ok(),
        );
        let registered = probe::Features::find().is_ok_and(|features| features.registered_ring);
        self.optional("RING_FDS", "no look-up of the ring's descriptor for each call", registered);
        self.restrictions();
        true
    }

    fn optional(&mut self, subject: &'static str, purpose: &str, works: bool) {
        if works {
            self.add(Verdict::Ok, subject, purpose, None);
        } else {
            let remedy = "a newer kernel has it; the server does without".to_string();
            self.add(Verdict::Limits, subject, purpose, Some(remedy));
        }
    }

    fn restrictions(&mut self) {
        let purpose = "each ring is confined to what this server asks of it";
        if probe::Features::find().is_ok_and(|features| features.restrictions) {
            return self.add(Verdict::Ok, "RESTRICTIONS", purpose, None);
        }
        let remedy =
            "every kernel from 6.1 on has it: a seccomp profile denies this registration, or \
                      a module; the server does without"
                .to_string();
        self.add(Verdict::Limits, "RESTRICTIONS", purpose, Some(remedy));
    }

    fn tier(&mut self, tier: Tier) {
        let steps = match probe::rehearse(tier) {
            Ok(steps) => steps,
            Err(error) => return self.refusal("rehearsal", &error),
        };
        let (subject, needed) = match tier {
            Tier::Plain => ("needed operations", true),
            Tier::Direct => ("direct descriptors", false),
        };
        for step in &steps {
            // What worked for ordinary descriptors too has its line already.
            if step.outcome.is_err() || self.lines.iter().all(|line| line.subject != step.name) {
                self.step(step, needed);
            }
        }
        if probe::lacking(&steps).is_none() {
            self.add(
                Verdict::Ok,
                subject,
                format!("all {} steps of a rehearsal worked", steps.len()),
                None,
            );
        } else if !needed {
            let remedy =
                "Linux 6.8 or later has them; the server uses ordinary descriptors".to_string();
            self.add(Verdict::Limits, subject, "not all of what they take", Some(remedy));
        }
    }

    fn step(&mut self, step: &Step, needed: bool) {
        match step.outcome {
            Ok(()) => self.add(Verdict::Ok, step.name, step.purpose, None),
            Err(errno) => {
                let verdict = if needed { Verdict::Lacks } else { Verdict::Limits };
                let finding = format!("{}: {errno:?}", step.purpose);
                self.add(verdict, step.name, finding, Some(Cause::of_ring(errno).to_string()));
            }
        }
    }

    fn account(&mut self, config: &Config) {
        let (is_root, subject) = (privilege::is_root(), "user");
        let account = Account::find(config).and_then(|found| {
            found.as_ref().map_or(Ok(()), Account::may_be_assumed).map(|()| found)
        });
        match account {
            Err(error) => {
                let finding = "the one that is configured cannot be run as";
                self.add(Verdict::Lacks, subject, finding, Some(error.to_string()));
            }
            Ok(Some(account)) => {
                self.add(Verdict::Ok, subject, format!("{account} once it listens"), None);
            }
            Ok(None) if is_root => {
                let remedy =
                    "`user = \"NAME\"` or `--user NAME`: who it is to become once it listens";
                self.add(Verdict::Limits, subject, "root, and stays it", Some(remedy.to_string()));
            }
            Ok(None) => self.add(Verdict::Ok, subject, "not root", None),
        }
    }

    fn descriptors(&mut self, config: &Config) {
        let limit = setup::raise_descriptors();
        let wanted = config.limits.connections_max;
        let subject = "RLIMIT_NOFILE";
        let possible = setup::plain_connections(wanted);
        if possible < wanted {
            let finding = format!("{limit}: {possible} of {wanted} connections for each worker");
            self.add(
                Verdict::Limits,
                subject,
                finding,
                Some(Cause::Descriptors(limit).to_string()),
            );
        } else {
            self.add(
                Verdict::Ok,
                subject,
                format!("{limit}: room for {wanted} connections of each worker"),
                None,
            );
        }
    }

    fn locked_memory(&mut self, config: &Config) {
        // Queues and buffer rings count as locked memory where the process lacks CAP_IPC_LOCK: less
        // than this with the default sizes.
        const PER_CORE: u64 = 1 << 20;
        let limit = Limit::locked_memory();
        let cores = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            workers => workers as u64,
        };
        let enough = limit.soft.is_none_or(|bytes| bytes >= PER_CORE * cores);
        let remedy = (!enough).then(|| Cause::LockedMemory(limit).to_string());
        let verdict = if enough { Verdict::Ok } else { Verdict::Limits };
        self.add(
            verdict,
            "RLIMIT_MEMLOCK",
            format!("{limit} bytes for the rings of {cores} workers"),
            remedy,
        );
    }

    fn backlog(&mut self, config: &Config) {
        let backlogs = config.listen.iter().map(|listener| i64::from(listener.backlog));
        let backlog = backlogs.max().unwrap_or_default();
        match sysctl("net/core/somaxconn") {
            Some(most) if most < backlog => {
                let remedy = format!("`sysctl -w net.core.somaxconn={backlog}`");
                self.add(
                    Verdict::Limits,
                    "net.core.somaxconn",
                    format!("{most}, less than the backlog of {backlog}"),
                    Some(remedy),
                );
            }
            Some(most) => {
                self.add(
                    Verdict::Ok,
                    "net.core.somaxconn",
                    format!("{most}: the backlog of {backlog} holds"),
                    None,
                );
            }
            None => self.add(Verdict::Limits, "net.core.somaxconn", "cannot be read", None),
        }
    }

    fn listener(&mut self, listener: &Listener) {
        if let Some(fault) = listener.fault() {
            let finding = format!("{} cannot be served", listener.address);
            return self.add(Verdict::Lacks, "listener", finding, Some(fault.to_string()));
        }
        match &listener.address {
            ListenAddress::Tcp(address) => self.tcp(*address, listener),
            ListenAddress::Unix(path) => self.unix(path, listener),
        }
    }

    fn tcp(&mut self, address: SocketAddr, listener: &Listener) {
        // Twice: every worker has a listener of its own.
        let first = listen(address, listener);
        match first.and_then(|first| Ok((first, listen(address, listener)?))) {
            Ok(_) => {
                self.add(Verdict::Ok, "SO_REUSEPORT", format!("{address} can be listened on"), None)
            }
            Err(error) => self.refusal("listener", &error),
        }
    }

    fn unix(&mut self, path: &Path, listener: &Listener) {
        let (address, mode) = (&listener.address, listener.mode);
        match SharedListener::listen(path, listener) {
            // Whoever connects can claim to be anybody.
            Ok(_) if mode & 0o002 != 0 && listener.is_proxied() => {
                let finding =
                    format!("{address}: mode {mode:03o} has all users say whose they are");
                let remedy = "mode 660, and the load balancer in the group".to_owned();
                self.add(Verdict::Limits, "Unix socket", finding, Some(remedy));
            }
            Ok(_) => {
                let who = match (mode & 0o020 != 0, mode & 0o002 != 0) {
                    (_, true) => "all users",
                    (true, false) => "its owner and group",
                    (false, false) => "its owner",
                };
                let finding =
                    format!("{address} can be listened on; mode {mode:03o}: {who} connect");
                self.add(Verdict::Ok, "Unix socket", finding, None);
            }
            Err(error) => self.refusal("listener", &error),
        }
    }

    fn refusal(&mut self, subject: &'static str, error: &SetupError) {
        let (call, errno): (_, Errno) = match error {
            SetupError::Ring { call, errno, .. } => ((*call).to_string(), *errno),
            SetupError::Listener { call, address, errno, .. } => {
                (format!("{call} on {address}"), *errno)
            }
        };
        self.add(
            Verdict::Lacks,
            subject,
            format!("{call}: {errno:?}"),
            Some(error.cause().to_string()),
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let verdict = match line.verdict {
                Verdict::Ok => "ok    ",
                Verdict::Limits => "limits",
                Verdict::Lacks => "lacks ",
            };
            writeln!(f, "{verdict}  {:<24}  {}", line.subject, line.finding)?;
            if let Some(remedy) = &line.remedy {
                writeln!(f, "        {:<24}  └─ {remedy}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_of_another_host_makes_the_report_unhealthy_and_names_the_command() {
        let mut report = Report::default();
        report.listener(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into());
        assert!(report.healthy(), "{report}");
        report.listener(&SocketAddr::from(([192, 0, 2, 1], 0)).into());
        assert!(!report.healthy());
        assert!(
            report.to_string().contains("lacks ") && report.to_string().contains("`ip address`"),
            "{report}"
        );
    }

    #[test]
    fn a_whole_report_has_a_line_for_each_limit() {
        let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
        let text = report(&Config { listen, ..Config::default() }).to_string();
        for subject in
            ["kernel.io_uring_disabled", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "net.core.somaxconn"]
        {
            assert!(text.contains(subject), "{text}");
        }
        println!("{text}");
    }

    #[test]
    fn a_unix_socket_is_listed_and_what_is_in_its_way_is_named() {
        let folder = std::env::temp_dir().join(format!("upring-doctor-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is room for temporary files");
        let listener = Listener::from(ListenAddress::from(&*folder.join("socket")));
        let say = |listener: &Listener| {
            let mut report = Report::default();
            report.listener(listener);
            (report.healthy(), report.to_string())
        };
        let (is_healthy, text) = say(&listener);
        assert!(is_healthy && text.contains("mode 660: its owner and group connect"), "{text}");
        let taken = SharedListener::listen(&folder.join("socket"), &listener).expect("it is free");
        let (is_healthy, text) = say(&listener);
        assert!(!is_healthy && text.contains("ss -lxp"), "{text}");
        drop(taken);
        let proxy_protocol = crate::config::ProxyProtocol::V2;
        let open = Listener { mode: 0o666, proxy_protocol, ..listener.clone() };
        let (is_healthy, text) = say(&open);
        assert!(is_healthy && text.contains("limits") && text.contains("mode 660"), "{text}");
        let nowhere = Listener { address: "127.0.0.1:0".parse().expect("an address"), ..open };
        let (is_healthy, text) = say(&nowhere);
        assert!(!is_healthy && text.contains("proxy_from"), "{text}");
        let missing = folder.join("missing/socket");
        let (is_healthy, text) = say(&Listener::from(ListenAddress::from(&*missing)));
        assert!(!is_healthy && text.contains("mkdir"), "{text}");
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
