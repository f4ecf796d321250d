//! The latency of writes on a filesystem with a journal, until they are seen and until they count.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::live::write_and_wait;
use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{Figures, verify_live};
use crate::support::rng::Rng;
use crate::support::statistics::{median, quantile};

const IMAGE_BYTES: u64 = 256 << 20;

/// An ext4 in a file; it is unmounted with its guard.
struct Image {
    at: PathBuf,
}

impl Image {
    fn mount(arena: &Arena, name: &str) -> Result<Self, Failure> {
        // On the disk, where a flush costs what it costs.
        let file = std::env::temp_dir().join(format!("speil-bench-{}-{name}.img", std::process::id()));
        let image = OpenOptions::new().write(true).create(true).truncate(true).open(&file)?;
        image.set_len(IMAGE_BYTES)?;
        let at = arena.empty_dir(name)?;
        let made = ran(Command::new("mkfs.ext4").arg("-q").arg(&file));
        let mounted = made.and_then(|()| ran(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&at)));
        // The mount holds what the name led to.
        fs::remove_file(&file)?;
        mounted.map(|()| Self { at })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = ran(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

fn ran(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

pub fn latency(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let images = (Image::mount(arena, "source-volume")?, Image::mount(arena, "target-volume")?);
    let (source, target) = (images.0.at.join("tree"), images.1.at.join("tree"));
    fs::create_dir_all(source.join("uploads"))?;
    fs::create_dir(&target)?;
    let ssh = arena.sshd.ssh_command();
    let control = format!("--control={}", arena.control().display());
    let route = Route { source: &source, target: &target, ssh: &ssh };
    let live = contender::start_live(arena, contender, route, std::slice::from_ref(&control))?;
    live.wait_for_line(if contender == Contender::Speil { ": live" } else { "Startup of " });
    let mut rng = Rng::new(3);
    let mut seen = Vec::new();
    let mut acknowledged = Vec::new();
    let writes = if arena.quick || contender == Contender::Lsyncd { 20 } else { 100 };
    for number in 0..writes {
        std::thread::sleep(Duration::from_micros(5_000 + rng.below(10_000) as u64));
        let began = Instant::now();
        seen.push(write_and_wait(&source, &target, &format!("uploads/{number}.jpg"), &mut rng)?);
        if contender == Contender::Speil {
            arena.environment.run(["wait", &control]).succeeded();
            acknowledged.push(began.elapsed());
        }
    }
    let ms = |times: &[Duration]| times.iter().map(|time| time.as_secs_f64() * 1e3).collect::<Vec<_>>();
    let mut figures = vec![("median_ms", median(&ms(&seen))), ("p99_ms", quantile(&ms(&seen), 0.99))];
    if !acknowledged.is_empty() {
        figures.push(("acknowledged_median_ms", median(&ms(&acknowledged))));
    }
    verify_live(contender, &source, &target)?;
    live.terminate();
    Ok(figures)
}
