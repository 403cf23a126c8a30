//! The topics one connection is subscribed to, and how far it has got in each.

use std::cell::RefCell;
use std::rc::Rc;

use super::local::{LocalTopic, LocalTopics};
use crate::protocols::websocket::deflate::Compressors;
use crate::upgrade::Io;

/// What becomes of a subscriber that reads so slowly that messages it has not been sent fall out of
/// the topic's backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenSlow {
    /// It misses them and is [told](super::super::Endpoint::on_missed) how many.
    #[default]
    Skip,
    /// It is closed with 1013.
    Close,
}

/// Why a connection cannot be subscribed to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// It is subscribed to as many as it may be (`WebSocketLimits::topics_max`).
    #[error("the connection is subscribed to as many topics as it may be")]
    TooManyOfConnection,
    /// There are as many as there may be (`TopicLimits::topics_max`).
    #[error("there are as many topics as there may be")]
    TooMany,
    /// It is closing, or over.
    #[error("the connection is closing")]
    Closed,
}

/// One connection's.
#[derive(Debug, Default)]
pub(in crate::protocols::websocket) struct Subscriptions(Vec<Subscription>);

#[derive(Debug)]
struct Subscription {
    topic: Rc<LocalTopic>,
    place: usize,
    when_slow: WhenSlow,
    /// The number of the next message it is to be sent.
    cursor: u64,
}

/// A subscription that fell behind.
#[derive(Debug)]
pub(in crate::protocols::websocket) struct Lag {
    pub(in crate::protocols::websocket) topic: Box<str>,
    pub(in crate::protocols::websocket) missed: u64,
    pub(in crate::protocols::websocket) when_slow: WhenSlow,
}

impl Subscriptions {
    /// Subscribes, unless it is subscribed already.
    pub(in crate::protocols::websocket) fn add(
        &mut self,
        topics: &Rc<LocalTopics>,
        name: &str,
        when_slow: WhenSlow,
        topics_max: usize,
        io: &Io<'_>,
    ) -> Result<(), SubscribeError> {
        if self.0.iter().any(|own| *own.topic.topic.name == *name) {
            return Ok(());
        }
        if self.0.len() >= topics_max {
            return Err(SubscribeError::TooManyOfConnection);
        }
        let topic = topics.topic(name).ok_or(SubscribeError::TooMany)?;
        let (place, cursor) = topic.add(io.waker());
        self.0.push(Subscription { topic, place, when_slow, cursor });
        Ok(())
    }

    pub(in crate::protocols::websocket) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|own| *own.topic.topic.name != *name);
        self.0.len() < before
    }

    /// Sends what there is room for, and says which fell behind.
    pub(in crate::protocols::websocket) fn deliver(
        &mut self,
        io: &mut Io<'_>,
        compressors: Option<&RefCell<Compressors>>,
    ) -> Vec<Lag> {
        // Empty, and then without memory, unless somebody is slow.
        let mut lags = Vec::new();
        for own in &mut self.0 {
            own.deliver(io, compressors, &mut lags);
        }
        lags
    }
}

impl Subscription {
    fn deliver(
        &mut self,
        io: &mut Io<'_>,
        compressors: Option<&RefCell<Compressors>>,
        lags: &mut Vec<Lag>,
    ) {
        let mut log = self.topic.log.borrow_mut();
        // One that skips is told what it missed once there is room for what is left.
        if self.when_slow == WhenSlow::Skip && io.is_full() {
            return io.notify_writable();
        }
        let missed = log.first().saturating_sub(self.cursor);
        if missed > 0 {
            io.counters.websocket_messages_missed.add(missed);
            let topic = self.topic.topic.name.clone();
            lags.push(Lag { topic, missed, when_slow: self.when_slow });
            self.cursor = log.first();
        }
        let from = self.cursor;
        while let Some((frame, except)) = log.get(self.cursor) {
            if except != Some(io.key) {
                if io.is_full() {
                    io.notify_writable();
                    break;
                }
                io.counters.websocket_messages_sent.raise();
                io.send(frame.bytes(compressors));
            }
            self.cursor += 1;
        }
        log.skip(from, self.cursor);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.remove(self.place, self.cursor);
    }
}
