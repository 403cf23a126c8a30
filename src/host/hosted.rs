//! The hosted mode: the engine is a task of tokio-uring's runtime, which sleeps in epoll and is
//! woken by an eventfd registered on our ring.
//!
//! ```text
//!   turn ... turn ──► nothing left ──► arm the eventfd, look once more ──► await it ──► disarm ──► turn
//!                          └─ meanwhile the runtime runs async handlers and submits its own operations
//! ```
//!
//! The eventfd is silent while we run, or it would wake us a second time for what we have seen. It
//! is registered edge-triggered and never read.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_uring::Runtime;

use crate::counters::Counters;
use crate::engine::{Engine, Turn};
use crate::ring::{Ring, SetupError, Wait};
use crate::upgrade::{Mailbox, Spawn};

/// Turns without a pause after which the runtime gets its share: its tasks, its timers, its own
/// ring.
const TURNS_MAX: u32 = 32;

/// Entries of the runtime's own ring, for what async handlers do beside their connection.
const RUNTIME_ENTRIES: u32 = 256;

/// The runtime of the calling thread. Its own `start` panics where this says why.
///
/// # Errors
/// The kernel refuses the runtime's ring or one of its descriptors.
pub fn runtime() -> Result<Runtime, SetupError> {
    let mut uring = tokio_uring::uring_builder();
    uring.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
    Runtime::new(tokio_uring::builder().entries(RUNTIME_ENTRIES).uring_builder(&uring))
        .map_err(|error| SetupError::ring("a tokio-uring runtime", &error))
}

/// Turns the engine inside `runtime` until the server has stopped.
///
/// # Errors
/// The kernel refused to go on.
pub fn run(runtime: &Runtime, engine: &mut Engine<Ring<'_>>, wake: Arc<OwnedFd>) -> io::Result<()> {
    runtime.block_on(serve(engine, wake))
}

async fn serve(engine: &mut Engine<Ring<'_>>, wake: Arc<OwnedFd>) -> io::Result<()> {
    let counters = Arc::clone(&engine.core().counters);
    let counted = Arc::clone(&counters);
    let spawn: Spawn = Rc::new(move |future| {
        tokio_uring::spawn(Fenced { future, counters: Arc::clone(&counted) });
    });
    engine.core().spawn = Some(spawn);
    let mailbox = Rc::clone(&engine.core().mailbox);
    // SAFETY: the descriptor is open, is the same at every call, and `Wake` keeps it open as long
    // as the `AsyncFd` lives.
    let wake = unsafe { AsyncFd::register_with_interest(Wake(wake), Interest::READABLE) }?;
    let mut turns_left = TURNS_MAX;
    loop {
        match engine.turn(Wait::No)? {
            Turn::Stopped => return Ok(()),
            Turn::Again if turns_left > 0 => {
                turns_left -= 1;
                continue;
            }
            // Yielding would keep tokio from parking, and only parking submits the runtime's own
            // operations.
            Turn::Again => wake.get_ref().ring()?,
            Turn::Idle if !engine.kernel().arm_wake() => continue,
            Turn::Idle => {}
        }
        turns_left = TURNS_MAX;
        let mut is_asleep = false;
        poll_fn(|context| {
            let woken = poll_woken(&wake, &mailbox, context);
            if woken.is_pending() && !std::mem::replace(&mut is_asleep, true) {
                counters.sleeps.raise();
            }
            woken
        })
        .await?;
        engine.kernel().disarm_wake();
    }
}

/// Ready when the ring has news, or a task of this core wants a connection's attention.
fn poll_woken(
    wake: &AsyncFd<Wake>,
    mailbox: &Mailbox,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    mailbox.set_host(context.waker());
    if !mailbox.is_empty() || mailbox.is_work_over() {
        return Poll::Ready(Ok(()));
    }
    wake.poll_read_ready(context).map_ok(|mut guard| guard.clear_ready())
}

/// A task of a handler. If it panics, what it owns is dropped, its connection with it; here that is
/// counted.
struct Fenced {
    future: Pin<Box<dyn Future<Output = ()>>>,
    counters: Arc<Counters>,
}

impl Future for Fenced {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_) => {
                self.counters.handler_panics.raise();
                Poll::Ready(())
            }
        }
    }
}

/// The eventfd our ring rings.
struct Wake(Arc<OwnedFd>);

impl Wake {
    fn ring(&self) -> io::Result<()> {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
