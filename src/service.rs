//! What a service manager is told (sd_notify(3), systemd.service(5)). Without one, nothing is said.

use std::env;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use upring::server::{Finding, Watchdog};

/// How long a word is tried where the manager's queue is full. It reads at once, but for one that hangs.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// How often it is looked at the cores at most.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// It serves.
pub(crate) fn ready(what: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(what)]);
}

/// It reads its configuration again; [`ready`] ends it, whether it was taken or not.
pub(crate) fn reloading() {
    // systemd 253 wants to know when.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It drains.
pub(crate) fn stopping() {
    tell_at_once(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Another process has taken over, and is the service from here on.
pub(crate) fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

fn tell(state: &[NotifyState<'_>]) {
    told(|| within(PATIENCE, || send(state)));
}

/// Where nothing may be waited for.
fn tell_at_once(state: &[NotifyState<'_>]) {
    told(|| send(state));
}

fn told(tell: impl FnOnce() -> io::Result<()>) {
    if let Err(error) = tell() {
        tracing::warn!("the service manager was not told: {error}");
    }
}

/// Tries again for so long where the queue is full.
fn within(patience: Duration, send: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(PAUSE);
            }
            sent => return sent,
        }
    }
}

/// One datagram, as sd_notify(3) has it, without waiting for whoever is to read it: a manager that hangs is
/// in nobody's way.
fn send(state: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let text = state.iter().fold(String::new(), |mut text, one| {
        // A string takes everything.
        let _ = writeln!(text, "{one}");
        text
    });
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// How often the cores are looked at: as the configuration says, and often enough for a service manager
/// that wants a sign of life. `None` if neither wants it.
pub(crate) fn interval(configured: Option<Duration>) -> Option<Duration> {
    // At half the time at the latest, as sd_watchdog_enabled(3) has it.
    let wanted = sign_of_life().map(|wanted| wanted / 2);
    configured.into_iter().chain(wanted).min().map(|interval| interval.max(INTERVAL_MIN))
}

/// Within which time a service manager wants one; 0 is a watchdog that is off.
fn sign_of_life() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|wanted| !wanted.is_zero())
}

/// Looks at the cores every `interval`, for ever, and says what it finds. A service manager that wants a sign
/// of life gets it as long as every core turns and this process is the service: it ends a process that is stuck,
/// if it was told to.
pub(crate) fn watch(mut watchdog: Watchdog, interval: Duration, is_service: impl Fn() -> bool) {
    let is_wanted = sign_of_life().is_some();
    let mut last = Instant::now();
    loop {
        thread::sleep(interval);
        let now = Instant::now();
        let found = watchdog.look(now - std::mem::replace(&mut last, now));
        found.iter().for_each(say);
        if is_wanted && watchdog.is_well() && is_service() {
            tell_at_once(&[NotifyState::Watchdog]);
        }
    }
}

fn say(finding: &Finding) {
    match finding {
        Finding::Stuck { worker, duration, place } => {
            // A future is not called by the engine: of it no more is known.
            let place = place.as_deref().unwrap_or("a task of an async handler");
            let seconds = duration.as_secs_f32();
            tracing::error!(
                "worker upring-{worker} has not turned for {seconds:.1} s: {place} blocks it, and all \
                 of its connections wait"
            );
        }
        Finding::Recovered { worker, duration } => {
            let seconds = duration.as_secs_f32();
            tracing::warn!("worker upring-{worker} turns again, after {seconds:.1} s");
        }
    }
}
