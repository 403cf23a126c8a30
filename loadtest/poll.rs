//! Readiness from epoll, edge-triggered, for the epoll server. It owns the epoll descriptor and no
//! socket: dropping a socket takes it off the list.
//!
//! An edge comes once for each arrival, so whoever is told of one reads until a receive falls short
//! of its buffer. The end of the stream is an edge of its own (`EPOLLRDHUP`), so falling short is
//! enough.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An epoll instance.
pub(crate) struct Poll {
    epoll: OwnedFd,
}

/// One socket that became ready.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Ready(libc::epoll_event);

impl Ready {
    /// A place for `Poll::wait` to write to.
    pub(crate) const NONE: Ready = Ready(libc::epoll_event { events: 0, u64: 0 });

    /// The number the socket was added under.
    pub(crate) fn token(self) -> usize {
        self.0.u64 as usize
    }

    /// Bytes, an end of stream or an error wait to be read.
    pub(crate) fn readable(self) -> bool {
        self.0.events
            & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned()
            != 0
    }

    /// A send that fell short can go on.
    pub(crate) fn writable(self) -> bool {
        self.0.events & libc::EPOLLOUT.cast_unsigned() != 0
    }
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        // SAFETY: epoll_create1 takes no pointer.
        let epoll = succeed(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call above has just given us this descriptor, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Poll { epoll })
    }

    /// Reports every edge of `socket` as `token`, until the socket is dropped.
    pub(crate) fn add(&self, socket: &impl AsFd, token: usize) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
                .cast_unsigned(),
            u64: token as u64,
        };
        let (epoll, socket) = (self.epoll.as_raw_fd(), socket.as_fd().as_raw_fd());
        // SAFETY: both descriptors are open for the length of the call and `event` is a valid
        // epoll_event.
        succeed(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) })?;
        Ok(())
    }

    /// Sleeps until a socket is ready or the time is over, and returns those that are: none after
    /// the time, or after a signal. Rounds up to milliseconds; `None` sleeps as long as it takes.
    pub(crate) fn wait<'a>(
        &self,
        places: &'a mut [Ready],
        timeout: Option<Duration>,
    ) -> io::Result<&'a [Ready]> {
        let timeout_ms = timeout
            .map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let places_max = i32::try_from(places.len()).unwrap_or(i32::MAX);
        let first = places.as_mut_ptr().cast::<libc::epoll_event>();
        // SAFETY: `Ready` is a transparent epoll_event, so `first` is valid for writing
        // `places_max` of them.
        let count = succeed(unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), first, places_max, timeout_ms)
        });
        match count {
            Ok(count) => Ok(&places[..count.cast_unsigned() as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

fn succeed(outcome: i32) -> io::Result<i32> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}
