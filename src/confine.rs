//! What a process at the other end of a connection takes away from itself.
//!
//! **Purpose:** after this, no file outside the root can be opened, made, moved or removed, no program
//! started and no socket bound or connected, whatever an error in this program or a hostile peer
//! asks for; a process that only sends can change nothing inside either. **In → Out:** the open root; how far it worked.
//! **Invariants:** called while one thread alone runs, for threads made later inherit it; what it says
//! was tried: an open outside the root that worked before must fail afterwards.
//! **Not here:** calls that Landlock does not know (chmod, utimensat, setxattr): they go through
//! descriptors beneath the root. **Sources:** landlock(7), prctl(2) `PR_SET_NO_NEW_PRIVS`.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags};

use crate::protocol::Confinement;

/// The newest rights that are asked for; an older kernel has fewer.
const NEWEST: ABI = ABI::V6;

/// Gives up, for ever and for every program that is started, what set-id programs would give.
pub fn no_new_privileges() {
    // It cannot fail but on kernels before 3.5, which have nothing of this.
    let _ = rustix::thread::set_no_new_privs(true);
}

/// Confines this thread and those that it starts to what lies beneath `roots`. A link from one to another needs the same
/// rights in both.
pub fn confine(roots: &[BorrowedFd<'_>]) -> Confinement {
    confine_to(roots, AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::IoctlDev))
}

/// Confines this thread and those that it starts to reading what lies beneath `roots`.
pub fn confine_to_reading(roots: &[BorrowedFd<'_>]) -> Confinement {
    confine_to(roots, AccessFs::ReadFile | AccessFs::ReadDir)
}

/// The same, and to removing files there.
pub fn confine_to_removing(roots: &[BorrowedFd<'_>]) -> Confinement {
    confine_to(roots, AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::RemoveFile)
}

fn confine_to(roots: &[BorrowedFd<'_>], beneath: BitFlags<AccessFs>) -> Confinement {
    let open_before = opens_outside();
    match restrict(roots, beneath) {
        Ok(RulesetStatus::NotEnforced) | Err(_) => Confinement::Missing,
        // The root is "/", or nothing outside it could be opened before: there is nothing to see.
        Ok(_) if roots.iter().any(|root| is_top(*root)) || !open_before => Confinement::Landlock,
        Ok(_) if opens_outside() => Confinement::Toothless,
        Ok(_) => Confinement::Landlock,
    }
}

fn restrict(roots: &[BorrowedFd<'_>], beneath: BitFlags<AccessFs>) -> Result<RulesetStatus, RulesetError> {
    let everything = AccessFs::from_all(NEWEST);
    let ruleset = Ruleset::default()
        // Without it (before 5.19) every rename and link between directories would fail.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(roots.iter().map(|root| Ok::<_, RulesetError>(PathBeneath::new(*root, beneath))))?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Whether the directory above everything can be opened for reading.
fn opens_outside() -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).is_ok()
}

fn is_top(root: BorrowedFd<'_>) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open("/", flags, Mode::empty());
    top.is_ok_and(|top| {
        let id = |fd| crate::disk::id_of(fd).ok();
        id(std::os::fd::AsFd::as_fd(&top)) == id(root)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;
    use crate::disk::Root;

    /// The restriction is the thread's: one of its own leaves the other tests alone.
    fn confined<R: Send>(root: &Root, then: impl FnOnce() -> R + Send) -> (Confinement, R) {
        std::thread::scope(|scope| scope.spawn(|| (confine(&[root.as_fd()]), then())).join().unwrap())
    }

    #[test]
    fn a_confined_thread_works_beneath_the_root_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::write(&outside, "mine").unwrap();
        let root = Root::open(&inside).unwrap();
        let (how, refused) = confined(&root, || {
            fs::write(inside.join("a/new"), "x").unwrap();
            fs::rename(inside.join("a/new"), inside.join("a/b/moved")).unwrap();
            fs::hard_link(inside.join("a/b/moved"), inside.join("link")).unwrap();
            assert_eq!(fs::read(inside.join("link")).unwrap(), b"x");
            let trials = [
                fs::read(&outside).map(drop),
                fs::write(&outside, "theirs"),
                fs::remove_file(&outside),
                fs::rename(inside.join("link"), dir.path().join("stolen")),
                fs::create_dir(dir.path().join("made")),
                std::process::Command::new("/bin/true").status().map(drop),
                std::net::TcpListener::bind("127.0.0.1:0").map(drop),
            ];
            trials.iter().filter(|trial| trial.is_err()).count()
        });
        assert_eq!(fs::read(inside.join("a/b/moved")).unwrap(), b"x");
        match how {
            Confinement::Landlock => {
                assert!(refused >= 6, "{refused} of 7 were refused");
                assert_eq!(fs::read(&outside).unwrap(), b"mine");
            }
            // A kernel without it: the test says so and proves nothing more.
            other => assert_eq!(other, Confinement::Missing),
        }
    }

    #[test]
    fn a_thread_that_only_sends_changes_nothing_inside_either() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(inside.join("a")).unwrap();
        fs::write(inside.join("a/f"), "x").unwrap();
        fs::write(&outside, "mine").unwrap();
        let root = Root::open(&inside).unwrap();
        let work = || {
            assert_eq!(fs::read(inside.join("a/f")).unwrap(), b"x");
            assert_eq!(fs::read_dir(inside.join("a")).unwrap().count(), 1);
            let trials = [
                fs::read(&outside).map(drop),
                fs::write(inside.join("a/f"), "y"),
                fs::write(inside.join("new"), "y"),
                fs::remove_file(inside.join("a/f")),
                fs::create_dir(inside.join("made")),
                fs::hard_link(inside.join("a/f"), inside.join("link")),
            ];
            trials.iter().filter(|trial| trial.is_err()).count()
        };
        let (how, refused) = std::thread::scope(|scope| {
            scope.spawn(|| (confine_to_reading(&[root.as_fd()]), work())).join().unwrap()
        });
        match how {
            Confinement::Landlock => assert_eq!(refused, 6),
            other => assert_eq!(other, Confinement::Missing),
        }
    }

    #[test]
    fn a_process_without_new_privileges_keeps_none() {
        let said = std::thread::spawn(|| {
            no_new_privileges();
            fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        assert!(said.join().unwrap().contains("NoNewPrivs:\t1"));
    }
}
