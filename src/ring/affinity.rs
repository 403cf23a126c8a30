//! Which CPUs this process may run on, and keeping a thread on one of them.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs the calling thread may run on, ascending: what the container or `taskset` left it.
///
/// # Errors
/// The kernel's, if it has more CPUs than a set holds.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// The kernel's: there is no such CPU, or this process may not run on it.
pub fn pin(cpu: usize) -> io::Result<()> {
    allow(&[cpu])
}

/// Lets the calling thread run on these CPUs.
///
/// # Errors
/// The kernel's: there is none of them, or this process may run on none.
pub fn allow(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|cpu| *cpu >= CpuSet::MAX_CPU) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_alone() {
        std::thread::spawn(|| {
            let cpus = allowed().expect("the kernel tells");
            let last = *cpus.last().expect("a thread runs somewhere");
            pin(last).expect("it was allowed");
            assert_eq!(allowed().expect("the kernel tells"), [last]);
            assert!(pin(CpuSet::MAX_CPU).is_err());
        })
        .join()
        .expect("the thread ends well");
    }
}
