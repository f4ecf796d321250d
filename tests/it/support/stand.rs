//! A source, standbys behind a real sshd, and the mirror between them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::command::{Background, Environment, agent_command, holds_within};
use super::sshd::Sshd;
use super::tree::{Comparison, Difference};

/// Time within which both trees are equal after the last change. The long run (`make seeds`) has the
/// machine to itself and holds speil to ten seconds; beside other tests only the equality counts.
pub fn settled_within() -> Duration {
    Duration::from_secs(if std::env::var_os("SPEIL_SEEDS").is_some() { 10 } else { 60 })
}

/// A source, a standby behind a real sshd, and the mirror between them.
pub struct Stand {
    pub dir: tempfile::TempDir,
    pub environment: Environment,
    pub sshd: Sshd,
    /// What `-e` says; by default straight to the sshd.
    pub ssh_command: String,
    /// How long the first pass may take.
    pub patience: Duration,
}

impl Default for Stand {
    fn default() -> Self {
        Self::new()
    }
}

impl Stand {
    /// An empty source, and an sshd on loopback.
    pub fn new() -> Self {
        Self::below(&scratch())
    }

    /// The same, in a directory of its own below `parent`.
    pub fn below(parent: &Path) -> Self {
        Self::with(parent, Sshd::start())
    }

    /// The same, with an sshd that runs already.
    pub fn with(parent: &Path, sshd: Sshd) -> Self {
        let dir = tempfile::Builder::new().prefix("speil-live").tempdir_in(parent).unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        let patience = Duration::from_secs(60);
        let ssh_command = sshd.ssh_command();
        Self { dir, environment: Environment::new(), sshd, ssh_command, patience }
    }

    /// The source's root.
    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// The root of the target of a name.
    pub fn target(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The daemon's control socket.
    pub fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// A path beside the source.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the mirror to the named targets and waits until each is live.
    pub fn mirror(&self, targets: &[&str], options: &[&str]) -> Background {
        self.guarded_mirror(targets, &[options, &["--no-delete-guard"]].concat())
    }

    /// The same, with the guard as it is by default.
    pub fn guarded_mirror(&self, targets: &[&str], options: &[&str]) -> Background {
        let mirror = self.start_mirror(targets, options);
        for name in targets {
            let live = holds_within(self.patience, || {
                assert!(mirror.is_running(), "ended: {:?}", mirror.stderr());
                mirror.stdout().iter().filter(|line| line.ends_with(": live")).count() >= targets.len()
            });
            assert!(live, "{name}: not live: {:?} {:?}", mirror.stdout(), mirror.stderr());
        }
        mirror
    }

    /// As [`Stand::guarded_mirror`], without waiting.
    pub fn start_mirror(&self, targets: &[&str], options: &[&str]) -> Background {
        let control = self.control();
        let mut arguments: Vec<String> = ["mirror", "-e"].map(str::to_owned).to_vec();
        arguments.push(self.ssh_command.clone());
        arguments.push(format!("--agent={}", agent_command()));
        arguments.push(format!("--control={}", control.display()));
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        arguments.push(format!("{}/", self.source().display()));
        arguments.extend(targets.iter().map(|name| self.sshd.target(&self.target(name))));
        self.environment.spawn(arguments)
    }

    /// Waits with `speil wait` until everything is mirrored that has happened so far.
    ///
    /// # Panics
    /// If it says otherwise, or not within a minute.
    pub fn wait(&self) {
        let control = format!("--control={}", self.control().display());
        self.environment.run(["wait", "--timeout=60s", &control]).succeeded();
    }

    /// Starts a daemon with a Lua configuration of one sync, `keys` among its own and `settings` among the
    /// daemon's, and waits until each target is live. The agents run on this host, without ssh.
    ///
    /// # Panics
    /// If it ends, or is not live within a minute.
    pub fn run(&self, targets: &[&str], keys: &str, settings: &str) -> Background {
        let daemon = self.start(targets, keys, settings);
        let live = holds_within(Duration::from_secs(60), || {
            assert!(daemon.is_running(), "ended: {:?}", daemon.stderr());
            daemon.stderr().iter().filter(|line| line.ends_with(": live")).count() >= targets.len()
        });
        assert!(live, "not live: {:?}", daemon.stderr());
        daemon
    }

    /// As [`Stand::run`], without waiting.
    pub fn start(&self, targets: &[&str], keys: &str, settings: &str) -> Background {
        let names: Vec<String> = targets.iter().map(|name| format!("{:?}", self.target(name))).collect();
        let text = format!(
            "settings {{ {settings} }}\nsync {{ default.mirror, name = \"stand\", source = {:?}, \
             targets = {{ {} }}, agent = {:?}, {keys} }}\n",
            self.source(),
            names.join(", "),
            agent_command()
        );
        let config = self.path("speil.lua");
        std::fs::write(&config, text).expect("a configuration");
        let control = format!("--control={}", self.control().display());
        self.environment.spawn(["run", &control, &config.display().to_string()])
    }
}

/// Memory, where there is some to put files in.
pub fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Returns a port on 127.0.0.1 that is free now.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a bound socket").port()
}

/// What tells two trees apart.
pub fn differences(a: &Path, b: &Path) -> Vec<Difference> {
    Comparison { holes: false, ..Comparison::default() }.compare(a, b)
}

/// Waits until the trees are equal; panics with what still differs.
pub fn assert_settles(stand: &Stand, name: &str, context: &str, mirror: &Background) {
    let (source, target) = (stand.source(), stand.target(name));
    let settled = holds_within(settled_within(), || differences(&source, &target).is_empty());
    // What it says of itself by now tells why.
    let status =
        || stand.environment.run(["status", &format!("--control={}", stand.control().display())]).stdout;
    assert!(
        settled,
        "{context}: {name} differs for good:\n{}\n\n{}\n{}",
        told(&differences(&source, &target)),
        mirror.stderr().join("\n"),
        status()
    );
}

/// Returns what rsync would change to make `target` what `source` is, with further options; or why it could not
/// say, such as that something went while it looked.
pub fn judged(source: &Path, target: &Path, options: &[&str]) -> String {
    let output = Command::new("rsync")
        .args(["-aHAXn", "--delete", "--checksum", "--itemize-changes", "--modify-window=-1"])
        .arg("--exclude=/.speil")
        .args(options)
        .args([format!("{}/", source.display()), format!("{}/", target.display())])
        .output()
        .unwrap();
    let said = if matches!(output.status.code(), Some(23 | 24)) {
        [output.stdout, output.stderr].concat()
    } else {
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    String::from_utf8_lossy(&said).into_owned()
}

/// Says differences, a line each.
pub fn told(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences
        .iter()
        .map(|difference| {
            format!(
                "{} {:?} {}",
                String::from_utf8_lossy(&difference.path).escape_debug(),
                difference.aspect,
                difference.detail
            )
        })
        .collect();
    lines.join("\n")
}
