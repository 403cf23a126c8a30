//! SIGINT and SIGTERM: the first ends the run, which is reported as far as it came, and the second
//! ends the program. Set up by `main.rs`, asked by whatever lasts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come, and which.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    /// 0: none.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Notes signals from now on.
    ///
    /// # Errors
    /// The kernel takes no handler.
    pub(crate) fn watch() -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let has_come = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // What is registered first acts first: it finds the flag of an earlier signal only.
            flag::register_conditional_default(number, Arc::clone(&has_come))?;
            flag::register(number, Arc::clone(&has_come))?;
            flag::register_usize(number, Arc::clone(&interrupt.signal), number as usize)?;
        }
        Ok(interrupt)
    }

    pub(crate) fn has_come(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// The exit status that tells of it, as shells have it: 128 and the signal's number.
    pub(crate) fn status(&self) -> Option<u8> {
        let signal = self.signal.load(Ordering::Relaxed) as u8;
        (signal != 0).then(|| 128 + signal)
    }
}
