//! What `/proc` says of processes: who descends from whom, and what they cost.
//!
//! **Invariants:** a process that vanishes while it is looked at counts as gone, never as an error.
//! **Sources:** proc(5) "/proc/pid/stat", "/proc/pid/status", "/proc/pid/environ".

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Pid, Signal};

use super::command::eventually;

/// One process at the moment it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The id of its parent.
    pub parent: u32,
    /// The name of its executable, at most 15 bytes.
    pub name: String,
    /// `Z` for one that ended and was not waited for.
    pub state: char,
    /// Ticks that it and the children it waited for have computed.
    pub ticks: u64,
    /// Ticks that it has computed itself.
    pub own_ticks: u64,
}

/// Returns one process; `None` if it is gone.
pub fn read(pid: u32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name stands in parentheses and may hold some itself.
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let own_ticks = number(11)? + number(12)?;
    let ticks = own_ticks + number(13)? + number(14)?;
    let parent = u32::try_from(number(1)?).ok()?;
    Some(Process {
        pid,
        parent,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        ticks,
        own_ticks,
    })
}

/// Returns every process of the machine.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Returns `root` and everything that descends from it, as far as parents still live.
pub fn tree(root: u32) -> Vec<Process> {
    let mut rest = all();
    let mut known = BTreeSet::from([root]);
    let mut found = Vec::new();
    loop {
        let (near, far): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|p| p.pid == root || known.contains(&p.parent));
        if near.is_empty() {
            return found;
        }
        known.extend(near.iter().map(|p| p.pid));
        found.extend(near);
        rest = far;
    }
}

/// Returns everything that descends from `root`, without it.
pub fn descendants(root: u32) -> Vec<Process> {
    let mut found = tree(root);
    found.retain(|p| p.pid != root);
    found
}

/// Returns how often the threads of a process have given a processor up, while all of them sleep: where two
/// looks find the same, nothing is under way between them.
pub fn rest(pid: u32) -> Option<u64> {
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if !field("State:")?.starts_with('S') {
            return None;
        }
        for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            switches += field(name)?.parse::<u64>().ok()?;
        }
    }
    Some(switches)
}

/// Waits until everything that a process has heard of is done, or waits for others.
///
/// # Panics
/// If it goes on working.
pub fn until_it_rests(pid: u32) {
    let mut before = None;
    eventually("the daemon rests", || {
        let now = rest(pid);
        std::mem::replace(&mut before, now).is_some_and(|before| Some(before) == now)
    });
}

/// Returns the seconds that `root`, its descendants and what they waited for have computed.
pub fn cpu_seconds(root: u32) -> f64 {
    seconds(tree(root).iter().map(|p| p.ticks).sum())
}

/// Returns the seconds that one process has computed, without its children; 0 if it is gone.
pub fn own_cpu_seconds(pid: u32) -> f64 {
    seconds(read(pid).map_or(0, |p| p.own_ticks))
}

fn seconds(ticks: u64) -> f64 {
    // SAFETY: `sysconf` only reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    ticks as f64 / per_second.max(1) as f64
}

/// Returns how often the threads of one process were put on a processor.
pub fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waits = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    tasks.filter_map(|task| waits(fs::read_to_string(task.path().join("status")).ok()?)).sum()
}

/// Returns the largest resident sets that the living processes below and with `root` ever had,
/// summed, in bytes. Shared pages count once per process.
pub fn peak_resident_bytes(root: u32) -> u64 {
    tree(root).iter().filter_map(|p| peak_of(p.pid)).sum()
}

/// Returns the descendant of `root` that holds the directory `dir` open.
pub fn holder_of(root: u32, dir: &std::path::Path) -> Option<u32> {
    let holds = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|open| open == dir)
    };
    descendants(root).into_iter().map(|p| p.pid).find(|&pid| holds(pid))
}

/// Returns the largest resident set that a living process ever had, in bytes.
pub fn peak_of(pid: u32) -> Option<u64> {
    memory_of(pid, "VmHWM:")
}

/// Returns the resident set of a living process, in bytes.
pub fn resident_of(pid: u32) -> Option<u64> {
    memory_of(pid, "VmRSS:")
}

fn memory_of(pid: u32, figure: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Returns the processes whose environment holds `entry` (`NAME=value`), whoever their parent is.
pub fn with_environment(entry: &str) -> Vec<u32> {
    let holds = |pid: u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|&b| b == 0).any(|e| e == entry.as_bytes()))
    };
    all().into_iter().map(|p| p.pid).filter(|&pid| pid != std::process::id() && holds(pid)).collect()
}

/// Sends a signal to one process; one that is gone is no error.
pub fn send(pid: u32, signal: Signal) {
    // Zero and negative ids would name groups.
    if let Some(pid) = i32::try_from(pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether a process runs: it is there and has not ended.
pub fn is_running(pid: u32) -> bool {
    read(pid).is_some_and(|p| p.state != 'Z')
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::support::command::{Background, eventually};

    #[test]
    fn tree_holds_children_and_grandchildren() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'sleep 60; true'; true"]);
        let guard = Background::spawn(command);
        eventually("three processes", || tree(guard.pid()).len() == 3);
        // A child that was forked just now is still called as its parent is.
        eventually("the sleep by its name", || descendants(guard.pid()).iter().any(|p| p.name == "sleep"));
        assert!(peak_resident_bytes(guard.pid()) > 100_000);
    }

    #[test]
    fn cpu_of_children_that_ended_still_counts() {
        let mut command = Command::new("sh");
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        command.args(["-c", &format!("sh -c '{burn}'; echo burnt; sleep 60; true")]);
        let guard = Background::spawn(command);
        guard.wait_for_line("burnt");
        assert!(cpu_seconds(guard.pid()) > 0.0);
    }
}
