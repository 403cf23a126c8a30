//! What a run is told as: a line a second while it lasts, and the whole at its end. Called by
//! `run.rs`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::options::{Echo, Mode, Switch};
use crate::say;
use crate::tally::Tally;

pub(crate) struct Report<'m> {
    mode: &'m Mode,
    depth: usize,
    fifo: bool,
    begun: Instant,
    told: Instant,
    /// Since the last line, and in all.
    lately: Tally,
    all: Tally,
    /// Of the thread that took longest.
    taken: Duration,
}

impl<'m> Report<'m> {
    pub(crate) fn new(mode: &'m Mode, depth: usize, fifo: bool) -> Report<'m> {
        let now = Instant::now();
        Report {
            mode,
            depth,
            fifo,
            begun: now,
            told: now,
            lately: Tally::default(),
            all: Tally::default(),
            taken: Duration::ZERO,
        }
    }

    /// The run begins now.
    pub(crate) fn begin(&mut self) {
        self.begun = Instant::now();
        self.told = self.begun;
    }

    /// Adds what a thread has told.
    pub(crate) fn add(&mut self, tally: Tally) {
        const LINE_EVERY: Duration = Duration::from_millis(950);
        self.lately.add(tally);
        if self.told.elapsed() >= LINE_EVERY {
            self.tell();
        }
    }

    /// A thread has ended after so long.
    pub(crate) fn end(&mut self, taken: Duration) {
        self.taken = self.taken.max(taken);
    }

    /// No answer is none that was right.
    pub(crate) fn is_right(&self) -> bool {
        self.all.errors == 0 && self.all.requests > 0
    }

    /// One line of progress.
    fn tell(&mut self) {
        let lately = std::mem::take(&mut self.lately);
        if !self.mode.common().quiet && !self.mode.common().json {
            let end = if io::stderr().is_terminal() { "\x1b[K\r" } else { "\n" };
            say::tell(&format!(
                "{:5.0} s  {:9.0} /s  p50 {:8.1}  p99 {:8.1} us  {} errors{end}",
                self.begun.elapsed().as_secs_f64(),
                lately.rate(self.told.elapsed()),
                lately.us(0.5),
                lately.us(0.99),
                self.all.errors + lately.errors,
            ));
        }
        self.told = Instant::now();
        self.all.add(lately);
    }

    /// The whole, as far as it came.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn print(&mut self, is_interrupted: bool) -> io::Result<()> {
        let lately = std::mem::take(&mut self.lately);
        self.all.add(lately);
        self.all.tell_faults();
        if self.all.requests + self.all.errors == 0 && !is_interrupted {
            say::tell("error: nothing was answered\n");
        }
        if is_interrupted {
            say::tell("interrupted: what was under way is not counted\n");
        }
        let json = self.mode.common().json;
        say::print(&if json { self.json(is_interrupted) } else { self.text() })
    }

    fn json(&self, is_interrupted: bool) -> String {
        let Report { all, taken, .. } = self;
        serde_json::json!({
            "mode": self.mode.name(),
            "connections": self.mode.common().connections,
            "depth": self.depth,
            "bytes": self.bytes(),
            "requests": all.requests,
            "errors": all.errors,
            "reopened": all.reopened,
            "tls": all.handshakes.json(&self.mode.common().tls),
            "seconds": taken.as_secs_f64(),
            "rate": all.rate(*taken),
            "p50_us": all.us(0.5),
            "p90_us": all.us(0.9),
            "p99_us": all.us(0.99),
            "p999_us": all.us(0.999),
            "p9999_us": all.us(0.9999),
            "max_us": all.us(1.0),
            "mean_us": all.latencies_ns.mean() / 1000.0,
            "fifo": self.fifo,
            "interrupted": is_interrupted,
            "faults": all.faults(),
        })
        .to_string()
    }

    fn text(&self) -> String {
        let Report { all, taken, .. } = self;
        let unit = match self.mode {
            Mode::Http(_) => "requests",
            Mode::Switch(_) => "switches",
            _ => "messages",
        };
        let latencies = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
        let latencies = latencies.into_iter().chain([("p99.99", 0.9999), ("max", 1.0)]);
        let latencies: Vec<String> =
            latencies.map(|(name, quantile)| format!("{name} {:.1}", all.us(quantile))).collect();
        let reopened = match all.reopened {
            0 => String::new(),
            count => format!(", {count} connections closed by the server and opened anew"),
        };
        let secured = all.handshakes.text(self.mode.common());
        format!(
            "{} {unit} in {:.3} s, {:.0} a second, {} errors{reopened}{secured}\nlatency in us: {}",
            all.requests,
            taken.as_secs_f64(),
            all.rate(*taken),
            all.errors,
            latencies.join(", ")
        )
    }

    /// Bytes of a message.
    fn bytes(&self) -> Option<usize> {
        match self.mode {
            Mode::Echo(Echo { bytes, .. }) | Mode::Switch(Switch { bytes, .. }) => Some(*bytes),
            _ => None,
        }
    }
}
