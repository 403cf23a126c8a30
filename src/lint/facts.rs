//! What is found out about a target before it is judged: how it answers a plain request, whether it takes
//! content, what it switches to. And, while it is judged, whether it is still there.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::LintError;
use super::answers::{Answer, End, Event};
use super::connection::{Exchange, Step, converse};
use super::frames::Kind;
use super::notation::Words;
use super::target::{Target, Upgrade};
use super::vector::Need;

/// A beginning of TLS that every server that speaks it answers, if only with an alert.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0\x04\xc0\x2f\0\x9c\x01\0";

/// How long a message is waited for that may not come back.
const ECHO_WAIT: Duration = Duration::from_secs(1);

/// How long an answer is waited for at least: what is found out here decides much.
const ANSWER_WAIT_MIN: Duration = Duration::from_secs(2);

/// Bytes of a page that are too many to be read a hundred times.
const PAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Before a target that seems dead is asked once more.
const ALIVE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a target can do, or why it cannot.
type Ability<T> = Result<T, String>;

/// What is known of a target.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) address: SocketAddr,
    /// How a plain GET is answered.
    pub(super) plain_status: u16,
    pub(super) server: String,
    /// Where it takes content.
    pub(super) post: Ability<String>,
    chunked: Ability<()>,
    /// The path of its WebSocket, and whether it switches.
    websocket_path: Ability<Upgrade>,
    websocket: Ability<()>,
    messages: Ability<()>,
    deflate: Ability<()>,
    /// Another protocol it switches to.
    other: Ability<Upgrade>,
    echo: Ability<()>,
    /// It accepts CONNECT.
    pub(super) is_proxy: bool,
}

impl Facts {
    /// Asks the target.
    ///
    /// # Errors
    /// It does not answer, or not where the operator says that it does.
    pub(super) fn find(target: &Target) -> Result<Facts, LintError> {
        let (address, answer) = plain(target)?;
        let asker = Asker { address, target };
        let post_path = target.post_path.as_ref().unwrap_or(&target.path);
        let post = asker.takes(post_path, "Content-Length: 2\r\n\r\nhi");
        if let (Some(path), Err(why)) = (&target.post_path, &post) {
            let (path, why) = (path.clone(), why.clone());
            return Err(LintError::Unposted { path, why });
        }
        let post = post.map_err(|why| {
            format!("POST {post_path} {why}: --post-path names a path that takes content")
        });
        let chunked = post.clone().and_then(|path| asker.takes_chunks(&path));
        let named = |is_websocket: bool, why: &str| {
            let mut upgrades = target.upgrades.iter();
            let upgrade = upgrades.find(|upgrade| upgrade.is_websocket() == is_websocket);
            upgrade.cloned().ok_or_else(|| why.to_owned())
        };
        let websocket_path = named(true, "no --upgrade-path of a websocket is given");
        let websocket = websocket_path.clone().and_then(|upgrade| asker.switches(&upgrade));
        let other =
            named(false, "no --upgrade-path of another protocol, with its --token, is given");
        let other = other.and_then(|upgrade| asker.switches(&upgrade).map(|()| upgrade));
        Ok(Facts {
            address,
            plain_status: answer.status,
            server: answer.field("server").unwrap_or("unknown").to_owned(),
            post,
            chunked,
            messages: asker.when(&websocket_path, &websocket, Asker::sends_messages_back),
            deflate: asker.when(&websocket_path, &websocket, Asker::agrees_to_deflate),
            echo: other.clone().and_then(|upgrade| asker.sends_bytes_back(&upgrade)),
            websocket_path,
            websocket,
            other,
            is_proxy: asker.is_proxy(),
        })
    }

    /// Whether all is there that is needed, or why not.
    pub(super) fn meet(&self, needs: &[Need]) -> Ability<()> {
        needs.iter().try_for_each(|need| match need {
            Need::Post => self.post.clone().map(drop),
            Need::Chunked => self.chunked.clone(),
            Need::WebsocketPath => self.websocket_path.clone().map(drop),
            Need::Websocket => self.websocket.clone(),
            Need::Messages => self.messages.clone(),
            Need::Deflate => self.deflate.clone(),
            Need::Upgrade if self.websocket.is_ok() || self.other.is_ok() => Ok(()),
            Need::Upgrade => self.other.clone().map(drop).and(self.websocket.clone()),
            Need::Echo => self.echo.clone(),
        })
    }

    /// What is offered to a vector with these needs: a WebSocket, if it is all the same.
    pub(super) fn upgrade(&self, needs: &[Need]) -> Option<&Upgrade> {
        let websocket = self.websocket_path.as_ref().ok();
        let is_switching = needs.contains(&Need::WebsocketPath) || self.websocket.is_ok();
        match needs.contains(&Need::Echo) {
            true => self.other.as_ref().ok(),
            false => websocket.filter(|_| is_switching).or(self.other.as_ref().ok()),
        }
    }

    /// Whether the target still answers as it did; if not, what it does instead.
    pub(super) fn is_alive(&self, target: &Target) -> Ability<()> {
        let asker = Asker { address: self.address, target };
        asker.answers_as(self.plain_status).or_else(|_| {
            std::thread::sleep(ALIVE_AGAIN_AFTER);
            asker.answers_as(self.plain_status)
        })
    }
}

/// The first address where a plain request is answered, and the answer.
fn plain(target: &Target) -> Result<(SocketAddr, Answer), LintError> {
    let mut failed = None;
    for address in &target.addresses {
        let asker = Asker { address: *address, target };
        match asker.plain() {
            Ok(answer) => return Ok((*address, answer)),
            // What listens somewhere and is wrong says more than what does not listen.
            Err(why) if failed.is_none() || why.is_answered => failed = Some((*address, why.text)),
            Err(_) => {}
        }
    }
    let none = || ([0, 0, 0, 0], 0).into();
    let (address, why) = failed.unwrap_or_else(|| (none(), "it has no address".into()));
    Err(LintError::Unanswered { address, path: target.path.clone(), why })
}

/// Why a plain request is not answered as it should be.
struct Unanswered {
    is_answered: bool,
    text: String,
}

/// Asks one address.
#[derive(Clone, Copy)]
struct Asker<'a> {
    address: SocketAddr,
    target: &'a Target,
}

impl Asker<'_> {
    fn words<'a>(&'a self, upgrade: Option<&'a Upgrade>) -> Words<'a> {
        Words { target: self.target, post: "", upgrade, patience: 1 }
    }

    fn ask(&self, steps: &[Step], is_enough: impl FnMut(&[Event]) -> bool) -> io::Result<Exchange> {
        let timeout = self.target.timeout.max(ANSWER_WAIT_MIN);
        converse(self.address, steps, timeout, is_enough)
    }

    /// The status of the first final answer, or what came instead.
    fn status(&self, request: String) -> Ability<u16> {
        let exchange =
            self.ask(&[Step::Write(request.into_bytes())], |events| final_answer(events).is_some());
        let exchange = exchange.map_err(|error| format!("cannot be sent: {error}"))?;
        final_answer(&exchange.events)
            .map(|answer| answer.status)
            .ok_or_else(|| format!("is not answered: {}", ended(&exchange)))
    }

    fn plain(&self) -> Result<Answer, Unanswered> {
        let request = Step::Write(self.words(None).canary().into_bytes());
        let exchange = self.ask(&[request], |events| final_answer(events).is_some());
        let told = |is_answered, text| Err(Unanswered { is_answered, text });
        let exchange = match exchange {
            Ok(exchange) => exchange,
            Err(error) => return told(false, error.to_string()),
        };
        match final_answer(&exchange.events) {
            Some(answer) if length(answer) > PAGE_BYTES_MAX => {
                let bytes = length(answer);
                told(true, format!("a page of {bytes} bytes; --path names a smaller one"))
            }
            Some(answer) if answer.status < 400 => Ok(answer.clone()),
            Some(answer) => {
                told(true, format!("status {}; --path names another path", answer.status))
            }
            None if self.speaks_tls() => {
                told(true, "it speaks TLS, and lint speaks plain HTTP/1.1".into())
            }
            None => told(true, ended(&exchange)),
        }
    }

    fn speaks_tls(&self) -> bool {
        let hello = Step::Write(CLIENT_HELLO.to_vec());
        let exchange = self.ask(&[hello], |events| !events.is_empty());
        exchange.is_ok_and(|exchange| matches!(exchange.received[..], [0x15 | 0x16, 3, ..]))
    }

    fn answers_as(&self, status: u16) -> Ability<()> {
        match self.status(self.words(None).canary()) {
            Ok(now) if now == status => Ok(()),
            Ok(now) => Err(format!("is answered with {now}, and was with {status}")),
            Err(why) => Err(why),
        }
    }

    /// Whether content in this framing is taken at a path.
    fn takes(&self, path: &str, framing_and_content: &str) -> Ability<String> {
        let host = &self.target.host;
        let request = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{framing_and_content}");
        match self.status(request)? {
            status if status < 400 => Ok(path.to_owned()),
            status => Err(format!("is answered with {status}")),
        }
    }

    /// Whether content in chunks is taken, and read to its end.
    fn takes_chunks(&self, path: &str) -> Ability<()> {
        let (host, canary) = (&self.target.host, self.words(None).canary());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n{canary}"
        );
        let exchange = self.ask(&[Step::Write(request.into_bytes())], |_| false);
        let exchange = exchange.map_err(|error| error.to_string())?;
        let is_bad = |event: &Event| match event {
            Event::Answer(answer) => answer.status >= 400,
            Event::Junk(_) => true,
            _ => false,
        };
        let answer = final_answer(&exchange.events);
        match (answer, exchange.events.iter().any(is_bad)) {
            (None, _) => Err(format!("POST {path} with content in chunks is not answered")),
            (Some(answer), _) if answer.status >= 400 => Err(format!(
                "POST {path} with content in chunks is answered with {}",
                answer.status
            )),
            (Some(_), true) => {
                Err(format!("POST {path} does not read content in chunks, see U-54"))
            }
            (Some(_), false) => Ok(()),
        }
    }

    fn switches(&self, upgrade: &Upgrade) -> Ability<()> {
        let exchange = self.switched(upgrade, "", "", |_| true)?;
        let Upgrade { path, token } = upgrade;
        match exchange.events.iter().find(|event| is_end_of_wait(event)) {
            Some(Event::Answer(answer)) if answer.status == 101 => Ok(()),
            Some(Event::Answer(answer)) => {
                Err(format!("GET {path} offering {token} is answered with {}", answer.status))
            }
            _ => Err(format!("GET {path} offering {token} is not answered: {}", ended(&exchange))),
        }
    }

    /// Switches, sends what `behind` says, and reads until `is_enough`, though not for long.
    fn switched(
        &self,
        upgrade: &Upgrade,
        fields: &str,
        behind: &str,
        is_enough: impl FnMut(&[Event]) -> bool,
    ) -> Ability<Exchange> {
        let words = self.words(Some(upgrade));
        let steps = words.steps(&format!("{{offer}}{fields}⏎{{switched}}{behind}"));
        converse(self.address, &steps, ECHO_WAIT, is_enough).map_err(|error| error.to_string())
    }

    fn when(
        &self,
        path: &Ability<Upgrade>,
        websocket: &Ability<()>,
        ask: impl Fn(&Self, &Upgrade) -> Ability<()>,
    ) -> Ability<()> {
        websocket.clone()?;
        ask(self, path.as_ref().map_err(Clone::clone)?)
    }

    fn sends_messages_back(&self, upgrade: &Upgrade) -> Ability<()> {
        let is_back = |events: &[Event]| {
            let mut events = events.iter();
            events.any(|event| {
                matches!(event, Event::Frame(frame)
                    if frame.kind == Kind::Text && frame.payload == b"upring lint")
            })
        };
        let exchange = self.switched(upgrade, "", "<81 8b 00000000>upring lint", is_back)?;
        let why = || format!("the websocket at {} does not send messages back", upgrade.path);
        is_back(&exchange.events).then_some(()).ok_or_else(why)
    }

    fn agrees_to_deflate(&self, upgrade: &Upgrade) -> Ability<()> {
        let field = "Sec-WebSocket-Extensions: permessage-deflate⏎";
        let exchange = self.switched(upgrade, field, "", |_| true)?;
        let is_agreed = exchange.events.iter().any(|event| {
            matches!(event, Event::Answer(answer)
                if answer.status == 101 && answer.field("sec-websocket-extensions").is_some())
        });
        let why =
            || format!("the websocket at {} does not agree to permessage-deflate", upgrade.path);
        is_agreed.then_some(()).ok_or_else(why)
    }

    fn sends_bytes_back(&self, upgrade: &Upgrade) -> Ability<()> {
        let is_back = |events: &[Event]| {
            let mut events = events.iter();
            events.any(|event| {
                matches!(event, Event::Bytes(bytes)
                    if bytes.windows(11).any(|window| window == b"upring lint"))
            })
        };
        let exchange = self.switched(upgrade, "", "upring lint", is_back)?;
        let Upgrade { path, token } = upgrade;
        let why = || format!("{token} at {path} does not send bytes back");
        is_back(&exchange.events).then_some(()).ok_or_else(why)
    }

    /// Asks to be connected to the target itself: nothing leaves for elsewhere.
    fn is_proxy(&self) -> bool {
        let authority = &self.target.authority;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        self.status(request).is_ok_and(|status| status / 100 == 2)
    }
}

fn length(answer: &Answer) -> u64 {
    answer.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn is_end_of_wait(event: &Event) -> bool {
    matches!(event, Event::Answer(answer) if answer.is_final() || answer.status == 101)
}

fn final_answer(events: &[Event]) -> Option<&Answer> {
    events.iter().find_map(|event| match event {
        Event::Answer(answer) if answer.is_final() => Some(answer),
        _ => None,
    })
}

/// What came instead of an answer.
fn ended(exchange: &Exchange) -> String {
    let junk = exchange.events.iter().find_map(|event| match event {
        Event::Junk(what) => Some(what),
        _ => None,
    });
    match (junk, exchange.end()) {
        (Some(what), _) => format!("what came is {what}"),
        (None, Some(End::Closed)) => "the connection was ended".into(),
        (None, Some(End::Reset)) => "the connection was reset".into(),
        (None, Some(End::Flooded)) => "more than 16 MiB came".into(),
        (None, Some(End::Open) | None) => "nothing came in time".into(),
    }
}
