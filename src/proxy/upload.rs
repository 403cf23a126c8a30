//! The way of a request to its backend, and whose turn it is while it goes.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::exchange::Asked;
use crate::backend::Connection;
use crate::http::Framing;
use crate::resource::Content;
use crate::upgrade::asynchronous::Closed;

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uploaded {
    /// The backend has all of it.
    Whole,
    /// It takes no more, and may have said why.
    Refused,
}

/// How long a backend is waited for that was asked whether it wants the content: it may not know
/// how to say so (RFC 9110 §10.1.1).
const INVITATION_WAIT_MS: u64 = 1000;

/// Sends head and content. While the client is waited for, the backend is not late. A client that
/// waits for a 100 is sent one when the backend has, or has said nothing for a second.
///
/// # Errors
/// The client is gone, or its content is not what it announced.
pub(super) async fn upload(
    asked: &Asked,
    content: &mut Content,
    connection: &Connection,
    patience: &Patience,
) -> Result<Uploaded, Closed> {
    if connection.send(&asked.head).await.is_err() {
        return Ok(Uploaded::Refused);
    }
    if matches!(asked.framing, Framing::None | Framing::Length(0)) {
        return Ok(Uploaded::Whole);
    }
    if asked.is_waiting {
        patience.rest();
        patience.invited().await;
    }
    let is_chunked = asked.framing == Framing::Chunked;
    loop {
        patience.rest();
        let received = content.recv().await;
        patience.begin();
        let sent = match received? {
            Some(bytes) if is_chunked => send_chunk(connection, &bytes).await,
            Some(bytes) => connection.send(&bytes).await,
            None if is_chunked => {
                let sent = send_end(connection, content).await;
                return Ok(sent.map_or(Uploaded::Refused, |()| Uploaded::Whole));
            }
            None => return Ok(Uploaded::Whole),
        };
        if sent.is_err() {
            return Ok(Uploaded::Refused);
        }
    }
}

/// RFC 9112 §7.1: never an empty one, which would be the last.
async fn send_chunk(connection: &Connection, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let size = format!("{:x}\r\n", bytes.len());
    let mut slices = [size.as_bytes(), bytes, b"\r\n"].map(IoSlice::new);
    connection.send_all(&mut slices).await
}

async fn send_end(connection: &Connection, content: &Content) -> io::Result<()> {
    let mut end = b"0\r\n".to_vec();
    for (name, value) in content.trailers().iter() {
        let mut line = crate::http::Fields::new();
        // Left out is what is needed before the content.
        if line.push(name, value).is_ok() {
            line.trailers().flatten().for_each(|line| end.extend_from_slice(line));
        }
    }
    end.extend_from_slice(b"\r\n");
    connection.send(&end).await
}

/// How long the backend has been waited for.
pub(super) struct Patience {
    /// Since when, if it is its turn.
    since: Cell<Option<Instant>>,
    is_invited: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Patience {
    /// It is the backend's turn.
    pub(super) fn new() -> Patience {
        let since = Cell::new(Some(Instant::now()));
        Patience { since, is_invited: Cell::new(false), waiting: Cell::new(None) }
    }

    /// It is the client's turn.
    fn rest(&self) {
        self.since.set(None);
    }

    /// It is the backend's turn again.
    fn begin(&self) {
        self.since.set(Some(Instant::now()));
    }

    /// The backend wants the content.
    pub(super) fn invite(&self) {
        self.is_invited.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Ready when the backend wants the content, or is not known to say so.
    async fn invited(&self) {
        let mut given_up = pin!(sleep(Duration::from_millis(INVITATION_WAIT_MS)));
        poll_fn(|context| {
            if self.is_invited.get() {
                return Poll::Ready(());
            }
            self.waiting.set(Some(context.waker().clone()));
            given_up.as_mut().poll(context)
        })
        .await;
    }

    /// Ready when the backend had its turn for so long.
    pub(super) async fn ends(&self, timeout_ms: u64) {
        let timeout = Duration::from_millis(timeout_ms);
        loop {
            match self.since.get().map(|since| since + timeout) {
                None => sleep(timeout).await,
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at).await,
            }
        }
    }
}
