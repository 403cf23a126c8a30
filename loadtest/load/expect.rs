//! What a connection must receive, byte by byte. It is fed whatever receives bring, however the
//! answers are cut, and does no I/O. Called by `rounds.rs` and `storm.rs`.
//!
//! ```text
//!   bytes ──► switching.rs, the 101 ──► answers.rs, heads and contents ──► echo.rs, messages
//! ```

use crate::answers::{Body, HEAD_BYTES_MAX, Head};
use crate::content::Content;
use crate::echo::Echo;
use crate::fault::Fault;
use crate::messages::Messages;
use crate::switching::{Offer, Reply};

/// What the bytes of all connections of a thread are compared with.
pub(crate) struct Reference {
    content: &'static Content,
    messages: &'static Messages,
    /// The last answer that was right: one that is the same byte for byte need not be read.
    answer: Vec<u8>,
}

impl Reference {
    pub(crate) fn new(content: &'static Content, messages: &'static Messages) -> Reference {
        Reference { content, messages, answer: Vec::new() }
    }

    /// The length of the answer these bytes begin with, if it is the same as the last.
    fn same_answer(&self, bytes: &[u8]) -> Option<usize> {
        let is_same = !self.answer.is_empty() && bytes.starts_with(&self.answer);
        is_same.then_some(self.answer.len())
    }

    fn learn_answer(&mut self, bytes: &[u8]) {
        if bytes.len() <= 2 * HEAD_BYTES_MAX {
            self.answer.clear();
            self.answer.extend_from_slice(bytes);
        }
    }
}

/// What came, as far as it was expected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    /// The 101.
    pub(crate) has_switched: bool,
    /// Answers or messages that are whole now.
    pub(crate) units: usize,
    /// The server says that it closes behind this.
    pub(crate) is_last: bool,
}

/// What is still to come on one connection.
#[derive(Default)]
pub(crate) struct Expectation {
    /// A 101 to this has to come before anything else.
    switch: Option<Offer>,
    /// Answers of status 200 still owed.
    answers: usize,
    /// The content of the first of them, whose head has come.
    body: Option<Body>,
    /// Messages still owed.
    echo: Echo,
    /// A head, a line or a control frame that was cut.
    partial: Vec<u8>,
}

impl Expectation {
    /// A 101, and what comes behind it is what the connection of this number says.
    pub(crate) fn expect_switch(&mut self, offer: Offer, connection: u64) {
        self.switch = Some(offer);
        self.echo = Echo::of(connection);
    }

    pub(crate) fn expect_answers(&mut self, count: usize) {
        self.answers += count;
    }

    pub(crate) fn expect_messages(&mut self, count: usize) {
        self.echo.expect(count);
    }

    /// The answer to our Close, behind everything else.
    pub(crate) fn expect_close(&mut self) {
        self.echo.expect_close();
    }

    /// The server closes behind what has come: it owes nothing of what was asked for behind that.
    pub(crate) fn expect_no_more(&mut self) {
        self.answers = 0;
    }

    /// What is to be sent for Pings that came.
    pub(crate) fn take_pongs(&mut self) -> Vec<u8> {
        self.echo.take_pongs()
    }

    pub(crate) fn is_met(&self) -> bool {
        self.switch.is_none() && self.answers == 0 && self.echo.is_met()
    }

    /// Compares what came with what was to come.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        reference: &mut Reference,
    ) -> Result<Met, Fault> {
        let mut met = Met::default();
        if self.partial.is_empty() {
            let used = self.compare(bytes, reference, &mut met)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(bytes);
            let used = self.compare(&whole, reference, &mut met)?;
            whole.drain(..used);
            self.partial = whole;
        }
        Ok(met)
    }

    /// How many bytes are done with. The rest is short: the beginning of a head, a line or a frame.
    fn compare(
        &mut self,
        bytes: &[u8],
        reference: &mut Reference,
        met: &mut Met,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(offer) = &self.switch {
            match offer.read(&bytes[used..])? {
                Reply::Cut => return Ok(used),
                Reply::Interim(head_bytes) => used += head_bytes,
                Reply::Switched(head_bytes) => {
                    used += head_bytes;
                    self.switch = None;
                    met.has_switched = true;
                }
            }
        }
        used += self.compare_answers(&bytes[used..], reference, met)?;
        if self.answers > 0 {
            return Ok(used);
        }
        let echo = self.echo.receive(&bytes[used..], reference.messages, &mut met.units)?;
        Ok(used + echo)
    }

    fn compare_answers(
        &mut self,
        bytes: &[u8],
        reference: &mut Reference,
        met: &mut Met,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        // Where the answer began whose content is coming, if that was in these bytes.
        let mut begin = None;
        while self.answers > 0 {
            let rest = &bytes[used..];
            if met.is_last && !rest.is_empty() {
                return Err(Fault::Open);
            }
            if let Some(body) = &mut self.body {
                let (came, is_whole) = body.receive(rest, reference.content)?;
                used += came;
                if !is_whole {
                    break;
                }
                match begin {
                    _ if body.is_last => met.is_last = true,
                    Some(begin) => reference.learn_answer(&bytes[begin..used]),
                    None => {}
                }
                self.body = None;
            } else if let Some(answer_bytes) = reference.same_answer(rest) {
                used += answer_bytes;
            } else {
                match Head::read(rest, reference.content)? {
                    Head::Cut => break,
                    Head::Interim(head_bytes) => used += head_bytes,
                    Head::Final { bytes: head_bytes, body } => {
                        begin = Some(used);
                        used += head_bytes;
                        self.body = Some(body);
                    }
                }
                continue;
            }
            self.answers -= 1;
            met.units += 1;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use upring::buffer::Payload;

    use super::*;
    use crate::script::Protocol;

    const SWITCH: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    fn leak<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }

    fn messages(token: &str, bytes: usize) -> &'static Messages {
        leak(Messages::of(&Protocol::named(token), bytes))
    }

    /// Of answers with this content, and raw messages of 100 bytes.
    fn reference() -> Reference {
        Reference::new(leak(Content::known(b"hi".to_vec())), messages("echo", 100))
    }

    fn unknown() -> Reference {
        Reference::new(leak(Content::default()), messages("echo", 100))
    }

    /// What so many messages of a connection come back as.
    fn echoed(messages: &'static Messages, connection: u64, count: usize) -> Vec<u8> {
        let raw = leak(Messages::of(&Protocol::named("echo"), messages.bytes));
        let mut payloads = Vec::new();
        raw.send(connection, 0, count, |payload| match payload {
            Payload::Static(bytes) => payloads.extend_from_slice(bytes),
            Payload::Owned(bytes) => payloads.extend(bytes),
            other => panic!("{other:?} is not sent here"),
        });
        let payloads = payloads.chunks(messages.bytes);
        payloads.flat_map(|payload| [messages.echoed_header(), payload].concat()).collect()
    }

    /// All units that come in these pieces.
    fn receive(
        expectation: &mut Expectation,
        pieces: [&[u8]; 2],
        reference: &mut Reference,
    ) -> usize {
        let receive = |piece| expectation.receive(piece, reference).expect("right").units;
        pieces.into_iter().map(receive).sum()
    }

    #[test]
    fn two_answers_cut_anywhere_are_met() {
        assert_answers_are_met(&ANSWER.repeat(2), 2);
    }

    /// Wherever they are cut.
    fn assert_answers_are_met(bytes: &[u8], count: usize) {
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_answers(count);
            let pieces = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(receive(&mut expectation, pieces, &mut reference()), count, "cut at {cut}");
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn chunked_answers_cut_anywhere_are_met() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
            1;x=y\r\nh\r\n001\r\ni\r\n0\r\nT: v\r\n\r\n";
        assert_answers_are_met(&[&chunked[..], ANSWER, chunked].concat(), 3);
    }

    #[test]
    fn chunks_that_are_wrong_are_faults() {
        let receive = |chunks: &str| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut expectation = Expectation::default();
            expectation.expect_answers(1);
            expectation.receive([head, chunks].concat().as_bytes(), &mut reference()).err()
        };
        assert!(receive("2\r\nhi\r\n0\r\n\r\n").is_none());
        assert!(matches!(receive("2\r\nho\r\n0\r\n\r\n"), Some(Fault::Content)));
        assert!(matches!(receive("1\r\nh\r\n0\r\n\r\n"), Some(Fault::Content)));
        assert!(matches!(receive("2\r\nhi.."), Some(Fault::Chunk)));
        assert!(matches!(receive("ffffffffffffffff\r\n"), Some(Fault::Content)));
        assert!(matches!(receive("g\r\n"), Some(Fault::Chunk)));
        assert!(matches!(receive("2\r\nhi\r\n0\r\n\r\nx"), Some(Fault::Surplus)));
        let both = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut expectation = Expectation::default();
        expectation.expect_answers(1);
        let fault = expectation.receive(both, &mut reference()).expect_err("where does it end?");
        assert!(matches!(fault, Fault::Length));
    }

    #[test]
    fn a_switch_and_its_echo_cut_anywhere_are_met() {
        let protocol = leak(Protocol::named("echo"));
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let bytes = [&early[..], SWITCH, &echoed(messages("echo", 100), 3, 7)].concat();
        for cut in 0..=bytes.len() {
            let mut expectation = Expectation::default();
            expectation.expect_switch(Offer { protocol, accept: String::new() }, 3);
            expectation.expect_messages(7);
            let pieces = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(receive(&mut expectation, pieces, &mut reference()), 7, "cut at {cut}");
            assert!(expectation.is_met());
        }
    }

    #[test]
    fn what_comes_in_front_of_an_answer_is_passed_over() {
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let proceed = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert_answers_are_met(&[early, &proceed[..], ANSWER, ANSWER, early, ANSWER].concat(), 3);
        let mut expectation = Expectation::default();
        expectation.expect_answers(1);
        let fault = expectation.receive(SWITCH, &mut reference()).expect_err("nobody asked");
        assert!(matches!(fault, Fault::Status(101)));
    }

    /// The messages of connection 2, and what else a server may send, however it is cut.
    #[test]
    fn messages_pings_pongs_fragments_and_a_close_cut_anywhere_are_met() {
        const BYTES: usize = 20;
        let messages = messages("websocket", BYTES);
        let all = echoed(messages, 2, 4);
        let message = |number| &all[number * (BYTES + 2)..][..BYTES + 2];
        let payload = &message(2)[2..];
        let pings: [&[u8]; 2] = [b"\x89\x00", b"\x89\x02hi"];
        let bytes = [
            pings[0],
            message(0),
            message(1),
            b"\x8a\x02hb",
            pings[1],
            b"\x02\x05",
            &payload[..5],
            pings[0],
            b"\x00\x00\x00\x0f",
            &payload[5..],
            b"\x80\x00",
            message(3),
            pings[1],
            b"\x88\x02\x03\xe9",
        ];
        let bytes = bytes.concat();
        for cut in 0..=bytes.len() {
            let mut reference = Reference::new(leak(Content::default()), messages);
            let mut expectation = Expectation { echo: Echo::of(2), ..Expectation::default() };
            expectation.expect_messages(4);
            expectation.expect_close();
            let units = receive(&mut expectation, [&bytes[..cut], &bytes[cut..]], &mut reference);
            assert!(units == 4 && expectation.is_met(), "cut at {cut}");
            let pongs = b"\x8a\x80\0\0\0\0\x8a\x82\0\0\0\0hi".repeat(2);
            assert_eq!(expectation.take_pongs(), pongs, "cut at {cut}");
        }
        // On a protocol without frames they are bytes like others.
        let mut raw = Expectation::default();
        assert!(matches!(raw.receive(pings[0], &mut reference()), Err(Fault::Surplus)));
    }

    #[test]
    fn frames_out_of_turn_are_faults() {
        const BYTES: usize = 20;
        let messages = messages("websocket", BYTES);
        let right = echoed(messages, 2, 2);
        let payload = &right[2..BYTES + 2];
        let receive = |owed: usize, pieces: &[&[u8]]| {
            let mut reference = Reference::new(leak(Content::default()), messages);
            let mut expectation = Expectation { echo: Echo::of(2), ..Expectation::default() };
            expectation.expect_messages(owed);
            expectation.receive(&pieces.concat(), &mut reference).expect_err("wrong")
        };
        assert!(matches!(receive(1, &[&right]), Fault::Surplus));
        assert!(matches!(receive(2, &[b"\x80\x14", payload]), Fault::Frame));
        assert!(matches!(receive(2, &[b"\x02\x05", &payload[..5], &right]), Fault::Frame));
        assert!(matches!(receive(2, &[b"\x82\x05", &payload[..5]]), Fault::Message));
        assert!(matches!(receive(2, &[b"\x82\x15"]), Fault::Message));
        assert!(matches!(receive(2, &[b"\x88\x00"]), Fault::Closed));
        // What connection 19 says is not what connection 2 does.
        for other in [1, 19, 253] {
            let wrong = echoed(messages, other, 1);
            assert!(matches!(receive(2, &[&wrong]), Fault::Echo { at: 0 }), "{other}");
        }
    }

    #[test]
    fn a_content_is_compared_as_it_comes_and_not_kept() {
        let content: Vec<u8> = (0..251).cycle().take(300_000).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
        let answer = [head.as_bytes(), &content].concat();
        let chunked = content.chunks(7).map(|data| [b"007\r\n", data, b"\r\n"].concat());
        let last = content.chunks(7).last().expect("there are some").len();
        let mut chunked = chunked.collect::<Vec<_>>();
        chunked.last_mut().expect("there are some")[2] = b'0' + last as u8;
        let head_of_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = [&head_of_chunks[..], &chunked.concat(), b"0\r\n\r\n"].concat();
        let mut reference = unknown();
        let mut expectation = Expectation::default();
        // The first of either kind is learned, the second known.
        expectation.expect_answers(4);
        let mut units = 0;
        for piece in [answer.repeat(2), chunked.repeat(2)].concat().chunks(16_000) {
            units += expectation.receive(piece, &mut reference).expect("right").units;
            assert!(expectation.partial.len() < 100);
        }
        assert!(units == 4 && expectation.is_met());
        // The first byte that differs is seen when it comes.
        let mut expectation = Expectation::default();
        expectation.expect_answers(1);
        let wrong = [head.as_bytes(), b"?"].concat();
        let fault = expectation.receive(&wrong, &mut reference).expect_err("it differs");
        assert!(matches!(fault, Fault::Content));
    }

    #[test]
    fn what_cannot_be_kept_is_not_asked_for() {
        let receive = |head: &str| {
            let mut reference = unknown();
            let mut expectation = Expectation::default();
            expectation.expect_answers(1);
            let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            expectation.receive(head.as_bytes(), &mut reference).expect_err("too much")
        };
        assert!(matches!(receive("Content-Length: 99999999999"), Fault::TooLarge));
        for length in ["18446744073709551615", "99999999999999999999", "+5", "5, 5", ""] {
            let fault = receive(&format!("Content-Length: {length}"));
            assert!(matches!(fault, Fault::Length), "{length}: {fault}");
        }
        assert!(matches!(receive("Content-Length: 5\r\nContent-Length: 5"), Fault::Length));
    }

    #[test]
    fn wrong_bytes_are_faults() {
        let receive = |answers, bytes: &[u8]| {
            let mut expectation = Expectation::default();
            expectation.expect_answers(answers);
            expectation.receive(bytes, &mut reference()).expect_err("wrong")
        };
        assert!(matches!(receive(1, &ANSWER.repeat(2)), Fault::Surplus));
        let other = [&ANSWER[..ANSWER.len() - 1], b"o"].concat();
        assert!(matches!(receive(1, &other), Fault::Content));
        // Behind one that was right, when nothing is read again that is the same.
        assert!(matches!(receive(2, &[ANSWER, &other].concat()), Fault::Content));
        assert!(matches!(receive(1, b"HTTP/1.1 404 Not Found\r\n\r\n"), Fault::Status(404)));
        assert!(matches!(
            receive(1, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            Fault::Length
        ));
        assert!(matches!(receive(0, b"x"), Fault::Surplus));
    }

    #[test]
    fn the_first_answer_says_what_the_others_have_to_be() {
        let mut reference = unknown();
        let mut expectation = Expectation::default();
        expectation.expect_answers(2);
        expectation.receive(ANSWER, &mut reference).expect("whatever it is");
        let other = [&ANSWER[..ANSWER.len() - 1], b"o"].concat();
        let fault = expectation.receive(&other, &mut reference).expect_err("it differs");
        assert!(matches!(fault, Fault::Content));
    }

    #[test]
    fn an_answer_that_says_close_is_the_last() {
        let close = b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi";
        let old = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        for (bytes, is_last) in [(&close[..], true), (old, true), (ANSWER, false)] {
            let mut expectation = Expectation::default();
            expectation.expect_answers(1);
            let met = expectation.receive(bytes, &mut reference()).expect("right");
            assert_eq!(met, Met { has_switched: false, units: 1, is_last });
        }
        let mut expectation = Expectation::default();
        expectation.expect_answers(2);
        let fault = expectation.receive(&close.repeat(2), &mut reference()).expect_err("wrong");
        assert!(matches!(fault, Fault::Open));
    }

    #[test]
    fn a_lost_byte_is_found_where_it_was_lost() {
        let bytes = echoed(messages("echo", 100), 0, 6);
        let mut reference = reference();
        let mut expectation = Expectation::default();
        expectation.expect_messages(6);
        expectation.receive(&bytes[..350], &mut reference).expect("right");
        let fault = expectation.receive(&bytes[351..450], &mut reference).expect_err("wrong");
        assert!(matches!(fault, Fault::Echo { at: 350 }));
    }
}
