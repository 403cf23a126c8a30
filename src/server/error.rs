//! Why a server does not start, or ended. Each says what failed, the likely cause, and what mends
//! it.

use std::io;

use crate::access::AccessLogError;
use crate::config::{ListenAddress, ListenerFault};
use crate::privilege::PrivilegeError;
use crate::resource::RouteError;
use crate::ring::{Cause, SetupError};
use crate::tls::CertificateError;

/// A server that cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The kernel refused the ring or a listener.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An async handler is registered, and the native mode has no runtime for it.
    #[error(
        "the handler of {what} is async, and the native mode has no runtime to run it; \
         use the hosted mode (--host hosted) or a callback handler"
    )]
    NeedsRuntime {
        /// The protocol, or the method and pattern.
        what: String,
    },
    /// The user that was configured cannot be run as.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// A certificate, or what belongs to it, cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// A route that cannot be served.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The process whose place was to be taken does not give it up.
    #[error(
        "the process before has waited for this one for long enough, as its log says, and goes on: {0}"
    )]
    NotAwaited(io::Error),
    /// It was told to stop before it served.
    #[error("it was told to stop before it served")]
    Stopped,
    /// What a running server cannot change.
    #[error(
        "`{what}` is fixed once the server runs; what it is now takes a restart, or a replacement of \
         the process"
    )]
    NeedsRestart {
        /// The key of the configuration file.
        what: &'static str,
    },
    /// A limit with which no connection could be served.
    #[error("the limit {name} lets nothing through; see its documentation for the range")]
    Limit {
        /// The field of [`Limits`](crate::config::Limits).
        name: &'static str,
    },
    /// A listener that makes no sense.
    #[error("cannot listen on {address}: {fault}")]
    Listener {
        /// Which.
        address: ListenAddress,
        /// What is wrong with it.
        fault: ListenerFault,
    },
    /// The set of processors could not be read, or not be pinned to.
    #[error("cannot read or set which processors to run on: {0}")]
    Affinity(io::Error),
    /// No signal handler could be set.
    #[error("cannot wait for signals: {0}; {cause}", cause = Cause::of_call(.0))]
    Signals(io::Error),
    /// No thread could be made.
    #[error("cannot start a thread: {0}; {cause}", cause = Cause::of_call(.0))]
    Thread(io::Error),
    /// A core's ring failed while it was serving.
    #[error("a core cannot go on: {0}")]
    Core(io::Error),
    /// A worker panicked. Its message was printed where it happened.
    #[error("a worker ended unexpectedly")]
    WorkerLost,
}
