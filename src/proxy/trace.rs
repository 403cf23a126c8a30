//! A TRACE that may go no further: its request comes back as the content of the answer, so that its
//! client sees how it came this far (RFC 9110 §9.3.8).

use crate::http::{Request, Response, Status};

/// Fields that come back: those that say which way a message came. Any other may be somebody's secret,
/// which is not to be seen by whoever can only have a request made (RFC 9110 §9.3.8).
const REFLECTED: [&str; 9] = [
    "host",
    "via",
    "max-forwards",
    "connection",
    "user-agent",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The answer that holds a request's head, but for what may be secret.
pub(super) fn reflection(request: Request<'_>) -> Response {
    let mut content = Vec::with_capacity(256);
    content.extend_from_slice(request.line());
    content.extend_from_slice(b"\r\n");
    let is_reflected = |name: &[u8]| {
        REFLECTED.iter().any(|reflected| name.eq_ignore_ascii_case(reflected.as_bytes()))
    };
    for (name, value) in request.fields().filter(|(name, _)| is_reflected(name)) {
        for part in [name, b": ", value, b"\r\n"] {
            content.extend_from_slice(part);
        }
    }
    content.extend_from_slice(b"\r\n");
    let response = Response::new(Status::OK).with_body(content);
    // RFC 9112 §10.1: a message as content.
    response.clone().with_field("Content-Type", "message/http").unwrap_or(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, read_head};

    #[test]
    fn the_way_of_a_request_comes_back_and_none_of_its_secrets() {
        let text = "TRACE /a?b HTTP/1.1\r\nHost: shop\r\nAuthorization: Basic c2VjcmV0\r\n\
                    Cookie: secret\r\nVia: 1.1 first\r\nX-Api-Key: secret\r\nVIA: 1.0 second\r\n\
                    Max-Forwards: 0\r\n\r\n";
        let mut fields = Vec::new();
        let head = read_head(text.as_bytes(), &mut fields, &HeadLimits::default()).unwrap();
        let response = reflection(Request::new(text.as_bytes(), &head, &fields));
        let expected = "TRACE /a?b HTTP/1.1\r\nHost: shop\r\nVia: 1.1 first\r\n\
                        VIA: 1.0 second\r\nMax-Forwards: 0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(response.body()), expected);
        assert_eq!(response.status(), Status::OK);
    }
}
