//! What the administrator's `ssh_config` and the user's options say about a host.
//!
//! **In → Out:** lines `key value` as `ssh -G` prints them, or the user's options alone where there
//! is no `ssh`; [`Settings`]. **Invariants:** the first value of a key holds, as in ssh; a setting
//! that would lead elsewhere (`ProxyJump`) or refuse more (`RevokedHostKeys`) is refused by name and
//! never ignored; one that would trust more is ignored.
//! **Sources:** ssh_config(5), ssh(1) `-G`.

mod expand;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::config::Ssh as Options;
use crate::error::io_text;
use crate::tree::quote;

use crate::transport::TransportError;

use expand::Paths;

/// Longest time for one step of a login where `ConnectTimeout` sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Keepalive where nothing sets one, in seconds; the same as speil gives to `ssh`.
const ALIVE_INTERVAL: u64 = 15;
/// Keepalives that may stay unanswered where nothing sets it.
const ALIVE_COUNT: u64 = 2;

/// Options that the user may set and this transport obeys.
const OBEYED: [&str; 20] = [
    "addressfamily",
    "certificatefile",
    "ciphers",
    "compression",
    "connecttimeout",
    "globalknownhostsfile",
    "hostkeyalgorithms",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "kexalgorithms",
    "macs",
    "port",
    "serveralivecountmax",
    "serveraliveinterval",
    "stricthostkeychecking",
    "user",
    "userknownhostsfile",
];
/// Options that hold here whatever they say, or mean nothing here.
const WITHOUT_MEANING: [&str; 11] = [
    "batchmode",
    "checkhostip",
    "clearallforwardings",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "loglevel",
    "requesttty",
    "tcpkeepalive",
    "updatehostkeys",
    "visualhostkey",
];
/// Settings that must be obeyed and cannot be, with the value that asks for nothing.
const REFUSED: [(&str, &str); 8] = [
    ("bindaddress", "none"),
    ("bindinterface", "none"),
    ("forcecommand", "none"),
    ("proxycommand", "none"),
    ("proxyjump", "none"),
    ("pubkeyauthentication", "true"),
    ("remotecommand", "none"),
    ("revokedhostkeys", "none"),
];

/// Used where there is no `ssh` to ask: what OpenSSH takes today, as far as libssh2 has it.
const DEFAULTS: [(&str, &str); 10] = [
    (
        "ciphers",
        "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
    ),
    ("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"),
    (
        "hostkeyalgorithms",
        "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256",
    ),
    ("identityfile", "~/.ssh/id_ed25519"),
    ("identityfile", "~/.ssh/id_ecdsa"),
    ("identityfile", "~/.ssh/id_rsa"),
    (
        "kexalgorithms",
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,\
         diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,\
         diffie-hellman-group14-sha256",
    ),
    ("macs", "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512"),
    ("stricthostkeychecking", "yes"),
    ("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"),
];

/// What happens to a host whose key is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strict {
    /// It is refused; `ask` is the same where nobody can be asked.
    Yes,
    /// Its key is noted and holds from then on.
    AcceptNew,
    /// Any key is taken.
    No,
}

/// Where the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Name or address to connect to.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
    /// User there.
    pub(super) user: String,
    /// `Some(true)` for IPv6 alone, `Some(false)` for IPv4 alone.
    pub(super) only_v6: Option<bool>,
    /// Longest time for one step of the login.
    pub(super) timeout: Duration,
}

/// How the host proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownHosts {
    /// Its name in the files (`HostKeyAlias`), if it is another.
    pub(super) alias: Option<String>,
    /// The user's files; new keys go into the first.
    pub(super) user_files: Vec<PathBuf>,
    /// The system's files.
    pub(super) global_files: Vec<PathBuf>,
    /// What happens to a host that is in none of them.
    pub(super) strict: Strict,
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// Private keys; those that do not exist are passed over.
    pub(super) files: Vec<PathBuf>,
    /// Certificates besides those that stand beside a key.
    pub(super) certificates: Vec<PathBuf>,
    /// The agent offers only the keys that are named in `files`.
    pub(super) only_files: bool,
    /// The agent's socket.
    pub(super) agent: Option<PathBuf>,
}

/// Algorithms in order of preference, comma-separated; `None` for what libssh2 would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Methods {
    /// Ciphers.
    pub(super) ciphers: Option<String>,
    /// Key exchanges.
    pub(super) exchanges: Option<String>,
    /// Host keys.
    pub(super) host_keys: Option<String>,
    /// MACs.
    pub(super) macs: Option<String>,
    /// Whether the connection is compressed.
    pub(super) compress: bool,
}

/// Everything that a connection needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where the host is.
    pub(super) address: Address,
    /// How the host proves who it is.
    pub(super) known: KnownHosts,
    /// How we prove who we are.
    pub(super) keys: Keys,
    /// Algorithms.
    pub(super) methods: Methods,
    /// Seconds between keepalives; 0 for none.
    pub(super) alive_interval: u32,
    /// How long sent bytes may stay unacknowledged before the connection counts as dead.
    pub(super) alive_limit: Duration,
}

/// What of this host's environment shows in the values.
#[derive(Debug, Clone)]
pub(super) struct Local {
    /// The user's name.
    pub(super) user: String,
    /// The user's home directory.
    pub(super) home: PathBuf,
    /// The user's number.
    pub(super) uid: u32,
    /// Reads an environment variable.
    pub(super) variable: fn(&str) -> Option<String>,
}

impl Local {
    /// Returns the environment of this process. As for ssh, the home is the user database's.
    pub(super) fn of_process() -> Self {
        let uid = nix::unistd::geteuid();
        let entry = nix::unistd::User::from_uid(uid).ok().flatten();
        let (user, home) = entry.map(|entry| (entry.name, entry.dir)).unwrap_or_default();
        Self { user, home, uid: uid.as_raw(), variable: |name| std::env::var(name).ok() }
    }
}

/// Returns the settings for `host` (`[USER@]HOST`).
///
/// # Errors
/// [`TransportError::Setting`] (die) for what this transport cannot obey, [`TransportError::Connect`]
/// (again) if `ssh -G` finds an error in the configuration.
pub(super) fn load(host: &str, options: &Options, local: &Local) -> Result<Settings, TransportError> {
    let given = given(options)?;
    let lines = match ask_ssh(host, &given)? {
        Some(lines) => lines,
        None => without_ssh(host, given, local),
    };
    settings(host, &lines, local)
}

/// Returns what the user set, in ssh's words.
///
/// # Errors
/// [`TransportError::Setting`] for what only the `ssh` command has.
fn given(options: &Options) -> Result<Vec<(String, String)>, TransportError> {
    let refuse = |what: &str| Err(TransportError::Setting(format!("{what} is not for transport = \"ssh2\"")));
    if options.command.is_some() {
        return refuse("ssh.command");
    }
    if !options.extra.is_empty() {
        return refuse("ssh.extra (lsyncd: _extra)");
    }
    let mut given = Vec::new();
    if let Some(port) = options.port {
        given.push(("port".to_owned(), port.to_string()));
    }
    if let Some(file) = &options.identity_file {
        given.push(("identityfile".to_owned(), file.to_string_lossy().into_owned()));
    }
    for (key, value) in &options.options {
        let name = key.to_ascii_lowercase();
        let known = OBEYED.contains(&name.as_str())
            || WITHOUT_MEANING.contains(&name.as_str())
            || REFUSED.iter().any(|&(refused, nothing)| name == refused && asks_nothing(value, nothing));
        if !known {
            return refuse(&format!("the ssh option {key}"));
        }
        given.push((name, value.clone()));
    }
    Ok(given)
}

/// Asks `ssh`, if there is one, what its configuration files make of the host.
fn ask_ssh(host: &str, given: &[(String, String)]) -> Result<Option<Vec<(String, String)>>, TransportError> {
    let mut command = Command::new("ssh");
    command.arg("-G");
    for (key, value) in given {
        command.arg("-o").arg(format!("{key}={value}"));
    }
    let output = match command.arg("--").arg(host).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TransportError::Connect(format!("run ssh -G: {}", io_text(&error)))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        return Err(TransportError::Connect(format!("ssh -G: {}", quote(last.as_bytes()))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line =
        |line: &str| line.split_once(' ').map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    Ok(Some(text.lines().filter_map(line).collect()))
}

/// Returns the user's options with plain defaults after them.
fn without_ssh(host: &str, given: Vec<(String, String)>, local: &Local) -> Vec<(String, String)> {
    let mut lines = given;
    if let Some((user, _)) = host.rsplit_once('@') {
        // ssh takes the user from the command line before any option.
        lines.insert(0, ("user".to_owned(), user.to_owned()));
    }
    let named_key = lines.iter().any(|(key, _)| key == "identityfile");
    let defaults = DEFAULTS.iter().filter(|(key, _)| !(named_key && *key == "identityfile"));
    lines.extend(defaults.map(|&(key, value)| (key.to_owned(), value.to_owned())));
    let bare = host.rsplit_once('@').map_or(host, |(_, bare)| bare);
    lines.push(("hostname".to_owned(), bare.to_owned()));
    lines.push(("user".to_owned(), local.user.clone()));
    lines
}

/// Reads the lines: the first of a key holds, but for those that add up.
fn settings(host: &str, lines: &[(String, String)], local: &Local) -> Result<Settings, TransportError> {
    let lines = Lines { lines };
    for (key, nothing) in REFUSED {
        if let Some(value) = lines.first(key).filter(|value| !asks_nothing(value, nothing)) {
            let text = format!("{key} {} is not for transport = \"ssh2\"", quote(value.as_bytes()));
            return Err(TransportError::Setting(text));
        }
    }
    let bare = host.rsplit_once('@').map_or(host, |(_, bare)| bare);
    let port = lines.number("port", 22)?;
    let name = lines.first("hostname").unwrap_or(bare).replace("%h", bare);
    let address = Address {
        host: name.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: u16::try_from(port).map_err(|_| bad("port", &port.to_string()))?,
        user: lines.first("user").unwrap_or(&local.user).to_owned(),
        only_v6: lines.first("addressfamily").and_then(|family| match family {
            "inet" => Some(false),
            "inet6" => Some(true),
            _ => None,
        }),
        timeout: lines.seconds("connecttimeout")?.map_or(CONNECT_TIMEOUT, Duration::from_secs),
    };
    let paths = Paths { local, host: &address.host, original: bare, port: address.port, user: &address.user };
    let known = KnownHosts {
        alias: lines.first("hostkeyalias").map(str::to_owned),
        user_files: paths.list(lines.first("userknownhostsfile").unwrap_or_default())?,
        global_files: paths.list(lines.first("globalknownhostsfile").unwrap_or_default())?,
        strict: match lines.first("stricthostkeychecking").unwrap_or("yes") {
            "accept-new" => Strict::AcceptNew,
            "no" | "off" | "false" => Strict::No,
            _ => Strict::Yes,
        },
    };
    let keys = Keys {
        files: paths.each(lines.all("identityfile"))?,
        certificates: paths.each(lines.all("certificatefile"))?,
        only_files: lines.first("identitiesonly").is_some_and(is_yes),
        agent: paths.agent(lines.first("identityagent"))?,
    };
    let methods = Methods {
        ciphers: lines.first("ciphers").map(str::to_owned),
        exchanges: lines.first("kexalgorithms").map(str::to_owned),
        host_keys: lines.first("hostkeyalgorithms").map(str::to_owned),
        macs: lines.first("macs").map(str::to_owned),
        compress: lines.first("compression").is_some_and(is_yes),
    };
    // `ssh -G` prints its defaults, 0 and 3; those are replaced as for the ssh command.
    let interval = lines.seconds("serveraliveinterval")?.filter(|&s| s > 0).unwrap_or(ALIVE_INTERVAL);
    let count = lines.number("serveralivecountmax", 3)?;
    let count = if count == 3 { ALIVE_COUNT } else { count };
    Ok(Settings {
        address,
        known,
        keys,
        methods,
        alive_interval: u32::try_from(interval).unwrap_or(u32::MAX),
        alive_limit: Duration::from_secs(interval.saturating_mul(count.saturating_add(1))),
    })
}

fn asks_nothing(value: &str, nothing: &str) -> bool {
    value.eq_ignore_ascii_case(nothing) || (nothing == "true" && is_yes(value))
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true")
}

fn bad(key: &str, value: &str) -> TransportError {
    TransportError::Setting(format!("{key} {} cannot be read", quote(value.as_bytes())))
}

struct Lines<'a> {
    lines: &'a [(String, String)],
}

impl<'a> Lines<'a> {
    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn first(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn number(&self, key: &str, default: u64) -> Result<u64, TransportError> {
        self.first(key).map_or(Ok(default), |value| value.parse().map_err(|_| bad(key, value)))
    }

    /// Reads seconds with the units of ssh_config(5); `none` is none.
    fn seconds(&self, key: &str) -> Result<Option<u64>, TransportError> {
        let Some(value) = self.first(key).filter(|value| *value != "none") else { return Ok(None) };
        let (number, unit) = match value.char_indices().last() {
            Some((at, 's' | 'S')) => (value.get(..at), 1),
            Some((at, 'm' | 'M')) => (value.get(..at), 60),
            Some((at, 'h' | 'H')) => (value.get(..at), 3600),
            _ => (Some(value), 1),
        };
        let number: u64 = number.and_then(|text| text.parse().ok()).ok_or_else(|| bad(key, value))?;
        Ok(Some(number.saturating_mul(unit)))
    }
}

#[cfg(test)]
mod tests;
