//! The runner's targets without a kernel or a clock: [`alone`] is the session by itself,
//! [`simulated`] the whole engine on the simulated kernel. Time passes only when a script waits, so
//! a conversation of minutes costs microseconds.
//!
//! Each conversation has a world of its own. When its client lets go, the world runs on until
//! nothing is left to do, and then everything must be back: gauges, buffers, descriptors.

#![allow(unreachable_pub, reason = "a private module of the test, and its interface all the same")]

pub mod alone;
pub mod simulated;

use upring::counters::Counters;

use crate::conformance::{Case, Wait};
use crate::fixture::Setting;

/// Waiting for bytes that are expected: longer than any delay of the fixture, shorter than any of
/// its timeouts.
const PATIENCE_MS: u64 = 5000;
/// Silence that shows that nothing else comes.
const QUIET_MS: u64 = 1000;
/// By then every timeout of a connection whose client has gone is over.
const AFTERMATH_MS: u64 = 200_000;

/// How long what `wait` says is, in virtual time.
fn millis(wait: Wait) -> u64 {
    match wait {
        Wait::ForMore => PATIENCE_MS,
        Wait::ForSilence => QUIET_MS,
        Wait::NoLonger => 0,
    }
}

/// The setting that a case needs.
///
/// # Errors
/// The case waits for a change, or needs a setting that the fixture does not have.
fn setting_for(case: &Case) -> Result<Setting, String> {
    match &case.pending {
        Some(change) => Err(format!("pending: {change}")),
        None => Setting::named(case.needs.as_deref()),
    }
}

/// A core whose connections are closed counts nothing as open.
fn assert_all_closed(counters: &Counters, name: &str) {
    let open = [
        counters.connections_open.value(),
        counters.upgrades_open.value(),
        counters.upgrades_deciding.value(),
    ];
    assert_eq!(open, [0; 3], "{name}: connections open, upgrades open, upgrades deciding");
}
