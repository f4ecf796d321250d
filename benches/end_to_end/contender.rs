//! Who is measured, and the command lines they are measured with.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arena::{Arena, Failure};
use crate::support::command::{Background, SPEIL, agent_command};

/// One way to get a tree to another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The release build of this package.
    Speil,
    /// lsyncd with its `default.rsync` layer.
    Lsyncd,
    /// One `rsync -a --delete`.
    Rsync,
    /// `tar | ssh tar`: what a copy costs that compares nothing.
    Tar,
}

impl Contender {
    /// Every contender, speil first.
    pub const ALL: [Self; 4] = [Self::Speil, Self::Lsyncd, Self::Rsync, Self::Tar];

    /// Returns the name in tables and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Speil => "speil",
            Self::Lsyncd => "lsyncd",
            Self::Rsync => "rsync",
            Self::Tar => "tar",
        }
    }

    /// Returns the command line without the paths of one run, for the report.
    pub const fn commands(self) -> &'static str {
        match self {
            Self::Speil => {
                "speil sync -a --delete -e SSH --agent AGENT SOURCE/ HOST:TARGET/ (-az in row first-copy-far; HOST:SOURCE/ TARGET/ in rows pull)\n\
                 speil mirror --reconcile-interval never -e SSH --agent AGENT SOURCE HOST:TARGET\n\
                 speil lsyncd -nodaemon [-engine rsync] [-delay 0] CONFIG (row lsyncd-2013)"
            }
            Self::Lsyncd => {
                "lsyncd -nodaemon CONFIG, default.rsync, archive = true, rsh = SSH, delay = 0\n\
                 lsyncd -nodaemon [-delay 0] CONFIG (row lsyncd-2013)"
            }
            Self::Rsync => {
                "rsync -a --delete -e SSH SOURCE/ HOST:TARGET/ (-az in row first-copy-far; HOST:SOURCE/ TARGET/ in rows pull)"
            }
            Self::Tar => "tar -C SOURCE -cf - . | SSH HOST tar -C TARGET -xf -",
        }
    }
}

/// From where to where, and how to log in.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The tree that is copied.
    pub source: &'a Path,
    /// Where it goes, on the sshd's side.
    pub target: &'a Path,
    /// The text for `-e`.
    pub ssh: &'a str,
}

/// Returns the command of one pass.
///
/// # Errors
/// For a contender that knows no single pass.
pub fn pass(arena: &Arena, contender: Contender, route: Route<'_>) -> Result<Command, Failure> {
    let ends = [format!("{}/", route.source.display()), format!("{}/", arena.sshd.target(route.target))];
    between(arena, contender, route, ends)
}

/// Returns the command of one pass on the host of the target, which is without the sshd then.
///
/// # Errors
/// As [`pass`]; tar knows no pull here.
pub fn pull(arena: &Arena, contender: Contender, route: Route<'_>) -> Result<Command, Failure> {
    if contender == Contender::Tar {
        return Err("tar is not pulled".into());
    }
    let ends = [format!("{}/", arena.sshd.target(route.source)), format!("{}/", route.target.display())];
    between(arena, contender, route, ends)
}

fn between(
    arena: &Arena,
    contender: Contender,
    route: Route<'_>,
    ends: [String; 2],
) -> Result<Command, Failure> {
    let mut command = match contender {
        Contender::Speil => {
            let mut command = arena.environment.command(SPEIL);
            command.args(["sync", "-a", "--delete", "-e", route.ssh, "--agent", &agent_command()]);
            command
        }
        Contender::Rsync => {
            let mut command = arena.environment.command("rsync");
            command.args(["-a", "--delete", "-e", route.ssh]);
            command
        }
        Contender::Tar => {
            let (from, to) = (route.source.display(), route.target.display());
            let (ssh, login) = (route.ssh, arena.sshd.login());
            let mut command = arena.environment.command("bash");
            let pipe = format!("set -o pipefail; tar -C {from} -cf - . | {ssh} {login} tar -C {to} -xf -");
            command.args(["-c", &pipe]);
            return Ok(command);
        }
        Contender::Lsyncd => return Err("lsyncd knows no single pass".into()),
    };
    command.args(ends);
    Ok(command)
}

/// Starts a live mirror and returns it when its first pass is done.
///
/// speil runs with its own default delay, lsyncd with none; rows of many changes showed no
/// difference between its delays 0 and 1.
///
/// # Errors
/// For a contender that is not live.
///
/// # Panics
/// If it ends, or its first pass does not.
pub fn live(arena: &Arena, contender: Contender, route: Route<'_>) -> Result<Background, Failure> {
    let process = start_live(arena, contender, route, &[])?;
    // Either says so when the first pass is done and events are followed.
    process.wait_for_line(if contender == Contender::Speil { ": live" } else { "Startup of " });
    Ok(process)
}

/// As [`live`], with more options for speil, and without waiting for the first pass.
///
/// # Errors
/// As [`live`].
pub fn start_live(
    arena: &Arena,
    contender: Contender,
    route: Route<'_>,
    options: &[String],
) -> Result<Background, Failure> {
    let command = match contender {
        Contender::Speil => {
            let mut command = arena.environment.command(SPEIL);
            command.args(["mirror", "--reconcile-interval", "never", "-e", route.ssh]);
            command.args(["--agent", &agent_command()]).args(options);
            command.arg(format!("{}/", route.source.display()));
            command.arg(arena.sshd.target(route.target));
            command
        }
        Contender::Lsyncd => {
            let file = arena.path("lsyncd.conf.lua");
            fs::write(&file, lsyncd_configuration(arena, route))?;
            let mut command = arena.environment.command("lsyncd");
            command.arg("-nodaemon").arg(file);
            command
        }
        Contender::Rsync | Contender::Tar => return Err(format!("{} is not live", contender.name()).into()),
    };
    Ok(Background::spawn(command))
}

fn lsyncd_configuration(arena: &Arena, route: Route<'_>) -> String {
    let (source, target, ssh) = (route.source.display(), arena.sshd.target(route.target), route.ssh);
    format!(
        "settings {{ nodaemon = true }}\n\
         sync {{\n  default.rsync,\n  source = \"{source}\",\n  target = \"{target}\",\n  delay = 0,\n\
         \x20 rsync = {{ archive = true, rsh = \"{ssh}\" }},\n}}\n"
    )
}
