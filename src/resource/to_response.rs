//! What handlers may return: anything that can be made a response, errors above all.

use super::{Answer, Reply};
use crate::http::{Request, Response, Status};

/// A value that is an answer. Errors of a handler implement it to choose their status:
///
/// ```
/// use upring::{Response, Status, ToResponse};
///
/// enum OrderError {
///     Unknown,
///     Shipped,
/// }
///
/// impl ToResponse for OrderError {
///     fn to_response(self) -> Response {
///         match self {
///             OrderError::Unknown => Response::text(Status::NOT_FOUND, "No such order.\n"),
///             OrderError::Shipped => Response::text(Status::CONFLICT, "It has left already.\n"),
///         }
///     }
/// }
/// ```
pub trait ToResponse {
    /// The answer.
    fn to_response(self) -> Response;
}

impl ToResponse for Response {
    fn to_response(self) -> Response {
        self
    }
}

/// Without content.
impl ToResponse for Status {
    fn to_response(self) -> Response {
        Response::new(self)
    }
}

/// 200 with text.
impl ToResponse for &'static str {
    fn to_response(self) -> Response {
        Response::text(Status::OK, self)
    }
}

/// 200 with text.
impl ToResponse for String {
    fn to_response(self) -> Response {
        Response::text(Status::OK, self)
    }
}

/// 200 with bytes.
impl ToResponse for Vec<u8> {
    fn to_response(self) -> Response {
        let response = Response::new(Status::OK).with_body(self);
        response.with_field("Content-Type", "application/octet-stream").expect("a valid value")
    }
}

impl<T: ToResponse, E: ToResponse> ToResponse for Result<T, E> {
    fn to_response(self) -> Response {
        match self {
            Ok(value) => value.to_response(),
            Err(error) => error.to_response(),
        }
    }
}

/// An answer that returns its response: `run` gets the request and its content, whole.
///
/// ```
/// use upring::{Request, Resource, Status, returning};
///
/// let length = returning(|_: &Request<'_>, content: &[u8]| match content.len() {
///     0 => Err(Status::LENGTH_REQUIRED),
///     length => Ok(format!("{length} bytes\n")),
/// });
/// let resource = Resource::new().post(length);
/// ```
pub fn returning<F, R>(run: F) -> impl Answer + Clone
where
    F: Fn(&Request<'_>, &[u8]) -> R + Clone + Send + Sync + 'static,
    R: ToResponse,
{
    move |request: &Request<'_>, content: &[u8], reply: &mut Reply<'_>| {
        reply.send(&run(request, content).to_response());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_answers_with_what_is_in_it() {
        let fine: Result<&'static str, Status> = Ok("fine");
        let bad: Result<&'static str, Status> = Err(Status::CONFLICT);
        assert_eq!(fine.to_response().body(), b"fine");
        assert_eq!(bad.to_response().status(), Status::CONFLICT);
    }
}
