//! A published message as its subscribers are sent it: framed once, referred to by all.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crate::protocols::websocket::deflate::Compressors;
use crate::protocols::websocket::extension::WINDOW_BITS_MAX;
use crate::protocols::websocket::frame::{Opcode, ServerHeader};
use crate::protocols::websocket::message::Message;
use crate::protocols::websocket::settings::{Compression, Context};

/// A message, framed, on its way to all cores.
#[derive(Debug)]
pub(super) struct Frame {
    plain: Arc<[u8]>,
    header_size: usize,
    opcode: Opcode,
    /// At which level to compress it for who may be sent it so, if at all.
    level: Option<u8>,
    /// The compressed one, once somebody wanted it; `None` if it is no shorter.
    deflated: OnceLock<Option<Arc<[u8]>>>,
}

impl Frame {
    pub(super) fn new(message: &Message, compression: Option<&Compression>) -> Frame {
        let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
        let payload = message.as_bytes();
        let is_worth_it =
            |at: &&Compression| at.context == Context::Shared && payload.len() >= at.bytes_min;
        Frame {
            plain: framed(opcode, false, payload),
            header_size: ServerHeader::new(opcode, false, payload.len()).as_bytes().len(),
            opcode,
            level: compression.filter(is_worth_it).map(|at| at.level),
            deflated: OnceLock::new(),
        }
    }

    /// Bytes, uncompressed.
    pub(super) fn len(&self) -> usize {
        self.plain.len()
    }

    /// For connections whose compressor forgets: what is compressed for one is for all of them.
    fn deflated(&self, compressors: &RefCell<Compressors>) -> Option<&Arc<[u8]>> {
        let level = self.level?;
        let deflate = || {
            let payload = self.plain.get(self.header_size..)?;
            let deflated = compressors.borrow_mut().deflate(payload, WINDOW_BITS_MAX, level)?;
            Some(framed(self.opcode, true, &deflated))
        };
        self.deflated.get_or_init(deflate).as_ref()
    }
}

fn framed(opcode: Opcode, is_compressed: bool, payload: &[u8]) -> Arc<[u8]> {
    let header = ServerHeader::new(opcode, is_compressed, payload.len());
    [header.as_bytes(), payload].concat().into()
}

/// A frame on one core, which alone counts who still sends it.
#[derive(Debug)]
pub(super) struct CoreFrame {
    frame: Arc<Frame>,
    plain: Rc<Arc<[u8]>>,
    deflated: OnceCell<Option<Rc<Arc<[u8]>>>>,
}

impl CoreFrame {
    pub(super) fn new(frame: Arc<Frame>) -> CoreFrame {
        let plain = Rc::new(Arc::clone(&frame.plain));
        CoreFrame { frame, plain, deflated: OnceCell::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }

    /// What a connection is sent. With `compressors` it may be compressed.
    pub(super) fn bytes(&self, compressors: Option<&RefCell<Compressors>>) -> Rc<Arc<[u8]>> {
        let deflated = compressors.and_then(|compressors| {
            let deflate = || self.frame.deflated(compressors).cloned().map(Rc::new);
            self.deflated.get_or_init(deflate).as_ref()
        });
        Rc::clone(deflated.unwrap_or(&self.plain))
    }
}
