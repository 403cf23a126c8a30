//! Processor time of a server: of every thread and every process of it that is there, and of those
//! that have ended. Asked by `target.rs`.
//!
//! ```text
//!   a process that is there    its clock: nanoseconds of all its threads, those that ended included
//!   one that was waited for    in the ticks of whoever waited: 10 ms, user and kernel each rounded down
//! ```
//!
//! A child that ended and that nobody in the tree waited for (SIGCHLD ignored, or its parent gone
//! before it) takes its time with it.

use std::fs;
use std::io;

use crate::tree;

/// USER_HZ is 100 wherever this runs.
const TICK_NS: u64 = 10_000_000;
/// How often a tree is read that changes meanwhile.
const READINGS_MAX: usize = 10;

/// Nanoseconds on a processor of a process and of all that descend from it, the kernel's work for
/// them included. An error if there is no such process.
///
/// A process that ends during the reading is missed, or found in its parent's ticks as well: then
/// all is read again. If it never stands still, the last reading counts.
pub(crate) fn spent_ns(root: u32) -> io::Result<u64> {
    let read =
        |processes: &[u32]| tree::sum_of(processes, |pid| Ok(clock_ns(pid)? + waited_for_ns(pid)?));
    let mut processes = tree::processes(root)?;
    for _ in 1..READINGS_MAX {
        let spent_ns = read(&processes)?;
        let now = tree::processes(root)?;
        if now == processes {
            return Ok(spent_ns);
        }
        processes = now;
    }
    read(&processes)
}

/// Nanoseconds of all threads a process has and had.
fn clock_ns(pid: u32) -> io::Result<u64> {
    /// What the clock counts: CPUCLOCK_SCHED of `linux/posix-timers_types.h`.
    const SCHEDULED: libc::clockid_t = 2;
    // As clock_getcpuclockid(3) makes it. A pid has at most 22 bits.
    let clock = (!pid.cast_signed() << 3) | SCHEDULED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec behind a valid pointer; `time` is one. It refuses
    // clocks that are none.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no process {pid}")));
    }
    Ok(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Nanoseconds of the children a process waited for, and of those that they waited for.
fn waited_for_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = waited_for_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(ticks * TICK_NS)
}

/// Fields 16 and 17 of `/proc/PID/stat`: `cutime` and `cstime`.
fn waited_for_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(13);
    let [user, kernel]: [u64; 2] = [fields.next()?.parse().ok()?, fields.next()?.parse().ok()?];
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const BURN: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";

    /// A shell that does `work` and then nothing, once it is known to have done it.
    fn shell(work: &str) -> Child {
        let child = Command::new("sh").args(["-c", &format!("{work}; sleep 60 & wait")]).spawn();
        let child = child.unwrap();
        let begun = Instant::now();
        while !tree::processes(child.id()).unwrap().iter().any(|pid| is_asleep(*pid)) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(10));
        }
        child
    }

    fn is_asleep(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    }

    fn end(mut child: Child) {
        for pid in tree::processes(child.id()).unwrap().into_iter().rev() {
            Command::new("kill").arg(pid.to_string()).status().unwrap();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_that_ended_is_counted() {
        let before = spent_ns(std::process::id()).unwrap();
        let burn = || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(300) {
                std::hint::spin_loop();
            }
            own_thread_ns()
        };
        let burnt = thread::spawn(burn).join().unwrap();
        let counted = spent_ns(std::process::id()).unwrap() - before;
        assert!(counted >= burnt, "{counted} of {burnt}");
    }

    /// Nanoseconds the calling thread has been on a processor.
    fn own_thread_ns() -> u64 {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        schedstat.split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_child_that_was_waited_for_is_counted() {
        let [with, without] = [shell(&format!("( {BURN} )")), shell(":")];
        let [worked, idle] = [&with, &without].map(|child| spent_ns(child.id()).unwrap());
        end(with);
        end(without);
        // Some 50 ms, in ticks of ten.
        assert!(worked > idle + TICK_NS, "{worked} beside {idle}");
    }

    #[test]
    fn a_child_is_counted_once_while_it_is_there() {
        let child = shell(BURN);
        let own = clock_ns(child.id()).unwrap();
        let all = spent_ns(child.id()).unwrap();
        end(child);
        assert!(own > TICK_NS && own <= all && all < own * 2, "{own} {all}");
    }

    #[test]
    fn who_is_not_there_has_no_time() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = spent_ns(child.id()).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no process {}", child.id()));
    }

    #[test]
    fn ticks_stand_behind_a_name_that_may_hold_anything() {
        let stat = "42 (a) 1 (b)) S 17 42 42 0 -1 4194560 1 2 3 4 5 6 70 8 20 0";
        assert_eq!(waited_for_ticks(stat), Some(78));
        assert_eq!(waited_for_ticks("42 (cut) S 17"), None);
    }
}
