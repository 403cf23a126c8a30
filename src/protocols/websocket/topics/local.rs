//! The topics of one core: a log for each, its subscribers, and what comes from other cores.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use slab::Slab;

use super::frame::{CoreFrame, Frame};
use super::shared::{Entrance, Hop, Shared, Topic, Topics};
use crate::protocols::websocket::message::Message;
use crate::protocols::websocket::settings::Compression;
use crate::upgrade::{ConnectionWaker, CoreWaker, Mailbox, Visited};

/// One core's share of [`Topics`].
#[derive(Debug)]
pub(in crate::protocols::websocket) struct LocalTopics {
    shared: Arc<Shared>,
    index: usize,
    arriving: Receiver<Hop>,
    /// Topics that this core has subscribers of.
    joined: RefCell<HashMap<Box<str>, Rc<LocalTopic>>>,
    /// Those it has none of and has published to.
    known: RefCell<HashMap<Box<str>, Arc<Topic>>>,
    cores: RefCell<Vec<Arc<Entrance>>>,
    cores_version: Cell<usize>,
}

/// What a core forgets of topics that it only publishes to, once it knows so many.
const KNOWN_MAX: usize = 1024;

/// One topic on one core.
#[derive(Debug)]
pub(super) struct LocalTopic {
    pub(super) topic: Arc<Topic>,
    core: Rc<LocalTopics>,
    pub(super) log: RefCell<Log>,
    subscribers: RefCell<Slab<ConnectionWaker>>,
}

/// The last messages of a topic, numbered from the first there ever was.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    frame: CoreFrame,
    /// The connection that is not sent it.
    except: Option<u64>,
    /// Subscribers that have not got to it.
    waiting: u32,
}

impl LocalTopics {
    /// This core's share.
    pub(in crate::protocols::websocket) fn of(
        topics: &Topics,
        mailbox: &Rc<Mailbox>,
    ) -> Rc<LocalTopics> {
        let shared = topics.shared();
        let kept = mailbox.resident(Arc::as_ptr(shared) as usize, || {
            let local = Rc::new(LocalTopics::join(Arc::clone(shared), mailbox));
            mailbox.call_when_reached(Rc::clone(&local) as Rc<dyn Visited>);
            local
        });
        Rc::clone(&kept)
    }

    fn join(shared: Arc<Shared>, mailbox: &Mailbox) -> LocalTopics {
        let (queue, arriving) = sync_channel(shared.limits.hops_max);
        // A core that nobody can wake is one that runs alone.
        let waker = mailbox.core().cloned().unwrap_or_else(|| CoreWaker::new(|| {}));
        LocalTopics {
            index: shared.enter(queue, waker),
            shared,
            arriving,
            joined: RefCell::default(),
            known: RefCell::default(),
            cores: RefCell::default(),
            cores_version: Cell::new(0),
        }
    }

    /// Publishes to the subscribers on this core and on all others, but for connection `except`.
    pub(in crate::protocols::websocket) fn publish(
        &self,
        name: &str,
        message: &Message,
        except: Option<u64>,
        compression: Option<&Compression>,
    ) {
        let local = self.joined.borrow().get(name).cloned();
        let topic = match &local {
            Some(local) => Arc::clone(&local.topic),
            None => match self.known(name) {
                Some(topic) => topic,
                None => return,
            },
        };
        let frame = Arc::new(Frame::new(message, compression));
        self.refresh_cores();
        for entrance in self.cores.borrow().iter() {
            if entrance.index != self.index && topic.is_on(entrance.index) {
                self.shared.hop(entrance, &topic, &frame);
            }
        }
        if let Some(local) = local {
            local.publish(frame, except);
        }
    }

    /// A topic of other cores. Each is looked up once.
    fn known(&self, name: &str) -> Option<Arc<Topic>> {
        if let Some(topic) = self.known.borrow().get(name).filter(|topic| !topic.is_retired()) {
            return Some(Arc::clone(topic));
        }
        let topic = self.shared.find(name);
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        match &topic {
            Some(topic) => known.insert(name.into(), Arc::clone(topic)),
            None => known.remove(name),
        };
        topic
    }

    fn refresh_cores(&self) {
        let version = self.shared.version();
        if self.cores_version.replace(version) != version {
            *self.cores.borrow_mut() = self.shared.cores().clone();
        }
    }

    /// The topic for one more subscriber; `None` if there are too many.
    pub(super) fn topic(self: &Rc<LocalTopics>, name: &str) -> Option<Rc<LocalTopic>> {
        let mut joined = self.joined.borrow_mut();
        if let Some(topic) = joined.get(name) {
            return Some(Rc::clone(topic));
        }
        let topic = Rc::new(LocalTopic {
            topic: self.shared.join(name, self.index)?,
            core: Rc::clone(self),
            log: RefCell::default(),
            subscribers: RefCell::default(),
        });
        self.known.borrow_mut().remove(name);
        joined.insert(name.into(), Rc::clone(&topic));
        Some(topic)
    }
}

impl Visited for LocalTopics {
    /// Takes in what other cores have sent.
    fn look(&self) {
        self.refresh_cores();
        if let Some(own) = self.cores.borrow().get(self.index) {
            own.look();
        }
        while let Ok(Hop { topic, frame }) = self.arriving.try_recv() {
            let local = self.joined.borrow().get(&topic.name).cloned();
            if let Some(local) = local {
                local.publish(frame, None);
            }
        }
    }
}

impl LocalTopic {
    /// Appends to the log and wakes who is to send it.
    fn publish(&self, frame: Arc<Frame>, except: Option<u64>) {
        let subscribers = self.subscribers.borrow();
        // One stays while its topic is here.
        let waiting = u32::try_from(subscribers.len()).unwrap_or(u32::MAX);
        let entry = Entry { frame: CoreFrame::new(frame), except, waiting };
        self.log.borrow_mut().push(entry, &self.core.shared.limits);
        subscribers.iter().for_each(|(_, waker)| waker.wake());
    }

    /// Adds a subscriber: its place, and the number of the first message that is for it.
    pub(super) fn add(&self, waker: ConnectionWaker) -> (usize, u64) {
        self.topic.add_subscriber();
        (self.subscribers.borrow_mut().insert(waker), self.log.borrow().end())
    }

    /// A subscriber that has got as far as `cursor` leaves.
    pub(super) fn remove(&self, place: usize, cursor: u64) {
        self.topic.remove_subscriber();
        self.log.borrow_mut().skip(cursor, u64::MAX);
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.try_remove(place);
        if subscribers.is_empty() {
            self.core.joined.borrow_mut().remove(&self.topic.name);
            self.core.shared.leave(&self.topic, self.core.index);
        }
    }
}

impl Log {
    /// The number of the next message there will be.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The number of the oldest message there is.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// A message, and the connection that is not sent it.
    pub(super) fn get(&self, number: u64) -> Option<(&CoreFrame, Option<u64>)> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(index).map(|entry| (&entry.frame, entry.except))
    }

    /// One subscriber is past the messages from `from` up to `to`.
    pub(super) fn skip(&mut self, from: u64, to: u64) {
        let at =
            |number: u64| usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let (from, to) = (at(from), at(to).min(self.entries.len()));
        for entry in self.entries.range_mut(from.min(to)..to) {
            entry.waiting -= 1;
        }
        while self.entries.front().is_some_and(|entry| entry.waiting == 0) {
            self.pop();
        }
    }

    fn push(&mut self, entry: Entry, limits: &super::TopicLimits) {
        self.bytes += entry.frame.len();
        self.entries.push_back(entry);
        while self.entries.len() > limits.backlog_messages_max
            || (self.bytes > limits.backlog_bytes_max && self.entries.len() > 1)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.frame.len();
            self.first += 1;
        }
    }
}
