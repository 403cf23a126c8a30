//! One core's end of the access log. The session calls it where a request is begun, answered or
//! switched; the engine at the end of a turn, when the lines go into the queue.
//!
//! What has to be remembered of a connection lies here by its key, not in the connection: without a log
//! it takes no memory.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;

use super::line::{
    Answered, Ended, FIELD_BYTES_MAX, Facts, Front, Page, Place, REQUEST_LINE_BYTES_MAX, fill_in,
};
use super::lines::Lines;
use super::stamp::Stamp;
use super::writer::Feed;
use crate::config::{AccessFormat, Millis, TlsVersion};
use crate::counters::{Counters, Nanos, TokenSlot};
use crate::http::{Secured, Version};

/// Connections on a page of the table of those that were switched.
const PAGE: usize = 256;

/// Makes the lines of one core.
pub struct Recorder {
    feed: Feed,
    stamp: Stamp,
    front: Front,
    /// Lines of this turn.
    pending: Lines,
    /// Texts of a line, as they may stand in it.
    escaped: Vec<u8>,
    /// Where in them durations are missing, and when those requests came.
    unfinished: Vec<(usize, Nanos)>,
    /// What was heard of the request that is looked at.
    noted: Cell<Noted>,
    /// The line of a request whose head is not whole, or faulty.
    faulty: Vec<u8>,
    /// Requests that wait, by the keys of their connections.
    drafts: HashMap<u64, Draft>,
    switched: Vec<Box<[Exchanged; PAGE]>>,
    /// What those were asked for by: most by the same few.
    targets: HashSet<Rc<Target>>,
}

/// The beginning of a target, or all of it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Target(Box<[u8]>);

/// What became of a request so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noted {
    pub(crate) status: Option<u16>,
    token: Option<TokenSlot>,
    result: Option<&'static str>,
}

/// A request that waits for its answer.
struct Draft {
    line: Box<[u8]>,
    target: Box<[u8]>,
    version: Option<Version>,
    host: Option<Box<[u8]>>,
    referer: Option<Box<[u8]>>,
    user_agent: Option<Box<[u8]>>,
    tls: Option<TlsVersion>,
    server_name: Option<Box<str>>,
    bytes_sent: u64,
    noted: Noted,
}

/// What a switched connection has exchanged. Small: an idle one has it, too.
#[derive(Debug, Default)]
struct Exchanged {
    received: u64,
    /// At the switch less than nothing: what waits to be sent then is the answer's.
    sent: u64,
    target: Option<Rc<Target>>,
}

/// Whose request it is, and since when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    pub(crate) key: u64,
    pub(crate) client: Option<SocketAddr>,
    pub(crate) now: Millis,
    /// When the turn began in which it came.
    pub(crate) since: Nanos,
}

impl Recorder {
    /// Of the core at whose other end of the queue the writer is.
    pub fn new(feed: Feed) -> Recorder {
        Recorder {
            stamp: Stamp::new(feed.format),
            front: Front::default(),
            feed,
            pending: Lines::default(),
            escaped: Vec::new(),
            unfinished: Vec::new(),
            noted: Cell::default(),
            faulty: Vec::new(),
            drafts: HashMap::new(),
            switched: Vec::new(),
            targets: HashSet::new(),
        }
    }

    /// The wall clock shows this at the core's `now`.
    pub fn set_time(&mut self, now: Millis, unix_millis: u64) {
        self.stamp.set(now, unix_millis);
    }

    /// The request that is looked at has an answer.
    pub(crate) fn note_answer(&self, status: u16) {
        self.noted.set(Noted { status: Some(status), ..self.noted.get() });
    }

    /// Its offer has this result.
    pub(crate) fn note_upgrade(&self, token: Option<TokenSlot>, result: &'static str) {
        self.noted.set(Noted { token, result: Some(result), ..self.noted.get() });
    }

    /// What was noted of it, once.
    pub(crate) fn take_noted(&self) -> Noted {
        self.noted.take()
    }

    /// The line of a request that will not be read, from the bytes that have come of its head.
    pub(crate) fn note_faulty(&mut self, front: &[u8], behind: &[u8]) {
        let bytes = front.iter().chain(behind).take(REQUEST_LINE_BYTES_MAX + 1);
        self.faulty.clear();
        self.faulty.extend(bytes.take_while(|byte| !matches!(byte, b'\r' | b'\n')));
    }

    /// A request was answered while it was looked at for the first time.
    pub(crate) fn write(
        &mut self,
        facts: &Facts<'_>,
        whose: Whose,
        noted: Noted,
        bytes_sent: u64,
        counters: &Counters,
    ) {
        if self.has_no_room() {
            return counters.access_lines_dropped.raise();
        }
        let token = noted.token.map(|token| counters.upgrades.name(token));
        let answered = Answered {
            status: noted.status.unwrap_or_default(),
            bytes_sent,
            token,
            result: noted.result,
        };
        let place = self.place(whose.key, whose.client, whose.now);
        let duration_at = self.page().write_answer(facts, place, answered);
        self.unfinished.extend(duration_at.map(|at| (at, whose.since)));
    }

    /// The same for one that was refused for its head.
    pub(crate) fn write_faulty(
        &mut self,
        whose: Whose,
        secured: Option<&Secured>,
        bytes_sent: u64,
        counters: &Counters,
    ) {
        let noted = self.noted.take();
        let faulty = std::mem::take(&mut self.faulty);
        if noted.status.is_some() {
            self.write(&Facts::of_line(&faulty, secured), whose, noted, bytes_sent, counters);
        }
        self.faulty = faulty;
    }

    /// A request waits; so many bytes have gone before its answer, or are the beginning of it.
    pub(crate) fn keep(&mut self, facts: &Facts<'_>, key: u64, noted: Noted, bytes_sent: u64) {
        let kept = |text: &[u8], bytes_max: usize| -> Box<[u8]> {
            // One more: that something is missing is to be seen.
            text.get(..=bytes_max).unwrap_or(text).into()
        };
        let field = |text: Option<&[u8]>| text.map(|text| kept(text, FIELD_BYTES_MAX));
        let draft = Draft {
            line: kept(facts.line, REQUEST_LINE_BYTES_MAX),
            target: kept(facts.target, FIELD_BYTES_MAX),
            version: facts.version,
            host: field(facts.host),
            referer: field(facts.referer),
            user_agent: field(facts.user_agent),
            tls: facts.tls,
            server_name: facts.server_name.map(Into::into),
            bytes_sent,
            noted,
        };
        self.drafts.insert(key, draft);
    }

    /// A request that waited was looked at again; it has its answer, or goes on waiting, or ends without
    /// one.
    pub(crate) fn go_on(
        &mut self,
        whose: Whose,
        bytes: u64,
        is_waiting: bool,
        counters: &Counters,
    ) {
        let noted = self.noted.take();
        let Some(mut draft) = self.drafts.remove(&whose.key) else { return };
        draft.bytes_sent += bytes;
        draft.noted = Noted {
            status: noted.status,
            token: noted.token.or(draft.noted.token),
            result: noted.result.or(draft.noted.result),
        };
        if noted.status.is_some() {
            let (noted, bytes_sent) = (draft.noted, draft.bytes_sent);
            self.write(&draft.facts(), whose, noted, bytes_sent, counters);
            if noted.result == Some("switched") {
                self.open(whose.key, &draft.target);
            }
        } else if is_waiting {
            self.drafts.insert(whose.key, draft);
        }
    }

    /// A connection is switched by the request for `target`.
    pub(crate) fn open(&mut self, key: u64, target: &[u8]) {
        let slot = slot(key);
        while self.switched.len() <= slot / PAGE {
            self.switched.push(Box::new(std::array::from_fn(|_| Exchanged::default())));
        }
        let target = Some(self.shared(target));
        if let Some(place) = self.exchanged(key) {
            *place = Exchanged { target, ..Exchanged::default() };
        }
    }

    /// A target that is kept once, however many connections were switched by it.
    fn shared(&mut self, target: &[u8]) -> Rc<Target> {
        let target = Target(target.get(..=FIELD_BYTES_MAX).unwrap_or(target).into());
        if let Some(known) = self.targets.get(&target) {
            return Rc::clone(known);
        }
        let target = Rc::new(target);
        self.targets.insert(Rc::clone(&target));
        target
    }

    /// So many bytes of a switched connection are its answer's, and not sent yet.
    pub(crate) fn owe(&mut self, key: u64, bytes: u64) {
        if let Some(exchanged) = self.exchanged(key) {
            exchanged.sent = exchanged.sent.wrapping_sub(bytes);
        }
    }

    /// Its handler was given so many bytes.
    pub(crate) fn received(&mut self, key: u64, bytes: usize) {
        if let Some(exchanged) = self.exchanged(key) {
            exchanged.received = exchanged.received.wrapping_add(bytes as u64);
        }
    }

    /// Its handler gave so many of them back.
    pub(crate) fn returned(&mut self, key: u64, bytes: usize) {
        if let Some(exchanged) = self.exchanged(key) {
            exchanged.received = exchanged.received.wrapping_sub(bytes as u64);
        }
    }

    /// So many bytes have left.
    pub(crate) fn sent(&mut self, key: u64, bytes: usize) {
        if let Some(exchanged) = self.exchanged(key) {
            exchanged.sent = exchanged.sent.wrapping_add(bytes as u64);
        }
    }

    /// A switched connection is over.
    pub(crate) fn end(
        &mut self,
        whose: Whose,
        lasted_ms: Millis,
        token: TokenSlot,
        reason: &str,
        counters: &Counters,
    ) {
        let exchanged = self.exchanged(whose.key).map(std::mem::take).unwrap_or_default();
        let target = exchanged.target;
        if let Some(target) = &target
            && Rc::strong_count(target) == 2
        {
            // Nobody else has it.
            self.targets.remove(target);
        }
        if self.has_no_room() {
            return counters.access_lines_dropped.raise();
        }
        let place = self.place(whose.key, whose.client, whose.now);
        let ended = Ended {
            target: target.as_ref().map_or(&[], |target| &target.0),
            token: counters.upgrades.name(token),
            bytes_received: exchanged.received,
            // Less than nothing: not even the answer has left.
            bytes_sent: if exchanged.sent > u64::MAX / 2 { 0 } else { exchanged.sent },
            lasted_ms,
            reason,
        };
        self.page().write_end(place, ended);
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, key: u64) {
        self.drafts.remove(&key);
    }

    /// The turn ends: its answers took until now.
    pub(crate) fn finish(&mut self, now: Nanos) {
        for (at, since) in self.unfinished.drain(..) {
            fill_in(self.pending.written_from(at), now.saturating_sub(since) / 1000);
        }
    }

    /// Gives the lines of this turn to the writer, as many as have room.
    pub(crate) fn hand_over(&mut self, counters: &Counters) {
        if self.pending.is_empty() {
            return;
        }
        self.unfinished.clear();
        let dropped = self.feed.push(self.pending.written());
        counters.access_lines_dropped.add(dropped as u64);
        self.pending.clear();
    }

    /// Whether the lines of this turn are more than the queue holds.
    fn has_no_room(&self) -> bool {
        self.pending.len() >= self.feed.capacity()
    }

    fn place(&self, key: u64, client: Option<SocketAddr>, now: Millis) -> Place {
        Place { client, key, core: self.feed.core, now }
    }

    fn page(&mut self) -> Page<'_> {
        let Recorder { feed, pending, stamp, front, escaped, .. } = self;
        Page { format: feed.format, out: pending, stamp, front, escaped }
    }

    fn exchanged(&mut self, key: u64) -> Option<&mut Exchanged> {
        self.switched.get_mut(slot(key) / PAGE)?.get_mut(slot(key) % PAGE)
    }

    /// How its lines look.
    pub fn format(&self) -> AccessFormat {
        self.feed.format
    }
}

impl Draft {
    fn facts(&self) -> Facts<'_> {
        Facts {
            line: &self.line,
            target: &self.target,
            version: self.version,
            host: self.host.as_deref(),
            referer: self.referer.as_deref(),
            user_agent: self.user_agent.as_deref(),
            tls: self.tls,
            server_name: self.server_name.as_deref(),
        }
    }
}

/// A key's lower half.
fn slot(key: u64) -> usize {
    (key as u32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::feeds;
    use crate::config::AccessLog;

    #[test]
    fn what_a_switched_connection_keeps_is_small_and_gone_with_it() {
        assert_eq!(size_of::<Exchanged>(), 24);
        let (_writer, feeds) = feeds(&AccessLog::default(), 1);
        let mut recorder = Recorder::new(feeds.into_iter().next().expect("one core"));
        let counters = Counters::default();
        for key in 0..1000 {
            recorder.open(key, if key % 2 == 0 { b"/a" } else { b"/b" });
        }
        assert_eq!(recorder.targets.len(), 2);
        for key in 0..1000 {
            let whose = Whose { key, client: None, now: 0, since: 0 };
            recorder.end(whose, 0, TokenSlot::default(), "finished", &counters);
        }
        assert_eq!(recorder.targets.len(), 0);
    }
}
