//! The service that runs the mirror from now on.

use std::path::Path;
use std::process::Command;

use super::answers::{Answers, Asker, SERVICE_CONFIG};
use super::files;
use super::shell::{Shell, Stop, look_up, speil};
use crate::tree::shell_word;

/// Where a unit goes that no package has brought.
const UNIT: &str = "/etc/systemd/system/speil.service";
const UNIT_TEXT: &str = include_str!("../../../../contrib/speil.service");
/// The executable in [`UNIT_TEXT`].
const UNIT_PROGRAM: &str = "/usr/local/bin/speil";

/// How the mirror is run.
#[derive(Debug, PartialEq)]
pub(super) enum Service {
    /// By hand, for this reason.
    No(String),
    /// By systemd.
    Unit { installed: bool, running: bool },
}

/// Looks at what this host has.
pub(super) fn find(answers: &Answers, no_start: bool) -> Service {
    let private = ["/tmp", "/var/tmp"].iter().any(|dir| answers.source.starts_with(dir));
    let reason = if no_start {
        "--no-start"
    } else if !Path::new("/run/systemd/system").is_dir() {
        "no systemd runs on this host"
    } else if !rustix::process::geteuid().is_root() {
        "only root can start the service"
    } else if answers.config != Path::new(SERVICE_CONFIG) {
        "the service runs /etc/speil/speil.lua, no other configuration"
    } else if private {
        "the service has a /tmp of its own"
    } else {
        let says = |word: &str| look_up(Command::new("systemctl").args([word, "speil.service"]));
        let worked = |word| says(word).is_ok_and(|ran| ran.succeeded());
        return Service::Unit { installed: worked("cat"), running: worked("is-active") };
    };
    Service::No(reason.to_owned())
}

impl Service {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Unit { running: true, .. })
    }

    /// Starts the mirror and waits until the standby is in step, or says how it is started.
    pub(super) fn start(
        &self,
        answers: &Answers,
        changed: bool,
        asker: Asker,
        shell: Shell,
    ) -> Result<(), Stop> {
        let config = shell_word(&answers.config.to_string_lossy());
        let (installed, running) = match self {
            Self::Unit { installed, running } => (*installed, *running),
            Self::No(reason) => {
                super::print(&format!("Not started ({reason}). To start it: speil run {config}\n"));
                return Ok(());
            }
        };
        if !running && !asker.yes("Start it now, and whenever this host starts?", true)?.unwrap_or(true) {
            super::print("Not started. To start it: systemctl enable --now speil\n");
            return Ok(());
        }
        if !installed {
            let own = std::env::current_exe().unwrap_or_else(|_| UNIT_PROGRAM.into());
            files::put(Path::new(UNIT), &UNIT_TEXT.replace(UNIT_PROGRAM, &own.to_string_lossy()), shell)?;
            shell.run(Command::new("systemctl").arg("daemon-reload"))?.or_stop()?;
        }
        if !running {
            shell.run(Command::new("systemctl").args(["enable", "--now", "speil"]))?.or_stop()?;
        } else if changed {
            shell.run(Command::new("systemctl").args(["restart", "speil"]))?.or_stop()?;
        }
        let waited = shell.run(speil().args(["wait", "--timeout", "60s"]))?;
        shell.run(speil().arg("status"))?.or_stop()?;
        waited.or_stop()
    }
}
