//! The connections of one core to one backend: how many there may be, and those kept for the next
//! request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Connection;

/// One core's connections to one backend.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The most recently used one last.
    idle: RefCell<VecDeque<Idle>>,
    idle_max: usize,
    idle_time: Duration,
    /// Those in use, or about to be made.
    used: Cell<usize>,
    count_max: usize,
    is_swept: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

/// A connection that counts among those of its pool.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(crate) connection: Connection,
    place: Place,
}

/// The right to one connection. Dropped, another may have it.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Rc<Pool>,
}

impl Pool {
    /// No connections yet: at most `count_max`, of which `idle_max` are kept for `idle_time_ms`
    /// each.
    pub(crate) fn new(count_max: usize, idle_max: usize, idle_time_ms: u64) -> Pool {
        Pool {
            idle: RefCell::default(),
            idle_max,
            idle_time: Duration::from_millis(idle_time_ms),
            used: Cell::new(0),
            count_max,
            is_swept: Cell::new(false),
        }
    }

    /// The most recently used connection that still waits for a request.
    pub(crate) fn take(self: &Rc<Pool>) -> Option<Pooled> {
        loop {
            let Idle { connection, .. } = self.idle.borrow_mut().pop_back()?;
            // One that the backend has closed, or on which it speaks unasked, is closed here.
            if connection.is_quiet() {
                return Some(self.taken().with(connection));
            }
        }
    }

    /// A place for a new connection, if there may be another: for who found none that waits.
    pub(crate) fn place(self: &Rc<Pool>) -> Option<Place> {
        (self.used.get() + self.idle.borrow().len() < self.count_max).then(|| self.taken())
    }

    fn taken(self: &Rc<Pool>) -> Place {
        self.used.set(self.used.get() + 1);
        Place { pool: Rc::clone(self) }
    }

    /// Keeps a connection for the next request, instead of the one that waits the longest if too
    /// many are kept.
    fn put(self: &Rc<Pool>, connection: Connection) {
        if self.idle_max == 0 {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() == self.idle_max {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, until: Instant::now() + self.idle_time });
        if !self.is_swept.replace(true) {
            tokio_uring::spawn(sweep(Rc::clone(self)));
        }
    }

    /// Closes those whose time has come, and says when the next one's will.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.idle.borrow_mut();
        while idle.front()?.until <= now {
            idle.pop_front();
        }
        idle.front().map(|idle| idle.until)
    }
}

/// Runs as long as connections are kept.
async fn sweep(pool: Rc<Pool>) {
    while let Some(until) = pool.expire(Instant::now()) {
        sleep_until(until).await;
    }
    pool.is_swept.set(false);
}

impl Place {
    /// With the connection that was made for it.
    pub(crate) fn with(self, connection: Connection) -> Pooled {
        Pooled { connection, place: self }
    }
}

impl Pooled {
    /// Keeps it for the next request.
    pub(crate) fn keep(self) {
        let Pooled { connection, place } = self;
        let pool = Rc::clone(&place.pool);
        drop(place);
        pool.put(connection);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.used.set(self.pool.used.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_places_than_connections_may_be() {
        let pool = Rc::new(Pool::new(2, 1, 1000));
        let (first, second) = (pool.place().unwrap(), pool.place().unwrap());
        assert!(pool.place().is_none());
        drop(first);
        let third = pool.place().unwrap();
        assert!(pool.place().is_none() && pool.take().is_none());
        drop((second, third));
        assert_eq!(pool.used.get(), 0);
    }
}
