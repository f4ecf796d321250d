//! A small write beside a large file that fills the link.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use super::live::write_and_wait;
use super::pass::SLOW;
use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{Figures, Meter, RUN_DEADLINE};
use crate::support::command::holds_within;
use crate::support::rng::Rng;
use crate::support::statistics::{median, quantile};

pub fn small_beside_large(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.empty_dir("source")?, arena.empty_dir("target")?);
    fs::create_dir(source.join("uploads"))?;
    let proxy = arena.proxy(SLOW);
    let ssh = arena.ssh_through(proxy.address());
    let live = contender::live(arena, contender, Route { source: &source, target: &target, ssh: &ssh })?;
    let mut rng = Rng::new(3);
    let writes = if arena.quick { 10 } else { 30 };
    let mut measure = |prefix: &str| -> Result<Vec<f64>, Failure> {
        let mut all = Vec::new();
        for number in 0..writes {
            std::thread::sleep(Duration::from_micros(50_000 + rng.below(100_000) as u64));
            let name = format!("uploads/{prefix}-{number}.jpg");
            all.push(write_and_wait(&source, &target, &name, &mut rng)?.as_secs_f64() * 1e3);
        }
        Ok(all)
    };
    let idle = measure("idle")?;
    let size: u64 = if arena.quick { 256 << 20 } else { 4 << 30 };
    let mut large = fs::File::create(source.join("large"))?;
    let piece = Rng::new(4).bytes(1 << 20);
    for number in 0..size >> 20 {
        // No two pieces alike.
        large.write_all(&number.to_le_bytes())?;
        large.write_all(&piece[8..])?;
    }
    drop(large);
    let meter = Meter::start(&live, arena);
    let before = proxy.sent_bytes();
    if !holds_within(RUN_DEADLINE, || proxy.sent_bytes() > before + (8 << 20)) {
        return Err("the large file is not sent".into());
    }
    let began = (Instant::now(), proxy.sent_bytes());
    let busy = measure("busy")?;
    let rate = (proxy.sent_bytes() - began.1) as f64 / began.0.elapsed().as_secs_f64();
    if target.join("large").exists() {
        return Err("the large file was there before the last small one".into());
    }
    let mut figures = vec![
        ("idle_median_ms", median(&idle)),
        ("beside_median_ms", median(&busy)),
        ("beside_p99_ms", quantile(&busy, 0.99)),
        ("added_ms", median(&busy) - median(&idle)),
        ("link_used_share", rate / 12.5e6),
    ];
    figures.extend(meter.finish());
    Ok(figures)
}
