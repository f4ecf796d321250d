//! Shows a live mirror at work: `make demo`.
//!
//! **Purpose:** mirrors a sample upload directory onto a standby on this host, with the real program and
//! the real agent over a pipe; changes files, and tells when each change is seen whole on the standby.
//! **Invariants:** everything lies in one temporary directory; ends with failure if the two trees differ
//! in names, types, contents, modes, owners or times at the end, or a change does not arrive.

use std::error::Error;
use std::fs::{self, File, Metadata};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long a change may take before the demonstration has failed.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let own = std::env::current_exe()?;
    let program = own.parent().and_then(Path::parent).ok_or("no build directory")?.join("speil");
    let dir = tempfile::Builder::new().prefix("speil-demo-").tempdir()?;
    let scene = Scene {
        source: dir.path().join("uploads"),
        standby: dir.path().join("standby"),
        control: dir.path().join("control"),
    };
    let (files, bytes) = make_sample(&scene.source)?;
    println!("sample       {files} files, {:.1} MB in {}", bytes as f64 / 1e6, scene.source.display());
    let began = Instant::now();
    let mut mirror = Mirror::start(&program, &scene)?;
    println!("first copy   {:>9}  and live\n", millis(began.elapsed()));
    changes(&scene)?;
    wait(&program, &scene.control)?;
    println!("\nspeil wait   every change is acknowledged");
    let entries = compare(&scene.source, &scene.standby)?;
    println!("compared     {entries} entries: names, types, contents, modes, owners and times are equal");
    mirror.stop()
}

/// Where things are.
struct Scene {
    source: PathBuf,
    standby: PathBuf,
    control: PathBuf,
}

impl Scene {
    fn both(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.source.join(name), self.standby.join(name))
    }

    /// Does something to the source and tells how long after it the standby shows it.
    fn show(&self, what: &str, act: impl FnOnce() -> Outcome<()>, seen: impl Fn() -> bool) -> Outcome<()> {
        let took = arrival(what, act, seen)?;
        println!("{:>9}  {what}", millis(took));
        Ok(())
    }
}

fn arrival(what: &str, act: impl FnOnce() -> Outcome<()>, seen: impl Fn() -> bool) -> Outcome<Duration> {
    act()?;
    let done = Instant::now();
    while !seen() {
        if done.elapsed() > LIMIT {
            return Err(format!("{what}: not on the standby after {} s", LIMIT.as_secs()).into());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(done.elapsed())
}

/// The running mirror; it ends with its guard.
struct Mirror(Child);

impl Mirror {
    /// Starts it and returns when it says that it is live.
    fn start(program: &Path, scene: &Scene) -> Outcome<Self> {
        let mut source = scene.source.clone().into_os_string();
        source.push("/");
        let mut command = Command::new(program);
        command.arg("mirror").arg("--control").arg(&scene.control).arg(source).arg(&scene.standby);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut mirror = Self(child.map_err(|error| format!("{}: {error}", program.display()))?);
        let mut lines = BufReader::new(mirror.0.stdout.take().ok_or("no output")?).lines();
        while let Some(line) = lines.next().transpose()? {
            println!("  {line}");
            if line.ends_with(": live") {
                // A mirror whose output nobody reads would stand still.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(mirror);
            }
        }
        Err("the mirror ended before it was live".into())
    }

    fn stop(&mut self) -> Outcome<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the mirror ended with {status}").into()) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes 300 files in 12 directories; returns how many files and bytes.
fn make_sample(root: &Path) -> Outcome<(usize, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for month in 1..=12 {
        let dir = root.join(format!("2026/{month:02}"));
        fs::create_dir_all(&dir)?;
        for number in 0..25u32 {
            let content = noise(month * 100 + number, 2_000 + 1_500 * number as usize);
            let path = dir.join(format!("photo-{number:03}.jpg"));
            fs::write(&path, &content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
            files += 1;
            bytes += content.len() as u64;
        }
    }
    symlink("2026/12/photo-001.jpg", root.join("latest.jpg"))?;
    fs::hard_link(root.join("2026/01/photo-000.jpg"), root.join("cover.jpg"))?;
    Ok((files, bytes))
}

/// Returns `len` bytes that do not compress, the same for the same seed.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) | 1 << 40;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = len.div_ceil(8);
    (0..words).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

fn holds(path: &Path, content: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() == content.len() as u64)
        && fs::read(path).is_ok_and(|found| found == content)
}

fn changes(scene: &Scene) -> Outcome<()> {
    let mut times = Vec::new();
    for number in 0..21 {
        let (here, there) = scene.both(&format!("2026/06/upload-{number:02}.jpg"));
        let content = noise(5_000 + number, 10_000);
        times.push(arrival("an upload", || Ok(fs::write(&here, &content)?), || holds(&there, &content))?);
    }
    times.sort();
    let (median, slowest) = (millis(times[times.len() / 2]), millis(times[times.len() - 1]));
    println!("{median:>9}  a new file of 10 kB: median of {}, the slowest {slowest}", times.len());
    let (film, film_there) = scene.both("2026/06/film.mp4");
    let mut content = noise(9_000, 20_000_000);
    scene.show("a new file of 20 MB", || Ok(fs::write(&film, &content)?), || holds(&film_there, &content))?;
    let edit = noise(9_001, 4_096);
    content[10_000_000..10_004_096].copy_from_slice(&edit);
    let overwrite = || Ok(File::options().write(true).open(&film)?.write_all_at(&edit, 10_000_000)?);
    scene.show("4 kB overwritten in its middle", overwrite, || holds(&film_there, &content))?;

    let (renamed, renamed_there) = scene.both("2026/06/holiday.mp4");
    let moved = || !film_there.exists() && renamed_there.exists();
    scene.show("the same file renamed", || Ok(fs::rename(&film, &renamed)?), moved)?;
    let ((from, from_there), (to, to_there)) = (scene.both("2026/03"), scene.both("archive"));
    let moved = || !from_there.exists() && to_there.join("photo-024.jpg").exists();
    scene.show("a directory of 25 files renamed", || Ok(fs::rename(&from, &to)?), moved)?;
    let (photo, photo_there) = scene.both("2026/05/photo-000.jpg");
    let private = fs::Permissions::from_mode(0o600);
    let closed = || fs::metadata(&photo_there).is_ok_and(|found| found.mode() & 0o7777 == 0o600);
    scene.show("a mode changed", || Ok(fs::set_permissions(&photo, private)?), closed)?;
    scene.show("a file deleted", || Ok(fs::remove_file(&photo)?), || !photo_there.exists())?;
    let (many, many_there) = scene.both("import");
    let burst = || {
        fs::create_dir(&many)?;
        let one = |number| fs::write(many.join(format!("{number:04}")), noise(number, 4_000));
        Ok((0..1_000).try_for_each(one)?)
    };
    let all = || fs::read_dir(&many_there).is_ok_and(|dir| dir.count() == 1_000);
    scene.show("1,000 new files of 4 kB, from the last write to all there", burst, all)?;
    // Half of the tree at once would be held by the guard.
    let some = || (0..300).try_for_each(|number| Ok(fs::remove_file(many.join(format!("{number:04}")))?));
    let left = || fs::read_dir(&many_there).is_ok_and(|dir| dir.count() == 700);
    scene.show("300 files deleted; a burst is judged once it has been quiet for 1 s", some, left)
}

fn wait(program: &Path, control: &Path) -> Outcome<()> {
    let status =
        Command::new(program).args(["wait", "--timeout", "30s", "--control"]).arg(control).status()?;
    if status.success() { Ok(()) } else { Err(format!("speil wait ended with {status}").into()) }
}

/// Returns how many entries both trees hold.
fn compare(source: &Path, standby: &Path) -> Outcome<usize> {
    let (here, there) = (entries(source)?, entries(standby)?);
    for path in here.iter().chain(&there) {
        let (a, b) = (source.join(path), standby.join(path));
        let facts = |it: &Path| fs::symlink_metadata(it).map(|found| facts_of(&found));
        let differs = match (facts(&a), facts(&b)) {
            (Ok(a_facts), Ok(b_facts)) if a_facts == b_facts => content(&a)? != content(&b)?,
            _ => true,
        };
        if differs {
            return Err(format!("{} differs on the standby", path.display()).into());
        }
    }
    Ok(here.len())
}

fn entries(root: &Path) -> Outcome<Vec<PathBuf>> {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| entry.file_name() != ".speil");
    walk.map(|entry| Ok(entry?.path().strip_prefix(root)?.to_owned())).collect()
}

fn facts_of(found: &Metadata) -> (u32, u32, u32, u64, (i64, i64)) {
    let size = if found.is_dir() { 0 } else { found.len() };
    (found.mode(), found.uid(), found.gid(), size, (found.mtime(), found.mtime_nsec()))
}

fn content(path: &Path) -> Outcome<Vec<u8>> {
    let kind = fs::symlink_metadata(path)?.file_type();
    Ok(match (kind.is_symlink(), kind.is_file()) {
        (true, _) => fs::read_link(path)?.into_os_string().into_encoded_bytes(),
        (_, true) => fs::read(path)?,
        _ => Vec::new(),
    })
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
