//! Plain data an operator can set: what to listen on, how many workers, and every bound with its
//! unit, its default and the reason for it. Nothing here does anything; every other module reads
//! it.

mod access;
mod listener;
mod tls;

pub use access::{AccessFormat, AccessLog, AccessTarget, AccessTargetError};
pub use listener::{
    ListenAddress, ListenAddressError, Listener, ListenerFault, ProxyProtocol, UNIX_PATH_BYTES_MAX,
};
pub use tls::{ClientCertificate, Identity, Pem, TlsSettings, TlsVersion};

use std::net::SocketAddr;
use std::time::Duration;

/// Milliseconds on a core's monotonic clock.
pub type Millis = u64;

/// A time that never comes.
pub const NEVER: Millis = u64::MAX;

/// Connections of one worker that are told at the same time why they are not served. More of them
/// are closed without a word: telling takes a place for as long as the client lets it.
pub(crate) const REFUSING_MAX: u32 = 64;

/// Who turns the engine of each core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKind {
    /// A task inside `tokio_uring::start`: async handlers, timers, files and outbound connections
    /// work.
    #[default]
    Hosted,
    /// A bare loop, one `io_uring_enter` per turn: for servers whose handlers are all callback
    /// handlers.
    Native,
}

/// What one server process does.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen, and how.
    pub listen: Vec<Listener>,
    /// Have handlers know the address of every client ([`Request::client`]), and not only of those that
    /// a PROXY protocol header names. Default false: it costs an operation for each connection, and 32
    /// bytes. With `connections_per_client_max`, an access log, or a proxy or tunnel that names clients to
    /// its backend they are known anyway.
    ///
    /// [`Request::client`]: crate::http::Request::client
    pub identify_clients: bool,
    /// The access log. Default none. The file is opened when the server runs as the user it is to be.
    pub access: AccessLog,
    /// Worker threads, each with its own ring; 0 means one per core this process may run on.
    pub workers: usize,
    /// Who turns the engine.
    pub host: HostKind,
    /// Pin worker n to the n-th core this process may run on.
    pub pin: bool,
    /// Pin, and have each worker accept the connections whose packets are worked off on its core
    /// (Linux 6.2): for a network card that spreads them over all cores. One that does not leaves the
    /// other workers idle.
    pub steer: bool,
    /// The user to become once all is listened on and every ring is made, before the first connection is
    /// served: its name. It takes a start as root. Default none: who starts it.
    pub user: Option<String>,
    /// Its group, by name. Default the one of the user in passwd(5).
    pub group: Option<String>,
    /// How long the end of the server may take.
    pub drain: DrainTimes,
    /// The bounds.
    pub limits: Limits,
    /// Ring sizes and the kernel features that may be used.
    pub ring: RingConfig,
}

impl Config {
    /// The defaults, on this address alone.
    pub fn listening(address: SocketAddr) -> Config {
        Config { listen: vec![address.into()], ..Config::default() }
    }

    /// The first thing in which `other` differs and which a server cannot change while it runs.
    pub(crate) fn fixed_difference(&self, other: &Config) -> Option<&'static str> {
        // The table of connections is made at start.
        let needs_room = other.limits.connections_max > self.limits.connections_max;
        let differences = [
            ("listen", self.listen != other.listen),
            ("identify_clients", self.identify_clients != other.identify_clients),
            ("log.access", self.access != other.access),
            ("workers", self.workers != other.workers),
            ("host", self.host != other.host),
            ("pin", self.pin != other.pin),
            ("steer", self.steer != other.steer),
            ("user", self.user != other.user),
            ("group", self.group != other.group),
            ("ring", self.ring != other.ring),
            ("limits.connections_max", needs_room),
        ];
        differences.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080)).into()],
            identify_clients: false,
            access: AccessLog::default(),
            workers: 0,
            host: HostKind::default(),
            pin: false,
            steer: false,
            user: None,
            group: None,
            drain: DrainTimes::default(),
            limits: Limits::default(),
            ring: RingConfig::default(),
        }
    }
}

/// How long the end of a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainTimes {
    /// From the word to stop to the hard deadline: what is left then is cut. Default 5 s.
    pub timeout: Duration,
    /// What the word to end is spread over, so that clients do not all come back at once. Default
    /// 1 s; one connection a millisecond is told in any case, and all of them by half of `timeout`.
    pub window: Duration,
}

impl Default for DrainTimes {
    fn default() -> DrainTimes {
        DrainTimes { timeout: Duration::from_secs(5), window: Duration::from_secs(1) }
    }
}

impl DrainTimes {
    /// This long, all told at once.
    pub fn within(timeout: Duration) -> DrainTimes {
        DrainTimes { timeout, window: Duration::ZERO }
    }
}

/// Every bound of a connection. At a bound there is a defined answer and a counter, never growth.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections one worker serves at once. Over it: 503 with Retry-After and a close; if 64 are
    /// being told so already, a close without a word. Default 16 384.
    pub connections_max: u32,
    /// Connections one worker serves of one client at once, an IPv4 address or an IPv6 network of 64
    /// bits. Over it: 429 with Retry-After and a close. Default 0, any number: behind a load
    /// balancer that sends no PROXY protocol header all clients share its address. It costs an
    /// operation for each connection. Clients of a Unix socket have no address, and no limit.
    pub connections_per_client_max: u32,
    /// Bytes of a PROXY protocol header of version 2. Over it: a reset without a word. Default 536, what
    /// a segment can always carry (§2 of the protocol); one with the client's certificate takes more. At
    /// least 232, what the largest addresses take.
    pub proxy_header_bytes_max: u32,
    /// Milliseconds from the beginning of a TLS connection to the end of its handshake. Over it: a close.
    /// Default 10 000.
    pub tls_handshake_timeout_ms: u64,
    /// TLS handshakes that are under way on one core at once. Over it, new connections inside TLS wait to be
    /// received on. Default 4096: of each, rustls holds some 8 KiB.
    pub tls_handshakes_max: u32,
    /// Bytes of a request head, empty line included. Over it: 414 inside the request line, else
    /// 431. Default 32 KiB: a request line of 8000 octets must work (RFC 9112 §3). At most 65 535.
    pub head_bytes_max: usize,
    /// Bytes of a request target. Over it: 414. Default 8192.
    pub target_bytes_max: usize,
    /// Fields in a head. Over it: 431. Default 100.
    pub fields_max: usize,
    /// Bytes of content collected for a handler that takes it whole. Over it: 413. Default 1 MiB.
    pub content_bytes_max: usize,
    /// Bytes that one core holds of content and WebSocket messages that have not come whole. Over it:
    /// 503 with Retry-After and a close, or 1013. Default 256 MiB: as many as 256 clients that send a
    /// megabyte slowly.
    pub collected_bytes_max: u64,
    /// Bytes of content streamed to a handler. Over it: 413. Default 1 GiB; what waits in memory is
    /// bounded by `leases_max`.
    pub streamed_bytes_max: u64,
    /// Bytes of content nobody reads that are thrown away so that the connection can go on; with
    /// more it is closed (RFC 9112 §9.3). Default 64 KiB.
    pub unread_bytes_max: u64,
    /// Bytes of chunk extensions in one content. Over it: 400. Default 4096.
    pub chunk_extension_bytes_max: u16,
    /// Bytes of trailers behind one content. Over it: 431. Default 8192.
    pub trailer_bytes_max: u16,
    /// Milliseconds from the first byte of a head to its end. Over it: 408. Of a PROXY protocol header,
    /// from the beginning of its connection; over it: a reset without a word. Default 10 000.
    pub head_timeout_ms: u64,
    /// Bytes a second at which content has to come. Slower: 408. Default 240, which the worst
    /// mobile connections reach; with 0 only a stall of `content_slack_ms` ends it.
    pub content_rate_min: u64,
    /// Milliseconds content may be late against that rate, and all that faster content saves up.
    /// Default 20 000.
    pub content_slack_ms: u64,
    /// Milliseconds from the end of a request to the beginning of its answer. Over it: 503. Default
    /// 60 000.
    pub answer_timeout_ms: u64,
    /// Requests answered on one connection; the last one with `Connection: close`. Default
    /// 1 000 000: clients that never leave are spread over the cores anew now and then.
    pub requests_per_connection_max: u32,
    /// Milliseconds a kept-alive connection may wait for its next request. Default 60 000.
    pub idle_timeout_ms: u64,
    /// Milliseconds a handler may take to accept or decline a switch. Over it: 503. Default 10 000.
    pub decision_timeout_ms: u64,
    /// Milliseconds a send may wait for the peer to read. Over it: reset. Default 30 000.
    pub send_timeout_ms: u64,
    /// Milliseconds to wait for the peer's end of input after ours (RFC 9112 §9.6). Default 2000.
    pub linger_timeout_ms: u64,
    /// Bytes read and discarded in that time. Default 256 KiB.
    pub linger_bytes_max: usize,
    /// Requests of one connection begun in one turn, so that no client starves others. What is left
    /// over of all of them waits once a turn has begun 512. Default 64, at most 255.
    pub requests_per_turn: u8,
    /// Bytes waiting to be sent at which a connection is no longer read. Default 64 KiB.
    pub outbox_bytes_high: usize,
    /// Bytes waiting to be sent at which a handler that goes on writing loses its connection.
    /// Default 4 MiB.
    pub outbox_bytes_max: usize,
    /// Receive buffers one connection may hold unread before it is no longer read; the kernel may have
    /// delivered some thirty more by then, once. Default 16.
    pub leases_max: u16,
    /// Bytes that one core copies out of receive buffers when it is out of them: what connections have
    /// not read, the greediest first. Over it, those that hold several buffers are cut. Default
    /// 64 MiB.
    pub aside_bytes_max: u64,
    /// Milliseconds a core may be out of receive buffers before connections that hold several of
    /// them lose theirs, the greediest first. Default 100.
    pub shortage_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 16_384,
            connections_per_client_max: 0,
            proxy_header_bytes_max: 536,
            tls_handshake_timeout_ms: 10_000,
            tls_handshakes_max: 4096,
            head_bytes_max: 32 * 1024,
            target_bytes_max: 8192,
            fields_max: 100,
            content_bytes_max: 1024 * 1024,
            collected_bytes_max: 256 * 1024 * 1024,
            streamed_bytes_max: 1 << 30,
            unread_bytes_max: 64 * 1024,
            chunk_extension_bytes_max: 4096,
            trailer_bytes_max: 8192,
            head_timeout_ms: 10_000,
            content_rate_min: 240,
            content_slack_ms: 20_000,
            answer_timeout_ms: 60_000,
            requests_per_connection_max: 1_000_000,
            idle_timeout_ms: 60_000,
            decision_timeout_ms: 10_000,
            send_timeout_ms: 30_000,
            linger_timeout_ms: 2_000,
            linger_bytes_max: 256 * 1024,
            requests_per_turn: 64,
            outbox_bytes_high: 64 * 1024,
            outbox_bytes_max: 4 * 1024 * 1024,
            leases_max: 16,
            aside_bytes_max: 64 * 1024 * 1024,
            shortage_timeout_ms: 100,
        }
    }
}

/// What each bound is called, and how it is set: an operator says `name=value`.
macro_rules! limits_by_name {
    ($($name:ident)+) => {
        impl Limits {
            /// Sets the bound called `name`.
            ///
            /// # Errors
            /// If there is none of that name, or `value` is more than it can be.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), LimitError> {
                match name {
                    $(stringify!($name) => {
                        self.$name = value.try_into().map_err(|_| LimitError::TooLarge)?;
                    })+
                    _ => return Err(LimitError::Unknown),
                }
                Ok(())
            }

            /// Name and value of each, in a fixed order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name as u64),)+].into_iter()
            }
        }
    };
}

limits_by_name! {
    connections_max
    connections_per_client_max
    proxy_header_bytes_max
    tls_handshake_timeout_ms
    tls_handshakes_max
    head_bytes_max
    target_bytes_max
    fields_max
    content_bytes_max
    collected_bytes_max
    streamed_bytes_max
    unread_bytes_max
    chunk_extension_bytes_max
    trailer_bytes_max
    head_timeout_ms
    content_rate_min
    content_slack_ms
    answer_timeout_ms
    requests_per_connection_max
    idle_timeout_ms
    decision_timeout_ms
    send_timeout_ms
    linger_timeout_ms
    linger_bytes_max
    requests_per_turn
    outbox_bytes_high
    outbox_bytes_max
    leases_max
    aside_bytes_max
    shortage_timeout_ms
}

/// Why a bound cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No bound is called so.
    #[error("there is no limit of that name")]
    Unknown,
    /// The value does not fit.
    #[error("that is more than this limit can be")]
    TooLarge,
}

impl Limits {
    /// The name of a bound that lets nothing through at all, if there is one: with it no connection
    /// could ever be served.
    pub fn unusable(&self) -> Option<&'static str> {
        let bounds = [
            ("connections_max", self.connections_max == 0),
            ("proxy_header_bytes_max", self.proxy_header_bytes_max < 232),
            ("idle_timeout_ms", self.idle_timeout_ms == 0),
            ("head_bytes_max", !(1..=65_535).contains(&self.head_bytes_max)),
            ("target_bytes_max", self.target_bytes_max == 0),
            ("fields_max", self.fields_max == 0),
            ("requests_per_turn", self.requests_per_turn == 0),
            ("requests_per_connection_max", self.requests_per_connection_max == 0),
            ("outbox_bytes_high", self.outbox_bytes_high == 0),
            ("outbox_bytes_max", self.outbox_bytes_max < self.outbox_bytes_high),
            ("leases_max", self.leases_max == 0),
            ("tls_handshakes_max", self.tls_handshakes_max == 0),
            ("tls_handshake_timeout_ms", self.tls_handshake_timeout_ms == 0),
        ];
        bounds.into_iter().find(|(_, is_unusable)| *is_unusable).map(|(name, _)| name)
    }
}

/// Sizes of one core's data ring, and the optional kernel features it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingConfig {
    /// Submission queue entries. Default 1024.
    pub submissions: u32,
    /// Completion queue entries: live multishots plus sends in flight must fit between two turns.
    /// Default 16 384.
    pub completions: u32,
    /// Receive buffers of one core. A power of two, at most 32 768. Default 2048.
    pub buffers: u16,
    /// Bytes of one receive buffer. Default 4096: a page, and larger than nearly every head.
    pub buffer_bytes: u32,
    /// Receive buffers lent to the kernel at first; doubled when it runs out. Default 256, one
    /// megabyte: what circulates stays in the second-level cache.
    pub buffers_lent: u16,
    /// Receive buffers of one core for connections that fill several of the others at once; 0 for
    /// none. A power of two, at most 32 768. Default 128: who finds none uses the others.
    pub large_buffers: u16,
    /// Bytes of one of these. Default 68 KiB: a message of 64 KiB, or four of 16 KiB, with what is
    /// around it. No more than `buffer_bytes` is as none.
    pub large_bytes: u32,
    /// How many of these are lent to the kernel at first; doubled when it runs out. Default 16, one
    /// megabyte.
    pub large_lent: u16,
    /// Features of the kernel to leave unused even where it has them.
    pub without: Without,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig {
            submissions: 1024,
            completions: 16_384,
            buffers: 2048,
            buffer_bytes: 4096,
            buffers_lent: 256,
            large_buffers: 128,
            large_bytes: 68 * 1024,
            large_lent: 16,
            without: Without::default(),
        }
    }
}

/// Optional kernel features that are forced off, so that each tier can be run and tested on any
/// kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Without {
    /// Direct descriptors (needs Linux 6.8 for all that we do with them).
    pub direct_descriptors: bool,
    /// The registered ring descriptor.
    pub registered_ring: bool,
    /// `IORING_SETUP_NO_SQARRAY` (Linux 6.6).
    pub no_sqarray: bool,
    /// Rings confined to what this server asks of them.
    pub restrictions: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_set_by_its_name() {
        let mut limits = Limits::default();
        let fields = format!("{limits:?}").matches(": ").count();
        assert_eq!(limits.each().count(), fields, "each bound of the struct has its name");
        for (name, value) in Limits::default().each() {
            limits.set(name, value + 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let usual = Limits::default();
        assert!(limits.each().eq(usual.each().map(|(name, value)| (name, value + 1))));
        assert_eq!(limits.set("connection_max", 1), Err(LimitError::Unknown));
        assert_eq!(limits.set("leases_max", 70_000), Err(LimitError::TooLarge));
    }

    #[test]
    fn a_bound_that_lets_nothing_through_is_named() {
        assert_eq!(Limits::default().unusable(), None);
        let limits = Limits { leases_max: 0, ..Limits::default() };
        assert_eq!(limits.unusable(), Some("leases_max"));
        let limits = Limits { head_bytes_max: 70_000, ..Limits::default() };
        assert_eq!(limits.unusable(), Some("head_bytes_max"));
    }
}
