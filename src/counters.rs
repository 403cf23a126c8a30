//! What one core counts. Each core has its own set, written by its thread alone and summed by
//! whoever asks: no two cores write to one cache line, and counting takes no lock.
//!
//! A number of its own is a line in the list below: name, kind if it is no counter, and a sentence
//! that is its documentation and what the metrics endpoint says of it. What has labels or buckets
//! lies in files of its own: `statuses`, `upgrades`, `tls`, `histogram`.

mod histogram;
mod statuses;
mod tls;
mod upgrades;

pub use histogram::{
    Histogram, Latencies, Lifetimes, NANOS_PER_MILLI, NANOS_PER_SECOND, Nanos, Time,
};
pub use statuses::Statuses;
pub use tls::{AlertBy, HandshakeKind, Tls, alert_name};
pub use upgrades::{Calling, TokenSlot, UpgradeResult, Upgrades};

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only one thread raises and any thread may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One that has counted nothing.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Adds to the number. Only the core that owns it may call this: a load and a store, not an
    /// atomic addition.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn raise(&self) {
        self.add(1);
    }

    /// Takes one away; for gauges.
    pub fn lower(&self) {
        self.subtract(1);
    }

    /// Takes so many away; for gauges.
    pub fn subtract(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(count), Ordering::Relaxed);
    }

    /// Sets the number; for gauges that are looked up now and then.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the number of a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How often something has happened since the start.
    Counter,
    /// How much of something there is now.
    Gauge,
    /// The least there has been of something since the start; of all cores, the least of any.
    Least,
}

/// One number of a core, and what it is.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it says, in a sentence: that of its documentation.
    pub help: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// How much it is now.
    pub value: u64,
}

macro_rules! kind {
    () => {
        Kind::Counter
    };
    (gauge) => {
        Kind::Gauge
    };
    (least) => {
        Kind::Least
    };
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident $(: $kind:ident)?,)+) => {
        /// One core's counters.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
            /// [`requests`](Counters::requests) by the status of their answer.
            pub statuses: Statuses,
            /// What became of offers, by the protocol that was offered.
            pub upgrades: Upgrades,
            /// Time in the server of each of the [`requests`](Counters::requests).
            pub request_times: Latencies,
            /// Time that decisions about an upgrade took.
            pub decision_times: Latencies,
            /// Time that switched connections were open, of those that are over.
            pub switched_times: Lifetimes,
            /// [`tls_handshakes`](Counters::tls_handshakes) by version and kind, and alerts.
            pub tls: Tls,
        }

        impl Counters {
            /// Name and value of each, in a fixed order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.value()),)+].into_iter()
            }

            /// The same, with what they say.
            pub fn each_described(&self) -> impl Iterator<Item = Described> {
                [$(Described {
                    name: stringify!($name),
                    help: concat!($($doc,)+).trim_ascii_start(),
                    kind: kind!($($kind)?),
                    value: self.$name.value(),
                },)+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_accepted,
    /// Connections open now.
    connections_open: gauge,
    /// Connections that were not served, because the core or their client has as many as it may, or
    /// the core is stopping.
    connections_refused,
    /// Those of them that came while their core had as many as it may.
    connections_over_limit,
    /// Those of them that their client has too many of.
    clients_over_limit,
    /// Connections whose client the kernel did not know any more.
    clients_unknown,
    /// Connections that began with a PROXY protocol header.
    proxy_headers_read,
    /// Connections reset because they do not begin with a PROXY protocol header, where they must.
    proxy_headers_faulty,
    /// Connections reset because their PROXY protocol header is longer than it may be.
    proxy_headers_too_large,
    /// Connections reset because PROXY protocol headers are not taken from where they came.
    proxy_sources_refused,
    /// Times accepting failed, whatever the reason.
    accept_errors,
    /// Times accepting paused because it had failed: mostly for want of descriptors or memory.
    accept_pauses,
    /// Requests answered, the ones refused for a fault included.
    requests,
    /// Lines of the access log that found no room in the queue to its writer.
    access_lines_dropped,
    /// Lines of the access log that could not be written. Raised by its writer, and by nobody else.
    access_lines_lost,
    /// Times writing the access log failed. Raised by its writer, and by nobody else.
    access_write_errors,
    /// Requests refused for a fault of syntax or framing.
    requests_faulty,
    /// Requests refused because their target has another scheme than http.
    requests_misdirected,
    /// Requests refused because their head did not end within its bytes.
    heads_too_large,
    /// Requests refused because their target was too long.
    targets_too_long,
    /// Requests refused because they had too many fields.
    fields_too_many,
    /// Bytes received, as they came over the wire: of TLS, sealed.
    bytes_received,
    /// Bytes sent, as they went over the wire: of TLS, sealed.
    bytes_sent,
    /// Bytes of heads copied because a head came in more than one segment. Nothing behind a head is
    /// among them.
    bytes_assembled,
    /// Requests that were switched: to a protocol in Upgrade, or to the tunnel of a CONNECT.
    upgrades_switched,
    /// Switched connections open now.
    upgrades_open: gauge,
    /// Decisions not yet made.
    upgrades_deciding: gauge,
    /// Offers, and CONNECTs, declined by the handler.
    upgrades_declined,
    /// Offers of which nothing is registered for the resource.
    upgrades_unknown,
    /// Upgrade fields that are no list of protocols (U-08).
    upgrades_malformed,
    /// Upgrade fields over their bounds (U-09).
    upgrades_too_long,
    /// Upgrade fields without the connection option (U-03).
    upgrades_no_connection_option,
    /// Upgrade fields in an HTTP/1.0 request (U-02).
    upgrades_http10,
    /// Offers the protocol does not take with this method or content (U-19, U-28).
    upgrades_unfit,
    /// Refusals that closed the connection because bytes came before the answer (U-25).
    upgrades_early_bytes_refused,
    /// Decisions that did not come in time (U-37).
    upgrades_timeout,
    /// WebSocket messages received whole.
    websocket_messages_received,
    /// WebSocket messages sent, published ones included.
    websocket_messages_sent,
    /// WebSocket messages not sent because too much waited already.
    websocket_messages_refused,
    /// Published messages that a slow subscriber was not sent.
    websocket_messages_missed,
    /// WebSocket connections closed with 1002: their client broke the protocol.
    websocket_closed_protocol_error,
    /// WebSocket connections closed with 1007: text that is not UTF-8, or nonsense for a compressed
    /// message.
    websocket_closed_invalid_data,
    /// WebSocket connections closed with 1008: too many fragments, or control frames a second.
    websocket_closed_policy,
    /// WebSocket connections closed with 1009: a message over its limit.
    websocket_closed_too_large,
    /// WebSocket connections closed because nothing came, pinged as they were.
    websocket_idle_timeouts,
    /// WebSocket connections closed with 1001 because they had been open for as long as they may.
    websocket_lifetimes,
    /// WebSocket connections whose client did not answer a Close in time.
    websocket_close_timeouts,
    /// Panics in handlers, and in the futures of async ones; each cost one connection.
    handler_panics,
    /// Connections closed because no request came in time. Kept-alive ones end so as a rule.
    timeouts_idle,
    /// Connections closed because the head of a request, or a PROXY protocol header, did not end in time: an
    /// attack, if many.
    timeouts_heads,
    /// Connections closed because the content of a request came too slowly.
    timeouts_content,
    /// Requests whose answer did not begin in time.
    timeouts_answers,
    /// Requests whose content was larger than the resource takes.
    contents_too_large,
    /// Memory of content and WebSocket messages that have not come whole.
    bytes_collected: gauge,
    /// Requests refused, and WebSocket connections closed with 1013, because their core held as much of
    /// what has not come whole as it may.
    collected_overflows,
    /// Requests refused for the length of their chunk extensions.
    chunk_extensions_too_large,
    /// Requests refused for the length of their trailers.
    trailers_too_large,
    /// Requests whose content was thrown away, because their answer did not need it.
    contents_unread,
    /// Connections closed because more content was left unread than is thrown away.
    contents_abandoned,
    /// Answers cut in the middle, because their handler failed or the content of their request did.
    answers_broken,
    /// Times requests of a connection waited because its answers before had not left.
    answers_held,
    /// Times requests of a connection waited because it had had as many answered as one turn may.
    turns_used_up,
    /// Connections closed because they had all the requests they may have.
    connections_used_up,
    /// Connections reset because the peer did not read in time.
    timeouts_sent,
    /// Connections closed because the peer did not end its direction in time after ours.
    timeouts_linger,
    /// TLS connections whose handshake was not over in time.
    timeouts_handshakes,
    /// TLS handshakes that are over, and were right.
    tls_handshakes,
    /// Connections in the clear that were switched to TLS (RFC 2817).
    tls_upgrades,
    /// Connections inside TLS open now: their handshake is over.
    tls_connections_open: gauge,
    /// TLS handshakes that are under way.
    tls_handshakes_open: gauge,
    /// TLS connections that waited for the end of others' handshakes, tls_handshakes_max being under way.
    tls_handshakes_over_limit,
    /// Steps of TLS handshakes that a worker made itself, since the thread beside it had had no time for them for
    /// ten milliseconds.
    tls_offloads_late,
    /// TLS connections that could not go on, in the handshake or behind it.
    tls_faults,
    /// TLS connections that the peer ended without a close_notify.
    tls_truncated,
    /// Requests without TLS to a port that speaks it, answered with a 400 in the clear.
    tls_plain_http,
    /// Connections closed because the peer sent too much after the end of our direction.
    linger_overflows,
    /// Connections reset because more waited to be sent than may.
    outbox_overflows,
    /// Connections no longer read for a while because enough of them waits unread or unsent.
    backpressure,
    /// Receive buffers that hold bytes of some connection, at the end of the last turn. An idle
    /// connection has none.
    buffers_held: gauge,
    /// Unread bytes copied out of receive buffers because others waited for those.
    bytes_set_aside,
    /// Connections reset because they held receive buffers for which others had waited too long.
    connections_cut,
    /// Receives that found no buffer.
    receives_starved,
    /// Receive buffers that could be received into, when there were fewest.
    buffers_low: least,
    /// Multishot receives that had to be armed again.
    rearmed,
    /// Multishot operations of any kind that ended though nothing was wrong with their socket.
    multishots_ended,
    /// Sends of which only a part left at once.
    sends_short,
    /// Sends that found their socket full, and waited for their peer.
    sends_blocked,
    /// Calls of io_uring_enter.
    ring_enters,
    /// Completions taken from the completion queue.
    ring_completions,
    /// Times the completion queue was found too small: multishots may have ended for it.
    ring_overflows,
    /// Times the submission queue was full in the middle of a turn.
    ring_submissions_full,
    /// Calls the kernel put off for want of memory.
    ring_refusals,
    /// Completions of an earlier tenant of their slot. Always zero: a slot is reused only when
    /// nothing of it is in flight.
    completions_stale,
    /// Times a hosted core had nothing to do and slept until its ring, a task or another thread
    /// woke it.
    sleeps,
    /// Connections cut because the time the server had to end was over.
    drain_cuts,
    /// Turns of the engine.
    turns,
    /// Times the core did not turn between two looks of the watchdog: a handler blocked it. Raised by the
    /// watchdog, and by nobody else.
    stalls,
    /// Times the core was given other routes and bounds to serve.
    renewals,
    /// Wake-ups by another thread. None is needed to accept, answer or switch.
    wakes_across_cores,
    /// Connections to backends that were made.
    backend_connections_made,
    /// Connections to backends open now, idle ones included.
    backend_connections_open: gauge,
    /// Requests that went to a backend on a connection that had served another before.
    backend_connections_reused,
    /// Connections to backends that were refused, or that no address of theirs took.
    backend_connects_failed,
    /// Connections to backends that were not made in time (504).
    backend_connect_timeouts,
    /// Backends that did not begin to answer in time (504), or were silent in the midst of an answer.
    backend_answer_timeouts,
    /// Answers of backends that are no HTTP/1.1, have faulty framing, or switch to another protocol than
    /// they were asked for (502).
    backend_answers_faulty,
    /// Answers of backends with a larger head, or more fields, than is taken (502).
    backend_heads_too_large,
    /// Backends that closed or reset the connection before the end of their answer (502, or an answer
    /// cut).
    backend_answers_cut,
    /// Requests not sent to a backend because its core has as many connections to it as it may (503).
    backend_connections_full,
    /// Requests sent once more, since the kept connection they were sent on first was closed.
    backend_retries,
    /// Clients that were gone before the backend had an answer for them.
    backend_answers_unwanted,
    /// Tunnels open now.
    tunnels_open: gauge,
    /// Tunnels that a backend declined, by another answer than 101.
    tunnels_declined,
    /// Tunnels that ended because one side reset its connection, which the other saw as a reset.
    tunnels_reset,
    /// Tunnels that ended because nothing was sent in either direction.
    tunnels_idle_timeouts,
    /// Bytes of tunnels and of the content of requests that went to backends.
    backend_bytes_sent,
    /// Bytes of tunnels and of the content of answers that came from backends.
    backend_bytes_received,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_says_what_it_is_in_sentences() {
        let counters = Counters::default();
        for Described { name, help, .. } in counters.each_described() {
            let is_sentence = help.ends_with('.') && help.starts_with(char::is_uppercase);
            assert!(is_sentence && !help.contains("  "), "{name}: {help:?}");
        }
        let kind = |wanted| counters.each_described().find(|at| at.name == wanted).unwrap().kind;
        assert_eq!(kind("connections_open"), Kind::Gauge);
        assert_eq!((kind("buffers_low"), kind("requests")), (Kind::Least, Kind::Counter));
    }

    #[test]
    fn every_counter_is_listed_by_its_name() {
        let counters = Counters::default();
        counters.bytes_sent.add(7);
        counters.connections_open.raise();
        counters.connections_open.lower();
        let each: Vec<_> = counters.each().collect();
        assert!(each.contains(&("bytes_sent", 7)) && each.contains(&("connections_open", 0)));
    }
}
