//! The key by which the standby's sshd proves itself: shown, compared by a human, and remembered.
//!
//! **Invariants:** what is remembered is the very key whose fingerprint was shown; a host whose key is known is
//! left to ssh, which refuses another one. **Sources:** sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT", ssh-keygen(1).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::answers::{Answers, Asker};
use super::files;
use super::shell::{Shell, Stop, line_of, look_up};
use crate::cli::exit::Exit;

/// What ssh's configuration says of the host.
struct Resolved {
    host: String,
    port: String,
    /// What known_hosts calls it.
    name: String,
    files: Vec<PathBuf>,
    /// ssh accepts an unknown key by itself.
    accepts: bool,
    /// The host is reached through another one.
    jumps: bool,
}

impl Resolved {
    fn of(answers: &Answers) -> Result<Self, Stop> {
        let ran = look_up(answers.ssh().args(["-G", "--", answers.host()]))?;
        let value = |key: &str| {
            let mut lines = ran.stdout.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        let set = |key: &str| value(key).filter(|value| value != "none");
        let host = value("hostname").unwrap_or_else(|| answers.host().to_owned());
        let port = value("port").unwrap_or_else(|| "22".to_owned());
        let there = if port == "22" { host.clone() } else { format!("[{host}]:{port}") };
        let lists = ["userknownhostsfile", "globalknownhostsfile"].map(|key| set(key).unwrap_or_default());
        Ok(Self {
            name: set("hostkeyalias").unwrap_or(there),
            files: lists.iter().flat_map(|list| list.split_whitespace()).map(PathBuf::from).collect(),
            accepts: value("stricthostkeychecking")
                .is_some_and(|value| ["accept-new", "off", "no", "false"].contains(&value.as_str())),
            jumps: set("proxyjump").is_some() || set("proxycommand").is_some(),
            host,
            port,
        })
    }

    /// Whether a file has a key of the host.
    fn is_known(&self) -> Result<bool, Stop> {
        for file in self.files.iter().filter(|file| file.is_file()) {
            let mut find = Command::new("ssh-keygen");
            if look_up(find.args(["-F", &self.name, "-f"]).arg(file))?.succeeded() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Has ssh know the host's key.
pub(super) fn make_known(
    answers: &Answers,
    accepted: Option<&str>,
    asker: Asker,
    shell: Shell,
) -> Result<(), Stop> {
    let it = Resolved::of(answers)?;
    if it.accepts || it.is_known()? {
        return Ok(());
    }
    if it.jumps {
        let text = format!("the key of {} is not known, and it is reached through another host", it.name);
        let by_hand = line_of(answers.ssh().args(["--", answers.host()]));
        return Err(Stop::new(
            Exit::RemoteShell,
            text,
            format!("log in once by hand and accept it: {by_hand}"),
        ));
    }
    let mut scan = Command::new("ssh-keyscan");
    scan.args(["-T", "15", "-p", &it.port, "-t", "ed25519,ecdsa,rsa", "--", &it.host]);
    let ran = shell.ask(scan.stderr(Stdio::null()))?;
    shell.show("ssh-keygen -l -f -    # its fingerprints");
    if shell.dry_run {
        return Ok(());
    }
    let keys: Vec<Key> = ran.stdout.lines().filter_map(|line| Key::of(line, &it.name)).collect();
    if keys.is_empty() {
        let text = format!("no sshd answers at {} port {}", it.host, it.port);
        return Err(Stop::new(
            Exit::RemoteShell,
            text,
            "check the host's name, the port (--port) and its firewall",
        ));
    }
    for key in &keys {
        super::print(&format!("{}\n", key.shown));
    }
    let chosen = choose(&keys, &it, accepted, asker)?;
    let file = it.files.first().map_or(Path::new("/etc/ssh/ssh_known_hosts"), PathBuf::as_path);
    files::make_private_dir(file, shell)?;
    chosen.iter().try_for_each(|key| files::append(file, &key.line, shell))
}

/// Returns the keys that a human accepts.
fn choose<'a>(
    keys: &'a [Key],
    it: &Resolved,
    accepted: Option<&str>,
    asker: Asker,
) -> Result<Vec<&'a Key>, Stop> {
    let name = &it.name;
    if let Some(accepted) = accepted {
        let wanted = accepted.trim_start_matches("SHA256:");
        let chosen: Vec<&Key> = keys.iter().filter(|key| key.fingerprint == wanted).collect();
        if chosen.is_empty() {
            let text = format!("--accept-host-key {accepted}: {name} shows other keys, nothing was accepted");
            let hint = "somebody else may answer for the host: ask its administrator";
            return Err(Stop::new(Exit::RemoteShell, text, hint));
        }
        return Ok(chosen);
    }
    let compare = "ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub";
    if !asker.is_there() {
        let text = format!("the key of {name} is not known yet");
        let hint = format!(
            "compare it with what `{compare}` prints on the standby, and pass --accept-host-key SHA256:…"
        );
        return Err(Stop::new(Exit::Syntax, text, hint));
    }
    super::print(&format!("On the standby `{compare}` prints the same, if it is the right host.\n"));
    match asker.yes(&format!("Is this the key of {name}?"), false)? {
        Some(true) => Ok(keys.iter().collect()),
        _ => Err(Stop::plain(
            Exit::RemoteShell,
            format!("the key of {name} was not accepted; nothing was sent there"),
        )),
    }
}

/// One of the host's keys.
struct Key {
    /// As known_hosts has it.
    line: String,
    /// As ssh-keygen shows it.
    shown: String,
    /// Its SHA256, in base64.
    fingerprint: String,
}

impl Key {
    /// Reads a line of ssh-keyscan.
    fn of(line: &str, name: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (kind, blob) = (words.next()?, words.next()?);
        let line = format!("{name} {kind} {blob}");
        let shown = fingerprint(&line)?;
        let fingerprint = shown.split_whitespace().find_map(|word| word.strip_prefix("SHA256:"))?.to_owned();
        Some(Self { line, shown, fingerprint })
    }
}

/// Returns what ssh-keygen says of one key.
fn fingerprint(line: &str) -> Option<String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-l", "-E", "sha256", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().ok()?;
    writeln!(child.stdin.take()?, "{line}").ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
