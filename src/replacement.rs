//! How this process comes to listen: on sockets of its service manager, on those of the process it takes
//! the place of, or on its own; and how another takes its place.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use listenfd::ListenFd;
use upring::admin::Admin;
use upring::config::{ListenAddress, Listener};
use upring::server::{
    Abandoned, Inherited, Offer, Offered, OpenOffer, Predecessor, Running, ServerError, take_over,
};

use crate::service;

/// Where a program is looked for if nothing says where (execvp(3), confstr(_CS_PATH)).
const USUAL_PATH: &str = "/bin:/usr/bin";

/// The first descriptor that a service manager passes (SD_LISTEN_FDS_START).
const FIRST_PASSED: u64 = 3;

/// Where this program is, found while the working directory is that of its start.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What was there before this process.
pub(crate) struct Place {
    pub(crate) inherited: Inherited,
    predecessor: Option<Predecessor>,
    /// Where sockets of a service manager listen, with the names that it has for them.
    passed: Vec<(ListenAddress, Option<String>)>,
    /// Of the process before, and not wanted any more.
    abandoned: Abandoned,
    /// Where a successor will ask.
    path: Option<PathBuf>,
    /// There it is made, and nobody has heard of it.
    open: Option<OpenOffer>,
    /// Whether this process was told to stop: then it takes nobody's place.
    told: Arc<AtomicBool>,
    successor: Successor,
}

/// Who has taken the place of this process, if anybody has by now: that one is the service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Successor(Arc<OnceLock<u32>>);

impl Successor {
    /// Its process id.
    pub(crate) fn process(&self) -> Option<u32> {
        self.0.get().copied()
    }

    fn relieved_by(&self, process: u32) {
        // First: from here on this process has nothing to tell the service manager but this. There is one
        // successor at most.
        let _ = self.0.set(process);
        service::succeeded_by(process);
        tracing::info!("process {process} has taken over; connections have a while to end");
    }
}

impl Place {
    /// Takes the sockets of the process that offers them at `path`, or those that a service manager passes.
    pub(crate) fn find(path: Option<&Path>, passed: ListenFd) -> Result<Place, String> {
        if let Ok(program) = env::args_os().next().map_or_else(env::current_exe, find_program) {
            let _ = PROGRAM.set(program);
        }
        let path = path.map(Path::to_path_buf);
        if let Some(path) = &path {
            let shown = path.display();
            let taken = take_over(path).map_err(|error| {
                format!("cannot take the place of the process at {shown}: {error}")
            })?;
            if let Some((inherited, predecessor)) = taken {
                return Ok(Place::of(inherited, Some(predecessor), Some(path.clone())));
            }
        }
        let (inherited, names) = of_service_manager(passed)
            .map_err(|error| format!("the sockets of the service manager (LISTEN_FDS): {error}"))?;
        let passed = inherited.addresses().cloned().zip(names).collect();
        Ok(Place { passed, ..Place::of(inherited, None, path) })
    }

    fn of(inherited: Inherited, predecessor: Option<Predecessor>, path: Option<PathBuf>) -> Place {
        let (abandoned, told) = (Abandoned::default(), Arc::default());
        let successor = Successor::default();
        let (passed, open) = (Vec::new(), None);
        Place { inherited, predecessor, passed, abandoned, path, open, told, successor }
    }

    /// The same, of a process that may be told to stop.
    pub(crate) fn until(self, told: Arc<AtomicBool>) -> Place {
        Place { told, ..self }
    }

    /// Who takes the place of this process, once somebody has.
    pub(crate) fn successor(&self) -> Successor {
        self.successor.clone()
    }

    /// Whether another process serves until this one does.
    pub(crate) fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    fn is_still_wanted(&self) -> Result<(), ServerError> {
        if self.told.load(Ordering::Relaxed) { Err(ServerError::Stopped) } else { Ok(()) }
    }

    /// Makes where a successor will ask, while this process serves nobody yet: what keeps it from being
    /// succeeded is told to somebody who is still served.
    pub(crate) fn open(&mut self) -> Result<(), ServerError> {
        let open = self.path.take().map(|path| Offer::new(path).open());
        self.open = open.transpose()?;
        // Nobody was let in yet.
        self.is_still_wanted()
    }

    /// Says which of the sockets that were there are of none of these addresses, before anything fails for it: who
    /// listens there is this process.
    pub(crate) fn tell_of_unwanted(&self, wanted: &[&ListenAddress]) {
        let is_unwanted = |at: &ListenAddress| !wanted.contains(&at);
        for (at, name) in self.passed.iter().filter(|(at, _)| is_unwanted(at)) {
            let name = name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            tracing::warn!(
                "the socket at {at} that the service manager passes{name} belongs to no `[[listen]]`: who \
                 connects there waits for an answer in vain; name its address in one, as it stands here, or \
                 take it out of the socket unit"
            );
        }
        // A socket for each worker.
        let mut left: Vec<_> = match &self.predecessor {
            Some(_) => self.inherited.addresses().filter(|at| is_unwanted(at)).collect(),
            None => Vec::new(),
        };
        left.dedup();
        for at in left {
            match wanted.contains(&&with_any_port(at)) {
                // Which of them it was is not known: there may be two at one address.
                true => tracing::warn!(
                    "the process before listens on {at}, and this one, for port 0 in its configuration, on a \
                     port of its own: clients have to find it anew; a port that is named goes along"
                ),
                false => tracing::info!(
                    "the process before listens on {at}, which this configuration does not name: nobody will"
                ),
            }
        }
    }

    /// What a server that listens here is given; the rest is let go of.
    pub(crate) fn inherited_by(&mut self, wanted: &[Listener]) -> Inherited {
        // What a service manager passes stays its own.
        if self.predecessor.is_some() {
            self.abandoned = self.inherited.abandon_all_but(wanted);
        }
        std::mem::take(&mut self.inherited)
    }

    /// This process serves: its predecessor is told so, unless this one was told to stop, and it can be
    /// succeeded itself.
    pub(crate) fn settle(
        self,
        running: &Running,
        admin: Option<&Admin>,
    ) -> Result<Option<Offered>, ServerError> {
        self.is_still_wanted()?;
        let Place { predecessor, abandoned, open, successor, .. } = self;
        let relieved = move |process| successor.relieved_by(process);
        let open = open.map(|open| {
            let open = open.with(running);
            match admin {
                Some(admin) => admin.offered_by(open),
                None => open,
            }
        });
        let Some(predecessor) = predecessor else {
            return Ok(open.map(|open| open.start(relieved)).transpose()?);
        };
        match predecessor.relieve() {
            Ok(()) => tracing::info!("took the place of the process before"),
            // Two that serve beside each other unnoticed are worse than one that ends.
            Err(error) if predecessor.goes_on() => return Err(ServerError::NotAwaited(error)),
            Err(error) => tracing::warn!("the process before did not say that it stops: {error}"),
        }
        running.claim_paths();
        if let Some(admin) = admin {
            admin.claim_paths();
        }
        abandoned.remove();
        // From here on nobody else serves: this process goes on, whatever fails.
        match open.map(|open| open.start(relieved)).transpose() {
            Ok(offered) => Ok(offered),
            Err(error) => {
                tracing::error!("this process cannot be succeeded: {error}");
                Ok(None)
            }
        }
    }
}

/// What stands in a configuration for it if the kernel has chosen its port.
fn with_any_port(at: &ListenAddress) -> ListenAddress {
    match at {
        ListenAddress::Tcp(at) => SocketAddr::new(at.ip(), 0).into(),
        unix @ ListenAddress::Unix(_) => unix.clone(),
    }
}

/// The descriptors that a service manager has passed (sd_listen_fds(3)). For before this process opens any of its
/// own, which would be taken for one of them, and before it has another thread: it is gone from the environment
/// behind that.
///
/// # Errors
/// Some of those that are announced are not open.
pub(crate) fn passed() -> Result<ListenFd, String> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_for_us = env::var("LISTEN_PID")
        .map_or(true, |own| own.is_empty() || own.parse() == Ok(std::process::id()));
    let first = number("LISTEN_FDS_FIRST_FD").unwrap_or(FIRST_PASSED);
    let open = Path::new("/proc/self/fd");
    if is_for_us
        && let Some(count) = number("LISTEN_FDS")
        && open.is_dir()
        && let Some(missing) = (first..first.saturating_add(count))
            .find(|number| open.join(number.to_string()).symlink_metadata().is_err())
    {
        return Err(format!(
            "the sockets of the service manager: LISTEN_FDS says {count} from descriptor {first} on, and \
             {missing} is not open: whoever starts this process has to pass as many as it says"
        ));
    }
    Ok(ListenFd::from_env())
}

/// sd_listen_fds(3): the sockets, and a name for each if there are names.
fn of_service_manager(
    mut passed: ListenFd,
) -> std::io::Result<(Inherited, impl Iterator<Item = Option<String>>)> {
    let mut sockets = Vec::<OwnedFd>::new();
    for index in 0..passed.len() {
        // Each is of one kind, and taken once; what it is not is said by an error.
        match passed.take_tcp_listener(index) {
            Ok(listener) => sockets.extend(listener.map(OwnedFd::from)),
            Err(_) => sockets.extend(passed.take_unix_listener(index)?.map(OwnedFd::from)),
        }
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
    let names = names.collect::<Vec<_>>().into_iter().chain(std::iter::repeat(None));
    Ok((Inherited::of_manager(sockets)?, names))
}

/// The file of a program that was called so, by whatever links lead to it: where they lead may be another version
/// by the time it is started anew.
fn find_program(called: OsString) -> std::io::Result<PathBuf> {
    if called.as_bytes().contains(&b'/') {
        return std::path::absolute(called);
    }
    // execvp(3): the first one that may be executed.
    let folders = env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    let files = env::split_paths(&folders).map(|folder| folder.join(&called));
    match files.into_iter().find(|file| is_program(file)) {
        Some(file) if is_this_program(&file) => std::path::absolute(file),
        // It may be called by any name: what is in memory says where it was.
        _ => env::current_exe(),
    }
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

fn is_this_program(file: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(file).is_some_and(|found| Some(found) == identity(Path::new("/proc/self/exe")))
}

/// Starts what is at the place of this program now, with the same arguments: `place` is told once it has taken
/// over.
pub(crate) fn start(place: &Successor) -> Result<(), String> {
    let program = PROGRAM.get().ok_or("it is not known which file this program is")?;
    let mut command = Command::new(program);
    // Sockets that were passed to this process are handed over, not inherited.
    command.args(env::args_os().skip(1));
    // And a sign of life is wanted of whoever is the service.
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    let shown = program.display();
    let place = place.clone();
    let mut successor = command.spawn().map_err(|error| format!("{shown}: {error}"))?;
    tracing::info!("process {} is to take over: {shown}", successor.id());
    let wait = move || match successor.wait() {
        Ok(status) => say_how_it_ended(successor.id(), status, &place),
        Err(error) => tracing::error!("the process that was to take over is lost: {error}"),
    };
    if let Err(error) = thread::Builder::new().name("successor".to_owned()).spawn(wait) {
        tracing::warn!("should that process fail, it is not told here: {error}");
    }
    Ok(())
}

/// Of a process that was started here: it has served meanwhile if it was the one that took over.
fn say_how_it_ended(process: u32, status: ExitStatus, place: &Successor) {
    match place.process() == Some(process) {
        true if status.success() => {
            tracing::info!("process {process}, which had taken over, has ended: {status}");
        }
        true => tracing::error!("process {process}, which had taken over, has ended: {status}"),
        false => tracing::error!("process {process}, which was to take over, has ended: {status}"),
    }
}
