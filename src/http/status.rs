//! Status codes and their reason phrases.
//!
//! Used wherever an answer is chosen. What a status means for the content of its response is asked
//! here too, so that the response writers agree.

use std::fmt;

/// A status code between 100 and 599 (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

impl Status {
    /// 100: the head is accepted, send the content.
    pub const CONTINUE: Self = Self(100);
    /// 101: the connection now speaks the protocol named in Upgrade.
    pub const SWITCHING_PROTOCOLS: Self = Self(101);
    /// 200.
    pub const OK: Self = Self(200);
    /// 201: a resource was made.
    pub const CREATED: Self = Self(201);
    /// 202: taken, not yet done.
    pub const ACCEPTED: Self = Self(202);
    /// 204: done, nothing to say.
    pub const NO_CONTENT: Self = Self(204);
    /// 205: done, reset the form.
    pub const RESET_CONTENT: Self = Self(205);
    /// 206: part of a representation.
    pub const PARTIAL_CONTENT: Self = Self(206);
    /// 301.
    pub const MOVED_PERMANENTLY: Self = Self(301);
    /// 302.
    pub const FOUND: Self = Self(302);
    /// 303: look there with GET.
    pub const SEE_OTHER: Self = Self(303);
    /// 304: the client's copy is still good.
    pub const NOT_MODIFIED: Self = Self(304);
    /// 307: look there with the same method, this time.
    pub const TEMPORARY_REDIRECT: Self = Self(307);
    /// 308: look there with the same method, always.
    pub const PERMANENT_REDIRECT: Self = Self(308);
    /// 400: the request is malformed.
    pub const BAD_REQUEST: Self = Self(400);
    /// 401: credentials are needed.
    pub const UNAUTHORIZED: Self = Self(401);
    /// 403: understood and refused.
    pub const FORBIDDEN: Self = Self(403);
    /// 404.
    pub const NOT_FOUND: Self = Self(404);
    /// 405: the resource does not take this method; Allow lists those it takes.
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    /// 406: no acceptable representation.
    pub const NOT_ACCEPTABLE: Self = Self(406);
    /// 408: the request did not arrive in time.
    pub const REQUEST_TIMEOUT: Self = Self(408);
    /// 409: in conflict with the state of the resource.
    pub const CONFLICT: Self = Self(409);
    /// 410: was here, will not return.
    pub const GONE: Self = Self(410);
    /// 411: Content-Length is needed.
    pub const LENGTH_REQUIRED: Self = Self(411);
    /// 412: a precondition failed.
    pub const PRECONDITION_FAILED: Self = Self(412);
    /// 413: more content than the limit.
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    /// 414: a longer target than the limit.
    pub const URI_TOO_LONG: Self = Self(414);
    /// 415: content of a type the resource does not take.
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self(415);
    /// 416: no such range.
    pub const RANGE_NOT_SATISFIABLE: Self = Self(416);
    /// 417: an expectation that cannot be met.
    pub const EXPECTATION_FAILED: Self = Self(417);
    /// 421: not a server for this authority.
    pub const MISDIRECTED_REQUEST: Self = Self(421);
    /// 422: well-formed content that cannot be processed.
    pub const UNPROCESSABLE_CONTENT: Self = Self(422);
    /// 426: the resource is served over another protocol only.
    pub const UPGRADE_REQUIRED: Self = Self(426);
    /// 429: too many requests from this client.
    pub const TOO_MANY_REQUESTS: Self = Self(429);
    /// 431: a larger head, or more fields, than the limit (RFC 6585).
    pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Self = Self(431);
    /// 500: the server failed.
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);
    /// 501: a method or transfer coding the server does not know.
    pub const NOT_IMPLEMENTED: Self = Self(501);
    /// 502: the server behind this one failed.
    pub const BAD_GATEWAY: Self = Self(502);
    /// 503: not now.
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    /// 504: the server behind this one was too slow.
    pub const GATEWAY_TIMEOUT: Self = Self(504);
    /// 505: a major version of HTTP the server does not speak.
    pub const HTTP_VERSION_NOT_SUPPORTED: Self = Self(505);
    /// 507: no room to keep what was sent.
    pub const INSUFFICIENT_STORAGE: Self = Self(507);

    /// The status with this code, if it lies between 100 and 599.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            100..=599 => Some(Self(code)),
            _ => None,
        }
    }

    /// The three-digit code.
    #[inline]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The reason phrase; empty for a code without a constant here, which RFC 9112 §4 allows.
    pub const fn reason(self) -> &'static str {
        match self.0 {
            100..=299 => self.reason_of_success(),
            300..=399 => self.reason_of_redirection(),
            400..=499 => self.reason_of_client_error(),
            _ => self.reason_of_server_error(),
        }
    }

    /// Whether this is an interim status (1xx), which no final response may have.
    #[inline]
    pub const fn is_interim(self) -> bool {
        self.0 < 200
    }

    /// Whether responses with this status end behind their head (RFC 9112 §6.3 (1)): 1xx, 204 and
    /// 304.
    #[inline]
    pub const fn is_without_content(self) -> bool {
        self.0 < 200 || matches!(self.0, 204 | 304)
    }

    const fn reason_of_success(self) -> &'static str {
        match self.0 {
            100 => "Continue",
            101 => "Switching Protocols",
            200 => "OK",
            201 => "Created",
            202 => "Accepted",
            204 => "No Content",
            205 => "Reset Content",
            206 => "Partial Content",
            _ => "",
        }
    }

    const fn reason_of_redirection(self) -> &'static str {
        match self.0 {
            301 => "Moved Permanently",
            302 => "Found",
            303 => "See Other",
            304 => "Not Modified",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            _ => "",
        }
    }

    const fn reason_of_client_error(self) -> &'static str {
        match self.0 {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            408 => "Request Timeout",
            409 => "Conflict",
            410 => "Gone",
            411 => "Length Required",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            414 => "URI Too Long",
            415 => "Unsupported Media Type",
            416 => "Range Not Satisfiable",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            422 => "Unprocessable Content",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            _ => "",
        }
    }

    const fn reason_of_server_error(self) -> &'static str {
        match self.0 {
            500 => "Internal Server Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            507 => "Insufficient Storage",
            _ => "",
        }
    }
}

impl fmt::Display for Status {
    /// `404 Not Found`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.0, self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_outside_100_to_599_are_no_status() {
        assert_eq!(Status::new(99), None);
        assert_eq!(Status::new(600), None);
        assert_eq!(Status::new(404), Some(Status::NOT_FOUND));
    }

    #[test]
    fn reasons_follow_the_code() {
        assert_eq!(Status::SWITCHING_PROTOCOLS.reason(), "Switching Protocols");
        assert_eq!(Status::UPGRADE_REQUIRED.to_string(), "426 Upgrade Required");
        assert_eq!(Status::HTTP_VERSION_NOT_SUPPORTED.code(), 505);
        assert_eq!(Status(299).reason(), "");
    }

    #[test]
    fn only_interim_204_and_304_have_no_content() {
        for code in 100..=599 {
            let expected = code < 200 || code == 204 || code == 304;
            assert_eq!(Status(code).is_without_content(), expected, "{code}");
        }
    }
}
