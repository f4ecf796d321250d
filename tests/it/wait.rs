//! `speil wait`: never early, whatever else is being written.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::support::command::eventually;
use crate::support::proxy::{Link, Proxy};
use crate::support::rng::Rng;
use crate::support::stand::Stand;

/// Rounds of the test with random writers: `SPEIL_ROUNDS`, else few.
fn rounds() -> usize {
    std::env::var("SPEIL_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// A conversation with the daemon: without a process to start, an answer that is early shows.
struct Waiter {
    stream: BufReader<UnixStream>,
}

impl Waiter {
    fn connect(control: &Path) -> Self {
        Self { stream: BufReader::new(UnixStream::connect(control).expect("the control socket")) }
    }

    fn wait(&mut self) -> String {
        let request = r#"{"command":"wait","targets":"all","timeout_ms":60000,"despite_problems":false}"#;
        let mut line = String::new();
        writeln!(self.stream.get_mut(), "{request}").expect("ask");
        self.stream.read_line(&mut line).expect("an answer");
        line
    }
}

/// A file whose content is a number that only grows, and the ways in which programs write such files.
struct Counter {
    path: PathBuf,
    number: u64,
}

/// How a counter is written.
#[derive(Clone, Copy)]
enum Style {
    /// Written over in one piece.
    InPlace,
    /// A new file renamed over the old one.
    Save,
    /// Removed and made again.
    Anew,
    /// In a directory that is renamed to and fro.
    MovedDir,
    /// In new directories each time.
    Chain,
}

const STYLES: [Style; 5] = [Style::InPlace, Style::Save, Style::Anew, Style::MovedDir, Style::Chain];

fn record(number: u64) -> String {
    format!("{number:020}\n")
}

impl Counter {
    fn new(style: Style, root: &Path, name: &str) -> Self {
        let path = match style {
            Style::MovedDir => root.join(format!("{name}.a")).join("file"),
            _ => root.join(name),
        };
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, record(0)).expect("the first record");
        Self { path, number: 0 }
    }

    /// Writes the next number.
    fn step(&mut self, style: Style) -> std::io::Result<()> {
        let text = record(self.number + 1);
        match style {
            Style::InPlace => {
                OpenOptions::new().write(true).open(&self.path)?.write_all_at(text.as_bytes(), 0)?
            }
            Style::Save => {
                let temp = self.path.with_extension("new");
                fs::write(&temp, &text)?;
                fs::rename(&temp, &self.path)?;
            }
            Style::Anew => {
                fs::remove_file(&self.path)?;
                fs::write(&self.path, &text)?;
            }
            Style::MovedDir => {
                OpenOptions::new().write(true).open(&self.path)?.write_all_at(text.as_bytes(), 0)?;
                let dir = self.path.parent().expect("a parent").to_owned();
                let other = if dir.extension().is_some_and(|end| end == "a") { "b" } else { "a" };
                let other = dir.with_extension(other);
                fs::rename(&dir, &other)?;
                self.path = other.join("file");
            }
            Style::Chain => {
                let top = self.path.with_extension("d");
                let chain = top.join(format!("{}/x/y", self.number + 1));
                fs::create_dir_all(&chain)?;
                fs::write(chain.join("file"), &text)?;
                if self.number > 5 {
                    fs::remove_dir_all(top.join((self.number - 5).to_string()))?;
                }
            }
        }
        self.number += 1;
        Ok(())
    }
}

/// Returns the number that a counter has on the target; a version in between counts as `None`.
fn number_at(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Says what is missing on the target of a counter that stood at `number` under `path` when the wait began.
fn missing(
    style: Style,
    counter: &Mutex<Counter>,
    path: &Path,
    number: u64,
    map: &dyn Fn(&Path) -> PathBuf,
) -> Option<String> {
    let look = || match style {
        Style::InPlace | Style::Save => number_at(&map(path)),
        // It may be away or empty for a moment because it is on the source.
        Style::Anew => number_at(&map(path)).or_else(|| {
            let now = counter.lock().unwrap_or_else(PoisonError::into_inner).number;
            (now > number).then_some(now)
        }),
        // A later rename may be on its way, and the file under neither name.
        Style::MovedDir => {
            let dir = map(path.parent()?);
            let at = |end: &str| number_at(&dir.with_extension(end).join("file"));
            at("a").max(at("b")).or_else(|| {
                let now = counter.lock().unwrap_or_else(PoisonError::into_inner).number;
                (now > number).then_some(now)
            })
        }
        Style::Chain if number == 0 => Some(0),
        Style::Chain => {
            let chain = map(&path.with_extension("d")).join(format!("{number}/x/y/file"));
            number_at(&chain).or_else(|| {
                // Removed on the source meanwhile.
                let now = counter.lock().unwrap_or_else(PoisonError::into_inner).number;
                (now > number + 4).then_some(now)
            })
        }
    };
    // A directory may be renamed between the look at its one name and at its other.
    let seen: Vec<Option<u64>> = (0..3).map(|_| look()).collect();
    let reached = seen.iter().any(|seen| seen.is_some_and(|seen| seen >= number));
    (!reached).then(|| {
        format!("{}: {number} on the source before the wait, {seen:?} on the target", path.display())
    })
}

#[test]
fn directories_that_cannot_go_are_neither_held_nor_waited_for() {
    let stand = Stand::new();
    let target = stand.target("standby");
    let dirs = |from: usize| (from..from + 4).map(|n| format!("d{n}"));
    dirs(0).chain(dirs(4)).for_each(|dir| std::fs::create_dir(stand.source().join(dir)).unwrap());
    std::fs::write(stand.source().join("kept"), "").unwrap();
    let daemon = stand.run(&["standby"], "exclude = { \"*.keep\" }, maxDelete = 5", "");
    dirs(0).chain(dirs(4)).for_each(|dir| std::fs::write(target.join(dir).join("x.keep"), "").unwrap());
    let control = format!("--control={}", stand.control().display());
    let wait = || stand.environment.run(["wait", "--timeout=60s", &control]).succeeded();
    for from in [0, 4] {
        dirs(from).for_each(|dir| std::fs::remove_dir(stand.source().join(dir)).unwrap());
        wait();
    }
    // Eight directories that the source lacks, where five deletes are allowed.
    stand.environment.run(["reconcile", &control]).succeeded();
    wait();
    let status = stand.environment.run(["status", "--json", &control]).succeeded();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let of_target = &status["syncs"][0]["targets"][0];
    assert_eq!((&of_target["held"], &of_target["problems"]), (&0.into(), &serde_json::json!([])), "{status}");
    assert!(dirs(0).chain(dirs(4)).all(|dir| target.join(dir).join("x.keep").exists()));
    daemon.terminate();
}

#[test]
fn what_was_written_before_a_wait_is_on_the_target_when_it_returns_whatever_others_write() {
    written_before_a_wait("inotify");
}

#[test]
fn what_was_written_before_a_wait_is_there_with_a_mark_on_the_filesystem_too() {
    // Where a mark is refused this runs on inotify, and says so.
    written_before_a_wait("fanotify");
}

fn written_before_a_wait(watch: &str) {
    let mut stand = Stand::new();
    let link = Link { round_trip: Duration::from_millis(10), rate: None };
    let proxy = Proxy::start(stand.sshd.address(), link);
    stand.ssh_command = stand.sshd.ssh_command_through(proxy.address());
    let (source, target) = (stand.source(), stand.target("standby"));
    let counters: Vec<(Style, Mutex<Counter>)> = STYLES
        .iter()
        .flat_map(|style| (0..3).map(move |n| (*style, n)))
        .map(|(style, n)| (style, Mutex::new(Counter::new(style, &source, &format!("{}{n}", style as u8)))))
        .collect();
    let watch = format!("--watch={watch}");
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", &watch]);
    let map = |path: &Path| target.join(path.strip_prefix(&source).expect("below the source"));
    let stop = AtomicBool::new(false);
    // Milliseconds at which the wait began that is under way: writers that a loaded host cannot follow slow down.
    let (start, began) = (Instant::now(), AtomicU64::new(0));
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (counters, stop, began, now) = (&counters, &stop, &began, &now);
            scope.spawn(move || {
                let mut rng = Rng::new(writer);
                while !stop.load(Ordering::Relaxed) {
                    let Some((style, counter)) = rng.pick(counters) else { return };
                    let done = counter.lock().unwrap_or_else(PoisonError::into_inner).step(*style);
                    done.expect("a step of a writer");
                    let waits = now().saturating_sub(began.load(Ordering::Relaxed));
                    std::thread::sleep(Duration::from_micros(
                        rng.below(12_000) as u64 + waits * waits / 1000,
                    ));
                }
            });
        }
        let mut waiter = Waiter::connect(&stand.control());
        let early = (0..rounds()).find_map(|round| {
            let before: Vec<(PathBuf, u64)> = counters
                .iter()
                .map(|(_, counter)| {
                    let counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
                    (counter.path.clone(), counter.number)
                })
                .collect();
            began.store(now(), Ordering::Relaxed);
            let answer = waiter.wait();
            if !answer.contains("done") {
                return Some(format!("round {round}: {answer}"));
            }
            counters.iter().zip(&before).find_map(|((style, counter), (path, number))| {
                missing(*style, counter, path, *number, &map).map(|text| format!("round {round}: {text}"))
            })
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(early, None, "{:?}", mirror.stderr());
    });
    assert!(counters.iter().all(|(_, counter)| counter.lock().unwrap().number > 0), "every writer wrote");
    mirror.terminate();
}

#[test]
fn a_wait_does_not_wait_for_the_close_of_a_large_file_and_takes_what_was_written_so_far() {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let path = stand.source().join("upload");
    let mut upload = File::create(&path).unwrap();
    upload.write_all(&vec![7; 9 << 20]).unwrap();
    let mut waiter = Waiter::connect(&stand.control());
    let answer = waiter.wait();
    let there = fs::read(stand.target("standby").join("upload")).unwrap_or_default();
    assert_eq!((answer.contains("done"), there.len()), (true, 9 << 20), "{answer}");
    drop(upload);
    mirror.terminate();
}

#[test]
fn a_wait_with_polling_finds_by_itself_what_was_written() {
    let stand = Stand::new();
    let keys = "watch = \"poll\", pollInterval = \"1h\", reconcile = { interval = \"never\" }";
    let mirror = stand.run(&["standby"], keys, "");
    let mut waiter = Waiter::connect(&stand.control());
    for round in 0..20 {
        fs::create_dir_all(stand.source().join(format!("{round}"))).unwrap();
        fs::write(stand.source().join(format!("{round}/file")), record(round)).unwrap();
        fs::write(stand.source().join("same"), record(round)).unwrap();
        let answer = waiter.wait();
        assert!(answer.contains("done"), "{answer}");
        for name in [format!("{round}/file"), "same".to_owned()] {
            assert_eq!(number_at(&stand.target("standby").join(&name)), Some(round), "{name}");
        }
    }
    mirror.terminate();
}

#[test]
fn a_wait_tells_success_from_a_laggard_from_a_target_that_is_down() {
    let mut stand = Stand::new();
    let proxy = Proxy::start(stand.sshd.address(), Link::default());
    stand.ssh_command = stand.sshd.ssh_command_through(proxy.address());
    let mirror = stand.mirror(&["standby", "second"], &["--reconcile-interval=never"]);
    let control = format!("--control={}", stand.control().display());
    let wait = |options: &[&str]| {
        let arguments = ["wait", &control].into_iter().chain(options.iter().copied());
        stand.environment.run(arguments)
    };
    assert_eq!(wait(&[]).code(), 0);
    for bad in ["--targets=3", "--targets=third", "--targets=0", "nobody"] {
        assert_eq!(wait(&[bad]).code(), 1, "{bad}");
    }
    proxy.freeze();
    fs::write(stand.source().join("file"), b"new").unwrap();
    let late = wait(&["--timeout=300ms"]);
    assert_eq!(late.code(), 30, "{late:?}");
    assert!(late.stderr.contains("not in step"), "{late:?}");
    let named = ["second", "standby"].iter().any(|name| late.stderr.contains(name));
    assert!(named, "{late:?}");
    proxy.thaw();
    assert_eq!(wait(&["--timeout=60s"]).code(), 0);
    assert_eq!(fs::read(stand.target("standby").join("file")).unwrap(), b"new");

    // One target that refuses is down, and the other one is enough for who asks for any.
    fs::create_dir_all(stand.target("second").join(".speil")).unwrap();
    fs::write(stand.target("second").join(".speil/refuse"), "promoted").unwrap();
    proxy.cut();
    eventually("the first is back", || wait(&["--targets=any", "--timeout=1s"]).code() == 0);
    eventually("the second is refused", || {
        let down = wait(&["--timeout=100ms"]);
        down.code() == 12 && down.stderr.contains("promoted")
    });
    mirror.terminate();
    assert_eq!(wait(&[]).code(), 12, "no daemon is down, too");
}

#[test]
fn a_path_that_fails_is_waited_for_unless_told_otherwise() {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let control = format!("--control={}", stand.control().display());
    fs::create_dir(stand.target("standby").join("wall")).unwrap();
    // Nothing may be written into an immutable directory.
    let chattr = |flag: &str| {
        let dir = stand.target("standby").join("wall");
        std::process::Command::new("chattr").arg(flag).arg(dir).status().expect("chattr").success()
    };
    fs::create_dir(stand.source().join("wall")).unwrap();
    assert_eq!(stand.environment.run(["wait", "--timeout=30s", &control]).code(), 0);
    assert!(chattr("+i"), "the scratch filesystem knows no immutable directories");
    fs::write(stand.source().join("wall/file"), b"x").unwrap();
    let late = stand.environment.run(["wait", "--timeout=2s", &control]);
    let despite = stand.environment.run(["wait", "--timeout=10s", "--despite-problems", &control]);
    assert!(chattr("-i"));
    assert_eq!((late.code(), despite.code()), (30, 0), "{late:?} {despite:?}");
    // The file, or the time of the directory that it should be in.
    assert!(late.stderr.contains("\"wall"), "{late:?}");
    assert_eq!(stand.environment.run(["wait", "--timeout=60s", &control]).code(), 0, "solved");
    mirror.terminate();
}
