//! What signals are answered with. A reload reads files and asks for names, which may take long: it has a
//! thread of its own, so that a signal to stop is answered at once.
//!
//! ```text
//!   SIGHUP ──► is one under way? ── no ──► read, on a thread ──► stopping? ── no ──► served
//!                    └─ yes: it reads once more                      └─ yes: dropped
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use upring::access::Reopener;
use upring::server::{Reloader, Server, ServerError, Stopper};
use upring::site::{Catalog, Faults, Site};

use super::{Log, certificates, server};
use crate::replacement::{self, Successor};
use crate::{Options, service};

/// What signals are answered with.
pub(super) struct Operator {
    pub(super) options: Options,
    pub(super) catalog: Catalog,
    pub(super) log: Log,
    /// What it was started with.
    pub(super) started: Site,
    /// Who has taken its place.
    pub(super) successor: Successor,
}

impl Operator {
    /// Answers signals for as long as the process lives.
    pub(super) fn attend(
        self,
        mut signals: Signals,
        stopper: &Stopper,
        reloader: Reloader,
        access_log: Option<Reopener>,
    ) {
        let desk = Arc::new(Desk { operator: self, reloader, state: Mutex::default() });
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => access_log.iter().for_each(Reopener::reopen),
                SIGUSR2 => desk.replace(),
                SIGHUP => Desk::reload(&desk),
                _ => desk.stop(stopper),
            }
        }
    }

    /// Starts the program anew, as it is on disk now: it takes this process's place.
    fn replace(&self) {
        let is_offered = self.options.hand_over.is_some() || self.started.hand_over().is_some();
        let started = match is_offered {
            true => replacement::start(&self.successor),
            false => Err(NO_PLACE.to_owned()),
        };
        if let Err(why) = started {
            tracing::error!("not replaced, this process goes on: {why}");
        }
    }
}

/// Why nobody can take over: a second process would serve beside this one.
const NO_PLACE: &str = "`hand_over` is not set, the path at which another process asks for the sockets of \
                        this one; once it is (or `--hand-over`, for both), it takes a restart";

/// What the thread of signals and that of a reload share.
struct Desk {
    operator: Operator,
    reloader: Reloader,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    /// A thread reads the configuration.
    is_reloading: bool,
    /// It was to be read again meanwhile.
    is_wanted_again: bool,
}

impl Desk {
    /// Held for moments alone: nothing is read and nobody is asked under it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is not changed any more, if it is not.
    fn refusal(&self, state: &State) -> Option<String> {
        match self.operator.successor.process() {
            Some(process) => Some(format!(
                "process {process} has taken this one's place, and is the one to send the signal to"
            )),
            None => state.is_stopping.then(|| "the server is stopping".to_owned()),
        }
    }

    /// Has another process take the place of this one.
    fn replace(&self) {
        let refusal = self.refusal(&self.state());
        match refusal {
            Some(why) => tracing::warn!("not replaced: {why}"),
            None => self.operator.replace(),
        }
    }

    /// Has it drain, or ends it if it was told so before.
    fn stop(&self, stopper: &Stopper) {
        let is_stopping = std::mem::replace(&mut self.state().is_stopping, true);
        if is_stopping {
            std::process::exit(1);
        }
        match self.operator.successor.process() {
            // The service is another process, and that one does not stop.
            Some(process) => tracing::info!(
                "stopping, which began when process {process} took over; connections have a while to end"
            ),
            None => {
                service::stopping();
                tracing::info!("stopping; connections have a while to end");
            }
        }
        // Last: with nobody left to serve the process ends at once.
        stopper.stop();
    }

    /// Has the configuration read again. Returns at once.
    fn reload(desk: &Arc<Desk>) {
        let mut state = desk.state();
        if let Some(why) = desk.refusal(&state) {
            return tracing::warn!("not reloaded: {why}");
        }
        if state.is_reloading {
            state.is_wanted_again = true;
            return tracing::info!("a reload is under way: the configuration is read once more");
        }
        service::reloading();
        let reloading = Arc::clone(desk);
        let thread = thread::Builder::new().name("reload".to_owned());
        match thread.spawn(move || reloading.run()) {
            Ok(_) => state.is_reloading = true,
            Err(error) => {
                tracing::error!("not reloaded, there is no thread for it: {error}");
                service::ready("serving");
            }
        }
    }

    /// Reads the configuration until nobody wants it read again.
    fn run(&self) {
        loop {
            let read = self.operator.options.site(&self.operator.catalog);
            let made = read.map(|site| (server(&site, &self.operator.options), site));
            let mut state = self.state();
            if let Some(why) = self.refusal(&state) {
                tracing::warn!("not reloaded: {why}");
                // Told to stop, it has said so. Succeeded, it ends what it has said it does.
                if !state.is_stopping {
                    service::ready("serving");
                }
                return;
            }
            if let Err(why) = self.serve(made) {
                tracing::error!("not reloaded, everything stays as it was: {why}");
            }
            state.is_reloading = std::mem::take(&mut state.is_wanted_again);
            if !state.is_reloading {
                return service::ready("serving");
            }
        }
    }

    /// Serves what was read, if all of it can be; else everything stays as it was.
    fn serve(&self, made: Made) -> Result<(), String> {
        let (server, site) = made.map_err(|faults| format!("\n{faults}"))?;
        if let Some(what) = self.operator.started.fixed_difference(&site) {
            return Err(ServerError::NeedsRestart { what }.to_string());
        }
        self.reloader.reload(server?).map_err(|error| error.to_string())?;
        self.operator.log.set(site.log());
        tracing::info!("reloaded: {} routes", site.served().len());
        certificates::warn(&self.reloader.certificates());
        Ok(())
    }
}

/// What became of reading a configuration: a server that would serve it, or why there is none.
type Made = Result<(Result<Server, String>, Site), Faults>;
