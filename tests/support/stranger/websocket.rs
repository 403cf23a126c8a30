//! The opening handshake and the frames of RFC 6455, without extensions.

use base64::engine::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::http::{Request, answer};
use super::{Quirk, Shared, Stop, Wire};

/// Answers an offer; whether HTTP goes on.
pub(super) fn open(wire: &mut Wire, shared: &Shared, request: &Request) -> Result<bool, Stop> {
    let is_ok = shared.is(Quirk::HandshakeOk);
    if request.values("sec-websocket-version") != ["13"] {
        let version = match shared.is(Quirk::NoVersion) {
            true => "",
            false => "Sec-WebSocket-Version: 13\r\n",
        };
        let upgrade = match shared.is(Quirk::BareUpgradeRequired) {
            true => "",
            false => "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        };
        let status = if is_ok { 200 } else { 426 };
        return answer(wire, shared, request, status, &format!("{version}{upgrade}"), "version");
    }
    let keys = request.values("sec-websocket-key");
    let is_key = match keys[..] {
        [_, ..] if shared.is(Quirk::AnyKey) => true,
        [key] => STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16),
        _ => false,
    };
    if !is_key || request.method != "GET" {
        return answer(wire, shared, request, if is_ok { 200 } else { 400 }, "", "key");
    }
    let digest = Sha1::new()
        .chain_update(keys[0])
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    let accept = STANDARD.encode(digest);
    let accept = if shared.is(Quirk::WrongAccept) { "nonsense" } else { &*accept };
    let offer = request.values("sec-websocket-extensions").join(",");
    let more = match () {
        () if shared.is(Quirk::Unasked) => {
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        }
        () if shared.is(Quirk::AnyOffer) && offer.contains("permessage-deflate") => {
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15\r\n"
        }
        () => "",
    };
    let head = format!(
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    );
    wire.send(head.as_bytes())?;
    frames(wire, shared)?;
    Ok(false)
}

/// Why a WebSocket fails, or is closed.
type Code = u16;

struct Frame {
    is_last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

fn frames(wire: &mut Wire, shared: &Shared) -> Result<(), Stop> {
    let mut message: Option<(u8, Vec<u8>)> = None;
    loop {
        let frame = read(wire, shared)?;
        if shared.is(Quirk::ShortOfBreath) {
            return close(wire, shared, 1001);
        }
        let frame = match frame {
            Ok(frame) => frame,
            Err(code) => return close(wire, shared, code),
        };
        match (frame.opcode, &mut message) {
            (8, _) if shared.is(Quirk::IgnoresClose) => {}
            (8, _) => return close(wire, shared, code_for(&frame.payload, shared)),
            (9, _) if shared.is(Quirk::Mute) => {}
            (9, _) => send(wire, shared, 10, &frame.payload)?,
            (10, _) => {}
            (0, Some((_, payload))) => payload.extend(frame.payload),
            (1 | 2, None) => message = Some((frame.opcode, frame.payload)),
            _ if shared.is(Quirk::AnyOpcode) => {}
            _ => return close(wire, shared, 1002),
        }
        if frame.opcode >= 8 || !frame.is_last {
            continue;
        }
        let Some((opcode, payload)) = message.take() else { continue };
        let is_text = std::str::from_utf8(&payload).is_ok() || shared.is(Quirk::AnyText);
        if opcode == 1 && !is_text {
            return close(wire, shared, 1007);
        }
        if !shared.is(Quirk::NoEcho) {
            send(wire, shared, opcode, &payload)?;
        }
    }
}

/// The code that answers a Close.
fn code_for(payload: &[u8], shared: &Shared) -> Code {
    match *payload {
        [] => 1000,
        [a, b, ref reason @ ..] => match u16::from_be_bytes([a, b]) {
            code if shared.is(Quirk::EchoesCodes) => code,
            _ if std::str::from_utf8(reason).is_err() => 1007,
            code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => code,
            _ => 1002,
        },
        _ => 1002,
    }
}

fn close(wire: &mut Wire, shared: &Shared, code: Code) -> Result<(), Stop> {
    let is_faulty = matches!(code, 1002 | 1007 | 1009);
    if is_faulty && shared.is(Quirk::Curt) {
        return Ok(());
    }
    send(wire, shared, 8, &code.to_be_bytes())
}

fn send(wire: &mut Wire, shared: &Shared, opcode: u8, payload: &[u8]) -> Result<(), Stop> {
    let is_masked = if shared.is(Quirk::Masks) { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => bytes.push(is_masked | length),
        _ => {
            bytes.push(is_masked | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    if is_masked != 0 {
        bytes.extend([0; 4]);
    }
    bytes.extend_from_slice(payload);
    wire.send(&bytes)
}

fn read(wire: &mut Wire, shared: &Shared) -> Result<Result<Frame, Code>, Stop> {
    let head = wire.take(2)?;
    let (first, second) = (head[0], head[1]);
    let is_known = matches!(first & 0x0f, 0..=2 | 8..=10);
    if (first & 0x70 != 0 || !is_known) && !shared.is(Quirk::AnyOpcode) {
        return Ok(Err(1002));
    }
    let is_control = first & 8 != 0;
    let short = u64::from(second & 0x7f);
    if is_control && (short > 125 || first & 0x80 == 0) {
        return Ok(Err(1002));
    }
    let is_masked = second & 0x80 != 0;
    if !is_masked && !shared.is(Quirk::TakesUnmasked) {
        return Ok(Err(1002));
    }
    let (length, least) = match short {
        126 => (wire.take(2)?, 126),
        127 => (wire.take(8)?, 65_536),
        _ => (vec![second & 0x7f], 0),
    };
    let length = length.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    if length < least || length >> 63 != 0 {
        return Ok(Err(1002));
    }
    let key = if is_masked { wire.take(4)? } else { vec![0; 4] };
    if length > 1024 * 1024 {
        return Ok(Err(1009));
    }
    let mut payload = wire.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok(Ok(Frame { is_last: first & 0x80 != 0, opcode: first & 0x0f, payload }))
}
