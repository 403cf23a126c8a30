//! Messages: what an endpoint is given and what it sends, by ownership, in the memory they came in.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::utf8;
use crate::buffer::{Lease, Load, Payload};
use crate::upgrade::asynchronous::Weighed;

/// A whole message of the peer, or for it.
///
/// A message that came in one frame and one segment lies where the kernel wrote it, unmasked in
/// place, and is sent from there, too. It is then one of the core's receive buffers, lent: one that
/// is kept is missing to every connection of the core. Keep [`Message::into_owned`] instead.
#[derive(Debug)]
pub enum Message {
    /// Text.
    Text(Text),
    /// Bytes.
    Binary(Binary),
}

/// UTF-8, checked when it was received.
pub struct Text(Body);

/// Any bytes. What was received may be changed where it lies.
pub struct Binary(Body);

/// Where the bytes of a message are.
#[derive(Debug)]
pub(super) enum Body {
    /// Behind the header of the frame that brought them, which a shorter one of ours fits over.
    Received { frame: Lease, header_size: usize },
    /// Anywhere else.
    Elsewhere(Elsewhere),
}

/// Bytes without a frame around them.
#[derive(Debug, Clone)]
pub(super) enum Elsewhere {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Message {
    /// Text to send.
    pub fn text(text: impl Into<Text>) -> Message {
        Message::Text(text.into())
    }

    /// Bytes to send.
    pub fn binary(bytes: impl Into<Binary>) -> Message {
        Message::Binary(bytes.into())
    }

    /// Whether it is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Message::Text(_))
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// Its bytes, whichever it is.
    pub fn as_bytes(&self) -> &[u8] {
        self.body().as_bytes()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The same in memory of its own, which may be kept; copied if it lies in a receive buffer.
    #[must_use]
    pub fn into_owned(self) -> Message {
        match self {
            Message::Text(Text(body)) => Message::Text(Text(body.into_owned())),
            Message::Binary(Binary(body)) => Message::Binary(Binary(body.into_owned())),
        }
    }

    /// Its bytes in memory of their own; copied if they lie in a receive buffer.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.into_body() {
            Body::Elsewhere(Elsewhere::Owned(bytes)) => bytes,
            body => body.as_bytes().to_vec(),
        }
    }

    #[inline]
    pub(super) fn received(is_text: bool, frame: Lease, header_size: usize) -> Message {
        Message::new(is_text, Body::Received { frame, header_size })
    }

    #[inline]
    pub(super) fn new(is_text: bool, body: Body) -> Message {
        match is_text {
            true => Message::Text(Text(body)),
            false => Message::Binary(Binary(body)),
        }
    }

    /// Whether it lies where it was received.
    #[inline]
    pub(super) fn is_received(&self) -> bool {
        matches!(self.body(), Body::Received { .. })
    }

    pub(super) fn body(&self) -> &Body {
        match self {
            Message::Text(text) => &text.0,
            Message::Binary(binary) => &binary.0,
        }
    }

    pub(super) fn into_body(self) -> Body {
        match self {
            Message::Text(text) => text.0,
            Message::Binary(binary) => binary.0,
        }
    }
}

impl Weighed for Message {
    fn load(&self) -> Load {
        Load { bytes: self.len(), leases: u16::from(self.is_received()) }
    }
}

impl Body {
    pub(super) fn owned(bytes: Vec<u8>) -> Body {
        Body::Elsewhere(Elsewhere::Owned(bytes))
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Body::Received { frame, header_size } => frame.get(*header_size..).unwrap_or_default(),
            Body::Elsewhere(Elsewhere::Static(bytes)) => bytes,
            Body::Elsewhere(Elsewhere::Owned(bytes)) => bytes,
            Body::Elsewhere(Elsewhere::Shared(bytes)) => bytes,
        }
    }

    fn into_owned(self) -> Body {
        match self {
            Body::Received { .. } => Body::owned(self.as_bytes().to_vec()),
            Body::Elsewhere(_) => self,
        }
    }
}

impl From<Elsewhere> for Payload {
    fn from(bytes: Elsewhere) -> Payload {
        match bytes {
            Elsewhere::Static(bytes) => bytes.into(),
            Elsewhere::Owned(bytes) => bytes.into(),
            Elsewhere::Shared(bytes) => bytes.into(),
        }
    }
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        // All of it was checked, or was a string: asking once more, a few nanoseconds, needs no
        // promise to the compiler.
        debug_assert!(utf8::is_utf8(self.0.as_bytes()));
        simdutf8::basic::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for Binary {
    /// Bytes that others share are copied first.
    fn deref_mut(&mut self) -> &mut [u8] {
        if let Body::Elsewhere(Elsewhere::Static(_) | Elsewhere::Shared(_)) = self.0 {
            self.0 = Body::owned(self.0.as_bytes().to_vec());
        }
        match &mut self.0 {
            Body::Received { frame, header_size } => {
                frame.get_mut(*header_size..).unwrap_or_default()
            }
            Body::Elsewhere(Elsewhere::Owned(bytes)) => bytes,
            Body::Elsewhere(Elsewhere::Static(_) | Elsewhere::Shared(_)) => &mut [],
        }
    }
}

impl From<Text> for Binary {
    fn from(text: Text) -> Binary {
        Binary(text.0)
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Message {
        Message::Text(text)
    }
}

impl From<Binary> for Message {
    fn from(binary: Binary) -> Message {
        Message::Binary(binary)
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Text {
        Text(Body::Elsewhere(Elsewhere::Static(text.as_bytes())))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Body::owned(text.into_bytes()))
    }
}

impl From<Cow<'static, str>> for Text {
    fn from(text: Cow<'static, str>) -> Text {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Text {
        Text(Body::Elsewhere(Elsewhere::Shared(text.into())))
    }
}

impl From<&'static [u8]> for Binary {
    fn from(bytes: &'static [u8]) -> Binary {
        Binary(Body::Elsewhere(Elsewhere::Static(bytes)))
    }
}

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Binary {
        Binary(Body::owned(bytes))
    }
}

impl From<Arc<[u8]>> for Binary {
    fn from(bytes: Arc<[u8]>) -> Binary {
        Binary(Body::Elsewhere(Elsewhere::Shared(bytes)))
    }
}

/// As text.
impl From<&'static str> for Message {
    fn from(text: &'static str) -> Message {
        Message::text(text)
    }
}

/// As text.
impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::text(text)
    }
}

/// As binary.
impl From<&'static [u8]> for Message {
    fn from(bytes: &'static [u8]) -> Message {
        Message::binary(bytes)
    }
}

/// As binary.
impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::binary(bytes)
    }
}

/// As binary.
impl From<Arc<[u8]>> for Message {
    fn from(bytes: Arc<[u8]>) -> Message {
        Message::binary(bytes)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.as_bytes().len())
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binary({} bytes)", self.0.as_bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;

    #[test]
    fn what_was_received_is_changed_where_it_lies_and_copied_only_to_be_kept() {
        let pool = Pool::new(1, 64);
        let frame = pool.take().expect("one is vacant").fill(b"headerpayload");
        let address = frame.as_ptr() as usize + 6;
        let mut binary = Binary(Body::Received { frame, header_size: 6 });
        binary.reverse();
        assert_eq!((&*binary, binary.as_ptr() as usize), (&b"daolyap"[..], address));
        let kept = Message::from(binary).into_owned();
        assert_eq!((kept.as_bytes(), pool.vacant()), (&b"daolyap"[..], 1));
    }

    #[test]
    fn bytes_that_others_share_are_copied_before_they_are_changed() {
        let shared: Arc<[u8]> = Arc::from(&b"abc"[..]);
        let mut binary = Binary::from(Arc::clone(&shared));
        binary[0] = b'x';
        assert_eq!((&*binary, &*shared), (&b"xbc"[..], &b"abc"[..]));
        let mut binary = Binary::from(&b"abc"[..]);
        binary[0] = b'x';
        assert_eq!(&*binary, b"xbc");
    }

    #[test]
    fn text_is_text() {
        let message = Message::from(String::from("caf\u{e9}"));
        assert_eq!((message.as_text(), message.len()), (Some("caf\u{e9}"), 5));
        assert_eq!(Message::from(vec![0xff]).as_text(), None);
    }
}
