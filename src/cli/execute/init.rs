//! `speil init`: from nothing to a standby that is in step.
//!
//! **Purpose:** asks for source and standby, and does in their order the steps of `docs/by-hand.md`.
//! **Invariants:** every step is printed as the command that does the same; a step that is done already is
//! left out, so a second run goes on where the first one ended; nothing that exists is replaced unasked;
//! without a terminal nothing is asked. **Not here:** whether the mirror would work (`doctor`).

mod answers;
mod files;
mod host_key;
mod login;
mod service;
mod shell;

use std::path::Path;
use std::process::Command;

use self::answers::{Answers, Asker};
use self::login::Login;
use self::shell::{Shell, Stop};
use super::{complain_text, print};
use crate::cli::exit::Exit;
use crate::cli::init::Init;

/// Sets a standby up.
pub(super) fn run(it: &Init) -> u8 {
    match set_up(it) {
        Ok(()) => 0,
        Err(Stop { code, said }) => {
            if let Some((text, hint)) = said {
                complain_text(&text, hint.as_deref());
            }
            code
        }
    }
}

fn set_up(it: &Init) -> Result<(), Stop> {
    let asker = Asker::detect();
    let answers = Answers::gather(it, asker)?;
    let shell = Shell { dry_run: it.dry_run };
    let configuration = files::judge(&answers, it.force)?;
    files::make_key(&answers, shell)?;
    host_key::make_known(&answers, it.accept_host_key.as_deref(), asker, shell)?;
    let login = login::log_in(&answers, asker, shell)?;
    allow_contents(&login, &answers, it, asker)?;
    let changed = files::write(&configuration, &answers, shell)?;
    let config = answers.config.as_path();
    speil(shell, &["check"], config)?;
    speil(shell, &["doctor"], config)?;
    let service = service::find(&answers, it.no_start);
    if !service.is_running() {
        first_file(&answers, &login, shell)?;
    }
    if wants_forced_command(&login, &answers, it, asker)? {
        login::force_command(&answers, &login, shell)?;
        speil(shell, &["doctor"], config)?;
    }
    service.start(&answers, changed, asker, shell)
}

/// Runs a command of this executable on the configuration.
fn speil(shell: Shell, words: &[&str], config: &Path) -> Result<(), Stop> {
    shell.run(shell::speil().args(words).arg(config))?.or_stop()
}

/// Asks before files on the standby are deleted that were there before the mirror.
fn allow_contents(login: &Login, answers: &Answers, it: &Init, asker: Asker) -> Result<(), Stop> {
    let Some(names) = login.strangers(&answers.source).filter(|_| !it.accept_contents) else { return Ok(()) };
    let there = format!("{} holds what the source does not have: {names}", answers.shown());
    print(&format!("{there}\nThe mirror deletes it.\n"));
    if asker.yes("Go on?", false)?.unwrap_or(false) {
        return Ok(());
    }
    let hint = "--accept-contents goes on, and it is deleted; or name another path on the standby";
    Err(Stop::new(Exit::Syntax, there, hint))
}

/// Sends one file as the mirror would, and looks at it on the other side.
fn first_file(answers: &Answers, login: &Login, shell: Shell) -> Result<(), Stop> {
    let Some(file) = files::first(&answers.source) else {
        print("The source holds no file yet that could be sent to see it arrive.\n");
        return Ok(());
    };
    let mut sync = shell::speil();
    sync.args(["sync", "-a", "-i", "--files-from=-", "-e"]).arg(shell::line_of(&answers.ssh()));
    sync.args(["--", &answers.source_with_slash(), &answers.target.to_string()]);
    shell.run_with(&mut sync, &file)?.or_stop()?;
    if login.is_forced() {
        return Ok(());
    }
    let mut look = answers.ssh_to_host();
    look.arg(format!("ls -l -- {}", crate::tree::shell_word(&answers.path_of(&file))));
    shell.run(&mut look)?.or_stop()
}

fn wants_forced_command(login: &Login, answers: &Answers, it: &Init, asker: Asker) -> Result<bool, Stop> {
    if login.is_forced() {
        return Ok(false);
    }
    if it.forced_command {
        return login.program(answers, it.dry_run).map(|_| true);
    }
    if login.program(answers, false).is_err() {
        return Ok(false);
    }
    let question = "Let this key do nothing on the standby but receive this directory?";
    Ok(asker.yes(question, false)?.unwrap_or(false))
}

/// Returns `ssh` with what the answers say of the way to the host.
fn ssh(port: Option<u16>, options: &[(String, String)]) -> Command {
    let mut command = Command::new("ssh");
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    for (key, value) in options {
        command.args(["-o", &format!("{key}={value}")]);
    }
    command
}
