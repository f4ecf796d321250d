//! Rights, owners and other attributes, with rsync as the judge: the same command, the same tree, the same code.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::{Background, Environment, Outcome, SPEIL, eventually};
use crate::support::faults::is_root;
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
        let program = if program == "speil" { format!("{SPEIL} sync") } else { "rsync".to_owned() };
        let script = format!("umask {umask}; exec {program} {arguments}");
        let mut command = self.environment.command("sh");
        command.args(["-euc", &script]);
        Background::spawn(command).wait()
    }

    /// Runs a script in the directory of all, `$SPEIL` in its hand, in a mount namespace of its own.
    fn apart(&self, script: &str) -> Outcome {
        let mut command = self.environment.command("unshare");
        command.args(["-m", "sh", "-euc", script]).current_dir(self.dir.path()).env("SPEIL", SPEIL);
        Background::spawn(command).wait()
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

#[test]
fn an_owner_that_the_target_lacks_is_an_error_at_the_start_that_names_it() {
    let twins = Twins::new("echo x >f", ":");
    let (source, target) = (twins.path("s"), twins.path("speil/t"));
    let run = |command: &str, chown: &str| {
        let (chown, from) = (format!("--chown={chown}"), format!("{}/", source.display()));
        let to = target.display().to_string();
        twins.environment.run([command, "-a", &chown, &from, &to])
    };
    for (chown, said) in [
        ("wwwdata", "the target has no user \"wwwdata\""),
        (":wwwdata", "the target has no group \"wwwdata\""),
        ("nobody.nogroup:nogrp", "the target has no user \"nobody.nogroup\" and no group \"nogrp\""),
        ("0x10", "the target has no user \"0x10\""),
        ("-1", "the target has no user \"-1\""),
        ("99999999999", "no user and no group can have the number 99999999999"),
        ("0:4294967295", "no user and no group can have the number 4294967295"),
    ] {
        let outcome = run("sync", chown);
        assert_eq!(outcome.code(), 1, "{chown}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{chown}: {}", outcome.stderr);
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "{chown}: nothing is sent");
    }
    let file = twins.path("speil.lua");
    let configure = |chown: &str| -> Outcome {
        let text = "sync { default.mirror, source = SOURCE, target = TARGET, chown = CHOWN }";
        let text = text.replace("SOURCE", &format!("{source:?}")).replace("TARGET", &format!("{target:?}"));
        std::fs::write(&file, text.replace("CHOWN", &format!("{chown:?}"))).unwrap();
        twins.environment.run(["check".as_ref(), file.as_os_str()])
    };
    configure("wwwdata");
    let doctor = twins.environment.run(["doctor".as_ref(), file.as_os_str()]);
    assert_eq!(doctor.code(), 23, "{}", doctor.stdout);
    assert!(doctor.stdout.contains("the target has no user \"wwwdata\""), "{}", doctor.stdout);
    for (chown, said) in [("wwwdata", "has no user \"wwwdata\""), ("99999999999", "below 4294967295")] {
        let outcome = configure(chown);
        assert!(
            outcome.code() == 1 && outcome.stderr.contains(said),
            "{} {}",
            outcome.code(),
            outcome.stderr
        );
    }
    configure("0:0").succeeded();
    run("sync", "root:root").succeeded();
    // Each target for itself: the daemon goes on, and says what it waits for.
    let from = format!("{}/", source.display());
    let control = format!("--control={}", twins.path("control").display());
    let to = target.display().to_string();
    let mirror = twins.environment.spawn(["mirror", "--chown=wwwdata", &control, &from, &to]);
    mirror.wait_for_error_line("the target has no user \"wwwdata\"");
    mirror.terminate();
}

/// A source with hard links, and what a target holds of it.
const LINKED: &str =
    "echo new >a; ln a b; ln a c; touch -d 2024-01-01 a; echo n2 >x; echo n3 >y; echo solo >z
    ln z z2; touch -d 2024-01-01 x y z; mkdir d; ln z d/z3";

#[test]
fn update_existing_and_ignore_existing_hold_for_every_name_of_a_file() {
    for (options, target) in [
        ("-aHu", "echo mine >a; echo old >b; echo old2 >c; touch -d 2020-01-01 b c; echo w >x; ln x y"),
        ("-aHu", "echo mine >a; ln a b; echo old >c; touch -d 2020-01-01 c"),
        ("-aHu", "echo new >a; echo new >b; touch -d 2024-01-01 a b"),
        ("-aH --existing", "echo old >a; echo old2 >c; touch -d 2020-01-01 a c"),
        ("-aH --existing", "echo old >b; touch -d 2020-01-01 b"),
        ("-aH --ignore-existing", "echo mine >a; echo x >x; ln x y"),
        ("-aH --ignore-existing", "echo mine >b"),
    ] {
        let twins = Twins::new(LINKED, target);
        twins.agree("022", options, "t");
    }
    // Here rsync links the newer file away.
    let twins = Twins::new(LINKED, "echo mine >b; echo old >a; touch -d 2020-01-01 a");
    let (from, to) = (twins.path("s").join(""), twins.path("speil/t"));
    let read = |name: &str| std::fs::read_to_string(to.join(name)).unwrap();
    twins.environment.run(["sync".as_ref(), "-aHu".as_ref(), from.as_os_str(), to.as_os_str()]).succeeded();
    assert_eq!((read("a"), read("b"), read("c")), ("new\n".into(), "mine\n".into(), "new\n".into()));
    // And live, where an event comes under one name.
    let control = format!("--control={}", twins.path("control").display());
    let paths = [from.as_os_str(), to.as_os_str()];
    let mirror =
        twins.environment.spawn(["mirror".as_ref(), "-u".as_ref(), control.as_ref()].iter().chain(&paths));
    mirror.wait_for_line(": live");
    twins.shell("speil/t", "echo mine >.n; touch -d 2040-01-01 .n; mv .n c");
    twins.shell("s", "echo newer >>a");
    eventually("the edit is on the target", || read("a") == "new\nnewer\n");
    twins.environment.run(["wait", "--timeout=60s", &control]).succeeded();
    assert_eq!((read("b"), read("c")), ("new\nnewer\n".into(), "mine\n".into()));
    mirror.terminate();
}

#[test]
fn links_are_joined_once_where_times_are_not_kept() {
    for options in ["-rH", "-rlH", "-rptgoDlHO", "-aHJO"] {
        let twins = Twins::new(LINKED, ":");
        twins.agree("022", options, "t");
        let again = twins.agree("022", options, "t");
        assert_eq!(again.stderr, "", "{options}");
    }
}

#[test]
fn chmod_changes_a_mode_and_its_acl_as_rsync_does_and_a_second_run_changes_nothing() {
    let modes = "for m in 0640 0755 0666 4711; do echo x >f$m; chmod $m f$m; done; mkdir d700 d2775
        chmod 700 d700; chmod 2775 d2775";
    for clauses in
        ["+w", "+x,Du+s", "=r", "-r", "=rw,+X", "a+w,o+s", "g=u", "u=g,o=g", "=s", "u+t,g-s", "Fa=,D0755"]
    {
        let twins = Twins::new(modes, ":");
        twins.agree("027", &format!("-rp --chmod={clauses}"), "t");
    }
    let acls = "echo x >p; chmod 640 p; echo x >q; chmod 640 q; setfacl -m u:1234:rwx,g:55:r q; mkdir d e
        setfacl -m u:1234:rwx d; setfacl -d -m u:1234:rwx e; chmod 755 d";
    for options in [
        "-aA --chmod=F600,D700",
        "-aA --chmod=F664",
        "-aA --chmod=g-w,o=r",
        "-aA --no-p",
        "-aA --no-p --chmod=F666",
        "-aA",
    ] {
        let twins = Twins::new(acls, ":");
        twins.agree("022", options, "t");
        let again = twins.agree("022", &format!("{options} -i"), "t");
        assert_eq!(again.stdout, "", "{options}");
        if !options.contains("--no-p") {
            // With it rsync would leave the mask's rights to the group.
            twins.shell("s", "setfacl -b q d; setfacl -k e");
            twins.agree("022", options, "t");
        }
    }
}

#[test]
fn a_directory_in_the_way_is_replaced_if_it_is_empty_and_else_a_problem() {
    let source = "echo new >file; ln -s file link; mkfifo fifo; echo other >other";
    for (target, code) in [
        ("mkdir file link fifo", 0),
        ("mkdir -p file/full link fifo; echo kept >file/full/f", 23),
        ("mkdir -p file link/full fifo", 23),
        ("mkdir -p file link fifo/full", 23),
    ] {
        let twins = Twins::new(source, target);
        assert_eq!(twins.agree("022", "-a", "t").code(), code, "{target}");
    }
    let twins = Twins::new("mkdir d", ":");
    let (from, to) = (twins.path("s").join(""), twins.path("speil/t"));
    let control = format!("--control={}", twins.path("control").display());
    let options = ["mirror".as_ref(), "--no-delete".as_ref(), control.as_ref()];
    let mirror = twins.environment.spawn(options.iter().chain(&[from.as_os_str(), to.as_os_str()]));
    mirror.wait_for_line(": live");
    twins.shell("speil/t", "echo kept >d/f");
    twins.shell("s", "rmdir d; echo now a file >d");
    mirror.wait_for_error_line("replace directory");
    assert!(to.join("d/f").exists());
    std::fs::remove_file(to.join("d/f")).unwrap();
    eventually("it makes way once it is empty", || to.join("d").is_file());
    mirror.terminate();
}

#[test]
fn what_a_target_cannot_take_keeps_no_content_away_and_opens_nothing() {
    if !is_root() {
        return;
    }
    let source = "echo owned >owned; chown 5000:5000 owned; chmod 6755 owned; echo acl >acl; chmod 640 acl
        setfacl -m u:5000:rw acl; echo plain >plain; mkdir -m 750 dir; echo in >dir/in; chown 5000 dir
        setfacl -d -m u:5000:rwx dir; touch -d 2024-01-01 owned acl";
    let twins = Twins::new(source, ":");
    // A container that maps the first 2000 owners.
    let contained = "#!/bin/sh
        exec 3<&0
        unshare -U sh -c 'until grep -q . /proc/self/uid_map; do :; done; exec SPEIL agent' <&3 &
        until [ $(readlink /proc/$!/ns/user) != $(readlink /proc/self/ns/user) ]; do :; done
        echo 0 0 2000 >/proc/$!/gid_map; echo 0 0 2000 >/proc/$!/uid_map; wait $!";
    std::fs::write(twins.path("contained"), contained.replace("SPEIL", SPEIL)).unwrap();
    let agent = format!("sh {}", twins.path("contained").display());
    let run = || twins.apart(&format!("exec $SPEIL sync -aHAX -i --agent='{agent}' s/ speil/t/"));
    let first = run();
    assert_eq!(first.code(), 23, "{}", first.stderr);
    for said in ["set owner \"owned\"", "set ACL \"acl\"", "set owner \"dir\""] {
        assert!(first.stderr.contains(said), "{said}: {}", first.stderr);
    }
    let shown = twins.shell("speil/t", "cat owned acl plain dir/in; stat -c '%a %u' owned acl plain dir");
    assert_eq!(shown, "owned\nacl\nplain\nin\n755 0\n640 0\n644 0\n750 0\n");
    let inodes = || twins.shell("speil/t", "stat -c %i owned acl dir/in");
    let before = inodes();
    assert_eq!(run().code(), 23, "it is tried again");
    assert_eq!(inodes(), before, "and no content is sent again");
    // Without the container everything can be set.
    twins.apart("exec $SPEIL sync -aHAX s/ speil/t/").succeeded();
    twins.shell("rsync", "rsync -aHAX ../s/ t/");
    assert_eq!(difference(&tree(&twins.path("speil")), &tree(&twins.path("rsync"))), "");
    // A filesystem without ACLs gives the group what its own entry says, and not the mask.
    let script = "mount -t ramfs none speil/t; for n in 1 2; do $SPEIL sync -aAi s/ speil/t/; stat -c %a speil/t/acl; done";
    let bare = twins.apart(script).succeeded().stdout;
    let lines: Vec<&str> = bare.lines().filter(|line| !line.starts_with("created")).collect();
    assert_eq!(lines[lines.len() - 2..], ["640", "640"], "{bare}");
}

#[test]
fn what_cannot_be_renamed_or_linked_on_the_target_is_sent() {
    if !is_root() {
        return;
    }
    let twins =
        Twins::new("mkdir m; echo one >m/one; mkdir m/dir; echo two >m/dir/two; echo a >a; ln a m/a", ":");
    let script = "
        mkdir speil/t/m; mount -t tmpfs none speil/t/m
        sync() { $SPEIL sync -aH --delete s/ speil/t/; rsync -rptn --delete -ci s/ speil/t/; }
        sync; echo =; sync
        mv s/m/one s/one; mv s/m/dir s/dir; mv s/m/a s/b
        sync; echo =; sync; ls speil/t speil/t/m
        mkdir l u w o; mv s/dir l/dir; rm -rf s/*; cp -a l/dir s/; mount -t tmpfs none w; mkdir w/u w/w
        mount -t overlay -o lowerdir=l,upperdir=w/u,workdir=w/w,redirect_dir=off none o
        mv s/dir s/moved; $SPEIL sync -a --delete s/ o/; rsync -an --delete -ci s/ o/; ls o";
    let outcome = twins.apart(script).succeeded();
    let parts: Vec<&str> = outcome.stdout.split("=\n").collect();
    assert_eq!(parts.len(), 3, "{}", outcome.stdout);
    assert_eq!((parts[0], parts[1]), ("", ""), "rsync finds nothing to do");
    assert_eq!(parts[2], "speil/t:\na\nb\ndir\nm\none\n\nspeil/t/m:\nmoved", "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "");
}
