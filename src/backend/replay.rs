//! A client's request as its backend gets it: the same method, target and fields, with those of
//! this hop made anew (RFC 9110 §7.6), and with word of who the client is.

use std::io::Write;
use std::net::IpAddr;

use super::hops::{Hops, is_hop_by_hop};
use super::path::is_plain;
use crate::http::{Framing, Request, Response, Status, TargetForm, Version};

/// How a backend is told who its client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarded {
    /// By `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// By `Forwarded` (RFC 7239).
    Rfc7239,
    /// Not at all.
    Off,
}

/// The terms on which requests go to a backend, as an operator sets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How the backend is told who the client is. Unless it is not, every client of the server is
    /// identified, as by [`Config::identify_clients`](crate::config::Config::identify_clients); over a
    /// Unix socket nobody is. Default `X-Forwarded-*`.
    pub forwarded: Forwarded,
    /// Whether what the client itself says of earlier hops is passed on: only behind a proxy that
    /// removes what its own clients say. Default false: `Forwarded`, `X-Forwarded-*` and
    /// `X-Real-IP` of a client are dropped.
    pub trust_forwarded: bool,
    /// Whether paths go on that a backend may read as another one: with dot segments, empty ones,
    /// encoded slashes or zero bytes. Routes are found by the path as it came, so that what one of them refuses
    /// could be had by such a path of another. Default false: 400.
    pub odd_paths: bool,
    /// The Host that the backend is asked for. Default the client's.
    pub host: Option<String>,
    /// Who this server is in Via (RFC 9110 §7.6.3), or nobody: in requests, and in answers of a proxy.
    /// Default `upring`.
    pub via: Option<String>,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            forwarded: Forwarded::default(),
            trust_forwarded: false,
            odd_paths: false,
            host: None,
            via: Some("upring".to_owned()),
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// To switch to this protocol, with so many bytes of content.
    Switch { protocol: &'a str, version: Option<&'a [u8]>, content_bytes: usize },
    /// An answer; its content is framed so, and may wait for a 100.
    Answer { framing: Framing, is_waiting: bool },
}

/// Why a request does not go to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Servers read its path in different ways.
    PathOdd,
    /// It has more connection options than are looked at.
    OptionsTooMany,
}

impl Unfit {
    /// What its client is answered.
    pub(crate) fn response(self) -> Response {
        let text = match self {
            Unfit::PathOdd => {
                "The path has segments that servers read in different ways: `.`, `..`, empty, or with an \
                 encoded slash or zero byte (odd_paths).\n"
            }
            Unfit::OptionsTooMany => "Connection has too many options.\n",
        };
        Response::text(Status::BAD_REQUEST, text)
    }
}

impl Terms {
    /// The head of `request` for the backend; `client` is who sent it, if that is known.
    ///
    /// # Errors
    /// It is not to go there.
    pub(crate) fn head(
        &self,
        request: Request<'_>,
        purpose: Purpose<'_>,
        client: Option<IpAddr>,
    ) -> Result<Vec<u8>, Unfit> {
        if !self.odd_paths && !is_plain(request.path()) {
            return Err(Unfit::PathOdd);
        }
        let hops = Hops::of(request.fields_named("connection")).ok_or(Unfit::OptionsTooMany)?;
        let mut out = Vec::with_capacity(1024);
        self.write_start(request, &mut out);
        let keeps_trailer = matches!(purpose, Purpose::Answer { framing: Framing::Chunked, .. });
        for (name, value) in request.fields() {
            let is_own = is_made_anew(name) || hops.end_here(name) || self.remakes(name);
            let is_own = is_own || self.is_disguised(name);
            let is_limit = request.method().is_hop_counted() && is_named(name, "max-forwards");
            if !is_own && !is_limit && (keeps_trailer || !is_named(name, "trailer")) {
                line(&mut out, name, value);
            }
        }
        if request.method().is_hop_counted()
            && let Some(hops_left) = hops_left(request)
        {
            line(&mut out, b"Max-Forwards", hops_left.saturating_sub(1).to_string().as_bytes());
        }
        self.write_client(request, client, &mut out);
        if let Some(via) = &self.via {
            let version = if request.version() == Version::Http10 { "1.0" } else { "1.1" };
            line(&mut out, b"Via", format!("{version} {via}").as_bytes());
        }
        write_purpose(purpose, &mut out);
        out.extend_from_slice(b"\r\n");
        Ok(out)
    }

    /// Request line and Host.
    fn write_start(&self, request: Request<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(request.method_name());
        out.push(b' ');
        match request.head().form {
            // RFC 9112 §3.2.1: a server is asked for a path, and its Host says where.
            TargetForm::Absolute | TargetForm::Elsewhere => {
                out.extend_from_slice(request.path());
                if let Some(query) = request.query() {
                    out.push(b'?');
                    out.extend_from_slice(query);
                }
            }
            _ => out.extend_from_slice(request.target()),
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        // RFC 9112 §3.2: a request has one, and it may be empty.
        let own = self.host.as_deref().map(str::as_bytes);
        line(out, b"Host", own.or(request.host()).unwrap_or_default());
    }

    /// Whether a field that speaks of earlier hops is left out, or written anew with what it said.
    fn remakes(&self, name: &[u8]) -> bool {
        let is_x = name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"));
        let is_any = is_x || is_named(name, "forwarded") || is_named(name, "x-real-ip");
        let is_written = match self.forwarded {
            Forwarded::XForwarded => ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
                .iter()
                .any(|own| is_named(name, own)),
            Forwarded::Rfc7239 => is_named(name, "forwarded"),
            Forwarded::Off => false,
        };
        is_any && (!self.trust_forwarded || is_written)
    }

    /// Whether a backend that is given fields as variables, by CGI's rule or a like one, would take
    /// the field for another, which the client may not set: there `_` is `-` (RFC 3875 §4.1.18).
    fn is_disguised(&self, name: &[u8]) -> bool {
        if !name.contains(&b'_') {
            return false;
        }
        let plain: Vec<u8> =
            name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        is_made_anew(&plain) || is_hop_by_hop(&plain) || self.remakes(&plain)
    }

    fn write_client(&self, request: Request<'_>, client: Option<IpAddr>, out: &mut Vec<u8>) {
        let said = |name: &str| -> Vec<u8> {
            let lines: Vec<&[u8]> = match self.trust_forwarded {
                true => request.fields_named(name).collect(),
                false => Vec::new(),
            };
            lines.join(&b", "[..])
        };
        let client = client.map(|client| client.to_canonical());
        match self.forwarded {
            Forwarded::Off => {}
            Forwarded::XForwarded => {
                let mut all = said("x-forwarded-for");
                if let Some(client) = client {
                    append(&mut all, client.to_string().as_bytes());
                }
                let host = said("x-forwarded-host");
                let host = if host.is_empty() { request.host().unwrap_or_default() } else { &host };
                let scheme = said("x-forwarded-proto");
                let own = request.scheme().as_bytes();
                let scheme = if scheme.is_empty() { own } else { &scheme[..] };
                for (name, value) in [
                    (&b"X-Forwarded-For"[..], &all[..]),
                    (b"X-Forwarded-Host", host),
                    (b"X-Forwarded-Proto", scheme),
                ] {
                    if !value.is_empty() {
                        line(out, name, value);
                    }
                }
            }
            Forwarded::Rfc7239 => {
                let mut all = said("forwarded");
                append(&mut all, &element(client, request));
                line(out, b"Forwarded", &all);
            }
        }
    }
}

/// One element of Forwarded (RFC 7239 §4 to §6).
fn element(client: Option<IpAddr>, request: Request<'_>) -> Vec<u8> {
    let mut element = match client {
        // §6: a colon needs a quoted string, an IPv6 address brackets.
        Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
        Some(IpAddr::V4(address)) => format!("for={address}"),
        None => "for=unknown".to_owned(),
    }
    .into_bytes();
    if let Some(host) = request.host().filter(|host| !host.is_empty()) {
        element.extend_from_slice(b";host=\"");
        for byte in host {
            if matches!(byte, b'"' | b'\\') {
                element.push(b'\\');
            }
            element.push(*byte);
        }
        element.push(b'"');
    }
    element.extend_from_slice(b";proto=");
    element.extend_from_slice(request.scheme().as_bytes());
    element
}

/// RFC 9110 §7.6.2: how many more hops a TRACE or OPTIONS may go, if it says so.
pub(crate) fn hops_left(request: Request<'_>) -> Option<u64> {
    let value = request.field("max-forwards")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Fields that are written for the backend whatever the client says.
fn is_made_anew(name: &[u8]) -> bool {
    // Other expectations than a 100 are none of HTTP's (RFC 9110 §10.1.1).
    ["host", "content-length", "expect"].iter().any(|own| is_named(name, own))
}

fn is_named(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

fn append(list: &mut Vec<u8>, member: &[u8]) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(member);
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The one framing of the content, or the protocol.
fn write_purpose(purpose: Purpose<'_>, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = match purpose {
        Purpose::Switch { protocol, version, content_bytes } => {
            let _ = write!(out, "Connection: Upgrade\r\nUpgrade: {protocol}");
            if let Some(version) = version {
                out.push(b'/');
                out.extend_from_slice(version);
            }
            match content_bytes {
                0 => write!(out, "\r\n"),
                bytes => write!(out, "\r\nContent-Length: {bytes}\r\n"),
            }
        }
        Purpose::Answer { framing, is_waiting } => {
            if is_waiting {
                out.extend_from_slice(b"Expect: 100-continue\r\n");
            }
            match framing {
                Framing::None => Ok(()),
                Framing::Length(bytes) => write!(out, "Content-Length: {bytes}\r\n"),
                Framing::Chunked => write!(out, "Transfer-Encoding: chunked\r\n"),
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, framing, read_head};

    /// What a backend gets of a request, without the request line; the address is the client's.
    fn replayed(terms: &Terms, text: &str, client: Option<&str>) -> Result<String, Unfit> {
        let mut fields = Vec::new();
        let head = read_head(text.as_bytes(), &mut fields, &HeadLimits::default()).unwrap();
        let request = Request::new(text.as_bytes(), &head, &fields);
        let purpose = match head.has_upgrade {
            true => Purpose::Switch { protocol: "websocket", version: None, content_bytes: 0 },
            false => Purpose::Answer {
                framing: framing(&head).unwrap(),
                is_waiting: head.expects_continue,
            },
        };
        let client = client.map(|client| client.parse().unwrap());
        terms.head(request, purpose, client).map(|head| String::from_utf8(head).unwrap())
    }

    fn unnamed() -> Terms {
        Terms { via: None, ..Terms::default() }
    }

    fn off() -> Terms {
        Terms { forwarded: Forwarded::Off, ..unnamed() }
    }

    #[test]
    fn method_target_and_fields_stay_and_those_of_the_hop_are_made_anew() {
        for (given, expected) in [
            (
                "GET /chat?a=b%20c HTTP/1.1\r\nHost: a:80\r\nUpgrade: WebSocket, h2c\r\n\
                 Connection: keep-alive, X-Own, upgrade\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
                 Sec-WebSocket-Key: k\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                 Cookie: a\r\n\r\n",
                "GET /chat?a=b%20c HTTP/1.1\r\nHost: a:80\r\nSec-WebSocket-Key: k\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\nCookie: a\r\n\
                 Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
            (
                "POST http://b/c?d HTTP/1.1\r\nHost: a\r\ncontent-length: 007\r\n\
                 Expect: 100-continue\r\nTE: trailers\r\nTrailer: x\r\n\r\n",
                "POST /c?d HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n\
                 Content-Length: 7\r\n\r\n",
            ),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\
                 Connection: Host, Content-Length, Transfer-Encoding\r\n\r\n",
                "PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
            (
                "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\n\r\n",
            ),
            (
                "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
        ] {
            assert_eq!(replayed(&off(), given, None).unwrap(), expected, "{given:?}");
        }
    }

    #[test]
    fn no_request_has_two_framings() {
        for fields in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", ""] {
            for named in ["", "Connection: content-length\r\n", "Connection: transfer-encoding\r\n"]
            {
                let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{named}{fields}\r\n");
                let head = replayed(&off(), &text, None).unwrap().to_lowercase();
                let (lengths, codings) =
                    (head.matches("content-length").count(), head.matches("chunked").count());
                assert_eq!(lengths + codings, usize::from(!fields.is_empty()), "{head}");
            }
        }
    }

    #[test]
    fn what_a_client_says_of_earlier_hops_counts_only_if_it_is_trusted() {
        const SAID: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\
                            x-forwarded-proto: https\r\nX-Forwarded-Port: 443\r\n\
                            X-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n\r\n";
        let none = "GET / HTTP/1.1\r\nHost: a\r\n";
        for (forwarded, trust_forwarded, client, expected) in [
            (Forwarded::Off, false, Some("::1"), ""),
            (
                Forwarded::XForwarded,
                false,
                Some("::ffff:127.0.0.1"),
                "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n",
            ),
            (
                Forwarded::XForwarded,
                true,
                Some("::1"),
                "X-Forwarded-Port: 443\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n\
                 X-Forwarded-For: 1.1.1.1, ::1\r\nX-Forwarded-Host: a\r\n\
                 X-Forwarded-Proto: https\r\n",
            ),
            (
                Forwarded::XForwarded,
                false,
                None,
                "X-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n",
            ),
            (
                Forwarded::Rfc7239,
                false,
                Some("::1"),
                "Forwarded: for=\"[::1]\";host=\"a\";proto=http\r\n",
            ),
            (
                Forwarded::Rfc7239,
                true,
                Some("10.0.0.1"),
                "X-Forwarded-For: 1.1.1.1\r\nx-forwarded-proto: https\r\nX-Forwarded-Port: 443\r\n\
                 X-Real-IP: 1.1.1.1\r\n\
                 Forwarded: for=1.1.1.1, for=10.0.0.1;host=\"a\";proto=http\r\n",
            ),
            (Forwarded::Rfc7239, false, None, "Forwarded: for=unknown;host=\"a\";proto=http\r\n"),
        ] {
            let terms = Terms { forwarded, trust_forwarded, ..unnamed() };
            let head = replayed(&terms, SAID, client).unwrap();
            assert_eq!(head, format!("{none}{expected}\r\n"), "{forwarded:?} {trust_forwarded}");
        }
    }

    #[test]
    fn a_field_that_a_backend_may_take_for_one_of_ours_does_not_go_on() {
        let text = "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 9\r\n\
                    Transfer_encoding: chunked\r\n\
                    X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nX_REAL_IP: 6.6.6.6\r\n\
                    HOST_: a\r\nMy_Field: stays\r\n\r\n";
        let head = replayed(&off(), text, None).unwrap();
        let expected = "POST / HTTP/1.1\r\nHost: a\r\nHOST_: a\r\nMy_Field: stays\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[test]
    fn host_and_via_are_written_if_that_is_asked_for() {
        let terms =
            Terms { host: Some("app.internal".into()), via: Some("front".into()), ..unnamed() };
        let head = replayed(&terms, "GET / HTTP/1.0\r\nHost: a\r\nVia: 1.1 b\r\n\r\n", None);
        assert_eq!(
            head.unwrap(),
            "GET / HTTP/1.1\r\nHost: app.internal\r\nVia: 1.1 b\r\nX-Forwarded-Host: a\r\n\
             X-Forwarded-Proto: http\r\nVia: 1.0 front\r\n\r\n"
        );
    }

    #[test]
    fn more_options_than_are_looked_at_are_refused() {
        let options = vec!["a"; 33].join(",");
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
        assert_eq!(replayed(&off(), &text, None), Err(Unfit::OptionsTooMany));
    }
}
