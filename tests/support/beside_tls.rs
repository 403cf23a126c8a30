//! What tests of TLS in the built binary share: certificates, the server as a process, and clients that others
//! wrote.

#[path = "certificates.rs"]
pub(crate) mod certificates;
#[path = "process.rs"]
pub(crate) mod process;
#[path = "../clients/running.rs"]
#[allow(dead_code, reason = "each test takes the part of it that it needs")]
pub(crate) mod running;
#[path = "serving.rs"]
#[allow(dead_code, reason = "what runs clients needs it")]
pub(crate) mod serving;

/// Whether `openssl` can be run, which is said aloud if it cannot.
pub(crate) fn has_openssl() -> bool {
    running::is_there("openssl", &["version"], "openssl")
}
