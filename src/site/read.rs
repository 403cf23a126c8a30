//! From the text of a configuration file to what it says.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::catalog::Catalog;
use super::fault::{Faults, Notes, suggestion};
use super::listen::{listeners, place, relative_to};
use super::route::Routing;
use super::section::Section;
use super::{FILE_BYTES_MAX, LogSettings, Site};
use crate::config::{
    AccessFormat, AccessLog, AccessTarget, Config, DrainTimes, HostKind, LimitError, Limits,
    ListenAddress, Listener, RingConfig,
};
use crate::privilege::Account;

/// More than any host has cores: a slip of the finger is to be told, not thousands of threads.
pub(super) const WORKERS_MAX: u64 = 1024;

/// Milliseconds of a day: no connection ends later than that.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How often to look whether a core is stuck: it costs each a turn.
const WATCHDOG: Duration = Duration::from_secs(2);

/// How the lines of an access log may look.
const ACCESS_FORMATS: [(&str, AccessFormat); 3] = [
    ("combined", AccessFormat::Combined),
    ("common", AccessFormat::Common),
    ("json", AccessFormat::Json),
];

/// What the queue of an access log may hold: the longest line at least, a gibibyte at most.
const ACCESS_QUEUE_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1 << 30;

/// The text of a file.
pub(super) fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = open_file(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        let text = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(text)
}

/// Opens a file that is one: a pipe or a device might keep who reads it for ever.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    File::open(path)
}

pub(super) fn site(
    name: &str,
    text: &str,
    folder: &Path,
    catalog: &Catalog,
    overrides: impl FnOnce(&mut Config),
) -> Result<Site, Faults> {
    let notes = Notes::on(name, text);
    let made = read(&notes, text, folder, catalog, overrides);
    notes.into_faults()?;
    Ok(made.expect("what cannot be made is a fault"))
}

fn read(
    notes: &Notes<'_>,
    text: &str,
    folder: &Path,
    catalog: &Catalog,
    overrides: impl FnOnce(&mut Config),
) -> Option<Site> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            notes.add(error.span().unwrap_or_default(), error.message());
            return None;
        }
    };
    let mut file = Section::new(notes, table.span(), table.into_inner());
    let mut config = config(&mut file, folder);
    let (log, access) = log(&mut file, folder);
    config.access = access;
    let watchdog = time(&mut file, "watchdog_ms", WATCHDOG);
    let watchdog = (!watchdog.is_zero()).then_some(watchdog);
    let admin = admin(&mut file).map(|address| relative_to(folder, address));
    let hand_over: Option<PathBuf> =
        name(&mut file, "hand_over").map(|path| place(folder, path.into()));
    overrides(&mut config);
    if let Some(name) = config.limits.unusable() {
        notes
            .add_to_all(format!("the limit `{name}` lets nothing through: see `tuning/README.md`"));
    }
    if let Err(error) = Account::find(&config) {
        notes.add_to_all(error.to_string());
    }
    if admin.as_ref().is_some_and(|admin| config.listen.iter().any(|at| is_same(admin, at))) {
        notes.add_to_all("`admin.listen` is one of the addresses that the server listens on");
    }
    let mut routing = Routing::new(notes, catalog, folder, config.host);
    routing.add_all(&mut file);
    file.end();
    let Routing { registry, served, .. } = routing;
    Some(Site { config, registry, log, watchdog, admin, hand_over, served })
}

fn config(file: &mut Section<'_>, folder: &Path) -> Config {
    let usual = Config::default();
    let hosts = [("hosted", HostKind::Hosted), ("native", HostKind::Native)];
    let listen = listeners(file, folder);
    Config {
        listen: if listen.is_empty() { usual.listen } else { listen },
        access: usual.access,
        identify_clients: file.flag("identify_clients").unwrap_or_default(),
        workers: file.number("workers", 0..=WORKERS_MAX).map_or(0, |said| said.value as usize),
        host: file.word("host", &hosts).unwrap_or_default(),
        pin: file.flag("pin").unwrap_or_default(),
        steer: file.flag("steer").unwrap_or_default(),
        user: name(file, "user"),
        group: name(file, "group"),
        drain: DrainTimes {
            timeout: time(file, "drain_timeout_ms", usual.drain.timeout),
            window: time(file, "drain_window_ms", usual.drain.window),
        },
        limits: limits(file),
        ring: ring(file),
    }
}

fn time(file: &mut Section<'_>, key: &'static str, usual: Duration) -> Duration {
    file.number(key, 0..=DAY_MS).map_or(usual, |said| Duration::from_millis(said.value))
}

/// A name, if one is said: an empty one is none.
fn name(file: &mut Section<'_>, key: &'static str) -> Option<String> {
    file.text(key).map(|said| said.value).filter(|name| !name.is_empty())
}

fn limits(file: &mut Section<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(mut section) = file.section("limits") else { return limits };
    for (name, value) in section.numbers() {
        match limits.set(&name.value, value.value) {
            Ok(()) => {}
            Err(error @ LimitError::TooLarge) => section.fault_at(&value, error.to_string()),
            Err(LimitError::Unknown) => {
                let near = suggestion(&name.value, Limits::default().each().map(|(name, _)| name));
                let hint =
                    if near.is_empty() { "; `upring limits` names all".to_owned() } else { near };
                section.fault_at(&name, format!("there is no limit `{}`{hint}", name.value));
            }
        }
    }
    limits
}

fn ring(file: &mut Section<'_>) -> RingConfig {
    let mut ring = RingConfig::default();
    let Some(mut section) = file.section("ring") else { return ring };
    let mut number = |key, range, place: &mut u32| {
        if let Some(said) = section.number(key, range) {
            *place = said.value as u32;
        }
    };
    number("submissions", 8..=32_768, &mut ring.submissions);
    number("completions", 16..=65_536, &mut ring.completions);
    number("buffer_bytes", 1024..=1 << 20, &mut ring.buffer_bytes);
    number("large_bytes", 0..=1 << 24, &mut ring.large_bytes);
    let mut count = |key, place: &mut u16| {
        if let Some(said) = section.number(key, 0..=32_768) {
            let is_wrong = said.value != 0 && !said.value.is_power_of_two();
            match u16::try_from(said.value) {
                Ok(value) if !is_wrong => *place = value,
                _ => section.fault_at(&said, format!("`{key}` is a power of two")),
            }
        }
    };
    count("buffers", &mut ring.buffers);
    count("buffers_lent", &mut ring.buffers_lent);
    count("large_buffers", &mut ring.large_buffers);
    count("large_lent", &mut ring.large_lent);
    if let Some(direct) = section.flag("direct_descriptors") {
        ring.without.direct_descriptors = !direct;
    }
    section.end();
    ring
}

fn admin(file: &mut Section<'_>) -> Option<ListenAddress> {
    let mut section = file.section("admin")?;
    let said = section.text("listen");
    let parsed = said.and_then(|said| match said.value.parse::<ListenAddress>() {
        Ok(ListenAddress::Tcp(address)) if !address.ip().is_loopback() => {
            let text = "the admin listener asks nobody who he is: a loopback address, or unix:PATH";
            section.fault_at(&said, text);
            None
        }
        Ok(address) => Some(address),
        Err(error) => {
            section.fault_at(&said, error.to_string());
            None
        }
    });
    section.end();
    parsed
}

/// Whether what is listened on is the admin listener's, too: a port of all addresses is that of one.
pub(super) fn is_same(admin: &ListenAddress, listener: &Listener) -> bool {
    match (admin, &listener.address) {
        (ListenAddress::Tcp(admin), ListenAddress::Tcp(at)) => {
            let is_any = at.ip().is_unspecified() || at.ip() == admin.ip();
            admin.port() == at.port() && admin.port() != 0 && is_any
        }
        (admin, at) => admin == at,
    }
}

fn log(file: &mut Section<'_>, folder: &Path) -> (LogSettings, AccessLog) {
    let mut access = AccessLog::default();
    let Some(mut section) = file.section("log") else { return (LogSettings::default(), access) };
    let level = section.text("level");
    if let Some(said) = &level
        && let Some(word) = said.value.split(',').find(|part| !is_level(part))
    {
        let text =
            format!("{word:?} is no level: error, warn, info, debug, trace, off, or MODULE=LEVEL");
        section.fault_at(said, text);
    } else if let Some(said) = &level
        && let Err(error) = said.value.parse::<tracing_subscriber::EnvFilter>()
    {
        section.fault_at(said, format!("no level: {error}"));
    }
    if let Some(said) = section.text("access") {
        match said.value.parse() {
            Ok(AccessTarget::File(path)) => access.to = AccessTarget::File(folder.join(path)),
            Ok(target) => access.to = target,
            Err(error) => section.fault_at(&said, error.to_string()),
        }
    }
    access.format = section.word("access_format", &ACCESS_FORMATS).unwrap_or_default();
    if let Some(said) = section.number("access_queue_bytes_max", ACCESS_QUEUE_BYTES) {
        access.queue_bytes_max = said.value as usize;
    }
    section.end();
    (LogSettings { level: level.map(|said| said.value) }, access)
}

/// Whether it is a level, or says one of a module. Any other word would be a module, of which all is said, and
/// nothing of the others.
fn is_level(part: &str) -> bool {
    let part = part.trim();
    part.contains('=') || part.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        let site = Site::parse("-", text, &Catalog::with_own(), |_| {});
        site.expect_err(text).to_string()
    }

    fn parsed(text: &str) -> Site {
        let site = Site::parse("-", text, &Catalog::with_own(), |_| {});
        site.unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, told) in [
            ("a = ", "-:1:"),
            ("workers = 1\nworkers = 2", "-:2:1: duplicate key"),
            ("wrokers = 1", "-:1:1: unknown key `wrokers`; did you mean `workers`?"),
            (
                "colour = 1",
                "-:1:1: unknown key `colour`; known here are `admin`, `drain_timeout_ms`",
            ),
            ("workers = 1025", "-:1:11: `workers` is a number from 0 to 1024"),
            ("workers = -1", "-:1:11: `workers` is a whole number, not negative"),
            ("workers = 1.5", "-:1:11: `workers` is a whole number, not a number with a fraction"),
            ("pin = 'yes'", "-:1:7: `pin` is true or false, not a string"),
            ("host = 'hostd'", "\"native\"; did you mean `hosted`?"),
            ("listen = 'a'", "-:1:10: `listen` is a list of tables, each begun by [[listen]]"),
            ("[[listen]]", "-:1:1: a listener says its `address`"),
            ("[[listen]]\naddress = 'localhost'", "-:2:11: \"localhost\" is neither an address"),
            ("[[listen]]\naddress = 'unix:'", "-:2:11: \"unix:\" names no path"),
            (
                "[[listen]]\naddress = '[::]:80'\n[[listen]]\naddress = '[::]:80'",
                "-:4:11: this address is listened on already",
            ),
            (
                "[[listen]]\naddress = '[::]:80'\nproxy_protocol = 'v3'",
                "-:3:18: `proxy_protocol` is one of \"off\", \"v1\", \"v2\", \"any\"",
            ),
            ("[[listen]]\naddress = '[::]:80'\nproxy_protocol = 'any'", "-:2:11: PROXY protocol"),
            (
                "[[listen]]\naddress = '[::]:80'\nproxy_from = ['10.0.0.0/33']",
                "-:3:15: a network is like",
            ),
            ("[[listen]]\naddress = 'unix:/a'\nmode = 0o1000", "-:2:11: mode is not one of"),
            ("[limits]\nlease_max = 1", "-:2:1: there is no limit `lease_max`; did you mean"),
            ("[limits]\nleases_max = 70000", "-:2:14: that is more than this limit can be"),
            ("[limits]\nleases_max = 0", "-: the limit `leases_max` lets nothing through"),
            ("user = 'nobody-at-all'", "-: there is no user `nobody-at-all`"),
            ("group = 'nogroup'", "-: a `group` goes with a `user`"),
            ("[ring]\nbuffers = 3", "-:2:11: `buffers` is a power of two"),
            ("[admin]\nlisten = '192.0.2.1:80'", "-:2:10: the admin listener asks nobody"),
            ("[log]\nlevel = 'loud=very'", "-:2:9: no level: "),
            ("[log]\naccess = ''", "-:2:10: an access log goes to "),
            ("[log]\naccess_format = 'xml'", "-:2:17: `access_format` is one of \"combined\""),
            ("[log]\naccess_queue_bytes_max = 10", "-:2:26: `access_queue_bytes_max` is a number"),
            ("[log]\nlevel = 'inof'", "-:2:9: \"inof\" is no level"),
            (
                "[admin]\nlisten = '127.0.0.1:80'\n[[listen]]\naddress = '0.0.0.0:80'",
                "-: `admin.listen` is one of the addresses that the server listens on",
            ),
            ("[[route]]", "-:1:1: a route says its `path`"),
            ("[[route]]\npath = '/'", "-:2:8: a route says what is there"),
            ("[[route]]\npath = 'a'\nupgrade = 'echo'", "-:2:8: the route \"a\" must begin"),
            ("[[route]]\npath = '/'\nupgrade = 'ecco'", "called `ecco`; did you mean `echo`?"),
            (
                "[[route]]\npath = '/'\nupgrade = 'x'",
                "; there are `echo`, `websocket-echo`, `tunnel`",
            ),
            ("[[route]]\npath = '/'\nhandler = 'x'", "`x`; there is none in this program"),
            (
                "[[route]]\npath = '/'\nupgrade = 'echo'\noptions = { a = 1 }",
                "-:4:13: unknown key `a`; there is nothing to say here",
            ),
            (
                "[[route]]\npath = '/'\nupgrade = 'websocket-echo'\noptions = { origins = 'a' }",
                "-:4:23: an origin is",
            ),
            ("[[route]]\npath = '/'\nfiles = 'src'", "-:2:8: files are at a path that ends in"),
            ("[[route]]\npath = '/*'\nfiles = 'none'", "-:3:9: cannot serve the files of none: "),
            ("[[route]]\npath = '/*'\nfiles = {}", "-:3:9: files say the directory"),
            ("[[route]]\npath = '/'\nredirect = '//{path}'", "-:3:12: the host in a location"),
            ("[[route]]\npath = '/'\nanswer = { status = 99 }", "-:3:21: `status` is a number"),
            ("[[route]]\npath = '/'\nanswer = { file = 'none' }", "-:3:19: cannot read none: "),
            ("[[route]]\npath = '/'\nanswer = { fields = { 'a b' = 'c' } }", "-:3:23: "),
            ("[[route]]\npath = '/'\nanswer = { methods = 'LOOK' }", "-:3:22: methods are GET,"),
            (
                "[[route]]\npath = '/'\nredirect = '/a'\nanswer = {}",
                "-:2:8: a route has one of `handler`, `files`, `answer`, `redirect` and `proxy`",
            ),
            ("[[route]]\npath = '/*'\nproxy = 'x'", "-:3:9: "),
            ("[[route]]\npath = '/*'\nproxy = {}", "-:3:9: `to` says where it leads"),
            (
                "[[route]]\npath = '/*'\nproxy = { to = '127.0.0.1:9', forwarded = 'x' }",
                "`forwarded` is one of \"x-forwarded\", \"rfc7239\", \"off\"",
            ),
            (
                "[[route]]\npath = '/'\nupgrade = 'tunnel'\noptions = { to = '127.0.0.1:9', a = 1 }",
                "-:4:33: unknown key `a`",
            ),
            (
                "host = 'native'\n[[route]]\npath = '/'\nupgrade = 'tunnel'\n\
                    options = { to = '127.0.0.1:9' }",
                "-:3:8: the protocol websocket is async, which takes `host = \"hosted\"`",
            ),
            (
                "[[route]]\npath = '/a'\nanswer = {}\n[[route]]\npath = '/%61'\nanswer = {}",
                "-:5:8: line 2 has a route for this path already",
            ),
            ("[[site]]", "-:1:1: a site says its `names`"),
            ("[[site]]\nnames = ['a b']", "-:2:10: a name is a host"),
        ] {
            let found = faults(text);
            assert!(found.contains(told), "{text}\n gave {found}\n not {told}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_tunnel_is_said_once() {
        for (options, told) in [
            ("", "-:3:11: the upgrade handler `tunnel`: `to` says where it leads: host:port"),
            ("options = {}", "-:3:11: the upgrade handler `tunnel`: `to` says where it leads"),
            ("options = { to = 1 }", "-:4:18: `to` is a string, not a number"),
            ("options = { to = 'x' }", "-:4:18: \"x\" has no port"),
            (
                "options = { to = '127.0.0.1:9', protocol = 'a b' }",
                "-:4:44: a protocol is a token (RFC 9110 §7.8)",
            ),
        ] {
            let found = faults(&format!("[[route]]\npath = '/'\nupgrade = 'tunnel'\n{options}"));
            assert_eq!(found.matches("-:").count(), 1, "{options}: {found}");
            assert!(found.starts_with(told), "{options}: {found}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_in_its_order() {
        let found =
            faults("[[listen]]\n[limits]\na = 1\n[[route]]\npath = '/'\nanswer = {}\nb = 2\n");
        let lines: Vec<_> = found.lines().filter_map(|line| line.strip_prefix("-:")).collect();
        let places: Vec<_> = lines.iter().map(|line| &line[..4]).collect();
        assert_eq!(places, ["1:1:", "3:1:", "7:1:"], "{found}");
    }

    #[test]
    fn an_override_goes_before_the_file() {
        let text = "workers = 3\n[limits]\nleases_max = 0\n";
        let site = Site::parse("-", text, &Catalog::default(), |config| {
            config.workers = 5;
            config.limits.leases_max = 9;
        });
        let site = site.expect("the limit that was wrong is another one");
        assert_eq!((site.config().workers, site.config().limits.leases_max), (5, 9));
    }

    #[test]
    fn the_default_file_names_every_key_with_its_default() {
        let text = include_str!("../default.toml");
        let (head, _) = text.split_once("# Routes.").expect("routes come last");
        let uncommented = |line: &str| match line.strip_prefix("# ") {
            Some(key) if key.split_once(" = ").is_some_and(|(name, _)| is_key(name)) => {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        };
        let is_said: String = head.lines().map(uncommented).collect();
        let (said, usual) = (parsed(&is_said), parsed(""));
        assert_eq!(format!("{:?}", said.config()), format!("{:?}", usual.config()));
        for (name, value) in Limits::default().each() {
            assert!(is_said.contains(&format!("\n{name} = {value}")), "{name} is not there");
        }
        let keys = format!("{:?}", RingConfig::default());
        for key in keys.split(['{', ',']).filter_map(|field| field.split_once(": ")) {
            let key = key.0.trim();
            let is_said = is_said.contains(&format!("\n{key} = "));
            let other = ["without", "registered_ring", "no_sqarray", "restrictions"];
            assert!(is_said || other.contains(&key), "{key} is not there");
        }
    }

    fn is_key(name: &str) -> bool {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    }

    #[test]
    fn several_handlers_are_preferred_in_the_order_in_which_they_are_written() {
        let text = "[[route]]\npath = '/'\n\
            [route.upgrade.websocket-echo]\norigins = 'any'\n[route.upgrade.echo]\n";
        let site = parsed(text);
        let found = site.registry.find(None, b"/").expect("it is there");
        assert_eq!(found.resource.protocols_text(), "websocket, echo");
        assert_eq!(site.served().len(), 1);
    }
}
