//! `upring serve`: runs the server until a signal ends it; SIGHUP has it read its configuration again.

pub(crate) mod beforehand;
pub(crate) mod certificates;
mod operator;

use std::io;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};
use upring::admin::{Admin, AdminError};
use upring::config::{HostKind, ListenAddress, Listener};
use upring::files::Files;
use upring::resource::Resource;
use upring::ring::Cause;
use upring::server::{Offered, Running, Server, ServerError};
use upring::site::{Catalog, Faults, LogSettings, Served, Site};

use crate::replacement::{self, Place};
use crate::{
    EXIT_CONFIG, EXIT_UNAVAILABLE, Options, demo, give_up, give_up_with, misconfigured, say,
    service,
};
use operator::Operator;

/// Lines of the log that may wait to be written; what finds no room is lost.
const LINES_MAX: usize = 4096;

/// How often it is looked for a signal while something is waited for that may take a while: the name of a
/// backend is asked for, or others are in line before this process.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What is said if neither the environment nor the configuration says it.
const LEVEL: &str = "info";

/// Serves until a signal says to stop.
pub(crate) fn run(options: &Options) -> ExitCode {
    // First: nothing is open yet but what was passed.
    let passed = match replacement::passed() {
        Ok(passed) => passed,
        Err(error) => return give_up(&error),
    };
    // From here on a signal does what it is for, and ends nothing by itself.
    let (signals, told) = match signals() {
        Ok(heard) => heard,
        Err(error) => return give_up(&ServerError::Signals(error).to_string()),
    };
    let (site, catalog) = match configuration(options, &told) {
        Ok((Ok(site), catalog)) => (site, catalog),
        Ok((Err(faults), _)) => return misconfigured(&faults),
        Err(error) => return ended_early(&error),
    };
    let faults = beforehand::faults(&site, options);
    if !faults.is_empty() {
        return give_up(&faults.join("\nupring: "));
    }
    // Not the operator's, who stays until the process is gone.
    let (log, _writer) = match Log::begin(site.log()) {
        Ok(begun) => begun,
        Err(error) => return give_up(&error.to_string()),
    };
    let server = match server(&site, options) {
        Ok(server) => server,
        Err(why) => return give_up(&why),
    };
    let path = options.hand_over.clone().or(site.hand_over().map(Into::into));
    let find = move || Place::find(path.as_deref(), passed);
    let place = match unless_told_to_stop("place", &told, find) {
        Ok(Ok(place)) => place.until(told),
        Ok(Err(error)) => return give_up(&error),
        Err(error) => return ended_early(&error),
    };
    let (started, successor) = (site.clone(), place.successor());
    let operator = Operator { options: options.clone(), catalog, log, started, successor };
    let ended = serve(&site, signals, server, place, operator);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Admin(error)) => give_up(&admin_fault(&error)),
        Err(Failure::Server(error)) => ended_early(&error),
    }
}

/// An error of the admin listener, and who is likely to be in the way: that of a server which is ending stays until
/// nobody is left whom it could be asked about.
fn admin_fault(error: &AdminError) -> String {
    match error {
        AdminError::Server(ServerError::Setup(setup))
            if matches!(setup.cause(), Cause::AddressInUse | Cause::SocketInUse) =>
        {
            format!(
                "{error}; a server that is ending keeps its admin listener until its connections have \
                 ended: start again then, or have `hand_over` in both, and this one takes its place"
            )
        }
        _ => error.to_string(),
    }
}

/// All that are heard, each once the server serves, and whether one of them has said to stop: that is to be
/// known before.
fn signals() -> io::Result<(Signals, Arc<AtomicBool>)> {
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    let told = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&told))?;
    }
    Ok((signals, told))
}

/// A server that serves nobody, or none any more.
fn ended_early(error: &ServerError) -> ExitCode {
    match error {
        // As it was told, and whoever served before goes on.
        ServerError::Stopped => ExitCode::SUCCESS,
        _ => give_up_with(&error.to_string(), exit_code(error)),
    }
}

/// What came of reading one, and the catalog of what it may name.
type Configuration = (Result<Site, Faults>, Catalog);

/// What is to be served.
fn configuration(options: &Options, told: &AtomicBool) -> Result<Configuration, ServerError> {
    let options = options.clone();
    unless_told_to_stop("configuration", told, move || {
        let catalog = demo::catalog();
        (options.site(&catalog), catalog)
    })
}

/// What comes of `work`, done on a thread of its own: a signal to stop is heard meanwhile, and
/// [`ServerError::Stopped`] is what comes of it.
fn unless_told_to_stop<T: Send + 'static>(
    name: &str,
    told: &AtomicBool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    let (tell, done) = mpsc::channel();
    let run = move || {
        // Nobody waits for it any more if a signal came.
        let _ = tell.send(work());
    };
    let worker = thread::Builder::new().name(name.to_owned()).spawn(run);
    let worker = worker.map_err(ServerError::Thread)?;
    loop {
        match done.recv_timeout(LOOK_PAUSE) {
            Ok(made) => {
                // Its place is another thread's now.
                let _ = worker.join();
                return Ok(made);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(ServerError::WorkerLost),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if told.load(Ordering::Relaxed) {
            return Err(ServerError::Stopped);
        }
    }
}

/// What ended it, or kept it from starting.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Who is to mend it: the environment, or what was configured.
fn exit_code(error: &ServerError) -> u8 {
    match error {
        ServerError::NeedsRuntime { .. } | ServerError::Route(_) | ServerError::Limit { .. } => {
            EXIT_CONFIG
        }
        ServerError::Privilege(error) if error.is_of_configuration() => EXIT_CONFIG,
        _ => EXIT_UNAVAILABLE,
    }
}

fn server(site: &Site, options: &Options) -> Result<Server, String> {
    let server = site.server();
    let Some(root) = &options.root else { return Ok(server) };
    let files = Files::new(root)
        .map_err(|error| format!("cannot serve the files of {}: {error}", root.display()))?;
    Ok(server.route("/*", Resource::new().get(files)))
}

fn serve(
    site: &Site,
    signals: Signals,
    server: Server,
    mut place: Place,
    operator: Operator,
) -> Result<(), Failure> {
    let metrics = server.metrics();
    let admin_at = operator.options.admin.as_ref().or(site.admin());
    let served = site.config().listen.iter().map(|listener| &listener.address);
    place.tell_of_unwanted(&served.chain(admin_at).collect::<Vec<_>>());
    let mut later = admin_at.map(|address| {
        let (address, own) = (address.clone(), place.inherited.split(address));
        let is_answered = place.has_predecessor() && !own.is_empty();
        (is_answered, move || Admin::start_on(address, metrics, own))
    });
    // First: that the server is not ready yet is something to tell. Where another is and says so, it is not.
    let first = later.take_if(|(is_answered, _)| !*is_answered);
    let mut admin = first.map(|(_, start)| start()).transpose()?;
    let server = server.inherit(place.inherited_by(&site.config().listen));
    let mut failed = None;
    let last = || {
        place.open()?;
        if let Some((_, start)) = later.take() {
            admin = start().map_err(|error| failed = Some(error)).ok();
        }
        // What it is stands beside it.
        if failed.is_some() { Err(ServerError::Stopped) } else { Ok(()) }
    };
    let ended = server.start_behind(last).and_then(|running| {
        match settle(&running, site, signals, place, admin.as_ref(), operator) {
            Ok(_offered) => running.join(),
            Err(error) => {
                // It has accepted already: who was let in is answered.
                let _ = running.stop();
                Err(error)
            }
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    // Behind the last core: until then somebody may want to see it drain.
    let stopped = admin.map_or(Ok(()), Admin::stop);
    Ok(ended.and(stopped)?)
}

/// It serves: whoever is to know is told, and signals are answered from here on.
fn settle(
    running: &Running,
    site: &Site,
    signals: Signals,
    place: Place,
    admin: Option<&Admin>,
    operator: Operator,
) -> Result<Option<Offered>, ServerError> {
    let text = introduction(running, site) + &admin.map_or(String::new(), admin_introduction);
    let (stopper, reloader) = (running.stopper(), running.reloader());
    let access_log = running.access_log();
    let watchdog = running.watchdog();
    let successor = place.successor();
    let is_service = move || successor.process().is_none();
    let watch = service::interval(site.watchdog()).map(|interval| {
        Ready::thread("watchdog", move || service::watch(watchdog, interval, is_service))
    });
    let watch = watch.transpose()?;
    certificates::warn(&reloader.certificates());
    let certificates = certificates::watching(&reloader)
        .map(|look| Ready::thread("certificates", look))
        .transpose()?;
    let attend = Ready::thread("signals", move || {
        operator.attend(signals, &stopper, reloader, access_log);
    })?;
    // Whoever is to read it may not: nothing waits for that.
    let introduce = Ready::thread("introduction", move || say(io::stdout(), &text))?;
    let offered = place.settle(running, admin)?;
    watch.into_iter().chain(certificates).chain([attend, introduce]).for_each(Ready::go);
    service::ready("serving");
    Ok(offered)
}

/// A thread that waits for a word: that there is one is known before anything depends on it. Dropped, it
/// ends, and does nothing.
struct Ready(Sender<()>);

impl Ready {
    fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Ready, ServerError> {
        let (go, wait) = mpsc::channel();
        let run = move || {
            if wait.recv().is_ok() {
                work();
            }
        };
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
        spawned.map(|_| Ready(go)).map_err(ServerError::Thread)
    }

    fn go(self) {
        // It waits for nothing else.
        let _ = self.0.send(());
    }
}

/// What is written to standard error, and how much of it. A thread writes it: no core and no signal waits for
/// whoever reads it, and what it does not read in time is lost.
struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// And what has the queued lines written when it is dropped, at the end.
    fn begin(settings: &LogSettings) -> Result<(Log, WorkerGuard), ServerError> {
        let (filter, handle) = reload::Layer::new(filter(settings));
        // Whether anybody reads the log is not the server's business: told of a failure it would print
        // it, and panic at that.
        let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX);
        let (stderr, writer) = or_no_thread(|| builder.finish(io::stderr()))?;
        let text = fmt::layer().with_writer(stderr).log_internal_errors(false);
        tracing_subscriber::registry().with(filter).with(text).init();
        Ok((Log { filter: handle }, writer))
    }

    fn set(&self, settings: &LogSettings) {
        // It fails only when the subscriber is gone, which it never is.
        let _ = self.filter.reload(filter(settings));
    }
}

/// Calls what panics where there is no thread for it, and does nothing else that could.
fn or_no_thread<T>(make: impl FnOnce() -> T) -> Result<T, ServerError> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(AssertUnwindSafe(make));
    panic::set_hook(hook);
    // pthread_create(3): there is no other reason.
    made.map_err(|_| ServerError::Thread(io::Error::from_raw_os_error(libc::EAGAIN)))
}

/// The environment goes before the file.
fn filter(settings: &LogSettings) -> EnvFilter {
    let of_file = settings.level.as_deref().unwrap_or(LEVEL);
    EnvFilter::try_from_env("UPRING_LOG").unwrap_or_else(|_| of_file.into())
}

/// What is served, and what to try.
fn introduction(running: &Running, site: &Site) -> String {
    let host = match site.config().host {
        HostKind::Hosted => "hosted by tokio-uring",
        HostKind::Native => "native",
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("upring {version}: {} workers, {host}\n", running.workers());
    for (address, scheme) in running.addresses().iter().zip(schemes(site)) {
        for Served { host, pattern, about } in site.served() {
            let authority = host.clone().unwrap_or_else(|| address.to_string());
            text += &format!("  {:<32} {about}\n", format!("{scheme}://{authority}{pattern}"));
        }
    }
    for (address, listener) in running.listening().iter().zip(&site.config().listen) {
        if let ListenAddress::Unix(path) = address {
            let (path, scheme) = (path.display(), scheme(listener));
            text += &format!("  {address}: curl --unix-socket {path} {scheme}://localhost/\n");
        }
    }
    let is_served = |path: &str| site.served().iter().any(|served| served.pattern == path);
    if let Some((address, scheme)) = running.addresses().iter().zip(schemes(site)).next()
        && is_served("/plaintext")
        && is_served("/echo")
    {
        text += &what_to_try(*address, scheme);
    }
    text
}

fn what_to_try(address: SocketAddr, scheme: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    match scheme {
        // The certificate is hardly one for an address.
        "https" => format!(
            "try:\n  curl -ik https://{address}/plaintext\n  ({TRY_SWITCH}; sleep 1) | \
             openssl s_client -quiet -no_ign_eof -connect {address}\n"
        ),
        _ => format!(
            "try:\n  curl -i http://{address}/plaintext\n  {TRY_SWITCH} | nc -N {ip} {port}\n"
        ),
    }
}

/// How what is listened on over TCP is addressed, in the order of the configuration.
fn schemes(site: &Site) -> impl Iterator<Item = &'static str> {
    site.config().listen.iter().filter(|listener| !listener.is_unix()).map(scheme)
}

/// RFC 2817 §3: what may switch to TLS begins in the clear.
fn scheme(listener: &Listener) -> &'static str {
    match &listener.tls {
        Some(tls) if !tls.by_upgrade => "https",
        _ => "http",
    }
}

fn admin_introduction(admin: &Admin) -> String {
    match admin.listening() {
        ListenAddress::Tcp(address) => {
            format!("admin:\n  http://{address}/metrics, /healthz, /readyz\n")
        }
        ListenAddress::Unix(path) => {
            let path = path.display();
            format!("admin:\n  curl --unix-socket {path} http://localhost/metrics\n")
        }
    }
}

const TRY_SWITCH: &str = concat!(
    r"printf 'GET /echo HTTP/1.1\r\nHost: a\r\n",
    r"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n'"
);

#[cfg(test)]
mod tests {
    use upring::config::TlsSettings;

    use super::*;

    #[test]
    fn what_may_switch_to_tls_is_addressed_in_the_clear() {
        let at = |tls: Option<TlsSettings>| {
            let address: SocketAddr = ([127, 0, 0, 1], 0).into();
            scheme(&Listener { tls, ..address.into() })
        };
        assert_eq!(at(None), "http");
        assert_eq!(at(Some(TlsSettings::default())), "https");
        assert_eq!(at(Some(TlsSettings { by_upgrade: true, ..TlsSettings::default() })), "http");
    }
}
