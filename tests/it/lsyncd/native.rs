//! The same configurations natively: lsyncd with the real rsync keeps one target, speil without it another,
//! and both are the same after every step; or speil says by name why it cannot.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::Signal;

use super::cases::{self, Case, shell};
use super::scene::Scene;
use crate::support::command::{Background, SPEIL, eventually, holds_within};
use crate::support::process;

/// How long one step of a case may take.
const STEP: std::time::Duration = std::time::Duration::from_secs(30);

/// Lines for sh in the source, each followed by a look at both targets; what the last one of them did is
/// seen by the line after the bar, run in the target.
const STEPS: [(&str, &str); 5] = [
    // Whole at once: without `perms` a mode is that of the moment when the file is first sent.
    (
        "mkdir -p ../stage/s1/in; cd ../stage; echo one > s1/in/file; ln -s file s1/in/link; chmod 640 s1/in/file; \
         mv s1 ../s/s1",
        "test -L s1/in/link",
    ),
    ("echo longer > s1/in/file; echo top > top", "grep -q longer s1/in/file && grep -q top top"),
    ("mv s1/in/file s1/moved; mv s1 s2", "test -e s2/moved && test -L s2/in/link"),
    (
        "touch -d 2001-02-03T04:05:06Z s2/moved; chmod 604 s2/moved",
        "test \"$(stat -c %Y s2/moved)\" = 981173106",
    ),
    ("rm -r s2 top", ""),
];

/// A program at work on a configuration.
struct Run {
    scene: Scene,
    guard: Background,
}

/// Puts an ssh in place that reaches this host whatever the host is called.
fn short_cut(scene: &Scene) {
    fs::create_dir_all(scene.path("here")).unwrap();
    let script = format!(
        "#!/bin/sh\nwhile :; do case \"$1\" in -[pioFlc]) shift 2;; -*) shift;; *) break;; esac; done\nshift\n\
         PATH={}:$PATH exec sh -c \"$*\"\n",
        scene.path("here").display()
    );
    fs::write(scene.path("here/ssh"), script).unwrap();
    fs::set_permissions(scene.path("here/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(SPEIL, scene.path("here/speil")).unwrap();
}

fn start(case: &Case, speil: bool) -> Run {
    let scene = Scene::new();
    short_cut(&scene);
    if case.get("native").is_none() {
        // No host of such a configuration stands for this one: nothing may be reached.
        fs::write(scene.path("here/ssh"), "#!/bin/sh\nexit 255\n").unwrap();
    }
    for line in case.all("setup") {
        shell(&scene.path(""), line);
    }
    let mut text = format!("default.rsyncssh.ssh.binary='@/here/ssh' {}", case.text);
    for line in case.all("native") {
        let (old, new) = line.split_once(" => ").unwrap();
        assert!(text.contains(old), "{}: {old}", case.name);
        text = text.replace(old, new);
    }
    let file = scene.configure(&text).to_string_lossy().into_owned();
    let path = format!("{}:{}", scene.path("here").display(), std::env::var("PATH").unwrap_or_default());
    let mut arguments = vec!["-nodaemon", "-delay", "0.1"];
    if speil {
        arguments.extend(["-engine", "native"]);
    }
    arguments.push(&file);
    let guard = scene.start_with_path(speil, &arguments, &path);
    Run { scene, guard }
}

/// Returns what stands in a target, without speil's own state: names, types, modes, contents, and whether
/// files have the time that they have in the source.
fn tree(at: &Path, source: &Path, times: bool) -> Vec<String> {
    let mut all = Vec::new();
    let walk = walkdir::WalkDir::new(at).min_depth(1).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.file_name() != ".speil").flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let name = entry.path().strip_prefix(at).unwrap_or(at).display().to_string();
        let what = if meta.is_file() {
            let there = fs::symlink_metadata(source.join(&name));
            // Without `times` a file's time is that of its arrival.
            let time = if !times {
                ""
            } else {
                there.map_or("", |there| if there.mtime() == meta.mtime() { "same" } else { "other" })
            };
            format!("{time} {}", fs::read_to_string(entry.path()).unwrap_or_default().trim())
        } else if meta.is_symlink() {
            fs::read_link(entry.path()).map(|to| to.display().to_string()).unwrap_or_default()
        } else {
            String::new()
        };
        all.push(format!("{name} {:o} {what}", meta.mode()));
    }
    all
}

/// Waits until both targets hold the same, and what the step did.
fn settle(case: &Case, step: &str, seen: &str, ours: &Run, theirs: Option<&Run>) -> Result<(), String> {
    let targets = |run: &Run| -> Vec<_> {
        match case.get("targets") {
            Some(names) => names.split(' ').map(|name| run.scene.path(name)).collect(),
            None => vec![run.scene.path("t")],
        }
    };
    let ours_at = targets(ours);
    // What lsyncd does not run is held against the source.
    let theirs_at = theirs.map_or_else(|| vec![ours.scene.path("s"); ours_at.len()], targets);
    let times = !case.text.contains("times = false");
    // Without times there is none to wait for.
    let seen = if !times && seen.contains("%Y") { "" } else { seen };
    let there =
        || ours_at.iter().all(|target| seen.is_empty() || target.is_dir() && cases::succeeds(target, seen));
    let source = theirs.unwrap_or(ours).scene.path("s");
    let our_tree = |at: &std::path::PathBuf| tree(at, &ours.scene.path("s"), times);
    let their_tree = |at: &std::path::PathBuf| tree(at, &source, times);
    let same = || ours_at.iter().zip(&theirs_at).all(|(a, b)| our_tree(a) == their_tree(b));
    if holds_within(STEP, || there() && same()) {
        return Ok(());
    }
    Err(format!(
        "after {step}:\nspeil\n  {}\nlsyncd\n  {}\n{}\n{}",
        ours_at.iter().flat_map(our_tree).collect::<Vec<_>>().join("\n  "),
        theirs_at.iter().flat_map(their_tree).collect::<Vec<_>>().join("\n  "),
        ours.guard.stdout().join("\n"),
        theirs.map(|run| run.guard.stdout().join("\n")).unwrap_or_default()
    ))
}

/// Does an edit in the source of a run while its program stands still: it sees all of the edit at once, however
/// little of the machine it gets. Without deletes what it has seen of a name stays on the target.
fn edit(run: &Run, line: &str) {
    let pid = run.guard.pid();
    run.guard.signal(Signal::STOP);
    eventually("it stands still", || process::read(pid).is_none_or(|process| process.state == 'T'));
    shell(&run.scene.path("s"), line);
    run.guard.signal(Signal::CONT);
}

/// Runs both through all steps; returns what is wrong.
fn mirrored(case: &Case) -> Option<String> {
    let ours = start(case, true);
    let row = case.get("differs").or(case.get("native-differs"));
    if let Some(text) = row.and_then(cases::missing_row) {
        return Some(text);
    }
    let theirs = row.is_none().then(|| start(case, false));
    let runs: Vec<&Run> = [Some(&ours), theirs.as_ref()].into_iter().flatten().collect();
    let syncs = case.get("targets").map_or(1, |names| names.split(' ').count());
    for run in &runs {
        let live = || run.guard.stdout().iter().filter(|line| line.contains("finished")).count() >= syncs;
        if !holds_within(STEP, live) {
            return Some(format!(
                "no first pass:\n{}\n{}",
                run.guard.stdout().join("\n"),
                run.guard.stderr().join("\n")
            ));
        }
    }
    let own = case.edits.iter().map(|edit| (edit.line.as_str(), edit.there.as_deref().unwrap_or("")));
    let outcome = settle(case, "the start", "", &ours, theirs.as_ref()).and_then(|()| {
        own.chain(STEPS).try_for_each(|(line, seen)| {
            runs.iter().for_each(|run| edit(run, line));
            settle(case, line, seen, &ours, theirs.as_ref())
        })
    });
    outcome.err()
}

/// Has speil refuse a configuration whose options do not all map.
fn refused(case: &Case) -> Option<String> {
    let run = start(case, true);
    if !holds_within(STEP / 4, || !run.guard.is_running()) {
        return Some(format!("is native:\n{}", run.guard.stdout().join("\n")));
    }
    let outcome = run.guard.wait();
    let told =
        ["engine \"native\" is asked for, but", "Error: ", "error preparing", "not a valid inotfiyMode"];
    let named = outcome.code() == 255 && told.iter().any(|text| outcome.stderr.contains(text));
    (!named).then(|| format!("neither mirrored nor refused by name: {outcome:?}"))
}

#[test]
fn native_mirrors_hold_what_lsyncd_and_rsync_leave_there() {
    cases::in_parallel(|case| {
        // Where nothing stands for the hosts of a configuration, it must not be native.
        if case.get("native").is_some() { mirrored(case) } else { refused(case) }
    });
}
