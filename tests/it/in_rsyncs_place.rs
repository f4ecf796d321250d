//! speil in rsync's place: scripts that nobody changes, and what the real rsync does for them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use rustix::process::{Pid, Signal};

use crate::support::command::{SPEIL, copy_program, eventually};

struct Stand {
    dir: tempfile::TempDir,
}

impl Stand {
    /// A source, and speil under the name rsync in a directory of PATH before the real one.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s", "bin", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("s/file"), "content").unwrap();
        symlink(SPEIL, dir.path().join("bin/rsync")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a program in the stand; what is called by its name alone is looked for in `path`.
    fn run(&self, program: &Path, words: &[&str], path: &str) -> Output {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.dir.path()).env("PATH", path).env("HOME", self.path("home"));
        command.env("XDG_RUNTIME_DIR", self.path("home")).output().unwrap()
    }

    /// Runs rsync as a script does.
    fn rsync(&self, words: &[&str]) -> Output {
        self.run(&self.path("bin/rsync"), words, &format!("{}:/usr/bin:/bin", self.path("bin").display()))
    }

    fn arrived(&self, target: &str) -> bool {
        fs::read_to_string(self.path(target).join("file")).is_ok_and(|text| text == "content")
    }

    /// Runs rsync where PATH has no other one.
    fn alone(&self, words: &[&str]) -> Output {
        self.run(&self.path("bin/rsync"), words, &self.path("bin").display().to_string())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `rsync a b && rm -r a` is safe beside another run of the same words.
#[test]
fn a_second_run_waits_for_the_first_and_then_sends_what_that_one_did_not() {
    let stand = Stand::new();
    fs::write(stand.path("s/large"), vec![7; 4 << 20]).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(stand.path("bin/rsync"));
        command
            .args(words)
            .args(["-a", "s/", "t/"])
            .current_dir(stand.dir.path())
            .env("PATH", stand.path("bin"));
        command.env("HOME", stand.path("home")).env("XDG_RUNTIME_DIR", stand.path("home")).spawn().unwrap()
    };
    let holds = |child: &Child| {
        fs::read_dir(format!("/proc/{}/fd", child.id())).is_ok_and(|fds| {
            let mut leads = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            leads.any(|path| path.extension().is_some_and(|suffix| suffix == "lock"))
        })
    };
    let mut first = run(&["--bwlimit=1", "--no-compress"]);
    eventually("the first run has begun", || holds(&first) && stand.path("t").exists());
    fs::write(stand.path("s/late"), "after it had begun").unwrap();
    let mut second = run(&[]);
    eventually("the second run waits, or has ended", || {
        holds(&second) || second.try_wait().unwrap().is_some()
    });
    assert_eq!(second.try_wait().unwrap(), None, "it does not end before the first one");
    rustix::process::kill_process(Pid::from_child(&first), Signal::INT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(20));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read(stand.path("t/large")).unwrap(), vec![7; 4 << 20]);
    assert_eq!(fs::read(stand.path("t/late")).unwrap(), b"after it had begun");
}

#[test]
fn what_speil_takes_it_does_and_what_it_does_not_the_real_rsync_does_and_is_named() {
    let stand = Stand::new();
    let done = stand.alone(&["-a", "--delete", "s/", "taken/"]);
    assert!(done.status.success() && stand.arrived("taken"), "{}", said(&done));
    assert_eq!(said(&done), "");
    // Several sources, and a file.
    for (words, target) in
        [(&["-a", "s/file", "s", "several/"][..], "several"), (&["-a", "s/file", "one/"], "one")]
    {
        let done = stand.alone(words);
        assert!(done.status.success() && stand.arrived(target), "{words:?}: {}", said(&done));
    }
    // An option, and a source that is missing.
    {
        let (words, target, why) = (&["-a", "--inplace", "s/", "inplace/"], "inplace", "--inplace");
        let done = stand.rsync(words);
        assert!(done.status.success(), "{words:?}: {}", said(&done));
        assert!(stand.arrived(target), "{words:?}");
        assert!(said(&done).contains(why) && said(&done).contains("/rsync runs instead"), "{}", said(&done));
    }
    assert_eq!(stand.rsync(&["-a", "missing/", "t/"]).status.code(), Some(23));
    // The same under a word.
    let word = ["rsync", "-a", "--inplace", "s/", "word/"];
    let done = stand.run(Path::new(SPEIL), &word, "/usr/bin:/bin");
    assert!(done.status.success() && stand.arrived("word"), "{}", said(&done));
}

#[test]
fn nothing_is_passed_on_where_that_is_forbidden_or_there_is_no_other_rsync() {
    let stand = Stand::new();
    let refused = stand.rsync(&["--no-fallback", "-a", "--inplace", "s/", "t/"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("--inplace is not available"), "{}", said(&refused));
    let done = stand.alone(&["-a", "--no-fallback", "s/", "taken/"]);
    assert!(done.status.success() && stand.arrived("taken"), "{}", said(&done));
    // A copy of speil is no rsync either.
    fs::create_dir(stand.path("more")).unwrap();
    copy_program(&stand.path("more/rsync"));
    let path = format!("{}:{}", stand.path("bin").display(), stand.path("more").display());
    for words in [&["-a", "--inplace", "s/", "t/"][..], &["--server", "-e.", ".", "t/"]] {
        let refused = stand.run(&stand.path("bin/rsync"), words, &path);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("install rsync"), "{}", said(&refused));
    }
    assert!(!stand.path("t").exists());
}

#[test]
fn the_other_end_of_a_real_rsync_is_never_speil() {
    let stand = Stand::new();
    let shell = stand.path("shell");
    fs::write(&shell, "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let ours = format!("--rsync-path={}", stand.path("bin/rsync").display());
    let target = format!("host:{}/", stand.path("t").display());
    let shell = shell.display().to_string();
    let done =
        stand.run(Path::new("/usr/bin/rsync"), &["-a", "-e", &shell, &ours, "s/", &target], "/usr/bin:/bin");
    assert!(done.status.success() && stand.arrived("t"), "{}", said(&done));
}
