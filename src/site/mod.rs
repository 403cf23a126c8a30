//! A configuration file: what a server listens on, its bounds, and what it has at its paths, as TOML.
//! The binary reads one, and so can a program with handlers of its own: it names them in a
//! [`Catalog`].
//!
//! ```text
//!   text ──► sections ──► Config ──► overrides (flags, environment) ──► checked ──► Site
//!               └──────► routes + Catalog ──► Registry ──────────────────────────────┘
//! ```
//!
//! Nothing is started and nothing is bound here, but directories are opened. Whatever is wrong is
//! told at once, each fault with its line.

mod backend;
mod catalog;
mod fault;
mod listen;
mod read;
mod route;
mod section;
pub mod websocket;

pub use catalog::Catalog;
pub use fault::{Fault, Faults, Place};
pub use section::{Placed, Section, TextOrSection};

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, ListenAddress};
use crate::resource::Registry;
use crate::server::Server;

/// Bytes of a configuration file. What is larger was not written by hand, and may be a device.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A path by which its folder is the same however it was spelled, if it is there.
pub fn resolved(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return path.into(),
    };
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.into(),
    }
}

/// What a configuration file says.
#[derive(Debug, Clone)]
pub struct Site {
    config: Config,
    registry: Registry,
    log: LogSettings,
    watchdog: Option<Duration>,
    admin: Option<ListenAddress>,
    hand_over: Option<PathBuf>,
    served: Vec<Served>,
}

/// What is written about what the server does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// What is said: `error`, `warn`, `info`, `debug`, `trace`, or filters by module.
    pub level: Option<String>,
}

/// Something at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// On one host only, or on all below it.
    pub host: Option<String>,
    /// The path, or what paths begin with.
    pub pattern: String,
    /// What it is.
    pub about: String,
}

impl Site {
    /// Reads a file. `overrides` goes before what it says of the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(
        path: &Path,
        catalog: &Catalog,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<Site, Faults> {
        let name = path.display().to_string();
        let text = read::text_of(path).map_err(|error| Faults::unreadable(&name, &error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        read::site(&name, &text, folder, catalog, overrides)
    }

    /// Reads the text of a file called `name`; paths in it are relative to the working directory.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(
        name: &str,
        text: &str,
        catalog: &Catalog,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<Site, Faults> {
        read::site(name, text, Path::new(""), catalog, overrides)
    }

    /// What it is, overrides included.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is to be written.
    pub fn log(&self) -> &LogSettings {
        &self.log
    }

    /// Where the admin listener is, if there is one.
    pub fn admin(&self) -> Option<&ListenAddress> {
        self.admin.as_ref()
    }

    /// Whether the server itself listens at this address.
    pub fn listens_at(&self, address: &ListenAddress) -> bool {
        self.config.listen.iter().any(|listener| read::is_same(address, listener))
    }

    /// Where a process that takes the place of this one asks for its sockets.
    pub fn hand_over(&self) -> Option<&Path> {
        self.hand_over.as_deref()
    }

    /// The first key in which `other` differs of those that are neither the server's nor to be changed while
    /// it runs.
    pub fn fixed_difference(&self, other: &Site) -> Option<&'static str> {
        let differences = [
            ("admin.listen", self.admin != other.admin),
            ("hand_over", self.hand_over != other.hand_over),
            ("watchdog_ms", self.watchdog != other.watchdog),
        ];
        differences.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
    }

    /// How often to look whether a core is stuck, if at all.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// What is at its paths, in the order in which it stands in the file.
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// A server that serves it.
    pub fn server(&self) -> Server {
        Server::with(self.config.clone(), self.registry.clone())
    }
}
