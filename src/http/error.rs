//! Why a request head is refused, one variant per cause.
//!
//! Every one of them is the client's fault or a limit of ours, has a status, and closes the
//! connection: after a head that two parsers could read in two ways, nothing behind it can be
//! trusted (U-12). The text is meant for the client.

use std::fmt;

use super::status::Status;

/// A head that is not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// More than a few empty lines before the request line.
    EmptyLines,
    /// A line that ends in LF without CR.
    BareLf,
    /// A CR that is not followed by LF.
    LoneCr,
    /// The request line does not have three parts with one space between each.
    RequestLineShape,
    /// The method holds a byte outside the token grammar.
    MethodNotToken,
    /// The method is longer than any that there is, and the head larger than the limit.
    MethodTooLong,
    /// The target holds a fragment, a backslash, a control byte or one outside ASCII.
    TargetSyntax,
    /// The target's form does not fit the method.
    TargetForm,
    /// The host or port in the target is invalid.
    TargetAuthority,
    /// The target is longer than the limit.
    TargetTooLong,
    /// What should be the version is not of the form `HTTP/1.1`.
    VersionShape,
    /// A version of another major number.
    VersionUnsupported,
    /// White space before the first field line.
    SpaceBeforeFields,
    /// A field value continued on the next line (obs-fold).
    FieldFolded,
    /// White space between a field name and its colon.
    SpaceBeforeColon,
    /// A field line without a colon, without a name, or with a name that is no token.
    FieldName,
    /// A control byte in a field value.
    FieldValue,
    /// More field lines than the limit.
    FieldsTooMany,
    /// More bytes than the limit.
    HeadTooLarge,
    /// No Host in HTTP/1.1.
    HostMissing,
    /// An empty Host where no default host is configured. Raised by the caller, who knows that.
    HostEmpty,
    /// More than one Host line.
    HostRepeated,
    /// A Host that is not a host with an optional port.
    HostInvalid,
    /// A Content-Length that is not a decimal number within 64 bits.
    LengthInvalid,
    /// More than one Content-Length value.
    LengthRepeated,
    /// Content-Length and Transfer-Encoding together.
    LengthWithCoding,
    /// Transfer-Encoding in an HTTP/1.0 request.
    CodingInHttp10,
    /// A Transfer-Encoding that is not one plain `chunked` at the end.
    CodingInvalid,
    /// A transfer coding before `chunked`.
    CodingUnsupported,
    /// A head that fails for a cause not told apart from others.
    Malformed,
}

impl HeadError {
    /// The status that answers the request.
    pub const fn status(self) -> Status {
        match self {
            Self::TargetTooLong => Status::URI_TOO_LONG,
            Self::FieldsTooMany | Self::HeadTooLarge => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodTooLong | Self::CodingUnsupported => Status::NOT_IMPLEMENTED,
            Self::VersionUnsupported => Status::HTTP_VERSION_NOT_SUPPORTED,
            _ => Status::BAD_REQUEST,
        }
    }

    /// One sentence with the likely cause, fit to be sent to the client.
    pub const fn text(self) -> &'static str {
        match self {
            Self::EmptyLines => "Too many empty lines before the request line.",
            Self::BareLf => "A line ends in LF; lines must end in CR LF.",
            Self::LoneCr => "A CR is not followed by LF.",
            Self::RequestLineShape => {
                "The request line is not method, target and version with one space between them; \
                 a blank in the target must be percent-encoded."
            }
            Self::MethodNotToken => {
                "The method is not a token; bytes of an earlier request's content may have been \
                 read as a request, or TLS was spoken to a plain port."
            }
            Self::MethodTooLong => "The method is longer than any this server knows.",
            Self::TargetSyntax => {
                "The target contains a fragment, a backslash, a control or a non-ASCII \
                 byte, which must be percent-encoded."
            }
            Self::TargetForm => {
                "The target must be a path, or an http URI, or * with OPTIONS, or host:port with CONNECT."
            }
            Self::TargetAuthority => "The host or port in the target is invalid.",
            Self::TargetTooLong => "The target is longer than this server accepts.",
            Self::VersionShape => "The request line does not end in a version such as HTTP/1.1.",
            Self::VersionUnsupported => "This server speaks HTTP/1.1 and HTTP/1.0 here.",
            Self::SpaceBeforeFields => "There is white space before the first field.",
            Self::FieldFolded => "A field is folded over two lines.",
            Self::SpaceBeforeColon => "There is white space between a field name and its colon.",
            Self::FieldName => {
                "A field line does not start with a name that is a token and a colon."
            }
            Self::FieldValue => "A field value contains a control byte.",
            Self::FieldsTooMany => "The request has more fields than this server accepts.",
            Self::HeadTooLarge => {
                "The request head is larger than this server accepts; cookies may be the cause."
            }
            _ => self.text_of_meaning(),
        }
    }

    /// The same to a client inside TLS, which knows that it is.
    pub const fn text_inside_tls(self) -> &'static str {
        match self {
            Self::MethodNotToken => {
                "The method is not a token; bytes of an earlier request's content may have been \
                 read as a request."
            }
            _ => self.text(),
        }
    }

    /// The texts for fields that are well-formed, but do not say what they must.
    const fn text_of_meaning(self) -> &'static str {
        match self {
            Self::HostMissing => "The Host field is missing.",
            Self::HostEmpty => "The Host field is empty and no default host is configured.",
            Self::HostRepeated => "There is more than one Host field.",
            Self::HostInvalid => "The Host field is not a host with an optional port.",
            Self::LengthInvalid => {
                "Content-Length is not a decimal number this server can count to."
            }
            Self::LengthRepeated => "There is more than one Content-Length value.",
            Self::LengthWithCoding => "Content-Length and Transfer-Encoding exclude each other.",
            Self::CodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding.",
            Self::CodingInvalid => "Transfer-Encoding must be a single chunked without parameters.",
            Self::CodingUnsupported => "The only transfer coding this server knows is chunked.",
            _ => "The request head is malformed.",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_codings_and_versions_have_a_status_of_their_own() {
        for (error, code) in [
            (HeadError::MethodTooLong, 501),
            (HeadError::TargetTooLong, 414),
            (HeadError::FieldsTooMany, 431),
            (HeadError::HeadTooLarge, 431),
            (HeadError::CodingUnsupported, 501),
            (HeadError::VersionUnsupported, 505),
            (HeadError::BareLf, 400),
            (HeadError::LengthRepeated, 400),
        ] {
            assert_eq!(error.status().code(), code, "{error}");
        }
    }

    #[test]
    fn texts_are_one_sentence() {
        for error in [HeadError::HostMissing, HeadError::CodingInvalid, HeadError::Malformed] {
            let text = error.to_string();
            assert!(text.ends_with('.') && !text.contains(['\r', '\n']), "{text}");
        }
    }
}
