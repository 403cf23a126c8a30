//! A run of rounds on one or several threads: each opens its connections, waits for the others,
//! makes its rounds and tells of them every second. Called by `main.rs`.

use std::error::Error;
use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use upring::ring::setup;

use crate::clients::{Clients, ring_config};
use crate::options::{Mode, Run};
use crate::pace::Pace;
use crate::process;
use crate::report::Report;
use crate::rounds::{Plan, Rounds};
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
pub(crate) fn run(mode: &'static Mode, run: &Run) -> Result<bool, Box<dyn Error>> {
    let script: &'static Script = Box::leak(Box::new(Script::of(mode)));
    // A thread inherits the policy of the one that starts it; this one goes back to its own.
    let fifo = run.fifo && process::schedule_as(libc::SCHED_FIFO, 1).is_ok();
    let (tell, news) = channel();
    let mut orders = Vec::new();
    let mut threads = Vec::new();
    for number in 0..run.threads {
        let task = Task::of(script, mode, run, number);
        let (order, obey) = channel();
        let tell = tell.clone();
        orders.push(order);
        threads.push(thread::spawn(move || {
            let ended = task.carry_out(&tell, &obey);
            // Its connections are closed by now.
            ended.unwrap_or_else(|error| drop(tell.send(News::Ended(Err(error)))));
        }));
    }
    if fifo {
        process::schedule_as(libc::SCHED_OTHER, 0)?;
    }
    drop(tell);
    let report = report(mode, run, script, fifo, &news, &orders)?;
    drop(orders);
    for thread in threads {
        thread.join().map_err(|_| "a thread of the generator panicked")?;
    }
    Ok(report.is_right())
}

/// Hears what the threads have to say until they have ended, and prints it.
fn report(
    mode: &'static Mode,
    run: &Run,
    script: &Script,
    fifo: bool,
    news: &Receiver<News>,
    orders: &[Sender<()>],
) -> Result<Report<'static>, Box<dyn Error>> {
    let mut report = Report::new(mode, script.depth, fifo);
    let (mut ready, mut ended) = (0, 0);
    while ended < orders.len() {
        match news.recv()? {
            News::Ready => {
                ready += 1;
                if ready == orders.len() {
                    wait_for_word(run)?;
                    report.begin();
                    // One that is gone has said why.
                    orders.iter().for_each(|order| order.send(()).unwrap_or_default());
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
    report.print()?;
    if run.wait {
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    }
    Ok(report)
}

fn wait_for_word(run: &Run) -> io::Result<()> {
    if run.wait {
        println!("ready");
        io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}

impl Task {
    /// The share of the `number`-th thread.
    fn of(script: &'static Script, mode: &'static Mode, run: &Run, number: u16) -> Task {
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
        };
        Task {
            script,
            plan,
            mode,
            seats: share(common.connections as u64) as usize,
            core: common.core.map(|core| core + usize::from(number)),
        }
    }

    fn carry_out(&self, tell: &Sender<News>, orders: &Receiver<()>) -> Result<(), String> {
        let text = |error: &dyn Error| error.to_string();
        if let Some(core) = self.core {
            process::pin_to_core(core).map_err(|error| format!("core {core}: {error}"))?;
        }
        let common = self.mode.common();
        let mut uring = setup::build(&ring_config()).map_err(|error| text(&error))?;
        let clients = Clients::new(&mut uring, common.target, common.sources, self.seats);
        let mut clients = clients.map_err(|error| text(&error))?;
        let mut rounds = Rounds::new(self.script, self.plan, self.seats, tell.clone());
        rounds.open(&mut clients).map_err(|error| text(&error))?;
        // If nobody hears it, nobody waits for this run any more.
        let _ = tell.send(News::Ready);
        let _ = orders.recv();
        let taken = rounds.run(&mut clients).map_err(|error| text(&error))?;
        let _ = tell.send(News::Ended(Ok(taken)));
        let _ = orders.recv();
        Ok(())
    }
}
