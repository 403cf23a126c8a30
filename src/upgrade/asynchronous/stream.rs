//! An upgraded connection as a tokio stream. Reading copies into the caller's buffer, since that
//! interface asks for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Upgraded;
use crate::buffer::Lease;

/// See [`Upgraded::into_stream`].
#[derive(Debug)]
pub struct UpgradedStream {
    upgraded: Upgraded,
    /// Received and not wholly read.
    rest: Option<Lease>,
}

impl UpgradedStream {
    pub(super) fn new(upgraded: Upgraded) -> UpgradedStream {
        UpgradedStream { upgraded, rest: None }
    }
}

impl AsyncRead for UpgradedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut lease = match this.rest.take() {
            Some(lease) => lease,
            None => match ready!(this.upgraded.receiver.poll_recv(context))? {
                Some(lease) => lease,
                None => return Poll::Ready(Ok(())),
            },
        };
        let count = lease.len().min(into.remaining());
        into.put_slice(&lease.split_to(count));
        this.rest = Some(lease).filter(|lease| !lease.is_empty());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut channel = self.upgraded.sender.channel.borrow_mut();
        ready!(channel.poll_room(context))?;
        Poll::Ready(Ok(channel.flow.write(bytes)))
    }

    /// Nothing is held back: what was written leaves in the core's next turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.upgraded.sender.channel.borrow_mut().flow.poll_sent(context))?;
        self.upgraded.end();
        Poll::Ready(Ok(()))
    }
}
