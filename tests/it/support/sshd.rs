//! A throw-away sshd on 127.0.0.1, with keys of its own.
//!
//! **Invariants:** real OpenSSH, real keys, host key checked; nothing outside its temporary
//! directory is read or written but `/run/sshd`; no process of it or of its sessions outlives it.
//! A host without sshd fails the tests: a skipped test proves nothing.
//! **Sources:** sshd_config(5), ssh(1).

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::command::{eventually, holds_within};
use super::process;
use super::stand::free_port;

/// The one cipher on offer, so that every peer of a comparison pays the same.
const CIPHER: &str = "aes128-gcm@openssh.com";

/// The environment variable that marks every process of a session, however far it forked away.
const MARK: &str = "SPEIL_TEST_SSHD";

/// A running sshd; it and its sessions end with their guard.
pub struct Sshd {
    dir: TempDir,
    port: u16,
    daemon: Child,
}

impl Sshd {
    /// Starts an sshd on a free port and waits until it answers.
    ///
    /// # Panics
    /// If there is no sshd or ssh-keygen on this host, or it does not start.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts an sshd with more lines in its configuration.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(lines: &str) -> Self {
        Self::start_as(lines, &|_| ())
    }

    /// As [`Self::start_with`], with the command prepared further, from which all sessions descend.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_as(lines: &str, prepare: &dyn Fn(&mut Command)) -> Self {
        let program = find("sshd").expect("the tests need an sshd: install openssh-server");
        if rustix::process::geteuid().is_root() {
            // Privilege separation wants it; the distribution makes it when its own service starts.
            fs::create_dir_all("/run/sshd").expect("make /run/sshd");
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(!dir.path().to_string_lossy().contains(' '), "ssh options are split at spaces");
        write_keys(dir.path());
        for name in ["home", "bin"] {
            fs::create_dir(dir.path().join(name)).expect("a directory for the sessions");
        }
        for _ in 0..20 {
            let port = free_port();
            write_configuration(&program, dir.path(), port, lines);
            let mut daemon = Command::new(&program);
            daemon
                .args(["-D", "-e", "-f"])
                .arg(dir.path().join("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(dir.path().join("log")).expect("a log"));
            prepare(&mut daemon);
            let mut daemon = daemon.spawn().expect("start sshd");
            let answers = || greets(port) || !process::is_running(daemon.id());
            if holds_within(Duration::from_secs(30), answers) && process::is_running(daemon.id()) {
                return Self { dir, port, daemon };
            }
            // Somebody else took the port between its choice and its use.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        panic!("sshd does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default());
    }

    /// Returns its directory: `client_key`, `known_hosts`, `authorized_keys`, and `home`, which is
    /// HOME in the sessions, and `bin`, which is first in their PATH.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns where the daemon listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Puts this build's agent into the PATH of the sessions.
    ///
    /// # Panics
    /// If it is there already.
    pub fn install_agent(&self) {
        std::os::unix::fs::symlink(super::command::SPEIL, self.dir().join("bin/speil")).expect("bin/speil");
    }

    /// Returns the text for `-e`, which is split at spaces: how to log in.
    pub fn ssh_command(&self) -> String {
        self.ssh_command_through(self.address())
    }

    /// Returns the text for `-e` that goes through a proxy at `address`.
    pub fn ssh_command_through(&self, address: SocketAddr) -> String {
        let (dir, port) = (self.dir.path().display(), address.port());
        format!(
            "ssh -F none -i {dir}/client_key -p {port} -o UserKnownHostsFile={dir}/known_hosts \
             -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o BatchMode=yes \
             -c {CIPHER}"
        )
    }

    /// Returns `USER@HOST`.
    pub fn login(&self) -> String {
        format!("{}@127.0.0.1", user())
    }

    /// Returns `path` as a target on this host: `USER@HOST:PATH`.
    pub fn target(&self, path: &Path) -> String {
        format!("{}:{}", self.login(), path.display())
    }

    /// Returns the process id of the daemon, from which all sessions descend.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> usize {
        process::all().iter().filter(|p| p.parent == self.pid() && p.state != 'Z').count()
    }

    /// Returns what the daemon logged: errors only.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Kills the sshd of every connection, as a network that goes away does: what runs in the
    /// sessions lives on and sees its stream end. Returns how many connections there were.
    pub fn kill_connections(&self) -> usize {
        let servers: Vec<_> =
            process::descendants(self.pid()).into_iter().filter(|p| p.name.starts_with("sshd")).collect();
        for server in &servers {
            process::send(server.pid, Signal::KILL);
        }
        servers.iter().filter(|p| p.parent == self.pid()).count()
    }

    /// Waits until no session is left: what a session cost is then counted in the daemon.
    pub fn wait_until_idle(&self) {
        eventually("the last session ends", || process::descendants(self.pid()).is_empty());
    }

    fn mark(&self) -> String {
        format!("{MARK}={}", self.dir.path().display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let sessions = process::descendants(self.pid());
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for session in sessions {
            process::send(session.pid, Signal::KILL);
        }
        // Whatever a session started and left: again, since one may have forked meanwhile.
        holds_within(Duration::from_secs(5), || {
            let rest = process::with_environment(&self.mark());
            rest.iter().for_each(|&pid| process::send(pid, Signal::KILL));
            rest.is_empty()
        });
    }
}

/// Returns the name of the user who runs the tests.
fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("the user database");
    user.expect("a user with a name").name
}

/// Returns where a program is, in PATH or where the system keeps its daemons.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut line = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("SSH-")
}

fn write_keys(dir: &Path) {
    for key in ["host_key", "client_key"] {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
            .arg(dir.join(key))
            .stdin(Stdio::null())
            .status()
            .expect("run ssh-keygen: install openssh-client");
        assert!(status.success(), "ssh-keygen: {status}");
    }
    let host = fs::read_to_string(dir.join("host_key.pub")).expect("the host key");
    // Any name: the key is reached through proxies on other ports as well.
    fs::write(dir.join("known_hosts"), format!("* {host}")).expect("known_hosts");
    fs::copy(dir.join("client_key.pub"), dir.join("authorized_keys")).expect("authorized_keys");
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(dir.join("authorized_keys"), private).expect("authorized_keys");
}

fn write_configuration(program: &Path, dir: &Path, port: u16, lines: &str) {
    let shown = dir.display();
    let mut text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {shown}/host_key\nAuthorizedKeysFile {shown}/authorized_keys\n\
         PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPubkeyAuthentication yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\nPrintMotd no\n\
         PrintLastLog no\nX11Forwarding no\nCiphers {CIPHER}\nLogLevel ERROR\n\
         MaxStartups 1000\nMaxSessions 1000\nLoginGraceTime 60\n\
         SetEnv {MARK}={shown} HOME={shown}/home XDG_STATE_HOME={shown}/home/state PATH={shown}/bin:/usr/local/bin:/usr/bin:/bin\n\
         {lines}\n"
    );
    let file = dir.join("sshd_config");
    // Since 9.8 a killed connection counts against its host; older ones do not know the word.
    let mut lenient = text.clone();
    let _ = writeln!(lenient, "PerSourcePenalties no");
    fs::write(&file, &lenient).expect("sshd_config");
    let known = Command::new(program).args(["-t", "-f"]).arg(&file).stderr(Stdio::null()).status();
    if known.is_ok_and(|status| status.success()) {
        text = lenient;
    }
    fs::write(&file, text).expect("sshd_config");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::command::{Background, Environment};
    use crate::support::proxy::{Link, Proxy};

    fn ssh(text: &str, login: &str, script: &str) -> Command {
        let mut words = text.split(' ');
        let mut command = Environment::new().command(words.next().expect("a program"));
        command.args(words).arg(login).arg(script);
        command
    }

    #[test]
    fn session_runs_commands_through_a_proxy() {
        let sshd = Sshd::start();
        let proxy = Proxy::start(sshd.address(), Link::default());
        let text = sshd.ssh_command_through(proxy.address());
        let outcome = Background::spawn(ssh(&text, &sshd.login(), "echo $((6*7))")).wait().succeeded();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("42", ""));
        assert!(proxy.sent_bytes() > 1000 && proxy.received_bytes() > 1000);
    }

    #[test]
    fn killed_connection_ends_ssh_and_leaves_the_daemon() {
        let sshd = Sshd::start();
        let text = sshd.ssh_command();
        let session = Background::spawn(ssh(&text, &sshd.login(), "echo up; exec sleep 60"));
        session.wait_for_line("up");
        assert_eq!((sshd.connections(), sshd.kill_connections()), (1, 1));
        assert_eq!(session.wait().code(), 255);
        let again = Background::spawn(ssh(&text, &sshd.login(), "true"));
        let _ = again.wait().succeeded();
    }

    #[test]
    fn no_process_of_a_session_outlives_the_guard() {
        let sshd = Sshd::start();
        let script = "setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $!; exec sleep 60";
        let session = Background::spawn(ssh(&sshd.ssh_command(), &sshd.login(), script));
        eventually("the session answers", || !session.stdout().is_empty());
        let strays = process::with_environment(&sshd.mark());
        assert!(strays.len() >= 2);
        drop(sshd);
        assert!(strays.iter().all(|&pid| !process::is_running(pid)));
    }
}
