//! See `tls` in tests/support/fuzz.
#![no_main]

#[path = "../../tests/support/fuzz/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target calls one of the bodies")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::tls(bytes));
