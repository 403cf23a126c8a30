//! WebSocket: unmasking, frames read out of a receive buffer, and messages through the whole engine
//! on the simulated kernel: echoed, in fragments, compressed, and said to everybody.

use std::sync::Arc;
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use upring::buffer::{Lease, Pool};
use upring::counters::Counters;
use upring::websocket::{Message, read_messages, unmask};

use super::Body;
use crate::support::Simulated;
use crate::support::counted::{PREPARED, prepared, repeated, timed};
use crate::support::websocket::{
    BINARY, COMPRESSED_TEXT, CONTINUED, KEY, OFFER, PING, TEXT, UNFINISHED_TEXT, frame, frame_back,
    open, registry,
};

/// Bytes of a line of the cache.
const LINE: usize = 64;

pub fn bodies() -> Vec<Body> {
    let unmask = [16, 64, 256, 1024, 4096, 16 * 1024, 64 * 1024].map(|len| {
        Body::new("websocket/unmask", len.to_string(), move || {
            // Where a line of the cache begins, wherever memory was to be had: the first bytes up
            // to there are unmasked one by one.
            let mut memory = vec![b'x'; len + LINE];
            let start = memory.as_ptr().align_offset(LINE);
            let payload = start..start + len;
            unmask(&mut memory[payload.clone()], KEY, 0);
            let key = KEY.iter().cycle();
            assert!(
                memory[payload.clone()].iter().zip(key).all(|(byte, mask)| byte ^ mask == b'x')
            );
            move |rounds| repeated(rounds, || unmask(&mut memory[payload.clone()], KEY, 0))
        })
        .bytes(len)
    });
    unmask.into_iter().chain(frames()).chain(echoes()).chain(deflated()).chain(others()).collect()
}

/// From received bytes to messages: headers read, payloads unmasked, text looked at, messages made
/// and dropped.
fn frames() -> Vec<Body> {
    let kinds = [("text", TEXT, "x"), ("text beyond ASCII", TEXT, "é"), ("bytes", BINARY, "x")];
    let sizes = [(64, 1), (64, 16), (1024, 1), (16 * 1024, 1)];
    let body = |(name, first, letter): (&str, u8, &'static str), (len, count): (usize, usize)| {
        Body::new("websocket/frame", format!("{count} of {len}, {name}"), move || {
            let bytes = frame(first, letter.repeat(len / letter.len()).as_bytes()).repeat(count);
            let (pool, counters) = (Pool::new(PREPARED as u16, 32 * 1024), Arc::default());
            move |rounds| {
                let fill = || pool.take().expect("as many as are prepared").fill(&bytes);
                let read = |received| assert_eq!(messages(received, len, &counters), count);
                prepared(rounds, fill, read)
            }
        })
        .units(count as u64)
    };
    kinds.iter().flat_map(|kind| sizes.iter().map(move |size| body(*kind, *size))).collect()
}

/// How many messages of so many bytes there are in what was received.
fn messages(received: Lease, len: usize, counters: &Arc<Counters>) -> usize {
    let mut count = 0;
    let take = |message: Message| count += usize::from(message.len() == len);
    read_messages(received, counters, take).expect("they are valid");
    count
}

fn echoes() -> Vec<Body> {
    let echo = |len: usize, count: usize| {
        Body::new("websocket/echo", format!("{count} of {len}"), move || {
            let message = vec![b'x'; len];
            let back = frame_back(TEXT, &message).repeat(count);
            conversation(vec![frame(TEXT, &message).repeat(count)], back, 0)
        })
        .units(count as u64)
    };
    let fragments = Body::new("websocket/echo", "16 KiB in 4 fragments", || {
        let quarter = vec![b'x'; 4096];
        let said = [UNFINISHED_TEXT, 0, 0, CONTINUED].map(|first| frame(first, &quarter));
        conversation(said.to_vec(), frame_back(TEXT, &quarter.repeat(4)), 0)
    });
    let ping = Body::new("websocket/echo", "ping", || {
        // A client may send a hundred in a second.
        conversation(vec![frame(PING, b"1234")], frame_back(PING + 1, b"1234"), 20)
    });
    let sizes = [(64, 1), (64, 16), (1024, 1), (16 * 1024, 1)];
    sizes.into_iter().map(|(len, count)| echo(len, count)).chain([fragments, ping]).collect()
}

/// What is said, and exactly what comes back, so many milliseconds behind the last, on a connection
/// that stays.
fn conversation(said: Vec<Vec<u8>>, back: Vec<u8>, millis: u64) -> impl FnMut(u64) -> Duration {
    let mut simulated = Simulated::new(registry(), |_| {});
    let client = open(&mut simulated, "/ws", "", 1).remove(0);
    let mut round = move || {
        simulated.world.advance(millis);
        said.iter().for_each(|bytes| client.write(bytes));
        simulated.settle();
        client.read()
    };
    assert!(round() == back, "what comes back is what was said");
    move |rounds| timed(|| (0..rounds).for_each(|_| assert_eq!(round().len(), back.len())))
}

/// What is sent is compressed by the server; `both` are compressed by both sides.
fn deflated() -> Vec<Body> {
    let contexts =
        [("shared", 1024), ("dedicated", 1024), ("shared", 16 * 1024), ("dedicated", 16 * 1024)];
    let body = |context: &'static str, len: usize, is_compressed: bool| {
        let side = if is_compressed { "both" } else { "sent" };
        let name = format!("{context}, {side}, {len}");
        let body =
            Body::new("websocket/deflate", name, move || compressed(context, len, is_compressed));
        // Long ones take the same way, and under valgrind as long as all else.
        if len > 1024 { body.bytes(len).only_timed() } else { body.bytes(len) }
    };
    let each = |(context, len)| [body(context, len, false), body(context, len, true)];
    contexts.into_iter().flat_map(each).collect()
}

/// Messages that differ, echoed compressed.
fn compressed(context: &str, len: usize, is_compressed: bool) -> impl FnMut(u64) -> Duration {
    let texts = (0..16).map(|number| text(number, len));
    let said: Vec<_> = match is_compressed {
        true => texts.map(|text| frame(COMPRESSED_TEXT, &deflate(&text))).collect(),
        false => texts.map(|text| frame(TEXT, &text)).collect(),
    };
    let mut simulated = Simulated::new(registry(), |_| {});
    let client = open(&mut simulated, &format!("/{context}"), OFFER, 1).remove(0);
    let mut next = (0..said.len()).cycle();
    move |rounds| {
        timed(|| {
            for number in next.by_ref().take(rounds as usize) {
                client.write(&said[number]);
                simulated.settle();
                let back = client.read();
                assert!(back[0] == COMPRESSED_TEXT && back.len() < len);
            }
        })
    }
}

/// What programs say to each other, no two of them the same.
fn text(number: usize, len: usize) -> Vec<u8> {
    let record = |at: usize| {
        let noise = (at + number * 1000).wrapping_mul(2_654_435_761) % 1_000_000;
        format!(
            r#"{{"id":{at},"user":"user-{noise}","room":"lobby","said":"{} words"}},"#,
            noise % 97
        )
    };
    (0..len).map(record).flat_map(String::into_bytes).take(len).collect()
}

/// As a client does it that forgets (RFC 7692 §7.2.1).
fn deflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut stream = Compress::new(Compression::new(6), false);
    stream.compress_vec(message, &mut out, FlushCompress::Sync).expect("it is compressed");
    out.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a sync flush ends so").to_vec()
}

/// One message to all subscribers in each round.
fn others() -> [Body; 2] {
    [64, 10_000].map(|subscribers| {
        let body =
            Body::new("websocket/broadcast", format!("{subscribers} subscribers"), move || {
                let (said, back) = (frame(TEXT, &[b'x'; 64]), frame_back(TEXT, &[b'x'; 64]));
                let mut simulated = Simulated::new(registry(), |_| {});
                let clients = open(&mut simulated, "/all", "", subscribers);
                move |rounds| {
                    timed(|| {
                        for _ in 0..rounds {
                            clients[0].write(&said);
                            simulated.settle();
                            assert!(clients.iter().all(|client| client.read() == back));
                        }
                    })
                }
            });
        let body = body.units(subscribers as u64);
        // Under valgrind, opening ten thousand takes longer than all else.
        if subscribers > 64 { body.only_timed() } else { body }
    })
}
