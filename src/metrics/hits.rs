//! Which counter tells of which limit: the rows of the tables in `tuning/README.md`, so that limits
//! can be watched by their names.

/// A limit by the name it is set by, and the counter that is raised when something reaches it. Those
/// of WebSockets, which are set in Rust, begin with `websocket_`.
///
/// Where several limits share a counter it is under the first of them alone, so that no hit is
/// counted twice: `content_rate_min` has those of `content_slack_ms`, `content_bytes_max` those of
/// `streamed_bytes_max`, `shortage_timeout_ms` those of `aside_bytes_max`, `websocket_fragments_max`
/// those of `websocket_control_frames_per_second_max`, and `websocket_backlog_messages_max` those of
/// `websocket_backlog_bytes_max`.
pub const LIMIT_HITS: [(&str, &str); 34] = [
    ("connections_max", "connections_over_limit"),
    ("connections_per_client_max", "clients_over_limit"),
    ("proxy_header_bytes_max", "proxy_headers_too_large"),
    ("head_bytes_max", "heads_too_large"),
    ("target_bytes_max", "targets_too_long"),
    ("fields_max", "fields_too_many"),
    ("head_timeout_ms", "timeouts_heads"),
    ("idle_timeout_ms", "timeouts_idle"),
    ("requests_per_connection_max", "connections_used_up"),
    ("requests_per_turn", "turns_used_up"),
    ("content_bytes_max", "contents_too_large"),
    ("collected_bytes_max", "collected_overflows"),
    ("unread_bytes_max", "contents_abandoned"),
    ("chunk_extension_bytes_max", "chunk_extensions_too_large"),
    ("trailer_bytes_max", "trailers_too_large"),
    ("content_rate_min", "timeouts_content"),
    ("answer_timeout_ms", "timeouts_answers"),
    ("decision_timeout_ms", "upgrades_timeout"),
    ("send_timeout_ms", "timeouts_sent"),
    ("tls_handshakes_max", "tls_handshakes_over_limit"),
    ("tls_handshake_timeout_ms", "timeouts_handshakes"),
    ("linger_timeout_ms", "timeouts_linger"),
    ("linger_bytes_max", "linger_overflows"),
    ("outbox_bytes_high", "answers_held"),
    ("outbox_bytes_max", "outbox_overflows"),
    ("leases_max", "backpressure"),
    ("shortage_timeout_ms", "connections_cut"),
    ("websocket_message_bytes_max", "websocket_closed_too_large"),
    ("websocket_fragments_max", "websocket_closed_policy"),
    ("websocket_queue_bytes_max", "websocket_messages_refused"),
    ("websocket_idle_timeout", "websocket_idle_timeouts"),
    ("websocket_lifetime_max", "websocket_lifetimes"),
    ("websocket_close_timeout", "websocket_close_timeouts"),
    ("websocket_backlog_messages_max", "websocket_messages_missed"),
];
