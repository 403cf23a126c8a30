//! What the cores know of topics together: which there are, which cores have subscribers, and a
//! queue into each core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::frame::Frame;
use crate::protocols::websocket::message::Message;
use crate::upgrade::CoreWaker;

/// Cores are told apart by this many bits; where there are more, two share one and are both told.
const CORES: usize = 64;

/// The bounds of publish and subscribe.
#[derive(Debug, Clone)]
pub struct TopicLimits {
    /// Topics with subscribers. Over it, subscribing to another fails. Default 100 000.
    pub topics_max: usize,
    /// Messages of one topic that a core keeps for its slow subscribers. Who is further behind misses
    /// the oldest. Default 256.
    pub backlog_messages_max: usize,
    /// Bytes of them. Default 1 MiB.
    pub backlog_bytes_max: usize,
    /// Messages on their way into one core. Over it, that core's subscribers miss them, which
    /// `messages_lost` counts. Default 4096.
    pub hops_max: usize,
}

impl Default for TopicLimits {
    fn default() -> TopicLimits {
        TopicLimits {
            topics_max: 100_000,
            backlog_messages_max: 256,
            backlog_bytes_max: 1024 * 1024,
            hops_max: 4096,
        }
    }
}

/// Topics that connections subscribe to and anything in the process publishes to. Cloning shares them.
///
/// A service has topics of its own unless it is [given](super::super::WebSocket::topics) some.
#[derive(Debug, Clone, Default)]
pub struct Topics(Arc<Shared>);

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) limits: TopicLimits,
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
    cores: Mutex<Vec<Arc<Entrance>>>,
    /// Raised with each core that joins.
    version: AtomicUsize,
    messages_lost: AtomicUsize,
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Box<str>,
    /// Its subscribers on all cores.
    subscribers: AtomicUsize,
    /// Cores with subscribers, by the bits they are told apart by.
    cores: [AtomicU32; CORES],
    /// Its last subscriber has left, and another of the same name may have taken its place.
    is_retired: AtomicBool,
}

/// The way into one core.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) index: usize,
    queue: SyncSender<Hop>,
    /// The core was woken, and has not looked since.
    is_awake: AtomicBool,
    waker: CoreWaker,
}

/// A message on its way into a core.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) topic: Arc<Topic>,
    pub(super) frame: Arc<Frame>,
}

impl Topics {
    /// Topics with these bounds.
    pub fn new(limits: TopicLimits) -> Topics {
        Topics(Arc::new(Shared { limits, ..Shared::default() }))
    }

    /// Publishes to every subscriber of `topic`, from any thread. An endpoint publishes by its
    /// [`Socket`](super::super::Socket), which saves its own core the hop.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) {
        let Some(topic) = self.0.find(topic) else { return };
        let frame = Arc::new(Frame::new(&message.into(), None));
        for entrance in self.0.cores().iter().filter(|at| topic.is_on(at.index)) {
            self.0.hop(entrance, &topic, &frame);
        }
    }

    /// Subscribers of `topic` on all cores, now.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.0.find(topic).map_or(0, |topic| topic.subscribers.load(Ordering::Relaxed))
    }

    /// Messages that did not get into a core whose queue was full.
    pub fn messages_lost(&self) -> usize {
        self.0.messages_lost.load(Ordering::Relaxed)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Shared {
    /// A topic that somebody is subscribed to.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Joins a topic with a first subscriber of core `index`; `None` if there are too many topics.
    pub(super) fn join(&self, name: &str, index: usize) -> Option<Arc<Topic>> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = match topics.get(name) {
            Some(topic) => Arc::clone(topic),
            None if topics.len() >= self.limits.topics_max => return None,
            None => {
                let topic = Arc::new(Topic::new(name));
                topics.insert(name.into(), Arc::clone(&topic));
                topic
            }
        };
        topic.core(index).fetch_add(1, Ordering::SeqCst);
        Some(topic)
    }

    /// The last subscriber of core `index` has left.
    pub(super) fn leave(&self, topic: &Topic, index: usize) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topic.core(index).fetch_sub(1, Ordering::SeqCst);
        if topic.cores.iter().all(|count| count.load(Ordering::SeqCst) == 0) {
            topic.is_retired.store(true, Ordering::SeqCst);
            topics.remove(&topic.name);
        }
    }

    /// Adds a core.
    pub(super) fn enter(&self, queue: SyncSender<Hop>, waker: CoreWaker) -> usize {
        let mut cores = self.cores();
        let index = cores.len();
        let is_awake = AtomicBool::new(false);
        cores.push(Arc::new(Entrance { index, queue, is_awake, waker }));
        self.version.fetch_add(1, Ordering::Release);
        index
    }

    /// How many cores have joined: a list of them that is older is to be asked for again.
    pub(super) fn version(&self) -> usize {
        self.version.load(Ordering::Acquire)
    }

    /// The cores that have joined.
    pub(super) fn cores(&self) -> MutexGuard<'_, Vec<Arc<Entrance>>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message into a core, and wakes it unless it will look anyway.
    pub(super) fn hop(&self, entrance: &Entrance, topic: &Arc<Topic>, frame: &Arc<Frame>) {
        let hop = Hop { topic: Arc::clone(topic), frame: Arc::clone(frame) };
        match entrance.queue.try_send(hop) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.messages_lost.fetch_add(1, Ordering::Relaxed);
            }
            // The core has ended.
            Err(TrySendError::Disconnected(_)) => return,
        }
        if !entrance.is_awake.swap(true, Ordering::AcqRel) {
            entrance.waker.wake();
        }
    }
}

impl Entrance {
    /// From here on the core has to be woken for what comes: what came before is in its queue.
    pub(super) fn look(&self) {
        self.is_awake.swap(false, Ordering::AcqRel);
    }
}

impl Topic {
    fn new(name: &str) -> Topic {
        Topic {
            name: name.into(),
            subscribers: AtomicUsize::new(0),
            cores: [const { AtomicU32::new(0) }; CORES],
            is_retired: AtomicBool::new(false),
        }
    }

    fn core(&self, index: usize) -> &AtomicU32 {
        let [first, ..] = &self.cores;
        self.cores.get(index % CORES).unwrap_or(first)
    }

    /// Whether core `index` has subscribers, or one that shares its bit.
    pub(super) fn is_on(&self, index: usize) -> bool {
        self.core(index).load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    pub(super) fn add_subscriber(&self) {
        self.subscribers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_subscriber(&self) {
        self.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
