//! The opening handshake (RFC 6455 §4.2): what is asked of a request before it is answered 101, in an
//! order in which each refusal says what to mend.

use base64::engine::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::extension::{Agreed, agree};
use super::settings::Compression;
use crate::http::{Fields, Request, Response, Status, list};
use crate::upgrade::Decision;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Which pages may open connections (RFC 6455 §10.2). Browsers say on which origin a page is; other
/// clients say what they like, or nothing.
#[derive(Debug, Clone, Default)]
pub enum Origins {
    /// Every one.
    #[default]
    Any,
    /// The one that is asked for: the origin's host and port are those of Host, and inside TLS it is one of
    /// https. Clients that say none may, too.
    Same,
    /// These, compared as browsers write them: `https://example.org`. Clients that say none may, if
    /// `or_none` says so.
    Only {
        /// Scheme, host and, if it is not the scheme's own, port.
        origins: Vec<String>,
        /// Whether clients that are no browsers may.
        or_none: bool,
    },
}

impl Origins {
    /// These, and clients that say none.
    pub fn only<T: Into<String>>(origins: impl IntoIterator<Item = T>) -> Origins {
        Origins::Only { origins: origins.into_iter().map(Into::into).collect(), or_none: true }
    }

    fn allow(&self, request: &Request<'_>) -> bool {
        let mut values = request.fields_named("Origin");
        let (origin, is_repeated) = (values.next(), values.next().is_some());
        match self {
            Origins::Any => true,
            _ if is_repeated => false,
            Origins::Same => origin.is_none_or(|origin| is_same(origin, *request)),
            Origins::Only { origins, or_none } => origin.map_or(*or_none, |origin| {
                origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed.as_bytes()))
            }),
        }
    }
}

/// Whether an origin is on the host that was asked, by https if it was asked inside TLS: what was asked in the clear
/// may have come to a proxy by https.
fn is_same(origin: &[u8], request: Request<'_>) -> bool {
    let by_http = || origin.strip_prefix(b"http://").filter(|_| request.secured().is_none());
    let authority = origin.strip_prefix(b"https://").or_else(by_http);
    matches!((authority, request.host()), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

/// What a service asks of a handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// Sub-protocols, best first.
    pub(super) subprotocols: Vec<Box<str>>,
    pub(super) origins: Origins,
    pub(super) compression: Option<Compression>,
}

impl Terms {
    /// The name of a sub-protocol that was chosen.
    pub(super) fn subprotocol(&self, index: Option<usize>) -> Option<&str> {
        index.and_then(|index| self.subprotocols.get(index)).map(|name| &**name)
    }
}

/// A handshake that can be accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Of the 101.
    pub(super) fields: Fields,
    /// Which of the service's sub-protocols.
    pub(super) subprotocol: Option<usize>,
    pub(super) deflate: Option<Agreed>,
}

/// Looks at an opening handshake. A method other than GET, and content, were refused before.
pub(super) fn look_at(request: &Request<'_>, terms: &Terms) -> Result<Accepted, Decision> {
    if !says_version_13(request) {
        return Err(version_refused());
    }
    let Some(key) = key(request) else {
        return Err(refused(
            Status::BAD_REQUEST,
            "An opening handshake has one Sec-WebSocket-Key: 16 bytes in base64.\n",
        ));
    };
    if !terms.origins.allow(request) {
        let text = "Pages of this origin may not open WebSocket connections here.\n";
        return Err(refused(Status::FORBIDDEN, text));
    }
    let offers = request.fields_named("Sec-WebSocket-Extensions");
    let Ok(deflate) = agree(offers, terms.compression.as_ref()) else {
        return Err(refused(
            Status::BAD_REQUEST,
            "Sec-WebSocket-Extensions is not a list of extensions.\n",
        ));
    };
    let mut fields = Fields::new();
    let mut add = |name: &str, value: &[u8]| {
        let added = fields.push(name, value);
        debug_assert!(added.is_ok(), "base64, tokens and our own text are field values");
    };
    add("Sec-WebSocket-Accept", &accept(key));
    let subprotocol = choose(request, &terms.subprotocols);
    if let Some(name) = subprotocol.and_then(|index| terms.subprotocols.get(index)) {
        add("Sec-WebSocket-Protocol", name.as_bytes());
    }
    if let Some(deflate) = &deflate {
        add("Sec-WebSocket-Extensions", deflate.text().as_bytes());
    }
    Ok(Accepted { fields, subprotocol, deflate })
}

fn says_version_13(request: &Request<'_>) -> bool {
    let mut versions = request.fields_named("Sec-WebSocket-Version");
    versions.next() == Some(b"13") && versions.next().is_none()
}

/// RFC 6455 §4.4: 426, with the version there is.
fn version_refused() -> Decision {
    let response = Response::text(
        Status::UPGRADE_REQUIRED,
        "This server speaks version 13 of the WebSocket protocol.\n",
    );
    let named = response.with_field("Sec-WebSocket-Version", "13");
    debug_assert!(named.is_ok(), "a field of ours");
    Decision::UpgradeRequired(named.unwrap_or_else(|_| Response::new(Status::UPGRADE_REQUIRED)))
}

fn refused(status: Status, text: &'static str) -> Decision {
    Decision::Answer(Response::text(status, text))
}

/// RFC 6455 §4.2.1 (5): once, and sixteen bytes when it is decoded.
fn key<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let mut keys = request.fields_named("Sec-WebSocket-Key");
    let (key, more) = (keys.next()?, keys.next());
    let mut decoded = [0; 18];
    let is_key = key.len() == 24 && STANDARD.decode_slice(key, &mut decoded) == Ok(16);
    (is_key && more.is_none()).then_some(key)
}

/// RFC 6455 §4.2.2 (5.4).
fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut encoded = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut encoded);
    debug_assert_eq!(written, Ok(28), "twenty bytes are 28 in base64");
    encoded
}

/// RFC 6455 §4.2.2 (5.5): one of the client's, compared octet by octet, or none.
fn choose(request: &Request<'_>, ours: &[Box<str>]) -> Option<usize> {
    ours.iter().position(|name| {
        let mut values = request.fields_named("Sec-WebSocket-Protocol");
        values.any(|value| list::members(value).any(|member| member == name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::TlsVersion;
    use crate::http::{HeadLimits, Secured, read_head};

    const WS: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// The status of the answer, and the fields of a 101.
    fn answer(terms: &Terms, fields: &str) -> (u16, String) {
        answer_by(None, terms, fields)
    }

    /// The same, by a connection inside TLS if there is something to say of one.
    fn answer_by(secured: Option<&Arc<Secured>>, terms: &Terms, fields: &str) -> (u16, String) {
        let head = format!("GET /ws HTTP/1.1\r\nHost: a.example\r\n{WS}{fields}\r\n");
        let mut spans = Vec::new();
        let parsed = read_head(head.as_bytes(), &mut spans, &HeadLimits::default()).expect("valid");
        let request = Request::new(head.as_bytes(), &parsed, &spans).with_secured(secured);
        match look_at(&request, terms) {
            Ok(accepted) => {
                (101, String::from_utf8(accepted.fields.as_bytes().to_vec()).expect("ASCII"))
            }
            Err(Decision::Answer(response)) => (response.status().code(), String::new()),
            Err(Decision::UpgradeRequired(_)) => (426, String::new()),
            Err(_) => panic!("a handshake is decided at once"),
        }
    }

    // U-71: the example of RFC 6455 §1.3.
    #[test]
    fn a_valid_handshake_is_accepted_and_nothing_is_answered_that_was_not_offered() {
        let (status, fields) = answer(&Terms::default(), &format!("{VERSION}{KEY}"));
        assert_eq!(status, 101);
        assert_eq!(fields, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
    }

    // U-72, U-73.
    #[test]
    fn a_wrong_version_is_426_and_a_wrong_key_400() {
        for (fields, status) in [
            (format!("{KEY}Sec-WebSocket-Version: 8\r\n"), 426),
            (format!("{KEY}Sec-WebSocket-Version: 99\r\n"), 426),
            (format!("{KEY}{VERSION}{VERSION}"), 426),
            (KEY.to_owned(), 426),
            (VERSION.to_owned(), 400),
            (format!("{VERSION}{KEY}{KEY}"), 400),
            (format!("{VERSION}Sec-WebSocket-Key: abc\r\n"), 400),
            (format!("{VERSION}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n"), 400),
            (format!("{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!!==\r\n"), 400),
            (format!("{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFh\r\n"), 400),
            (format!("{VERSION}{KEY}Sec-WebSocket-Extensions: a b\r\n"), 400),
        ] {
            assert_eq!(answer(&Terms::default(), &fields).0, status, "{fields}");
        }
    }

    // U-75.
    #[test]
    fn origins_that_may_not_are_refused() {
        let only = Origins::only(["https://ok"]);
        let strict = Origins::Only { origins: vec!["https://ok".into()], or_none: false };
        for (origins, origin, status) in [
            (Origins::Any, Some("https://evil"), 101),
            (only.clone(), Some("https://ok"), 101),
            (only.clone(), Some("https://evil"), 403),
            (only.clone(), Some("https://ok.evil"), 403),
            (only.clone(), Some("null"), 403),
            (only.clone(), None, 101),
            (only, Some("https://ok\r\nOrigin: https://ok"), 403),
            (strict, None, 403),
            (Origins::Same, Some("http://a.example"), 101),
            (Origins::Same, Some("https://A.example"), 101),
            (Origins::Same, Some("https://b.example"), 403),
            (Origins::Same, Some("https://a.example:8443"), 403),
            (Origins::Same, None, 101),
        ] {
            let terms = Terms { origins, ..Terms::default() };
            let field = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
            let told = format!("{:?} {field}", terms.origins);
            assert_eq!(answer(&terms, &format!("{VERSION}{KEY}{field}")).0, status, "{told}");
        }
    }

    // A page that came in the clear may be anybody's.
    #[test]
    fn inside_tls_the_same_origin_is_one_inside_tls() {
        let secured = Arc::new(Secured {
            version: TlsVersion::Tls13,
            server_name: None,
            protocol: None,
            is_resumed: false,
            client_certificates: Vec::new(),
        });
        let terms = Terms { origins: Origins::Same, ..Terms::default() };
        for (origin, status) in
            [("http://a.example", 403), ("https://a.example", 101), ("https://b.example", 403)]
        {
            let fields = format!("{VERSION}{KEY}Origin: {origin}\r\n");
            assert_eq!(answer_by(Some(&secured), &terms, &fields).0, status, "{origin}");
        }
    }

    // U-76.
    #[test]
    fn one_subprotocol_of_the_clients_list_is_chosen_or_none() {
        for (ours, offers, expected) in [
            (&["superchat"][..], "chat, superchat", Some("superchat")),
            (&["superchat", "chat"], "chat,superchat", Some("superchat")),
            (&["chat"], "Chat", None),
            (&["superchat"], "x", None),
            (&["chat"], "x\r\nSec-WebSocket-Protocol: chat", Some("chat")),
            (&[], "chat", None),
        ] {
            let subprotocols = ours.iter().map(|name| Box::from(*name)).collect();
            let terms = Terms { subprotocols, ..Terms::default() };
            let fields = format!("{VERSION}{KEY}Sec-WebSocket-Protocol: {offers}\r\n");
            let (status, fields) = answer(&terms, &fields);
            let chosen =
                fields.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!((status, chosen), (101, expected), "{ours:?} of {offers}");
        }
    }
}
