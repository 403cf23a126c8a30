//! A WebSocket service: its terms and bounds, shared by all cores, and what it keeps on each.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::deflate::Compressors;
use super::handshake::Terms;
use super::reader::Bounds;
use super::settings::WebSocketLimits;
use super::topics::Topics;
use crate::upgrade::Mailbox;

/// What all connections of a service share. Read only, but for its topics.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) terms: Terms,
    pub(super) limits: WebSocketLimits,
    pub(super) topics: Topics,
}

/// What those of one core share.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) service: Arc<Service>,
    pub(super) bounds: Bounds,
    pub(super) compressors: RefCell<Compressors>,
}

impl Local {
    /// This core's.
    pub(super) fn of(service: &Arc<Service>, mailbox: &Mailbox) -> Rc<Local> {
        mailbox.resident_of_registration(Arc::as_ptr(service) as usize, || Local {
            service: Arc::clone(service),
            bounds: Bounds {
                message_bytes_max: service.limits.message_bytes_max,
                fragments_max: service.limits.fragments_max,
            },
            compressors: RefCell::default(),
        })
    }
}
