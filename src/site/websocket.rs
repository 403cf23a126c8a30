//! What a WebSocket service can be told in a configuration file.

use std::time::Duration;

use super::section::Section;
use crate::websocket::{Compression, Origins, WebSocket, WebSocketLimits};

/// A service with these options. What they do not say of its limits is what `usual` makes of those that
/// are usual everywhere.
///
/// `origins` is `"any"`, a list of them, or `"same"`, which it is if nothing is said: a page of another
/// site would else speak with the cookies of its reader. `subprotocols` is a list of names in
/// descending preference; `compression` true or false; the others are the fields of
/// [`WebSocketLimits`], times in milliseconds.
pub fn service(options: &mut Section<'_>, usual: impl FnOnce(&mut WebSocketLimits)) -> WebSocket {
    let mut bounds = WebSocketLimits::default();
    usual(&mut bounds);
    limits(options, &mut bounds);
    let origins = origins(options).unwrap_or(Origins::Same);
    let mut service = WebSocket::new().limits(bounds).origins(origins);
    if options.flag("compression") == Some(true) {
        service = service.compression(Compression::shared());
    }
    let Some(names) = options.texts("subprotocols") else { return service };
    let is_name = |name: &&_| crate::http::list::is_token(name_of(name).as_bytes());
    for wrong in names.iter().filter(|name| !is_name(name)) {
        options.fault_at(wrong, "a subprotocol is a token (RFC 6455 §4.1)");
    }
    let names: Vec<_> = names.iter().filter(is_name).collect();
    service.subprotocols(names.iter().map(|name| name_of(name)))
}

fn name_of(name: &super::section::Placed<String>) -> &str {
    &name.value
}

fn origins(options: &mut Section<'_>) -> Option<Origins> {
    let said = options.texts("origins")?;
    match said.as_slice() {
        [one] if one.value == "any" => Some(Origins::Any),
        [one] if one.value == "same" => Some(Origins::Same),
        several => {
            for wrong in several.iter().filter(|origin| !origin.value.contains("://")) {
                let text = "an origin is \"any\", \"same\" or like \"https://example.org\"";
                options.fault_at(wrong, text);
            }
            Some(Origins::only(several.iter().map(|origin| origin.value.clone())))
        }
    }
}

fn limits(options: &mut Section<'_>, limits: &mut WebSocketLimits) {
    let WebSocketLimits {
        message_bytes_max,
        fragments_max,
        control_frames_per_second_max,
        queue_bytes_max,
        topics_max,
        ping_after,
        idle_timeout,
        lifetime_max,
        close_timeout,
    } = limits;
    size(options, "message_bytes_max", message_bytes_max);
    size(options, "fragments_max", fragments_max);
    size(options, "control_frames_per_second_max", control_frames_per_second_max);
    size(options, "queue_bytes_max", queue_bytes_max);
    size(options, "topics_max", topics_max);
    time(options, "ping_after_ms", ping_after);
    time(options, "idle_timeout_ms", idle_timeout);
    time(options, "lifetime_max_ms", lifetime_max);
    time(options, "close_timeout_ms", close_timeout);
}

fn size<T: TryFrom<u64>>(options: &mut Section<'_>, key: &'static str, place: &mut T) {
    let Some(said) = options.number(key, 1..=u64::MAX) else { return };
    match T::try_from(said.value) {
        Ok(value) => *place = value,
        Err(_) => options.fault_at(&said, format!("that is more than `{key}` can be")),
    }
}

fn time(options: &mut Section<'_>, key: &'static str, place: &mut Duration) {
    if let Some(said) = options.number(key, 0..=u64::from(u32::MAX)) {
        *place = Duration::from_millis(said.value);
    }
}
