//! The login: tried, made possible, and, if wanted, made to do nothing but receive.

use std::path::Path;
use std::process::{Command, Stdio};

use super::answers::{Answers, Asker};
use super::files;
use super::shell::{Shell, Stop, line_of};
use crate::cli::exit::Exit;
use crate::tree::shell_word;

/// ssh's own failures end with this.
const SSH_FAILED: i32 = 255;

/// How many names of the target's directory are looked at.
const NAMES_MAX: usize = 1000;

/// What the login found on the standby.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// The key runs a command of the administrator's, whatever is asked for.
    forced: bool,
    /// Where speil is installed there.
    program: Option<String>,
    /// Names in the target's directory; none where a mirror has used it already.
    found: Vec<String>,
}

impl Login {
    fn of(said: &str) -> (Option<u32>, Self) {
        let mut lines = said.lines().map(str::trim);
        let Some(uid) = lines.next().and_then(|line| line.parse().ok()) else {
            return (None, Self { forced: true, ..Self::default() });
        };
        let program = lines.next().filter(|line| line.starts_with('/')).map(str::to_owned);
        let names: Vec<String> = lines.map(str::to_owned).collect();
        let ours = names.iter().any(|name| name == ".speil");
        (Some(uid), Self { forced: false, program, found: if ours { Vec::new() } else { names } })
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Returns some names in the directory that the source does not have: the mirror would delete them.
    pub(super) fn strangers(&self, source: &Path) -> Option<String> {
        let missing = |name: &&String| source.join(name).symlink_metadata().is_err();
        let mut names = self.found.iter().filter(missing).map(|name| crate::tree::quote(name.as_bytes()));
        let shown: Vec<String> = names.by_ref().take(3).collect();
        let more = if names.next().is_some() { ", …" } else { "" };
        (!shown.is_empty()).then(|| shown.join(", ") + more)
    }

    /// Returns the speil that the key may run there.
    ///
    /// # Errors
    /// If none is installed, or the directory has no absolute path.
    pub(super) fn program(&self, answers: &Answers, dry_run: bool) -> Result<String, Stop> {
        if !answers.target.path.starts_with(b"/") {
            let text = format!("--forced-command: {} has no absolute path", answers.shown());
            return Err(Stop::plain(Exit::Syntax, text));
        }
        let program = self.program.clone().or_else(|| dry_run.then(|| "speil".to_owned()));
        program.ok_or_else(|| {
            let text = "--forced-command: speil is not in the PATH of the login on the standby";
            Stop::new(Exit::Syntax, text, "install speil on the standby too, then type the same again")
        })
    }
}

/// Logs in, after the key was brought to the standby if need be.
pub(super) fn log_in(answers: &Answers, asker: Asker, shell: Shell) -> Result<Login, Stop> {
    if shell.dry_run {
        super::print("(unless the standby lets the key in already:)\n");
        copy_key(answers, asker, shell)?;
        attempt(answers, shell)?;
        return Ok(Login::default());
    }
    let (mut worked, mut said) = attempt(answers, shell)?;
    if !worked {
        copy_key(answers, asker, shell)?;
        (worked, said) = attempt(answers, shell)?;
    }
    if !worked {
        let by_hand = line_of(answers.ssh().args(["-v", "--", answers.host()]));
        let text = format!("{} does not let this key in", answers.host());
        return Err(Stop::new(Exit::RemoteShell, text, format!("see why: {by_hand}")));
    }
    let (uid, login) = Login::of(&said);
    super::print(&meaning(uid, answers));
    Ok(login)
}

/// Returns what a login of this kind means for the copy.
fn meaning(uid: Option<u32>, answers: &Answers) -> String {
    let host = answers.host();
    match uid {
        None => format!("{host}: the key runs a forced command there, whatever is asked for.\n"),
        Some(0) => format!("{host} is root: owners, groups and devices are kept as they are.\n"),
        Some(uid) => format!(
            "{host} is an ordinary login (user id {uid}): all files there will belong to it. This is the safer \
             choice where owners do not matter; to keep them, log in as root.\n"
        ),
    }
}

/// Tries the login. Returns whether it works, and what the standby said.
fn attempt(answers: &Answers, shell: Shell) -> Result<(bool, String), Stop> {
    let path = shell_word(&String::from_utf8_lossy(&answers.target.path));
    let mut look = answers.ssh_to_host();
    look.arg(format!("id -u; command -v speil || echo -; ls -A -- {path} 2>/dev/null | head -n {NAMES_MAX}"));
    look.stdin(Stdio::null());
    let ran = shell.ask(&mut look)?;
    Ok((ran.status.code().is_some_and(|code| code != SSH_FAILED), ran.stdout))
}

/// Brings the public key to the standby.
fn copy_key(answers: &Answers, asker: Asker, shell: Shell) -> Result<(), Stop> {
    let key = answers.key.display().to_string();
    let mut copy = Command::new("ssh-copy-id");
    copy.args(["-i", &key]);
    copy.args(super::ssh(answers.port, &answers.ssh_options).get_args());
    if !asker.is_there() {
        copy.args(["-o", "BatchMode=yes"]);
    }
    copy.arg(answers.host());
    if let Some(home) = std::env::var_os("HOME") {
        // It keeps a file of its own there for a moment.
        files::make_private_dir(&Path::new(&home).join(".ssh/known_hosts"), shell)?;
    }
    if shell.run(&mut copy)?.succeeded() {
        return Ok(());
    }
    let public = std::fs::read_to_string(files::public(&answers.key)).unwrap_or_default();
    let text = format!("{} does not let this key in, and it could not be brought there", answers.host());
    let hint = format!(
        "append this line to ~/.ssh/authorized_keys there, then type the same again: {}",
        public.trim()
    );
    Err(Stop::new(Exit::RemoteShell, text, hint))
}

/// Replaces the key's line on the standby by one that runs the agent on the target's directory, and nothing else.
pub(super) fn force_command(answers: &Answers, login: &Login, shell: Shell) -> Result<(), Stop> {
    let program = login.program(answers, shell.dry_run)?;
    let public = std::fs::read_to_string(files::public(&answers.key)).unwrap_or_default();
    let public = if shell.dry_run && public.is_empty() { "ssh-ed25519 KEY" } else { public.trim() };
    let blob = public.split_whitespace().nth(1).unwrap_or_default();
    let path = shell_word(&String::from_utf8_lossy(&answers.target.path));
    let command = format!("{} agent --root {path}", shell_word(&program)).replace('"', "\\\"");
    let line = format!("command=\"{command}\",restrict {public}");
    let script = format!(
        "f=$(readlink -f ~/.ssh/authorized_keys) && grep -qF {blob} \"$f\" && umask 077 && \
         {{ grep -vF {blob} \"$f\"; cat; }} >\"$f.speil\" && mv -f \"$f.speil\" \"$f\""
    );
    let mut write = answers.ssh_to_host();
    write.arg(format!("exec sh -c {}", shell_word(&script)));
    if shell.run_with(&mut write, &line)?.succeeded() {
        return Ok(());
    }
    let text =
        "the forced command could not be written into ~/.ssh/authorized_keys there; the key works as before";
    Err(Stop::new(Exit::RemoteShell, text, format!("put this line in place of the key's by hand: {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_standby_says_is_read_line_by_line() {
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("a"), "").unwrap();
        let (uid, login) = Login::of("0\n/usr/bin/speil\na\nb\nc\nd\ne\n");
        assert_eq!((uid, login.program.as_deref()), (Some(0), Some("/usr/bin/speil")));
        assert_eq!(login.strangers(source.path()).unwrap(), "\"b\", \"c\", \"d\", …");
        let (uid, login) = Login::of("1000\n-\na\n");
        assert_eq!((uid, &login.program, login.strangers(source.path())), (Some(1000), &None, None));
        assert_eq!(Login::of("0\n-\n.speil\nb\n").1.strangers(source.path()), None);
        assert!(Login::of("").1.is_forced() && Login::of("speil\u{1}\n").1.is_forced());
    }
}
