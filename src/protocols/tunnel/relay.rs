//! After the switch: bytes go both ways as they are, each direction at the speed of its receiver.
//!
//! ```text
//!   client ──► leases, uncopied ──► backend      eight leases wait at most
//!   client ◄── buffers, used again ◄── backend   64 KiB wait at most
//! ```
//!
//! An end goes on as an end, a reset as a reset. A server that stops leaves a tunnel alone for as
//! long as it may. Shortly before it is cut the backend is told that the client has ended: what it
//! still says goes on, and what the client says from there on is thrown away.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{self, Duration};

use tokio::time::{Instant, sleep_until};

use super::{Plan, TunnelSettings};
use crate::backend::{Connection, Either, both, first};
use crate::buffer::{Lease, Spares};
use crate::counters::Counters;
use crate::upgrade::CloseReason;
use crate::upgrade::asynchronous::{Closed, Receiver, Sender, Upgraded};

/// How long before it is cut a tunnel is ended: for the last words of its backend. A quarter of what
/// is left, if that is less.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a tunnel has beside its client.
pub(super) struct Ends {
    pub(super) connection: Connection,
    /// Came behind the backend's 101: the first that the client gets.
    pub(super) early: Vec<u8>,
    pub(super) counters: Arc<Counters>,
    pub(super) spares: Rc<Spares>,
    pub(super) plan: Arc<Plan>,
}

/// Whose connection was lost.
enum Lost {
    Client,
    Backend,
}

impl From<Closed> for Lost {
    fn from(_: Closed) -> Lost {
        Lost::Client
    }
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Lost {
        Lost::Backend
    }
}

/// Carries bytes until both directions have ended, or one of the connections is lost.
pub(super) async fn relay(upgraded: Upgraded, ends: Ends) {
    let Ends { connection, early, counters, spares, plan } = ends;
    let connection = Cut::unless_ended(connection);
    let _open = Open::count(&counters);
    let pulse = Pulse::new();
    let (closed, cut_at) = (upgraded.closed(), upgraded.cut_at());
    let (receiver, mut sender) = upgraded.split();
    let outcome = {
        let mut ending = pin!(ending(cut_at));
        let up = pin!(to_backend(receiver, &connection, ending.as_mut(), &pulse));
        let down = pin!(to_client(&connection, &mut sender, early, &spares, &pulse));
        let (lost, silence) = (pin!(lost(closed)), pin!(pulse.stops(&plan.settings)));
        first(both(up, down), first(lost, silence)).await
    };
    match outcome {
        Either::First(Ok(())) => connection.has_ended(),
        Either::First(Err(Lost::Client)) | Either::Second(Either::First(())) => {
            counters.tunnels_reset.raise();
        }
        Either::First(Err(Lost::Backend)) => {
            counters.tunnels_reset.raise();
            sender.reset();
        }
        Either::Second(Either::Second(())) => {
            counters.tunnels_idle_timeouts.raise();
            connection.has_ended();
        }
    }
}

/// Resets the backend's connection if its tunnel does not end in order, also when its core ends before it: what
/// has not come whole must not look so.
struct Cut(Option<Connection>);

impl Cut {
    fn unless_ended(connection: Connection) -> Cut {
        Cut(Some(connection))
    }

    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Deref for Cut {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("it is taken with the last call")
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.reset();
        }
    }
}

/// What the client sends, up to its end or until the server ends it.
async fn to_backend(
    mut receiver: Receiver,
    connection: &Connection,
    mut ending: Pin<&mut impl Future<Output = ()>>,
    pulse: &Pulse,
) -> Result<(), Lost> {
    let waiting = loop {
        // First: a client that always has something to say is ended, too.
        let received = match first(ending.as_mut(), pin!(receiver.recv())).await {
            Either::First(()) => None,
            Either::Second(received) => Some(received?),
        };
        let Some(received) = received else { break receiver.waiting() };
        if !pass_on(received, connection, pulse).await {
            break 0;
        }
    };
    // What had come by then goes on.
    for _ in 0..waiting {
        if !pass_on(receiver.recv().await?, connection, pulse).await {
            break;
        }
    }
    connection.end();
    pulse.end_one();
    Ok(())
}

/// Whether more can go on: nothing does behind the end of what the client says. Whether a backend that
/// takes no more is lost, or still has something to say, the other direction learns.
async fn pass_on(received: Option<Lease>, connection: &Connection, pulse: &Pulse) -> bool {
    let Some(bytes) = received else { return false };
    pulse.beat();
    connection.send(&bytes).await.is_ok()
}

/// What the backend sends, up to its end.
async fn to_client(
    connection: &Connection,
    sender: &mut Sender,
    early: Vec<u8>,
    spares: &Spares,
    pulse: &Pulse,
) -> Result<(), Lost> {
    if !early.is_empty() {
        sender.send(early).await?;
    }
    loop {
        let bytes = connection.receive_spare(spares).await?;
        if bytes.is_empty() {
            break;
        }
        pulse.beat();
        sender.send(bytes.into_payload()).await?;
    }
    sender.end();
    pulse.end_one();
    Ok(())
}

/// Ready when the server has been stopping for so long that the tunnel is about to be cut.
async fn ending(cut_at: impl Future<Output = Option<time::Instant>>) {
    let Some(cut_at) = cut_at.await else { return pending().await };
    let left = cut_at.saturating_duration_since(time::Instant::now());
    sleep_until((cut_at - LAST_WORDS.min(left / 4)).into()).await;
}

/// Ready when the client's connection is over before both of its directions have ended.
async fn lost(closed: impl Future<Output = CloseReason>) {
    if closed.await == CloseReason::Finished {
        // What was received before may still have to go on.
        pending::<()>().await;
    }
}

/// When something was last sent in either direction, and how many of them still go.
struct Pulse {
    last: Cell<Instant>,
    directions: Cell<u8>,
}

impl Pulse {
    fn new() -> Pulse {
        Pulse { last: Cell::new(Instant::now()), directions: Cell::new(2) }
    }

    fn beat(&self) {
        self.last.set(Instant::now());
    }

    fn end_one(&self) {
        self.directions.set(self.directions.get().saturating_sub(1));
        self.beat();
    }

    /// When silence has lasted for too long, if it ever does.
    fn stops_at(&self, settings: &TunnelSettings) -> Option<Instant> {
        let timeout_ms = match self.directions.get() {
            2 if settings.idle_timeout_ms == 0 => return None,
            2 => settings.idle_timeout_ms,
            _ => settings.half_closed_timeout_ms,
        };
        self.last.get().checked_add(Duration::from_millis(timeout_ms))
    }

    /// Ready when silence has lasted for too long. The timer is set anew when it is up, or when its
    /// time comes earlier: a byte costs it nothing.
    async fn stops(&self, settings: &TunnelSettings) {
        let mut timer = pin!(sleep_until(Instant::now()));
        poll_fn(|context| {
            let Some(at) = self.stops_at(settings) else { return Poll::Pending };
            if at < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            match timer.as_mut().poll(context) {
                Poll::Ready(()) if at <= Instant::now() => Poll::Ready(()),
                Poll::Ready(()) => {
                    timer.as_mut().reset(at);
                    timer.as_mut().poll(context)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }
}

/// One tunnel among those that are open.
struct Open<'a>(&'a Counters);

impl Open<'_> {
    fn count(counters: &Counters) -> Open<'_> {
        counters.tunnels_open.raise();
        Open(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.tunnels_open.lower();
    }
}
