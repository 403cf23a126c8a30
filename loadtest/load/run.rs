//! A run of rounds on one or several threads: each opens its connections, waits for the others,
//! makes its rounds and tells of them every second. Called by `main.rs`.

use std::error::Error;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use upring::ring::setup;

use crate::clients::{Clients, ring_config};
use crate::interrupt::Interrupt;
use crate::options::{Mode, Run};
use crate::pace::Pace;
use crate::process;
use crate::report::Report;
use crate::rounds::{Plan, Rounds};
use crate::say;
use crate::script::Script;
use crate::tally::Tally;

/// Seconds of a run that is given neither a time nor a number of requests.
pub(crate) const SECONDS_USUAL: f64 = 5.0;

/// Fewer than the shortest usual queue of a listener.
const OPENING_MAX: usize = 256;

/// What a thread tells the one that reports.
pub(crate) enum News {
    /// Its connections are open.
    Ready,
    /// What came since the last time.
    Progress(Tally),
    /// How long it took, or why it could not go on.
    Ended(Result<Duration, String>),
}

/// What one thread does.
struct Task {
    script: &'static Script,
    plan: Plan,
    mode: &'static Mode,
    seats: usize,
    core: Option<usize>,
}

/// Whether all was right.
pub(crate) fn run(
    mode: &'static Mode,
    run: &Run,
    interrupt: &'static Interrupt,
) -> Result<bool, Box<dyn Error>> {
    let script: &'static Script = Box::leak(Box::new(Script::of(mode)));
    // A thread inherits the policy of the one that starts it; this one goes back to its own.
    let fifo = run.fifo && process::schedule_as(libc::SCHED_FIFO, 1).is_ok();
    let (tell, news) = channel();
    let mut orders = Vec::new();
    let mut threads = Vec::new();
    for number in 0..run.threads {
        let task = Task::of(script, mode, run, number, interrupt);
        let (order, obey) = channel();
        let tell = tell.clone();
        orders.push(order);
        threads.push(thread::spawn(move || see_to(&tell, || task.carry_out(&tell, &obey))));
    }
    if fifo {
        process::schedule_as(libc::SCHED_OTHER, 0)?;
    }
    drop(tell);
    let report = report(Report::new(mode, script.depth, fifo), run, interrupt, &news, &orders)?;
    drop(orders);
    for thread in threads {
        thread.join().map_err(|_| "a thread of the generator panicked")?;
    }
    Ok(report.is_right())
}

/// Hears what the threads have to say until they have ended, and prints it.
fn report(
    mut report: Report<'static>,
    run: &Run,
    interrupt: &Interrupt,
    news: &Receiver<News>,
    orders: &[Sender<Duration>],
) -> Result<Report<'static>, Box<dyn Error>> {
    let (mut ready, mut ended) = (0, 0);
    while ended < orders.len() {
        match news.recv()? {
            News::Ready => {
                ready += 1;
                if ready == orders.len() {
                    let waited = wait_for_word(run, interrupt)?;
                    report.begin();
                    // One that is gone has said why.
                    orders.iter().for_each(|order| order.send(waited).unwrap_or_default());
                }
            }
            News::Progress(tally) => report.add(tally),
            News::Ended(Ok(taken)) => {
                ended += 1;
                report.end(taken);
            }
            News::Ended(Err(error)) => return Err(error.into()),
        }
    }
    report.print(interrupt.has_come())?;
    if run.wait && await_input(interrupt)? {
        while io::stdin().lock().read(&mut [0; 64])? > 0 && await_input(interrupt)? {}
    }
    Ok(report)
}

/// For how long nobody said the word.
fn wait_for_word(run: &Run, interrupt: &Interrupt) -> io::Result<Duration> {
    let begun = Instant::now();
    if run.wait {
        say::print("ready")?;
        if await_input(interrupt)? {
            io::stdin().lock().read_line(&mut String::new())?;
        }
    }
    Ok(begun.elapsed())
}

/// Waits for something on standard input, or its end. False: a signal came before.
fn await_input(interrupt: &Interrupt) -> io::Result<bool> {
    const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let input = io::stdin();
    while !interrupt.has_come() {
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        match poll(&mut ready, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Does a thread's work, and tells if that came to nothing: who waits for its end waits for all of
/// them, and the others do not end before they are told to.
fn see_to(tell: &Sender<News>, work: impl FnOnce() -> Result<(), String>) {
    let panicked = |_| Err("a thread of the generator panicked".to_owned());
    let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
    // Its connections are closed by now.
    ended.unwrap_or_else(|error| drop(tell.send(News::Ended(Err(error)))));
}

impl Task {
    /// The share of the `number`-th thread.
    fn of(
        script: &'static Script,
        mode: &'static Mode,
        run: &Run,
        number: u16,
        interrupt: &'static Interrupt,
    ) -> Task {
        let common = mode.common();
        let share = |all: u64| {
            let (each, rest) = (all / u64::from(run.threads), all % u64::from(run.threads));
            each + u64::from(u64::from(number) < rest)
        };
        let plan = Plan {
            pace: Pace::of(run, number, run.threads),
            requests_max: run.requests.map_or(u64::MAX, share),
            time: match (run.requests, run.seconds) {
                // Without a time of its own, a number of requests takes as long as it takes.
                (Some(_), None) => Duration::MAX,
                (_, seconds) => Duration::from_secs_f64(seconds.unwrap_or(SECONDS_USUAL)),
            },
            errors_max: run.errors_max,
            opening_max: OPENING_MAX,
            limit: mode.limit(),
            stall: mode.stall(),
            interrupt,
        };
        Task {
            script,
            plan,
            mode,
            seats: share(common.connections as u64) as usize,
            core: common.core.map(|core| core + usize::from(number)),
        }
    }

    fn carry_out(&self, tell: &Sender<News>, orders: &Receiver<Duration>) -> Result<(), String> {
        let text = |error: &dyn Error| error.to_string();
        if let Some(core) = self.core {
            process::pin_to_core(core).map_err(|error| format!("core {core}: {error}"))?;
        }
        let common = self.mode.common();
        let mut uring = setup::build(&ring_config()).map_err(|error| text(&error))?;
        let clients = Clients::new(&mut uring, common, self.seats);
        let mut clients = clients.map_err(|error| text(&error))?;
        let mut rounds = Rounds::new(self.script, self.plan, self.seats, tell.clone());
        rounds.open(&mut clients).map_err(|error| text(&error))?;
        // If nobody hears it, nobody waits for this run any more.
        let _ = tell.send(News::Ready);
        rounds.postpone_limit(orders.recv().unwrap_or_default());
        let taken = rounds.run(&mut clients).map_err(|error| text(&error))?;
        let _ = tell.send(News::Ended(Ok(taken)));
        let _ = orders.recv();
        if common.tls.tls {
            // Others are closed by the kernel, which says no goodbye in TLS.
            rounds.close(&mut clients).map_err(|error| text(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_has_ended() {
        let (tell, news) = channel();
        see_to(&tell, || panic!("a bug, as this test has it"));
        // One that is still there holds the channel open.
        assert!(matches!(news.try_recv(), Ok(News::Ended(Err(_)))));
        see_to(&tell, || Ok(()));
        assert!(news.try_recv().is_err());
    }
}
