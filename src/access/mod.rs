//! The access log: a line for each answer, one more for the end of each switched connection. Cores make
//! the lines where they answer, and a thread of its own writes them: no core waits for a disk.
//!
//! ```text
//!   core 0: Recorder ── lines of a turn ──► bounded queue ──┐
//!   core 1: Recorder ── lines of a turn ──► bounded queue ──┼──► Writer (a thread) ──► file, stdout, FIFO
//!   core n: Recorder ── lines of a turn ──► bounded queue ──┘         ▲ reopen, end
//! ```
//!
//! A queue has one core at its one end and the writer at the other: neither takes a lock. What finds no
//! room is dropped and counted (`access_lines_dropped`).

mod escape;
mod line;
mod lines;
mod recorder;
mod sink;
mod stamp;
mod writer;

pub use recorder::Recorder;
pub use writer::{AccessLogError, Feed, Reopener, Writer, Writing, feeds};

pub(crate) use line::Facts;
pub(crate) use recorder::Whose;
