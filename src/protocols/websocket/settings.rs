//! What a WebSocket service can be told: each bound with its unit, its default and its reason.

use std::time::Duration;

use super::extension::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// The bounds of one connection. Over each there is a close code and a counter.
#[derive(Debug, Clone)]
pub struct WebSocketLimits {
    /// Bytes of one message, inflated if it was compressed. Over it: 1009, before its payload is
    /// read. Default 1 MiB.
    pub message_bytes_max: usize,
    /// Frames of one message. Over it: 1008. Default 4096: browsers never fragment, and a message in
    /// more pieces than that is an attack on whoever puts them together.
    pub fragments_max: u32,
    /// Pings, Pongs and Closes a client may send in a second. Over it: 1008. Default 100.
    pub control_frames_per_second_max: u16,
    /// Bytes that may wait to be sent to one connection: when there are as many, a message is [not
    /// sent](super::Sent::OverLimit). Default 1 MiB, more than an answer to each message can reach:
    /// no message is delivered while `outbox_bytes_high` wait. The server's `outbox_bytes_max` goes
    /// before it.
    pub queue_bytes_max: usize,
    /// Topics one connection may be subscribed to. Over it, subscribing fails. Default 64.
    pub topics_max: u16,
    /// Time without a byte of the peer after which it is pinged. Default 60 s; zero means never.
    pub ping_after: Duration,
    /// Time without a byte of the peer after which the connection is closed with 1011. Default
    /// 120 s; zero means never.
    pub idle_timeout: Duration,
    /// Time after which a connection is closed with 1001, however busy it is. Default zero: never.
    pub lifetime_max: Duration,
    /// Time for the peer's Close after ours. Default 5 s.
    pub close_timeout: Duration,
}

impl Default for WebSocketLimits {
    fn default() -> WebSocketLimits {
        WebSocketLimits {
            message_bytes_max: 1024 * 1024,
            fragments_max: 4096,
            control_frames_per_second_max: 100,
            queue_bytes_max: 1024 * 1024,
            topics_max: 64,
            ping_after: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(120),
            lifetime_max: Duration::ZERO,
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// permessage-deflate (RFC 7692), if a client offers it.
#[derive(Debug, Clone)]
pub struct Compression {
    /// Whose memory of what was sent before the compressor uses.
    pub context: Context,
    /// Our window, as a power of two: 9 to 15. The compressor of a connection of its own takes about
    /// six times as much memory as its window.
    pub window_bits: u8,
    /// The client's window, if it lets us choose: 9 to 15.
    pub client_window_bits: u8,
    /// Whether a client may refer to its earlier messages: costs its window for each connection.
    pub keeps_client_context: bool,
    /// 0 to 9. Default 1, the fastest that compresses.
    pub level: u8,
    /// Shorter messages are sent as they are. Default 256 bytes.
    pub bytes_min: usize,
}

/// Whose memory a compressor uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// One compressor for all connections of a core; it forgets after each message. For servers with
    /// many connections.
    Shared,
    /// A compressor for each connection, which remembers unless the client asks it not to.
    Dedicated,
}

impl Compression {
    /// What it costs to compress `len` bytes, in tenths of a microsecond: as a rule of thumb.
    pub(super) fn cost(&self, len: usize) -> u32 {
        (100 + len as u32 / 16).saturating_mul(1 + u32::from(self.level) / 3)
    }

    /// The first that is wrong, if one is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let windows = WINDOW_BITS_MIN..=WINDOW_BITS_MAX;
        if !windows.contains(&self.window_bits) || !windows.contains(&self.client_window_bits) {
            return Some("a window has 9 to 15 bits");
        }
        (self.level > 9).then_some("a level is 0 to 9")
    }

    /// Without any memory for each connection between messages.
    pub fn shared() -> Compression {
        Compression {
            context: Context::Shared,
            window_bits: WINDOW_BITS_MAX,
            client_window_bits: WINDOW_BITS_MAX,
            keeps_client_context: false,
            level: 1,
            bytes_min: 256,
        }
    }

    /// With a compressor for each connection and context on both sides: smaller messages, much more
    /// memory.
    ///
    /// # Panics
    /// [`WebSocket::compression`](super::WebSocket::compression) does, if `window_bits` is not 9 to 15.
    pub fn dedicated(window_bits: u8) -> Compression {
        Compression {
            context: Context::Dedicated,
            window_bits,
            client_window_bits: window_bits,
            keeps_client_context: true,
            ..Compression::shared()
        }
    }
}
