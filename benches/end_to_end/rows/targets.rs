//! What two more targets cost.

use std::time::Instant;

use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{Figures, Meter, RUN_DEADLINE};
use crate::support::command::{Background, holds_within};
use crate::support::rng::Rng;
use crate::support::tree::Upload;

/// Large enough that the content is what costs.
pub fn prepare_large(arena: &Arena) -> Result<(), Failure> {
    let source = arena.empty_dir("source")?;
    let mut rng = Rng::new(11);
    let files = if arena.quick { 4 } else { 40 };
    for number in 0..files {
        std::fs::write(source.join(format!("{number:02}.mp4")), rng.bytes(10 << 20))?;
    }
    Ok(())
}

pub fn prepare_small(arena: &Arena) -> Result<(), Failure> {
    Upload::of(if arena.quick { 2_000 } else { 20_000 }, 12).grow(&arena.path("source"))?;
    Ok(())
}

const NAMES: [&str; 3] = ["target-1", "target-2", "target-3"];

/// The costs of one first copy to some targets.
struct Costs {
    seconds: f64,
    own: f64,
    all: f64,
}

pub fn three_against_one(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let one = copy(arena, contender, 1)?;
    let three = copy(arena, contender, 3)?;
    Ok(vec![
        ("one_seconds", one.seconds),
        ("three_seconds", three.seconds),
        ("one_own_cpu_s", one.own),
        ("three_own_cpu_s", three.own),
        ("own_cpu_times", three.own / one.own),
        ("one_source_cpu_s", one.all),
        ("three_source_cpu_s", three.all),
        ("source_cpu_times", three.all / one.all),
    ])
}

fn copy(arena: &Arena, contender: Contender, count: usize) -> Result<Costs, Failure> {
    let source = arena.path("source");
    for name in NAMES {
        arena.empty_dir(name)?;
    }
    let ssh = arena.sshd.ssh_command();
    let began = Instant::now();
    let names = &NAMES[..count];
    if contender == Contender::Speil {
        return live_copy(arena, names, &ssh, began);
    }
    let mut own = 0.0;
    let mut all = 0.0;
    let started: Result<Vec<_>, Failure> = names
        .iter()
        .map(|name| {
            let route = Route { source: &source, target: &arena.path(name), ssh: &ssh };
            Ok(Background::spawn(contender::pass(arena, contender, route)?))
        })
        .collect();
    for process in started? {
        process.wait_for_end()?;
        own += crate::support::process::own_cpu_seconds(process.pid());
        all += crate::support::process::cpu_seconds(process.pid());
        let outcome = process.wait();
        if !outcome.status.success() {
            return Err(outcome.stderr.into());
        }
    }
    Ok(Costs { seconds: began.elapsed().as_secs_f64(), own, all })
}

fn live_copy(arena: &Arena, names: &[&str], ssh: &str, began: Instant) -> Result<Costs, Failure> {
    let source = arena.path("source");
    let mut command = arena.environment.command(crate::support::command::SPEIL);
    command.args(["mirror", "--reconcile-interval", "never", "-e", ssh]);
    command.args(["--agent", &crate::support::command::agent_command()]);
    command.arg(format!("{}/", source.display()));
    command.args(names.iter().map(|name| arena.sshd.target(&arena.path(name))));
    let process = Background::spawn(command);
    let meter = Meter::start(&process, arena);
    let live = || process.stdout().iter().filter(|line| line.ends_with(": live")).count() >= names.len();
    if !holds_within(RUN_DEADLINE, || live() || !process.is_running()) || !process.is_running() {
        return Err(format!("not live: {:?}", process.stderr().last()).into());
    }
    let seconds = began.elapsed().as_secs_f64();
    let costs = Costs { seconds, own: meter.own_cpu_seconds(), all: meter.cpu_seconds().0 };
    for name in names {
        crate::measure::verify_live(Contender::Speil, &source, &arena.path(name))?;
    }
    Ok(costs)
}
