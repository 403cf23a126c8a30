//! A certificate for trying things out: made at the start, signed by itself, kept in memory.

use std::sync::OnceLock;

use upring::config::{Pem, TlsSettings};

/// What it is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The same as long as the process lives: a reload changes nothing about it.
pub(crate) fn settings() -> TlsSettings {
    static MADE: OnceLock<TlsSettings> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

fn make() -> TlsSettings {
    let names = NAMES.map(str::to_owned).to_vec();
    let made = rcgen::generate_simple_self_signed(names).expect("the names are names");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    TlsSettings::of(Pem::Text(certificate), Pem::Text(key))
}
