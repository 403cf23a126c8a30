//! What a service manager is told (sd_notify(3), systemd.service(5)). Without one, nothing is said.

use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use upring::server::{Finding, Watchdog};

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
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Another process has taken over, and is the service from here on.
pub(crate) fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager was not told: {error}");
    }
}

/// How often the cores are looked at: as the configuration says, and often enough for a service manager
/// that wants a sign of life. `None` if neither wants it.
pub(crate) fn interval(configured: Option<Duration>) -> Option<Duration> {
    // At half the time at the latest, as sd_watchdog_enabled(3) has it.
    let wanted = sd_notify::watchdog_enabled().map(|wanted| wanted / 2);
    configured.into_iter().chain(wanted).min()
}

/// Looks at the cores every `interval`, for ever, and says what it finds. A service manager that wants a sign
/// of life gets it as long as every core turns: it ends a process that is stuck, if it was told to.
pub(crate) fn watch(mut watchdog: Watchdog, interval: Duration) {
    let is_wanted = sd_notify::watchdog_enabled().is_some();
    let mut last = Instant::now();
    loop {
        thread::sleep(interval);
        let now = Instant::now();
        let found = watchdog.look(now - std::mem::replace(&mut last, now));
        found.iter().for_each(say);
        if is_wanted && watchdog.is_well() {
            tell(&[NotifyState::Watchdog]);
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
