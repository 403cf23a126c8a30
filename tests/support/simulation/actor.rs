//! One client at play: it writes its script in pieces, reads what comes in pieces, leaves as it is
//! told, and says at the end whether it got what it must get.

use std::net::Ipv4Addr;

use upring::config::Millis;
use upring::http::{Date, Form, Persistence, Response, Status};
use upring::ring::ListenerId;
use upring::ring::sim::{Client, Ending, Random, World};

use super::script::{Leave, Script};

pub(super) struct Actor {
    script: Script,
    listener: ListenerId,
    client: Option<Client>,
    starts_at: u64,
    connected_at: Millis,
    ended_at: Millis,
    written: usize,
    read: Vec<u8>,
    ending: Option<Ending>,
    acts: u32,
    write_max: usize,
    read_max: usize,
    window: usize,
    has_finished: bool,
    was_open: bool,
    is_over: bool,
}

/// Where connections begin with a PROXY protocol header; the other listener is as any.
const BEHIND_A_BALANCER: ListenerId = ListenerId(1);

/// A header that names one of three clients, or nobody.
fn header(random: &mut Random) -> Vec<u8> {
    let client = random.index(3) as u8;
    match random.index(4) {
        0 => format!("PROXY TCP4 192.0.2.{client} 192.0.2.9 1 80\r\n").into_bytes(),
        1 => b"PROXY UNKNOWN\r\n".into(),
        2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".into(),
        _ => {
            let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x01\0\xc0\0\x02";
            let rest = b"\xc0\0\x02\x09\0\x01\0\x50\x04\0\xf1";
            [&fixed[..], &[client], rest, &[0; 0xf1]].concat()
        }
    }
}

/// What a client can say of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything came, and the end as it must be.
    Whole,
    /// Cut as scripted: by the client, or by its handler.
    Cut,
    /// So much time went by that the server may have given up.
    Late,
    /// The server was stopping.
    Drained,
    /// Its own bytes behind the last answer cost it something.
    Rude,
    /// A reset, or no service at all, without a reason of its own: the network's, or a full
    /// server's.
    Unlucky,
}

/// What a verdict depends on.
pub(super) struct Circumstances {
    pub(super) timeout_min_ms: Millis,
    /// The shortest time-outs are so short that delays alone may reach them.
    pub(super) is_hasty: bool,
    /// Receives had to wait for buffers that others held.
    pub(super) has_starved: bool,
    pub(super) drained_at: Option<Millis>,
}

/// What is left to a head that has begun when the server is told to stop.
const DRAINED_HEAD_MS: Millis = 1000;

impl Actor {
    pub(super) fn new(mut script: Script, random: &mut Random) -> Actor {
        let listener = ListenerId(u16::from(random.chance(0.3)));
        if listener == BEHIND_A_BALANCER {
            let header = header(random);
            script.bytes.splice(0..0, header);
        }
        // Large answers are not read a byte at a time: the world has to end.
        let least = script.expected_bytes() / 60 + 1;
        let reads = [random.index(50), random.index(2000), 1 << 20];
        let writes = [1 + random.index(8), 1 + random.index(300), usize::MAX];
        let window =
            [least + random.index(60), least + random.index(4000), 1 << 16][random.index(3)];
        Actor {
            // Late ones meet slots that were others'.
            starts_at: if random.chance(0.3) { random.below(300) } else { random.below(30) },
            connected_at: 0,
            ended_at: 0,
            written: 0,
            read: Vec::new(),
            ending: None,
            acts: 0,
            write_max: writes[random.index(3)].max(script.bytes.len() / 60 + 1),
            read_max: least + reads[random.index(3)],
            window: if script.leave == Leave::Stall { 0 } else { window },
            has_finished: false,
            was_open: false,
            is_over: false,
            client: None,
            listener,
            script,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Does the next thing it can do; whether there was one.
    pub(super) fn act(&mut self, turn: u64, world: &World, random: &mut Random) -> bool {
        if self.is_over || turn < self.starts_at {
            return !self.is_over;
        }
        let Some(client) = self.client.clone() else {
            // Three clients, some with several connections.
            let address = Ipv4Addr::new(192, 0, 2, random.index(3) as u8);
            let client = world.connect_from(self.listener, address.into());
            client.set_window(self.window);
            self.client = Some(client);
            self.connected_at = world.now();
            return true;
        };
        self.acts += 1;
        let did = self.leave_abruptly(&client)
            || self.write(&client, random) | self.read(&client) | self.finish(&client);
        if self.is_over {
            self.ended_at = world.now();
        }
        // Those that leave after so many acts always have one.
        did || matches!(self.script.leave, Leave::Abrupt(_) | Leave::Reset(_))
    }

    /// Looks whether the server holds the connection.
    pub(super) fn look(&mut self) {
        self.was_open |= self.client.as_ref().is_some_and(Client::is_open);
    }

    fn leave_abruptly(&mut self, client: &Client) -> bool {
        match self.script.leave {
            Leave::Abrupt(acts) if acts <= self.acts => client.close(),
            Leave::Reset(acts) if acts <= self.acts => client.reset(),
            _ => return false,
        }
        self.ending = client.ending();
        self.is_over = true;
        true
    }

    fn write(&mut self, client: &Client, random: &mut Random) -> bool {
        let rest = &self.script.bytes[self.written..];
        if rest.is_empty() || self.has_finished || client.ending().is_some() {
            return false;
        }
        let (now, _) =
            rest.split_at(rest.len().min(1 + random.index(self.write_max.min(rest.len()))));
        match random.chance(0.5) {
            true => client.write(now),
            false => client.write_exactly(now),
        }
        self.written += now.len();
        true
    }

    fn read(&mut self, client: &Client) -> bool {
        let bytes = client.read_slowly(self.read_max);
        self.read.extend_from_slice(&bytes);
        !bytes.is_empty()
    }

    /// Ends its direction when it is time, and is over when the server's has ended.
    fn finish(&mut self, client: &Client) -> bool {
        let ending = client.ending();
        // Who stays is waited for by nobody for ever.
        let is_ended = ending.is_some() && (self.script.leave != Leave::Stay || !client.is_open());
        if client.arrived() == 0 && (is_ended || (self.was_open && !client.is_open())) {
            self.ending = ending;
            self.is_over = true;
            client.close();
            return true;
        }
        let is_due = match self.script.leave {
            Leave::Early => true,
            Leave::Late => self.read.len() >= self.script.expected_bytes(),
            _ => false,
        };
        if is_due && self.written == self.script.bytes.len() && !self.has_finished {
            self.has_finished = true;
            client.finish();
            return true;
        }
        false
    }

    /// Holds what came against the script.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn judge(&self, circumstances: &Circumstances) -> Result<Outcome, String> {
        let may_be_late = circumstances.is_hasty
            || circumstances.has_starved
            || matches!(self.script.leave, Leave::Stall | Leave::Stay);
        let had = self.ended_at - self.connected_at;
        let had_since_drain = circumstances.drained_at.map(|at| self.ended_at.saturating_sub(at));
        let is_late = may_be_late
            && (had >= circumstances.timeout_min_ms
                || had_since_drain.is_some_and(|had| had >= DRAINED_HEAD_MS));
        let place = match self.place(circumstances.drained_at.is_some()) {
            // How often that may happen is for the counters to say.
            Err(_) if self.is_refused() => return Ok(Outcome::Unlucky),
            Ok(Place::TimedOut) if !is_late && self.is_refused() => return Ok(Outcome::Unlucky),
            place => place?,
        };
        if let Place::TimedOut = place
            && !is_late
        {
            return Err("refused for a lack of time that has not passed".into());
        }
        let leaves_abruptly = matches!(self.script.leave, Leave::Abrupt(_) | Leave::Reset(_));
        let is_whole = place == Place::End
            && match self.ending {
                Some(Ending::Finished) => !self.script.is_cut && !self.script.is_detached,
                Some(Ending::Reset) => false,
                None => self.script.is_detached,
            };
        match self.ending {
            _ if leaves_abruptly => Ok(Outcome::Cut),
            _ if is_whole => Ok(Outcome::Whole),
            Some(Ending::Reset) if self.script.is_cut => Ok(Outcome::Cut),
            Some(Ending::Reset) if self.script.is_rude => Ok(Outcome::Rude),
            Some(_) if is_late && place != Place::Inside(Ending::Finished) => Ok(Outcome::Late),
            Some(_) if circumstances.drained_at.is_some() => Ok(Outcome::Drained),
            Some(Ending::Reset) => Ok(Outcome::Unlucky),
            Some(Ending::Finished) if self.read.is_empty() => Ok(Outcome::Unlucky),
            ending => Err(format!("{place:?} of the script, and the end is {ending:?}")),
        }
    }

    /// How far into the script what was read reaches; an error if it is not the script.
    fn place(&self, has_drained: bool) -> Result<Place, String> {
        let mut rest = &self.read[..];
        for (number, item) in self.script.items.iter().enumerate() {
            if rest.is_empty() {
                return Ok(Place::Boundary);
            }
            if let Some(behind) = strip(rest, &item.bytes) {
                rest = behind;
            } else if has_drained && strip(rest, &item.closing) == Some(b"") {
                return Ok(Place::Boundary);
            } else if is_beginning(rest, &item.bytes)
                || (has_drained && is_beginning(rest, &item.closing))
            {
                return self.inside();
            } else if self.is_timeout(rest, item.is_head) {
                return Ok(Place::TimedOut);
            } else {
                let text = String::from_utf8_lossy(&rest[..rest.len().min(300)]);
                return Err(format!("answer {number} is not what it must be: {text:?}"));
            }
        }
        if !rest.is_empty() && self.script.stream.is_empty() && self.is_timeout(rest, false) {
            return Ok(Place::TimedOut);
        }
        if !self.script.stream.starts_with(rest) {
            let wrong = rest.iter().zip(&self.script.stream).position(|(is, must)| is != must);
            return Err(format!(
                "byte {wrong:?} of {} behind the last answer is wrong",
                rest.len()
            ));
        }
        if rest.len() < self.script.stream.len() { self.inside() } else { Ok(Place::End) }
    }

    fn inside(&self) -> Result<Place, String> {
        Ok(Place::Inside(self.ending.unwrap_or(Ending::Reset)))
    }

    /// Whether all that came is that there is no room for another connection, or the beginning of
    /// that.
    fn is_refused(&self) -> bool {
        let refusals = [
            (Status::SERVICE_UNAVAILABLE, "The server has no room for another connection.\n"),
            (Status::TOO_MANY_REQUESTS, "Too many connections from this address.\n"),
        ];
        refusals.into_iter().any(|(status, text)| {
            let response = Response::text(status, text).with_field("Retry-After", "1");
            let mut expected = Vec::new();
            let form = Form { persistence: Persistence::Close, ..Form::default() };
            response.expect("a valid field").write(&mut expected, &Date::at(0), form);
            is_beginning(&self.read, &expected)
                && (self.read.len() == expected.len()
                    || self.ending != Some(Ending::Finished)
                    || matches!(self.script.leave, Leave::Abrupt(_) | Leave::Reset(_)))
        })
    }

    /// Whether these bytes are one of the refusals for a lack of time, or a part of one that a
    /// reset has cut.
    fn is_timeout(&self, bytes: &[u8], may_be_head_only: bool) -> bool {
        let refusals = [
            (Status::REQUEST_TIMEOUT, "The head of the request did not arrive in time.\n"),
            (Status::REQUEST_TIMEOUT, "The content of the request came too slowly.\n"),
            (Status::SERVICE_UNAVAILABLE, "The switch was not decided in time.\n"),
            (Status::SERVICE_UNAVAILABLE, "The answer was not ready in time.\n"),
        ];
        let is_one = |status, text, head_only| {
            let mut expected = Vec::new();
            let form = Form { persistence: Persistence::Close, head_only, advertise: None };
            Response::text(status, text).write(&mut expected, &Date::at(0), form);
            is_beginning(bytes, &expected)
                && (bytes.len() == expected.len() || self.ending != Some(Ending::Finished))
        };
        refusals.into_iter().any(|(status, text)| {
            is_one(status, text, false) || (may_be_head_only && is_one(status, text, true))
        })
    }

    pub(super) fn describe(&self) -> String {
        let up = self.script.bytes.windows(4).position(|window| window == b"/up/").unwrap_or(0);
        format!(
            "{:?} of {} bytes written, {} of {} read, ending {:?}, cut {}, rude {}, starts {}",
            (self.written, self.script.leave),
            self.script.bytes.len(),
            self.read.len(),
            self.script.expected_bytes(),
            self.ending,
            self.script.is_cut,
            self.script.is_rude,
            self.script.bytes[up..self.script.bytes.len().min(up + 100)].escape_ascii(),
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    End,
    Boundary,
    /// Within an answer or a stream: a connection that finishes may not stop there.
    Inside(Ending),
    /// At a boundary, with a refusal for lack of time behind it.
    TimedOut,
}

/// What is behind `expected`, whatever date `bytes` has in it.
fn strip<'a>(bytes: &'a [u8], expected: &[u8]) -> Option<&'a [u8]> {
    (bytes.len() >= expected.len() && is_beginning(&bytes[..expected.len()], expected))
        .then(|| &bytes[expected.len()..])
}

/// Whether `expected` begins with `bytes`, but for the date.
fn is_beginning(bytes: &[u8], expected: &[u8]) -> bool {
    if bytes.len() > expected.len() {
        return false;
    }
    let date = Date::at(0);
    let head = &expected[..expected.len().min(200)];
    let at = head.windows(Date::BYTES).position(|window| window == date.as_bytes());
    let is_date = |index: usize| at.is_some_and(|at| (at..at + Date::BYTES).contains(&index));
    bytes.iter().zip(expected).enumerate().all(|(index, (is, must))| is == must || is_date(index))
}
