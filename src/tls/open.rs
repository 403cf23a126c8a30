//! TLS whose keys are agreed on: what is written leaves in records, and the keys are made anew.

use rustls::ContentType;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::handshake::Agreed;
use super::record::{self, Opener, Sealer};
use super::{Fault, TlsAlert};
use crate::buffer::Batch;
use crate::config::Millis;
use crate::http::Secured;

/// What is sealed for one send: three full records, which fit the memory a batch keeps.
const SEALED_PER_SEND_MAX: usize = 3 * record::PLAIN_BYTES_MAX;

/// What a record carries at first: with all around it, it fits one segment, so that the peer can open what
/// has come instead of waiting for the rest of a long one.
pub(super) const FIRST_RECORD_BYTES: usize = 1400;

/// Behind so many bytes records are as long as they get. After a pause it begins again, as the window of
/// the kernel does (RFC 2861).
const FIRST_RECORDS_BYTES: usize = 64 * 1024;
const PAUSE_MS: Millis = 1000;

/// Records without a byte of content in a row that a peer may send.
pub(super) const EMPTY_RECORDS_MAX: u8 = 32;

/// Both directions' keys, and what makes further ones.
pub(super) struct Open {
    pub(super) opener: Opener,
    pub(super) sealer: Sealer,
    /// Makes further keys.
    keys: KernelConnection<ServerConnectionData>,
    /// Bytes sent since the last pause, and when the last of them.
    warmth: usize,
    sealed_at: Millis,
    empty_records: u8,
    /// The word of a new key waits to be sent: it answers whoever asks for one meanwhile.
    is_answering: bool,
}

impl Open {
    pub(super) fn of(agreed: Agreed) -> (Open, Secured) {
        let Agreed { opener, sealer, keys, secured } = agreed;
        let (warmth, sealed_at, empty_records) = (0, 0, 0);
        let is_answering = false;
        (Open { opener, sealer, keys, warmth, sealed_at, empty_records, is_answering }, secured)
    }

    pub(super) fn is_tls13(&self) -> bool {
        self.keys.negotiated_cipher_suite().tls13().is_some()
    }

    /// Seals `written`, as much as is sent at once; whether that is all of it.
    pub(super) fn seal(&mut self, written: &mut Batch, now: Millis, out: &mut Vec<u8>) -> bool {
        if now.saturating_sub(self.sealed_at) >= PAUSE_MS {
            self.warmth = 0;
        }
        self.sealed_at = now;
        let mut left = SEALED_PER_SEND_MAX;
        while !written.is_empty() && left > 0 {
            if self.sealer.is_used_up() && !self.renew(out) {
                return false;
            }
            let is_warm = self.warmth >= FIRST_RECORDS_BYTES;
            let most = if is_warm { record::PLAIN_BYTES_MAX } else { FIRST_RECORD_BYTES };
            let len = written.len().min(most).min(left);
            self.sealer.seal(ContentType::ApplicationData, len, out, |out| {
                let mut missing = len;
                for slice in written.slices() {
                    let taken = slice.len().min(missing);
                    out.extend_from_slice(&slice[..taken]);
                    missing -= taken;
                    if missing == 0 {
                        break;
                    }
                }
            });
            written.advance(len);
            self.warmth = self.warmth.saturating_add(len);
            left -= len;
        }
        written.is_empty()
    }

    /// RFC 8446 §4.6.3: has the peer open what follows with a new key, and seals it with that; false where
    /// TLS has no such thing.
    fn renew(&mut self, out: &mut Vec<u8>) -> bool {
        let suite = self.keys.negotiated_cipher_suite();
        if suite.tls13().is_none() {
            return false;
        }
        self.sealer.seal(ContentType::Handshake, KEY_UPDATE.len(), out, |out| {
            out.extend_from_slice(&KEY_UPDATE);
        });
        match self.keys.update_tx_secret() {
            Ok(secrets) => self.sealer = Sealer::new(suite, secrets),
            Err(_) => return false,
        }
        true
    }

    /// A handshake message behind the handshake.
    pub(super) fn further(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let suite = self.keys.negotiated_cipher_suite();
        if suite.tls13().is_none() {
            // RFC 5746 §4.5 allows it, and RFC 9325 §3.5 asks for no more.
            return Err(Fault::sent(TlsAlert::NoRenegotiation, "renegotiation is not spoken"));
        }
        // RFC 8446 §4.6.3: alone in its record, since the key behind it is another.
        let is_asked = match *message {
            [24, 0, 0, 1, asked @ (0 | 1)] => asked == 1,
            _ => {
                let why = "a handshake message that has no place here";
                return Err(Fault::sent(TlsAlert::UnexpectedMessage, why));
            }
        };
        let secrets = self.keys.update_rx_secret().map_err(Fault::of)?;
        self.opener = Opener::new(suite, secrets);
        // RFC 8446 §4.6.3: one answer is enough for all that ask before it is sent.
        if is_asked && !std::mem::replace(&mut self.is_answering, true) {
            self.renew(out);
        }
        Ok(())
    }

    /// What there was to say has been given to the kernel.
    pub(super) fn note_said(&mut self) {
        self.is_answering = false;
    }

    /// A record had something in it.
    pub(super) fn note_content(&mut self) {
        self.empty_records = 0;
    }

    /// Keeps a peer from keeping us busy with nothing.
    pub(super) fn note_empty(&mut self) -> Result<(), Fault> {
        self.empty_records += 1;
        if self.empty_records > EMPTY_RECORDS_MAX {
            let why = "record after record without content";
            return Err(Fault::sent(TlsAlert::UnexpectedMessage, why));
        }
        Ok(())
    }
}

/// RFC 8446 §4.6.3: update_not_requested.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
