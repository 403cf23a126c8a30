//! Records: how bytes travel inside TLS once keys are agreed on (RFC 8446 §5.2, RFC 5246 §6.2.3).
//!
//! ```text
//!   received:  header │ nonce (1.2, GCM) │ ciphertext │ tag      opened where it lies: a lease on its middle
//!   sent:      what was written is copied once, behind a header, and sealed where it was copied to
//! ```

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};

use super::{Fault, TlsAlert};
use crate::buffer::Lease;

/// RFC 8446 §5.1: type, version, length.
pub(super) const HEADER_BYTES: usize = 5;

/// RFC 8446 §5.1: what a record carries at most.
pub(super) const PLAIN_BYTES_MAX: usize = 1 << 14;

/// RFC 5246 §6.2.3; it is 2^14 + 256 in RFC 8446 §5.2, which the cipher sees to.
const SEALED_BYTES_MAX: usize = PLAIN_BYTES_MAX + 2048;

const TAG_BYTES: usize = 16;

/// RFC 5288 §3: the part of a nonce that travels with its record.
const EXPLICIT_NONCE_BYTES: usize = 8;

/// The length of the record that begins here, its header included; `None` if too little of it is there.
pub(super) fn record_bytes(bytes: &[u8]) -> Option<Result<usize, Fault>> {
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if header[1] != 3 {
        return Some(Err(Fault::sent(TlsAlert::ProtocolVersion, "a record of another protocol")));
    }
    if len > SEALED_BYTES_MAX {
        let fault = Fault::sent(TlsAlert::RecordOverflow, "a record longer than records are");
        return Some(Err(fault));
    }
    Some(Ok(HEADER_BYTES + len))
}

/// Opens the records of a peer, in their order.
pub(super) struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
}

impl Opener {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Opener {
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => unreachable!("TLS has no other ciphers"),
        };
        let decrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
            }
        };
        Opener { decrypter, sequence }
    }

    /// Opens a record where it lies: what it carries is left of the lease.
    pub(super) fn open(&mut self, record: &mut Lease) -> Result<ContentType, Fault> {
        let (kind, version) = (ContentType::from(record[0]), [record[1], record[2]]);
        let version = ProtocolVersion::from(u16::from_be_bytes(version));
        let start = record.as_ptr();
        let sealed = InboundOpaqueMessage::new(kind, version, &mut record[HEADER_BYTES..]);
        // RFC 8446 §5.4, §5: nothing but zeroes, or a type that is never sealed.
        let faulty = |error| Fault::of(error).or_sent(Some(TlsAlert::UnexpectedMessage));
        let opened = self.decrypter.decrypt(sealed, self.sequence).map_err(faulty)?;
        self.sequence += 1;
        let (kind, len) = (opened.typ, opened.payload.len());
        let offset = match len {
            0 => 0,
            _ => opened.payload.as_ptr().addr() - start.addr(),
        };
        record.advance(offset);
        record.truncate(len);
        Ok(kind)
    }
}

/// How the nonce and what is authenticated beside it are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RFC 8446 §5.2: the type is sealed, too.
    Tls13,
    /// RFC 5288 §3.
    Tls12Gcm,
    /// RFC 7905 §2.
    Tls12ChaCha,
}

/// Seals what is sent into records.
pub(super) struct Sealer {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    /// Records that may be sealed with one key (RFC 8446 §5.5).
    sequence_max: u64,
    form: Form,
}

impl Sealer {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Sealer {
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => unreachable!("TLS has no other ciphers"),
        };
        let form = match suite {
            SupportedCipherSuite::Tls13(_) => Form::Tls13,
            SupportedCipherSuite::Tls12(_) if cipher == &aead::CHACHA20_POLY1305 => {
                Form::Tls12ChaCha
            }
            SupportedCipherSuite::Tls12(_) => Form::Tls12Gcm,
        };
        let key = UnboundKey::new(cipher, key.as_ref()).expect("a key is as long as its cipher's");
        let mut bytes = [0; NONCE_LEN];
        bytes.copy_from_slice(iv.as_ref());
        let sequence_max = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        Sealer { key: LessSafeKey::new(key), iv: bytes, sequence, sequence_max, form }
    }

    /// Whether its key has sealed as much as it may.
    pub(super) fn is_used_up(&self) -> bool {
        self.sequence >= self.sequence_max
    }

    /// As if it had.
    #[cfg(test)]
    pub(super) fn use_up(&mut self) {
        self.sequence_max = self.sequence;
    }

    /// What a record weighs beside what it carries.
    pub(super) fn overhead(&self) -> usize {
        HEADER_BYTES + TAG_BYTES + self.extra()
    }

    /// Appends a record of `len` bytes that `write` appends.
    pub(super) fn seal(
        &mut self,
        kind: ContentType,
        len: usize,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        debug_assert!(len <= PLAIN_BYTES_MAX, "a record carries no more");
        out.reserve(len + self.overhead());
        let nonce = self.nonce();
        let sealed = u16::try_from(len + TAG_BYTES + self.extra()).unwrap_or(u16::MAX);
        let outer = if self.form == Form::Tls13 { ContentType::ApplicationData } else { kind };
        let mut header = [u8::from(outer), 3, 3, 0, 0];
        header[3..].copy_from_slice(&sealed.to_be_bytes());
        out.extend_from_slice(&header);
        if self.form == Form::Tls12Gcm {
            out.extend_from_slice(&nonce[NONCE_LEN - EXPLICIT_NONCE_BYTES..]);
        }
        let start = out.len();
        write(out);
        debug_assert_eq!(out.len(), start + len, "as much is written as was said");
        if self.form == Form::Tls13 {
            out.push(kind.into());
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = &mut out[start..];
        let tag = match self.form {
            Form::Tls13 => self.key.seal_in_place_separate_tag(nonce, Aad::from(header), text),
            Form::Tls12Gcm | Form::Tls12ChaCha => {
                let beside = beside(self.sequence, kind, len);
                self.key.seal_in_place_separate_tag(nonce, Aad::from(beside), text)
            }
        };
        out.extend_from_slice(tag.expect("a record is shorter than ciphers can take").as_ref());
        self.sequence += 1;
    }

    fn extra(&self) -> usize {
        match self.form {
            Form::Tls13 => 1,
            Form::Tls12Gcm => EXPLICIT_NONCE_BYTES,
            Form::Tls12ChaCha => 0,
        }
    }

    /// RFC 8446 §5.3; RFC 5288 and 7905 leave it to us or have the same.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, of) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of;
        }
        nonce
    }
}

/// RFC 5246 §6.2.3.3: what is authenticated beside a record.
fn beside(sequence: u64, kind: ContentType, len: usize) -> [u8; 13] {
    let mut beside = [0; 13];
    beside[..8].copy_from_slice(&sequence.to_be_bytes());
    beside[8..11].copy_from_slice(&[kind.into(), 3, 3]);
    beside[11..].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    beside
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, default_provider};
    use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{
        ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
        ServerConnection, SideData,
    };

    use super::*;
    use crate::counters::AlertBy;

    /// Lengths of what records carry, in this order with one key. That of 17 bytes is an alert.
    const LENGTHS: [usize; 7] = [0, 1, 16, 1000, PLAIN_BYTES_MAX, 0, 17];

    /// Where they begin: at the beginning, and far behind it. That of rustls' provider seals with a key only
    /// what follows on what it has sealed; eight records from a multiple of eight do in its reckoning.
    const SEQUENCES: [u64; 3] = [0, 8, 0xff00_0000_0000_00f8];

    /// The keys of one direction as both its ends have them.
    struct Keys {
        suite: SupportedCipherSuite,
        sending: ConnectionTrafficSecrets,
        receiving: ConnectionTrafficSecrets,
    }

    /// Keys of every suite there is.
    fn all_keys() -> impl Iterator<Item = Keys> {
        let named = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite());
        ALL_CIPHER_SUITES.iter().map(move |suite| {
            // Keys are the same whoever signs; our certificate is for ECDSA.
            let name = named(suite).replace("ECDHE_RSA", "ECDHE_ECDSA");
            let agreed = ALL_CIPHER_SUITES.iter().find(|other| named(other) == name);
            Keys::agreed(*suite, *agreed.expect("a suite with the same cipher"))
        })
    }

    impl Keys {
        /// What rustls' client and its server agree on.
        fn agreed(suite: SupportedCipherSuite, spoken: SupportedCipherSuite) -> Keys {
            let mut provider = default_provider();
            provider.cipher_suites = vec![spoken];
            let (provider, version) = (Arc::new(provider), [spoken.version()]);
            let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]);
            let made = made.expect("a name");
            let (chain, mut roots) = (vec![made.cert.der().clone()], RootCertStore::empty());
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
            roots.add(chain[0].clone()).expect("a certificate");
            let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&version)
                .expect("a version")
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .expect("its key");
            let mut client = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&version)
                .expect("a version")
                .with_root_certificates(roots)
                .with_no_client_auth();
            (server.enable_secret_extraction, client.enable_secret_extraction) = (true, true);
            let name = ServerName::try_from("a.example").expect("a name");
            let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
            let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
            while client.is_handshaking() || server.is_handshaking() {
                carry(&mut client, &mut server);
                carry(&mut server, &mut client);
            }
            let [client, server] =
                [client.dangerous_extract_secrets(), server.dangerous_extract_secrets()];
            let (_, sending) = server.expect("it may be asked").tx;
            let (_, receiving) = client.expect("it may be asked").rx;
            Keys { suite, sending, receiving }
        }
    }

    fn carry<A: SideData, B: SideData>(
        from: &mut ConnectionCommon<A>,
        to: &mut ConnectionCommon<B>,
    ) {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).expect("a buffer takes all");
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            to.read_tls(&mut rest).expect("a slice");
            to.process_new_packets().expect("it is of its like");
        }
    }

    fn encrypter(
        suite: SupportedCipherSuite,
        secrets: ConnectionTrafficSecrets,
    ) -> Box<dyn MessageEncrypter> {
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => unreachable!("TLS has no other ciphers"),
        };
        match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                let (fixed, explicit) = iv.as_ref().split_at(fixed);
                suite.aead_alg.encrypter(key, fixed, explicit)
            }
        }
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    /// Records that carry texts of all lengths, sealed by us.
    fn sealed(sealer: &mut Sealer) -> Vec<Vec<u8>> {
        let seal = |len| {
            let mut record = Vec::new();
            let kind = if len == 17 { ContentType::Alert } else { ContentType::ApplicationData };
            sealer.seal(kind, len, &mut record, |out| out.extend_from_slice(&text(len)));
            assert_eq!(record.len(), len + sealer.overhead());
            assert_eq!(record_bytes(&record).and_then(Result::ok), Some(record.len()));
            record
        };
        LENGTHS.map(seal).into()
    }

    #[test]
    fn what_we_seal_rustls_opens() {
        assert_eq!(ALL_CIPHER_SUITES.len(), 9, "of TLS 1.2 and 1.3");
        for Keys { suite, sending, receiving } in all_keys() {
            let mut sealer = Sealer::new(suite, (0, sending));
            // The opener of rustls, without our part of opening.
            let mut theirs = Opener::new(suite, (0, receiving)).decrypter;
            for first in SEQUENCES {
                sealer.sequence = first;
                for ((mut record, len), sequence) in
                    sealed(&mut sealer).into_iter().zip(LENGTHS).zip(first..)
                {
                    let kind = ContentType::from(record[0]);
                    assert_eq!(record[1..3], [3, 3], "RFC 8446 §5.2");
                    let (version, body) = (ProtocolVersion::TLSv1_2, &mut record[HEADER_BYTES..]);
                    let opened =
                        theirs.decrypt(InboundOpaqueMessage::new(kind, version, body), sequence);
                    let opened = opened.unwrap_or_else(|_| panic!("{suite:?}, {len}"));
                    let is_alert = opened.typ == ContentType::Alert;
                    assert_eq!((opened.payload, is_alert), (&text(len)[..], len == 17));
                }
            }
        }
    }

    #[test]
    fn what_rustls_seals_we_open_where_it_lies() {
        for first in SEQUENCES {
            for Keys { suite, sending, receiving } in all_keys() {
                let mut theirs = encrypter(suite, sending);
                let mut opener = Opener::new(suite, (first, receiving));
                for (len, sequence) in LENGTHS.into_iter().zip(first..) {
                    let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
                    let text = text(len);
                    let plain = OutboundPlainMessage { typ, version, payload: text[..].into() };
                    let record =
                        theirs.encrypt(plain, sequence).expect("it can be sealed").encode();
                    let mut record = Lease::copied(std::iter::once(&record[..]));
                    let within = record.as_ptr_range();
                    let kind = opener.open(&mut record).expect("it was sealed for us");
                    assert_eq!((kind, &record[..]), (typ, &text[..]), "{suite:?}, {len}");
                    assert!(len == 0 || within.contains(&record.as_ptr()), "it was not moved");
                }
            }
        }
    }

    #[test]
    fn what_nobody_sealed_or_not_in_this_place_is_not_opened() {
        for Keys { suite, sending, receiving } in all_keys() {
            let mut sealer = Sealer::new(suite, (0, sending));
            let mut opener = Opener::new(suite, (0, receiving));
            let mut open = |bytes: &[u8], sequence| {
                opener.sequence = sequence;
                opener.open(&mut Lease::copied(std::iter::once(bytes))).err()
            };
            for (record, sequence) in sealed(&mut sealer).iter().zip(0..).take(4) {
                assert!(open(record, sequence).is_none());
                assert!(open(record, sequence + 1).is_some(), "one was left out");
                for at in (HEADER_BYTES..record.len()).step_by(1 + record.len() / 100) {
                    let mut hurt = record.clone();
                    hurt[at] ^= 1 << (at % 8);
                    let fault = open(&hurt, sequence).expect("it was changed");
                    let expected = Some((AlertBy::Us, TlsAlert::BadRecordMac));
                    assert_eq!(fault.alert, expected, "{suite:?}, at {at}");
                }
                for len in [HEADER_BYTES, HEADER_BYTES + 1, record.len() - 1] {
                    assert!(open(&record[..len], sequence).is_some(), "cut at {len}");
                }
            }
        }
    }
}
