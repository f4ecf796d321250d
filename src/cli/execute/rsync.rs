//! rsync's place in a script that nobody changes.
//!
//! **Purpose:** rsync's arguments in → what `speil sync` makes of them, or else the real rsync in this process's place.
//! **Invariants:** who is refused here is refused before anything was changed; the other end of a real rsync is never
//! speil; an executable that is speil itself is never taken for the real one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use super::{complain, complain_text, execute, note, pull};
use crate::cli::draft::{Far, Transfer, check_source};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::parse::{Command as Parsed, parse};

/// Set for the real rsync: if speil is called in its place all the same, there is none.
const PASSED_ON: &str = "SPEIL_PASSED_ON_TO_RSYNC";
const NO_FALLBACK: &str = "--no-fallback";

/// Runs rsync's command line: as `speil sync` where it takes every word of it, by the real rsync otherwise.
pub fn rsync(arguments: Vec<OsString>) -> ExitCode {
    let options = || arguments.iter().take_while(|word| *word != "--");
    if options().any(|word| word == "--server" || word == "--daemon") {
        return pass_on(&arguments, None);
    }
    let alone = options().any(|word| word == NO_FALLBACK);
    let count = options().count();
    let kept = arguments.iter().enumerate().filter(|(at, word)| *at >= count || *word != NO_FALLBACK);
    let arguments: Vec<OsString> = kept.map(|(_, word)| word.clone()).collect();
    let words = ["speil", "sync"].map(OsString::from).into_iter().chain(arguments.iter().cloned());
    let (error, hint, exit) = match parse(words) {
        Ok(Parsed::Sync(mut transfer)) => {
            // Who calls rsync takes 0 for done: what another run sends was read before this one was called.
            transfer.lock.wait.get_or_insert(Duration::MAX);
            let ran = match &transfer.from {
                Some(far) => pulled(&transfer, far),
                None if transfer.sync.sources.is_some() || transfer.sync.selection.list_only => {
                    Ok(execute(Parsed::Sync(transfer)))
                }
                None => check_source(&transfer.sync.source).map(|()| execute(Parsed::Sync(transfer))),
            };
            match ran {
                Ok(code) => return code.into(),
                Err(error) => (error.to_string(), error.hint(), error.exit()),
            }
        }
        Ok(other) => return execute(other).into(),
        Err(error) => (error.to_string(), error.hint(), error.exit()),
    };
    if alone {
        return refuse(&error, hint.as_deref(), exit);
    }
    pass_on(&arguments, Some((error, hint, exit)))
}

/// Pulls. What the source's host says before anything is sent may be for the real rsync: a file, a symlink.
fn pulled(transfer: &Transfer, far: &Far) -> Result<u8, CliError> {
    crate::disk::outlive_file_limit();
    match pull::run(transfer, far) {
        Err(error @ CliError::Unsent { .. }) => {
            complain(&error, error.hint().as_deref());
            Ok(error.exit().code())
        }
        other => other,
    }
}

/// Becomes the real rsync. `why`: what speil itself does not take.
fn pass_on(arguments: &[OsString], why: Option<(String, Option<String>, Exit)>) -> ExitCode {
    let real = if std::env::var_os(PASSED_ON).is_some() { None } else { real() };
    let Some(real) = real else {
        let (error, hint, exit) = why.unwrap_or_else(|| {
            ("the real rsync was called, and PATH has none".to_owned(), None, Exit::Syntax)
        });
        return refuse(&error, hint.as_deref().or(Some("install rsync: it would be run instead")), exit);
    };
    if let Some((error, ..)) = why {
        let text = format!("{error}; {} runs instead ({NO_FALLBACK} forbids it)", real.display());
        note(&text);
    }
    let error = Command::new(&real).args(arguments).env(PASSED_ON, "1").exec();
    refuse(&format!("{}: {}", real.display(), crate::error::io_text(&error)), None, Exit::Stream)
}

/// Returns the first executable in PATH that is called rsync and is not this one.
fn real() -> Option<PathBuf> {
    let own = fs::metadata("/proc/self/exe").ok().map(|own| (own.dev(), own.ino()));
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsStr::new("/usr/local/bin:/usr/bin:/bin").into());
    std::env::split_paths(&path).map(|dir| dir.join("rsync")).find(|candidate| {
        fs::metadata(candidate).is_ok_and(|found| {
            found.is_file()
                && found.permissions().mode() & 0o111 != 0
                && Some((found.dev(), found.ino())) != own
        })
    })
}

fn refuse(error: &str, hint: Option<&str>, exit: Exit) -> ExitCode {
    complain_text(error, hint);
    exit.code().into()
}
