//! lsyncd's command line.
//!
//! **Purpose:** lsyncd's arguments in → [`Options`], or what is said and the exit status.
//! **Invariants:** one dash and two are the same; words stand where lsyncd takes them.
//! **Sources:** lsyncd(1); lsyncd 2.2.3 and 2.3.1 as observed.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::hosted::Native;
use crate::action::{self, Options};
use crate::config::{CliSync, Engine};

/// Exit status of everything that is refused, and of help.
const REFUSED: u8 = 255;

const HELP: &str = "
USAGE:
  a configuration file:
    lsyncd [OPTIONS] CONFIG-FILE

  rsync:
    lsyncd [OPTIONS] -rsync SOURCE TARGET

  rsync, and ssh for moves:
    lsyncd [OPTIONS] -rsyncssh SOURCE HOST TARGETDIR

  cp, mv and rm on this host:
    lsyncd [OPTIONS] -direct SOURCE TARGETDIR

OPTIONS:
  -delay SECS         delay of every sync
  -engine ENGINE      auto, native or rsync, for every sync
  -help               this text
  -insist             try again where the first pass fails
  -log all            log everything
  -log scarce         log errors and warnings only
  -log CATEGORY       log one category more
  -logfile FILE       append the log to FILE
  -nodaemon           stay in the foreground
  -onepass            leave after the first passes
  -pidfile FILE       write the process id into FILE
  -script FILE        run FILE before the configuration
  -sshopts OPTIONS    options of ssh for -rsyncssh
  -version            the version

This is speil, standing in for lsyncd.
";

/// What the arguments ask for.
#[derive(Debug)]
enum Asked {
    Run(Box<Options>),
    Say(String, u8),
    Refuse(String),
}

/// Returns how many words an option takes; `None` for one that does not exist.
fn arity(name: &str) -> Option<usize> {
    Some(match name {
        "help" | "insist" | "nodaemon" | "onepass" | "version" | "monitor" => 0,
        "delay" | "engine" | "log" | "logfile" | "pidfile" | "script" | "sshopts" => 1,
        "rsync" | "direct" => 2,
        "rsyncssh" => 3,
        _ => return None,
    })
}

fn parse(arguments: Vec<OsString>) -> Asked {
    if arguments.is_empty() {
        return Asked::Say(HELP.to_owned(), REFUSED);
    }
    let mut options = Options::default();
    let mut words = arguments.into_iter();
    while let Some(word) = words.next() {
        let name = match word.as_bytes() {
            [b'-', b'-', name @ ..] | [b'-', name @ ..] => String::from_utf8_lossy(name).into_owned(),
            _ if options.config.file.is_some() => {
                return Asked::Refuse("There can only be one config file in the command line.".to_owned());
            }
            _ => {
                options.config.file = Some(PathBuf::from(word));
                continue;
            }
        };
        let Some(count) = arity(&name) else {
            return Asked::Refuse(format!("unknown option command line option {}", word.to_string_lossy()));
        };
        let values: Vec<OsString> = words.by_ref().take(count).collect();
        if values.len() < count {
            return Asked::Refuse(format!("{name} needs {count} arguments"));
        }
        if let Err(asked) = apply(&mut options, &name, values) {
            return *asked;
        }
    }
    match (&options.config.file, options.config.syncs.is_empty()) {
        (Some(_), false) => {
            Asked::Refuse("There cannot be command line syncs and a config file together.".to_owned())
        }
        (None, true) => Asked::Say(HELP.to_owned(), REFUSED),
        _ => Asked::Run(Box::new(options)),
    }
}

fn apply(options: &mut Options, name: &str, values: Vec<OsString>) -> Result<(), Box<Asked>> {
    let text = values.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let file = values.first().map(PathBuf::from);
    match name {
        "help" => return Err(Box::new(Asked::Say(HELP.to_owned(), REFUSED))),
        "version" => {
            let line =
                format!("Version: {} (speil {})\n", crate::config::LSYNCD_VERSION, env!("CARGO_PKG_VERSION"));
            return Err(Box::new(Asked::Say(line, 0)));
        }
        "monitor" => {
            let line = "This Lsyncd supports these monitors:\n   inotify\n\n".to_owned();
            return Err(Box::new(Asked::Say(line, REFUSED)));
        }
        "insist" => options.insist = true,
        "nodaemon" => options.nodaemon = true,
        "onepass" => options.onepass = true,
        "logfile" => options.logfile = file,
        "pidfile" => options.pidfile = file,
        "script" => options.config.scripts.extend(file),
        "delay" => match text.parse::<f64>() {
            Ok(delay) if delay >= 0.0 => options.config.delay = Some(delay),
            _ => {
                return Err(Box::new(Asked::Refuse(format!(
                    "delay must be a number and >= 0, not '{text}'"
                ))));
            }
        },
        "engine" => match Engine::from_word(&text) {
            Some(engine) => options.config.engine = Some(engine),
            None => {
                let text = format!("engine must be auto, native or rsync, not '{text}'");
                return Err(Box::new(Asked::Refuse(text)));
            }
        },
        "sshopts" => match crate::config::split_words(&text) {
            Ok(words) => options.config.ssh_options = words,
            Err(error) => return Err(Box::new(Asked::Refuse(format!("sshopts: {error}")))),
        },
        "log" => match text.as_str() {
            "all" => options.categories.all = true,
            "scarce" => options.categories.scarce = true,
            category if category.starts_with(|c: char| c.is_ascii_uppercase()) => {
                options.categories.more.insert(text);
            }
            _ => return Err(Box::new(Asked::Refuse(format!("'{text}' is not a valid logging category")))),
        },
        layer => {
            let layer = ["rsync", "rsyncssh", "direct"].into_iter().find(|known| *known == layer);
            let words = values.iter().map(|word| PathBuf::from(OsString::from_vec(word.as_bytes().to_vec())));
            if let Some(layer) = layer {
                options.config.syncs.push(CliSync { layer, words: words.collect() });
            }
        }
    }
    Ok(())
}

/// Runs as lsyncd would with these arguments.
pub fn lsyncd(arguments: Vec<OsString>) -> ExitCode {
    match parse(arguments) {
        Asked::Run(options) => {
            crate::disk::outlive_file_limit();
            crate::disk::raise_limits();
            let mirrors: Arc<dyn action::Mirrors> = Arc::new(Native::default());
            ExitCode::from(u8::try_from(action::run(*options, &mirrors)).unwrap_or(REFUSED))
        }
        Asked::Say(text, code) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(code)
        }
        Asked::Refuse(text) => {
            let _ = writeln!(std::io::stderr(), "Error: {text}");
            ExitCode::from(REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        parse(line.split_ascii_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn one_dash_and_two_are_the_same_and_files_stand_anywhere() {
        for line in ["-nodaemon --delay 2.5 c.lua", "c.lua --nodaemon -delay 2.5"] {
            let Asked::Run(options) = asked(line) else { panic!("{line}") };
            assert!(options.nodaemon);
            assert_eq!(options.config.delay, Some(2.5));
            assert_eq!(options.config.file, Some(PathBuf::from("c.lua")));
        }
    }

    #[test]
    fn refusals_use_the_known_words() {
        for (line, says) in [
            ("-x", "unknown option command line option -x"),
            ("-delay", "delay needs 1 arguments"),
            ("a.lua b.lua", "There can only be one config file in the command line."),
            ("-rsync a b c.lua", "There cannot be command line syncs and a config file together."),
            ("-log foo c.lua", "'foo' is not a valid logging category"),
        ] {
            let Asked::Refuse(text) = asked(line) else { panic!("{line}") };
            assert_eq!(text, says);
        }
    }

    #[test]
    fn help_is_a_refusal_and_version_is_not() {
        assert!(matches!(asked(""), Asked::Say(_, 255)));
        assert!(matches!(asked("-help"), Asked::Say(_, 255)));
        let Asked::Say(text, 0) = asked("-version") else { panic!() };
        assert!(text.starts_with("Version: 2."));
    }
}
