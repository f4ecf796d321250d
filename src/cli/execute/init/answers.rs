//! Source, standby, and the files between them: from the command line, or from the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::shell::Stop;
use crate::cli::draft::check_source;
use crate::cli::exit::Exit;
use crate::cli::init::Init;
use crate::config::{Target, parse_target, spelling};

/// Asks at the terminal, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    terminal: bool,
}

impl Asker {
    pub(super) fn detect() -> Self {
        Self { terminal: io::stdin().is_terminal() && io::stdout().is_terminal() }
    }

    pub(super) fn is_there(self) -> bool {
        self.terminal
    }

    /// Returns the answer; `None` without a terminal.
    pub(super) fn text(self, question: &str) -> Result<Option<String>, Stop> {
        if !self.terminal {
            return Ok(None);
        }
        let mut out = io::stdout().lock();
        let _ = write!(out, "{question} ");
        let _ = out.flush();
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => Err(Stop::plain(Exit::Syntax, "the input ended, and nothing was answered")),
            Ok(_) => Ok(Some(line.trim().to_owned())),
            Err(error) => Err(Stop::file(Path::new("standard input"), &error)),
        }
    }

    /// Returns whether the answer is yes; `None` without a terminal.
    pub(super) fn yes(self, question: &str, default: bool) -> Result<Option<bool>, Stop> {
        let choice = if default { "[Y/n]" } else { "[y/N]" };
        loop {
            let Some(answer) = self.text(&format!("{question} {choice}"))? else { return Ok(None) };
            match answer.to_ascii_lowercase().as_str() {
                "" => return Ok(Some(default)),
                "y" | "yes" => return Ok(Some(true)),
                "n" | "no" => return Ok(Some(false)),
                _ => {}
            }
        }
    }
}

/// What is to be set up.
#[derive(Debug)]
pub(super) struct Answers {
    /// The tree, absolute.
    pub source: PathBuf,
    /// The standby; it has a host.
    pub target: Target,
    pub port: Option<u16>,
    pub ssh_options: Vec<(String, String)>,
    pub key: PathBuf,
    pub config: PathBuf,
}

impl Answers {
    /// Takes what the command line says, and asks for the rest.
    pub(super) fn gather(it: &Init, asker: Asker) -> Result<Self, Stop> {
        let config = spelling::local_path(&match &it.config {
            Some(config) => config.clone(),
            None => default_config()?,
        });
        let key = it.key.clone().unwrap_or_else(|| config.with_file_name("id_ed25519"));
        let source = source(it, asker)?;
        let target = standby(it, &source, asker)?;
        let ssh_options = it.ssh_options.clone();
        Ok(Self { source, target, port: it.port, ssh_options, key: spelling::local_path(&key), config })
    }

    /// Returns `[USER@]HOST`.
    pub(super) fn host(&self) -> &str {
        self.target.host.as_deref().unwrap_or_default()
    }

    /// Returns the standby as it is written.
    pub(super) fn shown(&self) -> String {
        self.target.to_string()
    }

    pub(super) fn source_with_slash(&self) -> String {
        with_slash(&self.source.to_string_lossy())
    }

    /// Returns a path of the tree as it is on the standby.
    pub(super) fn path_of(&self, below: &str) -> String {
        with_slash(&String::from_utf8_lossy(&self.target.path)) + below
    }

    /// Returns how the mirror logs in.
    pub(super) fn ssh(&self) -> Command {
        let mut command = super::ssh(self.port, &self.ssh_options);
        command.arg("-i").arg(&self.key);
        command
    }

    /// Returns a login with this key and no other, which asks nothing.
    pub(super) fn ssh_to_host(&self) -> Command {
        let mut command = self.ssh();
        command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]);
        command.args(["--", self.host()]);
        command
    }
}

/// The configuration that the service runs.
pub(super) const SERVICE_CONFIG: &str = "/etc/speil/speil.lua";

fn with_slash(path: &str) -> String {
    if path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

fn default_config() -> Result<PathBuf, Stop> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(SERVICE_CONFIG));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let dir = dir.ok_or_else(|| Stop::plain(Exit::Syntax, "HOME is not set: name the file with --config"))?;
    Ok(dir.join("speil/speil.lua"))
}

fn missing(what: &str) -> Stop {
    let hint = "speil init SOURCE STANDBY, for example: speil init /srv/uploads root@standby";
    Stop::new(Exit::Syntax, format!("{what} is missing, and there is no terminal to ask at"), hint)
}

fn source(it: &Init, asker: Asker) -> Result<PathBuf, Stop> {
    let refused = |path: &Path, error: &crate::cli::CliError| {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        let cause = cause.map(|cause| format!(": {}", crate::error::io_text(cause))).unwrap_or_default();
        let hint = format!("mkdir -p {} makes it, if it is to be empty", path.display());
        Stop::new(Exit::Selection, format!("{error}{cause}"), hint)
    };
    if let Some(path) = &it.source {
        check_source(path).map_err(|error| refused(path, &error))?;
        return readable(spelling::local_path(path));
    }
    loop {
        let Some(answer) = asker.text("Which directory is to be mirrored?")? else {
            return Err(missing("SOURCE"));
        };
        let path = PathBuf::from(&answer);
        match check_source(&path) {
            Ok(()) if !answer.is_empty() => return readable(spelling::local_path(&path)),
            Ok(()) => {}
            Err(error) => super::print(&format!("{error}\n")),
        }
    }
}

/// Paths become words of commands and of the configuration.
fn readable(path: PathBuf) -> Result<PathBuf, Stop> {
    if path.to_str().is_some_and(|text| !text.chars().any(char::is_control)) {
        return Ok(path);
    }
    let quoted = crate::tree::quote(path.as_os_str().as_bytes());
    let hint = "write the configuration by hand: speil help configuration";
    Err(Stop::new(Exit::Syntax, format!("SOURCE {quoted}: speil init takes only paths in plain UTF-8"), hint))
}

fn standby(it: &Init, source: &Path, asker: Asker) -> Result<Target, Stop> {
    if let Some(spec) = &it.standby {
        return read_standby(spec.as_bytes(), source);
    }
    super::print("root@HOST keeps owners; with USER@HOST all files on the standby belong to USER.\n");
    let question =
        format!("Which host is the standby? (root@HOST:PATH, if not into {} there)", source.display());
    loop {
        let Some(answer) = asker.text(&question)? else { return Err(missing("STANDBY")) };
        match read_standby(answer.as_bytes(), source) {
            Ok(target) => return Ok(target),
            Err(stop) => super::print(&stop.said.map(|(text, _)| text + "\n").unwrap_or_default()),
        }
    }
}

/// Reads `[USER@]HOST[:PATH]`; without a path it is the source's.
fn read_standby(spec: &[u8], source: &Path) -> Result<Target, Stop> {
    let alone = !spec.is_empty() && !spec.contains(&b'/') && (!spec.contains(&b':') || spec.ends_with(b"]"));
    let whole = if alone { [spec, b":", source.as_os_str().as_bytes()].concat() } else { spec.to_vec() };
    let wrong = |text: String, hint: Option<&str>| Stop {
        code: Exit::Syntax.code(),
        said: Some((text, hint.map(str::to_owned))),
    };
    let target = parse_target(&whole).map_err(|error| wrong(error.to_string(), error.hint()))?;
    if target.host.is_none() {
        let shown = crate::tree::quote(spec);
        let text = format!("STANDBY {shown} names no other host");
        let hint = format!(
            "write [USER@]HOST:PATH; for a copy on this host: speil mirror {}/ PATH",
            source.display()
        );
        return Err(wrong(text, Some(&hint)));
    }
    if std::str::from_utf8(&target.path).map_or(true, |path| path.chars().any(char::is_control)) {
        let text =
            format!("STANDBY {}: speil init takes only paths in plain UTF-8", crate::tree::quote(spec));
        return Err(wrong(text, None));
    }
    Ok(target)
}
