//! The processes of a server: the one that was started, or named, and all that descend from it.
//! What `/proc` says of them is added up. nginx works in a child; most servers are one process.
//!
//! Shared by the generator and by `measure`. Nothing here is kept: processes come and go, so each
//! question looks anew.

use std::fs;
use std::io;

/// The process and its descendants, parents first.
pub(crate) fn processes(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        if let Some(parent) =
            fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent)
        {
            parents.push((pid, parent));
        }
    }
    Ok(descendants(root, &parents))
}

/// A figure of the process, which has to be there, and of all its descendants.
pub(crate) fn sum(root: u32, figure: impl Fn(u32) -> io::Result<u64>) -> io::Result<u64> {
    sum_of(&processes(root)?, figure)
}

/// The same of processes that were listed, parents first.
pub(crate) fn sum_of(
    processes: &[u32],
    figure: impl Fn(u32) -> io::Result<u64>,
) -> io::Result<u64> {
    let mut total = 0;
    for (place, pid) in processes.iter().enumerate() {
        match figure(*pid) {
            Ok(found) => total += found,
            Err(error) if place == 0 => return Err(error),
            // It may have ended since it was listed.
            Err(_) => {}
        }
    }
    Ok(total)
}

/// The fourth field of `/proc/PID/stat`. The second is the program's name in brackets, which may
/// hold anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(1)?.parse().ok()
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    found
}

/// A figure of `/proc/PID/status` that is given in kB, in bytes.
pub(crate) fn status_bytes(pid: u32, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status_field(&status, field).and_then(|value| value.split_whitespace().next());
    let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

/// The cores a process may run on, as the kernel writes them: `0-1`, `0,2`.
pub(crate) fn cores(pid: u32) -> io::Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(status_field(&status, "Cpus_allowed_list").unwrap_or_default().to_owned())
}

fn status_field<'a>(status: &'a str, field: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_parent_stands_behind_a_name_that_may_hold_anything() {
        assert_eq!(parent("42 (a) 7 (b)) S 17 42 42 0"), Some(17));
        assert_eq!(parent("42 (cut"), None);
    }

    #[test]
    fn descendants_are_found_through_their_parents() {
        let parents = [(5, 3), (3, 2), (9, 8), (4, 2), (2, 1)];
        assert_eq!(descendants(2, &parents), [2, 3, 4, 5]);
        assert_eq!(descendants(9, &parents), [9]);
    }

    #[test]
    fn a_child_of_this_process_is_among_its_processes() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let own = std::process::id();
        let found = processes(own).unwrap();
        assert!(found.starts_with(&[own]) && found.contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn reads_what_proc_says_of_this_process() {
        let own = std::process::id();
        assert!(status_bytes(own, "VmRSS").unwrap() > 1 << 16);
        assert!(status_bytes(own, "NoSuchField").is_err());
        assert!(!cores(own).unwrap().is_empty());
    }
}
