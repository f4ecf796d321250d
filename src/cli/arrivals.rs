//! `speil arrivals`: what may be typed, and which paths are asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::parse_duration;
use crate::filter::{Filter, FilterError};
use crate::receiver::Changed;

pub(super) const ARRIVALS_HELP: &str = "\
Examples:
  speil arrivals --root /srv/www                         print each path that arrives, until stopped
  speil arrivals --root /srv/www --path '/conf/**' -- systemctl reload nginx
  speil arrivals --root /srv/www --remember /var/lib/thumbs.pos -- /usr/local/bin/thumbs
  speil arrivals --root /srv/www --once && echo done     wait for the next batch

On a standby, beside the agent. COMMAND runs once after a batch of changes has arrived and is on the
disk, never after half a batch, and never twice at the same time: what arrives meanwhile is for the
next run. It reads the paths below DIR on its standard input, each with a NUL behind it: xargs -0. A
directory that was moved or removed with everything in it has a / at its end. The path . says that
anything may have changed: at the start, after a batch of thousands of files, after an agent that was
killed, or where more arrived than is kept while nobody read.

A command that fails runs again with the same paths and what has arrived since: after 10 s, then
after twice as long each time, up to 5 minutes.

Exit codes: 0 done, 1 wrong usage, 3 DIR cannot be used, 11 what has arrived, or FILE, cannot be read
or written, 20 a signal. With --once that of COMMAND, 128 and its signal's number if one killed it.";

/// `speil arrivals`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ArrivalsOf {
    /// The target's directory on this host
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Only paths that match, as rsync reads a pattern: /conf/** from the top, *.css anywhere; several are joined
    #[arg(long = "path", value_name = "PATTERN")]
    pub paths: Vec<OsString>,
    /// Run when nothing has arrived for so long, and at the latest after ten times that
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    pub quiet: Duration,
    /// End after the first run
    #[arg(long)]
    pub once: bool,
    /// Keep in FILE what was told, and go on from there after a restart
    #[arg(long, value_name = "FILE")]
    pub remember: Option<PathBuf>,
    /// Begin with what arrives from now on, not with the path . ; --once does so too
    #[arg(long, conflicts_with = "remember")]
    pub from_now: bool,
    /// Without a command: print each path with a NUL behind it
    #[arg(short = '0', long = "from0", conflicts_with_all = ["command", "json"])]
    pub nul: bool,
    /// Without a command: print one JSON object for each batch
    #[arg(long, conflicts_with = "command")]
    pub json: bool,
    /// What is run, with its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Which paths are asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Excludes what is wanted; nothing if everything is.
    here: Option<Filter>,
    /// Excludes the directories below which something wanted may be.
    above: Filter,
    /// Something wanted may be below any directory.
    anywhere: bool,
}

impl Wanted {
    /// Reads patterns.
    ///
    /// # Errors
    /// What is wrong with the first one that is.
    pub fn new(patterns: &[Vec<u8>]) -> Result<Self, FilterError> {
        let mut wanted = Self::default();
        for pattern in patterns {
            let rule = |pattern: &[u8]| [b"- ", pattern].concat();
            wanted.here.get_or_insert_default().push_rule(&rule(pattern))?;
            let Some(below) = pattern.strip_prefix(b"/") else {
                wanted.anywhere = true;
                continue;
            };
            for (at, _) in below.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                wanted.above.push_rule(&rule(&[b"/", &below[..at]].concat()))?;
            }
        }
        Ok(wanted)
    }

    /// Whether something at a path, or below a directory that was moved or removed whole, is asked for.
    pub fn has(&self, changed: &Changed) -> bool {
        let Some(here) = &self.here else { return true };
        let Changed { path, whole } = changed;
        here.excludes(path, *whole)
            // What is gone may have been a directory.
            || here.excludes(path, true)
            || *whole && (self.anywhere || self.above.excludes_entry(path, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::RelPath;

    #[test]
    fn a_path_is_wanted_by_itself_and_a_directory_by_what_may_be_below_it() {
        let wanted = |patterns: &[&str], path: &str, whole: bool| {
            let patterns: Vec<Vec<u8>> = patterns.iter().map(|it| it.as_bytes().to_vec()).collect();
            let path = RelPath::try_from(path).unwrap();
            Wanted::new(&patterns).unwrap().has(&Changed { path, whole })
        };
        for (patterns, path, whole, is) in [
            (&[][..], "any/thing", false, true),
            (&["/conf/**"], "conf/a", false, true),
            (&["/conf/**"], "conf/d/a", false, true),
            (&["/conf/**"], "conf", false, false),
            (&["/conf/**"], "conf", true, true),
            (&["/conf/**"], "other", true, false),
            (&["/conf/d/*.css"], "conf", true, true),
            (&["/conf/d/*.css"], "conf/d", true, true),
            (&["/conf/d/*.css"], "conf/e", true, false),
            (&["/conf/d/*.css"], "conf/d/a.css", false, true),
            (&["/conf/d/*.css"], "conf/d/a.js", false, false),
            (&["*.css"], "conf/d/a.css", false, true),
            (&["*.css"], "conf", true, true),
            (&["*.css"], "conf", false, false),
            (&["/conf/"], "conf/a", false, true),
            (&["/a", "/b"], "b", false, true),
        ] {
            assert_eq!(wanted(patterns, path, whole), is, "{patterns:?} {path} {whole}");
        }
        Wanted::new(&[b"a\0".to_vec()]).unwrap_err();
    }
}
