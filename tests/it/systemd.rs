//! The daemon as systemd sees it, and the units as systemd reads them.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::service::block;
use crate::support::command::{Background, DEADLINE, Environment, eventually};

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Waits for a line that begins with `start`, and returns it; what came before it is forgotten.
    fn wait(&mut self, start: &str) -> String {
        let mut found = None;
        eventually(start, || {
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                self.heard.extend(text.lines().map(str::to_owned));
            }
            found = self.heard.iter().position(|line| line.starts_with(start));
            found.is_some()
        });
        self.heard.drain(..=found.unwrap()).next_back().unwrap()
    }
}

#[test]
fn the_manager_hears_ready_status_signs_of_life_reload_and_stop() {
    assert!(DEADLINE > Duration::from_secs(1));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("source")).unwrap();
    let config = path("speil.lua");
    let text =
        format!("settings {{ statusInterval = 0.1 }}\n{}", block("www", &path("source"), &path("standby")));
    fs::write(&config, text).unwrap();
    let mut manager = Manager::new(&path("notify"));
    let environment = Environment::new();
    let control = format!("--control={}", path("control").display());
    let mut command = environment.speil(["run", &control, &config.display().to_string()]);
    command.env("NOTIFY_SOCKET", path("notify")).env("WATCHDOG_USEC", "300000");
    let daemon = Background::spawn(command);
    manager.wait("READY=1");
    manager.wait("STATUS=1 target: 1 live; lag 0.0 s");
    manager.wait("WATCHDOG=1");
    manager.wait("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    manager.wait("RELOADING=1");
    let stamp = manager.wait("MONOTONIC_USEC=");
    assert!(
        stamp.trim_start_matches("MONOTONIC_USEC=").parse::<u64>().is_ok_and(|stamp| stamp > 0),
        "{stamp}"
    );
    manager.wait("READY=1");
    daemon.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    assert_eq!(daemon.wait().code(), 0);
}

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

/// Copies the units, with a program that exists, and returns what systemd says of them.
#[test]
fn systemd_reads_every_unit_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for name in [
        "speil.service",
        "speil@.service",
        "speil-sync@.service",
        "speil-sync@.timer",
        "speil-arrivals@.service",
    ] {
        let text = fs::read_to_string(contrib(name)).unwrap().replace("/usr/local/bin/speil", "/bin/true");
        // A template is verified as an instance.
        let unit = dir.path().join(name.replace("@.", "@uploads."));
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    let drop_in = dir.path().join("speil.service.d");
    fs::create_dir(&drop_in).unwrap();
    for name in ["unprivileged.conf", "fanotify.conf", "failover.conf"] {
        fs::copy(contrib(name), drop_in.join(name)).unwrap();
    }
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").args(&units).output();
    let output = output.expect("systemd-analyze: install systemd");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // What other units of this host say is not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("speil")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
