//! The configuration of a 2013 guide, run by both programs: `delay` as it is there (15 s), and none.

use std::fs;
use std::time::Duration;

use super::live::write_and_wait;
use crate::arena::{Arena, Failure};
use crate::contender::Contender;
use crate::measure::{Figures, verify_live};
use crate::support::command::{Background, SPEIL};
use crate::support::rng::Rng;
use crate::support::statistics::median;

/// What `delay` is where the file says nothing.
const DELAY: Duration = Duration::from_secs(15);

/// Writes that are measured with the delay, and without.
fn writes(arena: &Arena) -> (u64, u64) {
    if arena.quick { (2, 10) } else { (4, 40) }
}

fn configuration(arena: &Arena) -> String {
    let (source, target) = (arena.path("source"), arena.sshd.target(&arena.path("target")));
    format!(
        "settings {{\n    logfile = \"{}\",\n    statusFile = \"{}\"\n}}\nsync {{\n    default.rsync,\n    \
         source = \"{}/\",\n    target = \"{target}/\",\n    rsync = {{\n        compress = true,\n        \
         archive = true,\n        verbose = true,\n        rsh = \"{}\"\n    }}\n}}\n",
        arena.path("lsyncd.log").display(),
        arena.path("lsyncd.status").display(),
        source.display(),
        arena.sshd.ssh_command()
    )
}

/// Starts a program on the configuration and returns it when its first pass is done.
fn start(arena: &Arena, contender: Contender, arguments: &[&str]) -> Result<Background, Failure> {
    let file = arena.path("lsyncd.conf.lua");
    fs::write(&file, configuration(arena))?;
    let mut command = match contender {
        Contender::Speil => {
            let mut command = arena.environment.command(SPEIL);
            command.arg("lsyncd").env("XDG_RUNTIME_DIR", arena.path("run"));
            command
        }
        _ => arena.environment.command("lsyncd"),
    };
    command.arg("-nodaemon").args(arguments).arg(file);
    let process = Background::spawn(command);
    process.wait_for_line("Startup of ");
    Ok(process)
}

/// Returns the median latency of `count` writes, in milliseconds; they come at no rhythm with the delay.
fn latency(
    arena: &Arena,
    contender: Contender,
    arguments: &[&str],
    (count, pause): (u64, Duration),
) -> Result<f64, Failure> {
    let (source, target) = (arena.empty_dir("source")?, arena.empty_dir("target")?);
    fs::create_dir(source.join("uploads"))?;
    let _process = start(arena, contender, arguments)?;
    let mut rng = Rng::new(6);
    let mut all = Vec::new();
    for number in 0..count {
        let part = u64::try_from(pause.as_micros())?;
        std::thread::sleep(Duration::from_micros(5_000 + part * number / count.max(1)));
        let took = write_and_wait(&source, &target, &format!("uploads/{number}.jpg"), &mut rng)?;
        all.push(took.as_secs_f64() * 1e3);
    }
    // What rsync carried over is compared as lsyncd's is: by content.
    let by = if arguments.contains(&"rsync") { Contender::Lsyncd } else { contender };
    verify_live(by, &source, &target).map_err(|error| format!("{arguments:?}: {error}"))?;
    Ok(median(&all))
}

/// Puts the agent where the configuration finds it.
pub fn prepare(arena: &Arena) -> Result<(), Failure> {
    arena.sshd.install_agent();
    Ok(())
}

pub fn measure(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (slow, fast) = writes(arena);
    let mut figures = vec![
        ("as_configured_median_ms", latency(arena, contender, &[], (slow, DELAY / 10))?),
        ("delay_0_median_ms", latency(arena, contender, &["-delay", "0"], (fast, Duration::ZERO))?),
    ];
    if contender == Contender::Speil {
        let arguments = ["-engine", "rsync", "-delay", "0"];
        figures.push((
            "delay_0_engine_rsync_median_ms",
            latency(arena, contender, &arguments, (fast, Duration::ZERO))?,
        ));
    }
    Ok(figures)
}
