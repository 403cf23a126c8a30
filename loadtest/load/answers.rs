//! Heads of answers, and contents as they come, however they are cut: nothing is read twice but
//! what is left of a line. Called by `expect.rs`.

use httparse::{Response, Status};

use crate::content::{CONTENT_BYTES_MAX, Content, Place};
use crate::fault::Fault;

pub(crate) const FIELDS_MAX: usize = 64;
/// A head longer than this is no answer of a server under test; so it is of a chunk's first line,
/// and of trailers.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What the bytes of an answer begin with.
pub(crate) enum Head {
    /// Not enough to judge it.
    Cut,
    /// An answer that comes in front of the one that was asked for (RFC 9110 §15.2): so many bytes.
    Interim(usize),
    /// A 200: its head has so many bytes, and then there is a content.
    Final { bytes: usize, body: Body },
}

impl Head {
    /// Of an answer to a request whose content is as `content` says.
    pub(crate) fn read(bytes: &[u8], content: &Content) -> Result<Head, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let Some(bytes) = read_head(&mut response, bytes)? else {
            return Ok(Head::Cut);
        };
        match response.code {
            Some(200) => {}
            Some(100 | 102..=199) => return Ok(Head::Interim(bytes)),
            status => return Err(Fault::Status(status.unwrap_or_default())),
        }
        let framing = framing(&response)?;
        if let Framing::Length(left) = framing {
            match content.len() {
                Some(len) if len != left => return Err(Fault::Length),
                None if left > CONTENT_BYTES_MAX => return Err(Fault::TooLarge),
                _ => {}
            }
        }
        Ok(Head::Final {
            bytes,
            body: Body { place: Place::default(), is_last: is_last(&response), framing },
        })
    }
}

/// A content, as far as it has come.
pub(crate) struct Body {
    place: Place,
    /// Whether the server closes behind it.
    pub(crate) is_last: bool,
    framing: Framing,
}

/// Where the content of an answer ends.
enum Framing {
    /// Behind so many bytes more.
    Length(usize),
    Chunked(Chunk),
}

/// What comes next of chunks (RFC 9112 §7.1).
enum Chunk {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailers,
}

impl Body {
    /// Compares what came of it: how many bytes that was, and whether all is there now. What is
    /// left is the beginning of a line.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        content: &Content,
    ) -> Result<(usize, bool), Fault> {
        let Framing::Length(left) = &mut self.framing else {
            return self.receive_chunks(bytes, content);
        };
        let came = (*left).min(bytes.len());
        *left -= came;
        let is_whole = *left == 0;
        self.take(&bytes[..came], content)?;
        if is_whole {
            content.end(&mut self.place)?;
        }
        Ok((came, is_whole))
    }

    fn take(&mut self, bytes: &[u8], content: &Content) -> Result<(), Fault> {
        if !bytes.is_empty() {
            content.take(&mut self.place, bytes)?;
        }
        Ok(())
    }

    fn receive_chunks(&mut self, bytes: &[u8], content: &Content) -> Result<(usize, bool), Fault> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let Framing::Chunked(chunk) = &mut self.framing else {
                unreachable!("a framing stays what it is");
            };
            match chunk {
                Chunk::Size => {
                    let Some((line_bytes, size)) = read_size(rest)? else {
                        return Ok((used, false));
                    };
                    content.check_end(&self.place, size)?;
                    *chunk = if size == 0 { Chunk::Trailers } else { Chunk::Data { left: size } };
                    used += line_bytes;
                }
                Chunk::Data { left } => {
                    let came = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= came as u64;
                    if *left == 0 {
                        *chunk = Chunk::DataEnd;
                    }
                    self.take(&rest[..came], content)?;
                    used += came;
                    if came == rest.len() {
                        return Ok((used, false));
                    }
                }
                Chunk::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        *chunk = Chunk::Size;
                        used += 2;
                    }
                    [] | [b'\r'] => return Ok((used, false)),
                    _ => return Err(Fault::Chunk),
                },
                Chunk::Trailers => {
                    let Some(trailer_bytes) = read_trailers(rest)? else {
                        return Ok((used, false));
                    };
                    content.end(&mut self.place)?;
                    return Ok((used + trailer_bytes, true));
                }
            }
        }
    }
}

/// The length of a chunk's first line, and what size it says.
fn read_size(bytes: &[u8]) -> Result<Option<(usize, u64)>, Fault> {
    match httparse::parse_chunk_size(bytes).map_err(|_| Fault::Chunk)? {
        Status::Complete(line) => Ok(Some(line)),
        Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(Fault::Chunk),
        Status::Partial => Ok(None),
    }
}

fn read_trailers(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(bytes, &mut fields).map_err(Fault::Head)? {
        Status::Complete((trailer_bytes, _)) => Ok(Some(trailer_bytes)),
        Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(Fault::HeadTooLarge),
        Status::Partial => Ok(None),
    }
}

/// RFC 9112 §6.3, but for an answer that ends with its connection. What says it twice says it
/// wrongly.
fn framing(response: &Response<'_, '_>) -> Result<Framing, Fault> {
    let mut codings = fields(response, "transfer-encoding");
    let mut lengths = fields(response, "content-length");
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (Some(coding), None, None, None) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked(Chunk::Size))
        }
        (None, None, Some(length), None) if length.iter().all(u8::is_ascii_digit) => {
            let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            // Of more than there is memory for, nothing can be told.
            length.filter(|length| *length < 1 << 48).map(Framing::Length).ok_or(Fault::Length)
        }
        _ => Err(Fault::Length),
    }
}

pub(crate) fn read_head<'b>(
    response: &mut Response<'_, 'b>,
    bytes: &'b [u8],
) -> Result<Option<usize>, Fault> {
    match response.parse(bytes).map_err(Fault::Head)? {
        Status::Complete(head_bytes) => Ok(Some(head_bytes)),
        Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(Fault::HeadTooLarge),
        Status::Partial => Ok(None),
    }
}

/// Whether the server closes the connection behind this answer (RFC 9112 §9.3).
fn is_last(response: &Response<'_, '_>) -> bool {
    let is_old = response.version == Some(0);
    has_option(response, b"close") || (is_old && !has_option(response, b"keep-alive"))
}

/// Whether Connection has an option, in any of its lines.
pub(crate) fn has_option(response: &Response<'_, '_>, wanted: &[u8]) -> bool {
    elements(response, "connection").any(|option| option.eq_ignore_ascii_case(wanted))
}

/// The elements of a list, in all lines of a field; empty ones are none (RFC 9110 §5.6.1).
pub(crate) fn elements<'a, 'b>(
    response: &'a Response<'_, 'b>,
    name: &'static str,
) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
    let all = fields(response, name).flat_map(|line| line.split(|byte| *byte == b','));
    all.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The values of all lines of a field.
pub(crate) fn fields<'a, 'b>(
    response: &'a Response<'_, 'b>,
    name: &'static str,
) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
    let named = response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value)
}
