//! Why an answer is wrong, or why there is none: what checks say, and what a run tells of.

use std::fmt;

use upring::ring::Errno;

/// Why an answer is wrong, or why there is none.
#[derive(Debug)]
pub(crate) enum Fault {
    Connect(std::io::Error),
    Head(httparse::Error),
    HeadTooLarge,
    Status(u16),
    Length,
    Chunk,
    TooLarge,
    Content,
    Version,
    Option,
    Token,
    Accept,
    Unasked,
    Framed,
    Echo { at: u64 },
    Frame,
    Message,
    Early,
    Surplus,
    Closed,
    Open,
    Late,
    Unsent,
    Stalled,
    Socket(Errno),
    Clear,
    Handshake,
    Truncated,
    Tls(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(error) => write!(f, "cannot connect: {error}"),
            Fault::Head(error) => write!(f, "the head is malformed: {error}"),
            Fault::HeadTooLarge => write!(f, "the head does not end"),
            Fault::Status(status) => write!(f, "the status is {status}"),
            Fault::Length => {
                write!(f, "Content-Length is missing or wrong, and there are no chunks")
            }
            Fault::Chunk => write!(f, "a chunk is malformed"),
            Fault::TooLarge => {
                write!(f, "the content is longer than 16 MiB, which is too much to keep")
            }
            Fault::Content => write!(f, "the content differs"),
            Fault::Version => write!(f, "the 101 is not of HTTP/1.1"),
            Fault::Option => write!(f, "the 101 has no upgrade in Connection"),
            Fault::Token => write!(f, "the 101 does not name the protocol, or not it alone"),
            Fault::Accept => {
                write!(f, "Sec-WebSocket-Accept is missing, differs or is there twice")
            }
            Fault::Unasked => {
                write!(f, "the 101 has an extension or a subprotocol nobody asked for")
            }
            Fault::Framed => write!(f, "the 101 has a Content-Length or a Transfer-Encoding"),
            Fault::Echo { at } => write!(f, "byte {at} of the echo differs"),
            Fault::Frame => write!(f, "a frame is malformed, or none that may come here"),
            Fault::Message => write!(f, "a message is not as long as the one that was sent"),
            Fault::Early => write!(f, "the answer came before the request had ended"),
            Fault::Surplus => write!(f, "bytes came that nobody asked for"),
            Fault::Closed => write!(f, "the server closed the connection"),
            Fault::Open => write!(f, "the server answered behind its last answer"),
            Fault::Late => write!(f, "the answer was not whole at the time limit"),
            Fault::Unsent => {
                write!(f, "it was due, and no connection was free for it until the time limit")
            }
            Fault::Stalled => write!(f, "nothing was answered for too long"),
            Fault::Socket(errno) => write!(f, "socket: {errno:?}"),
            Fault::Clear => write!(f, "the server does not speak TLS here"),
            Fault::Handshake => {
                write!(f, "the server closed the connection before the handshake was over")
            }
            Fault::Truncated => write!(f, "the server closed without close_notify"),
            Fault::Tls(error) => write!(f, "TLS: {error}"),
        }
    }
}
