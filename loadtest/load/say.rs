//! Words for whoever started the program. A reader that is gone is no reason to end: the exit
//! status still tells.

use std::io::{self, ErrorKind, Write};

/// A line on standard output.
///
/// # Errors
/// It cannot be written, though somebody is there to read it.
pub(crate) fn print(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match writeln!(output, "{line}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Text on standard error, its end included. Where that fails, there is nowhere to say so.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
