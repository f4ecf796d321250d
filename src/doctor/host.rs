//! This host: what the kernel allows for watching.

use std::path::Path;

use super::Finding;
use crate::config::{Backend, Sync};
use crate::watch;

/// Memory that one inotify watch takes in the kernel on 64-bit systems, in bytes: inotify(7) leaves it
/// open, the kernel's own estimate counts the pinned inode along.
const WATCH_LEN: u64 = 1080;

/// Judges the limits of inotify against the directories of the sources.
pub(super) fn check(proc: &Path, sources: &[(&Sync, u64)]) -> Vec<Finding> {
    let heard = |sync: &Sync| matches!(sync.watch, Backend::Auto | Backend::Inotify | Backend::Notify);
    let needed: u64 = sources.iter().filter(|(sync, _)| heard(sync)).map(|(_, dirs)| dirs).sum();
    let count =
        |wanted: fn(Backend) -> bool| sources.iter().filter(|(sync, _)| wanted(sync.watch)).count() as u64;
    let trees = count(|backend| matches!(backend, Backend::Auto | Backend::Inotify));
    // The notify crate shares none.
    let instances = watch::instances(trees) + count(|backend| backend == Backend::Notify);
    let limit = |name: &str| sysctl(proc, name);
    let Some(watches) = limit("max_user_watches") else {
        return vec![Finding::warning(
            "inotify",
            format!("{}/sys/fs/inotify cannot be read: does this kernel have inotify?", proc.display()),
            "use watch = \"poll\" where it has not",
        )];
    };
    let (used_watches, used_instances) = used(proc);
    let told = format!(
        "{} to watch; {watches} watches allowed, {used_watches} in use",
        crate::monitor::counted(needed, "directory", "directories")
    );
    let raised = (needed + used_watches).max(watches).saturating_mul(2).next_power_of_two();
    let cure = format!(
        "sysctl -w fs.inotify.max_user_watches={raised}, and the same in /etc/sysctl.d/; up to {} MiB of \
         kernel memory",
        raised.saturating_mul(WATCH_LEN) >> 20
    );
    let finding = if needed > watches {
        Finding::problem("inotify", format!("{told}: what is not watched is found by passes only"), cure)
    } else if needed + used_watches > watches {
        Finding::warning("inotify", format!("{told}: too few if those stay in use"), cure)
    } else {
        Finding::fine("inotify", told)
    };
    let finding = finding.figure("directories", needed).figure("watches_max", watches);
    let mut findings = vec![finding.figure("watches_used", used_watches)];
    if let Some(most) = limit("max_user_instances").filter(|&most| used_instances + instances > most) {
        findings.push(
            Finding::problem(
                "instances",
                format!("{most} inotify instances allowed, {used_instances} in use, {instances} needed"),
                format!("sysctl -w fs.inotify.max_user_instances={}", most.max(64).saturating_mul(2)),
            )
            .figure("instances_max", most),
        );
    }
    findings
}

fn sysctl(proc: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(proc.join("sys/fs/inotify").join(name)).ok()?;
    text.trim().parse().ok()
}

/// Returns the watches and instances that processes of this user hold, as far as they can be seen.
fn used(proc: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    let (mut watches, mut instances) = (0, 0);
    for process in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let numeric = process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        if !numeric || process.metadata().map_or(true, |meta| meta.uid() != own) {
            continue;
        }
        for file in std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let link = std::fs::read_link(file.path()).unwrap_or_default();
            if !link.to_string_lossy().contains("inotify") {
                continue;
            }
            instances += 1;
            let text = std::fs::read_to_string(process.path().join("fdinfo").join(file.file_name()));
            let held = text.unwrap_or_default().lines().filter(|line| line.starts_with("inotify ")).count();
            watches += held as u64;
        }
    }
    (watches, instances)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn proc_with(watches: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let limits = dir.path().join("sys/fs/inotify");
        std::fs::create_dir_all(&limits).unwrap();
        std::fs::write(limits.join("max_user_watches"), format!("{watches}\n")).unwrap();
        std::fs::write(limits.join("max_user_instances"), "128\n").unwrap();
        dir
    }

    #[test]
    fn a_tree_with_more_directories_than_watches_is_a_problem_with_the_sysctl_as_its_cure() {
        let proc = proc_with(100);
        let sync = Sync::new("www", "/srv", Vec::new());
        let found = check(proc.path(), &[(&sync, 101)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].verdict, Verdict::Problem);
        assert!(found[0].found.contains("101 directories to watch; 100 watches allowed"), "{found:?}");
        assert!(found[0].cure.as_ref().unwrap().contains("fs.inotify.max_user_watches=256"), "{found:?}");
        assert_eq!(check(proc.path(), &[(&sync, 100)])[0].verdict, Verdict::Fine);
    }

    #[test]
    fn a_tree_that_is_walked_needs_no_watches() {
        let proc = proc_with(1);
        let mut sync = Sync::new("www", "/srv", Vec::new());
        sync.watch = Backend::Poll;
        assert_eq!(check(proc.path(), &[(&sync, 5000)])[0].verdict, Verdict::Fine);
    }

    #[test]
    fn two_hundred_syncs_share_their_instances_and_those_of_the_notify_crate_do_not() {
        let proc = proc_with(1000);
        let mut sync = Sync::new("www", "/srv", Vec::new());
        let syncs: Vec<(&Sync, u64)> = (0..200).map(|_| (&sync, 1)).collect();
        assert_eq!(check(proc.path(), &syncs).len(), 1);
        sync.watch = Backend::Notify;
        let syncs: Vec<(&Sync, u64)> = (0..129).map(|_| (&sync, 1)).collect();
        assert_eq!(check(proc.path(), &syncs[..128]).len(), 1);
        let found = check(proc.path(), &syncs);
        assert!(found[1].found.contains("128 inotify instances allowed, 0 in use, 129 needed"), "{found:?}");
    }
}
