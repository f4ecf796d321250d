//! Rights, owners and other attributes, with rsync as the judge: the same command, the same tree, the same code.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::{Environment, Outcome};
use crate::support::stand::scratch;

/// One source and two targets, one for each program.
struct Twins {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Twins {
    /// Has a shell make the source in `s`, and what each target holds before in `t`.
    fn new(source: &str, target: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("speil-attributes").tempdir_in(scratch()).unwrap();
        let twins = Self { dir, environment: Environment::new() };
        std::fs::create_dir(twins.path("s")).unwrap();
        twins.shell("s", source);
        for name in ["rsync", "speil"] {
            std::fs::create_dir_all(twins.path(name).join("t")).unwrap();
            twins.shell(&format!("{name}/t"), target);
        }
        twins
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    fn shell(&self, at: &str, script: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-euc", &format!("umask 022; {script}")]).current_dir(self.path(at));
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, program: &str, umask: &str, arguments: &str) -> Outcome {
        let speil = crate::support::command::SPEIL;
        let program = if program == "speil" { format!("{speil} sync") } else { "rsync".to_owned() };
        let script = format!("umask {umask}; exec {program} {arguments}");
        let mut command = self.environment.command("sh");
        command.args(["-euc", &script]);
        crate::support::command::Background::spawn(command).wait()
    }

    /// Runs both programs with these options, from `s/` to the place `to` of each, and returns what speil said.
    #[track_caller]
    fn agree(&self, umask: &str, options: &str, to: &str) -> Outcome {
        let source = self.path("s");
        let run = |program: &str| {
            let target = self.path(program).join(to);
            self.run(program, umask, &format!("{options} {}/ {}/", source.display(), target.display()))
        };
        let (theirs, ours) = (run("rsync"), run("speil"));
        assert_eq!(ours.code(), theirs.code(), "{options}: {}{}", theirs.stderr, ours.stderr);
        let difference = difference(&tree(&self.path("speil")), &tree(&self.path("rsync")));
        assert_eq!(difference, "", "umask {umask}, {options} to {to}: {difference}");
        ours
    }
}

/// Returns mode, owner, links, name, ACL and content of everything at and below `t`, an entry a line.
fn tree(at: &Path) -> Vec<String> {
    let script = r"
        find t -printf '%M %U:%G %n %p %l\n' | sort -k4
        find t ! -type l | sort | getfacl -nsp - | sed 's/^# file/\n# file/' | tr '\n' ' ' | sed 's/# file/\n# file/g'
        find t -type f | sort | xargs -r head -vc64";
    let output = Command::new("sh").args(["-euc", script]).current_dir(at).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Returns what one has and the other lacks.
fn difference(ours: &[String], theirs: &[String]) -> String {
    let only = |mark: &str, a: &[String], b: &[String]| {
        a.iter().filter(|line| !b.contains(line)).map(|line| format!("\n{mark} {line}")).collect::<String>()
    };
    only("speil", ours, theirs) + &only("rsync", theirs, ours)
}

#[test]
fn without_p_what_is_new_has_the_sources_mode_under_the_umask_or_the_default_acl() {
    let source =
        "mkdir -p d700 d755 d1777 d2755 d750 d500/sub; chmod 700 d700; chmod 1777 d1777; chmod 2755 d2755
        chmod 750 d750; chmod 500 d500; echo a >f664; chmod 664 f664; echo b >f4711; chmod 4711 f4711
        echo c >d700/secret; chmod 600 d700/secret; mkfifo -m 640 fifo; mkdir -m 770 retyped; chmod 711 .";
    let targets = [
        ("022", "echo old >f664; chmod 600 f664; mkdir -m 777 d700; echo file >retyped"),
        ("077", ":"),
        ("002", "chmod 1777 ."),
        ("022", "chmod 2775 ."),
        ("022", "setfacl -d -m u::rwx,g::r-x,o::---,u:1234:rwx ."),
        ("077", "setfacl -d -m u::rwx,g::rwx,o::r-- ."),
    ];
    for (umask, target) in targets {
        for (options, to) in [("-rltD", "t"), ("-r", "t/new")] {
            let twins = Twins::new(source, target);
            twins.agree(umask, options, to);
            // What is there keeps its mode.
            twins.shell("s", "chmod 777 d700 f664 d500");
            twins.agree(umask, options, to);
        }
    }
    let twins = Twins::new(source, ":");
    twins.agree("022", "-rlt --existing", "t/new");
    twins.agree("022", "-rltn", "t/newer");
    twins.agree("022", "-rp", "t/modes");
}
