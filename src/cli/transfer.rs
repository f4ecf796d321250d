//! `speil sync` and `speil mirror` as clap commands, and their matches as a [`Transfer`].

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::draft::{Draft, Transfer};
use super::error::CliError;
use super::options::apply_in_order;
use super::refused::ALWAYS_SO;
use super::table::groups;

const SYNC_ABOUT: &str = "Bring targets up to date once, then exit: for cron, in place of rsync";
const MIRROR_ABOUT: &str = "Keep targets up to date live, without a configuration file";

const SYNC_EXAMPLES: &str = "\
Examples:
  speil sync -avz --delete -e 'ssh -i /root/.ssh/backup' /srv/up/ root@10.0.0.2:/srv/up/
  speil sync -aHAX --delete --dry-run -i /srv/www/ web2:/srv/www/
  speil sync -a --exclude='*.tmp' --bwlimit=10m --json /srv/www/ web2:/srv/www/
  speil sync -az --delete root@web1:/srv/up/ /backup/up/

SOURCE/ sends what the directory holds, SOURCE without the slash the directory itself.
Several SOURCEs, files and symlinks among them, go into one TARGET: speil sync -a a/ b c/file web2:/srv/
With SOURCE on another host and TARGET on this one, it is pulled from there: HOST:a :b TARGET
What rsync has and speil lacks is refused by name, never ignored.

Exit codes, as rsync's:
  0 done, 1 usage, 2 protocol version, 3 unusable root, 10 connection, 11 list or log file,
  12 protocol, 20 signal, 23 some paths failed, 24 some source files vanished,
  25 deletes held back, 30 timeout or another run is at work, 255 remote shell";

const MIRROR_EXAMPLES: &str = "\
Examples:
  speil mirror /srv/up/ web2:/srv/up/ web3:/srv/up/
  speil mirror --exclude='*.part' --bwlimit=20m -e 'ssh -p 2222' /srv/up/ deploy@web2:/srv/up/
  speil mirror --dry-run /srv/up/ web2:/srv/up/
  speil mirror root@web1:/srv/up/ /srv/fetched/    # pulled: the far side watches and sends

Without options -aHAX --delete holds, with a guard against mass deletes;
--no-delete, --no-owner and so on take back.
SOURCE/ mirrors what the directory holds, SOURCE without the slash the directory itself.";

/// Returns the clap command of `mirror` (`live`) or `sync`.
pub(super) fn command(live: bool) -> Command {
    let (name, about, examples) =
        if live { ("mirror", MIRROR_ABOUT, MIRROR_EXAMPLES) } else { ("sync", SYNC_ABOUT, SYNC_EXAMPLES) };
    let mut command = Command::new(name)
        .about(about)
        .after_help(examples)
        .override_usage(format!(
            "speil {name} [OPTIONS] SOURCE{} TARGET{}",
            if live { "" } else { "..." },
            if live { "..." } else { "" }
        ))
        .disable_help_flag(true)
        .arg(Arg::new("SOURCE").required(true).value_parser(value_parser!(OsString)).help(if live {
            "A directory: PATH on this host, or [USER@]HOST:PATH, which is pulled from there"
        } else {
            "What is sent: PATH on this host, or [USER@]HOST:PATH; several are of one host"
        }))
        .arg(
            Arg::new("TARGET")
                .required(live)
                .num_args(1..)
                .value_parser(value_parser!(OsString))
                .help(if live {
                    "[USER@]HOST:PATH, or PATH on this host"
                } else {
                    "Where it goes: [USER@]HOST:PATH, or PATH on this host; one SOURCE on this host may go to several \
                     hosts"
                }),
        )
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"));
    for group in groups(live) {
        for option in group.options {
            command = command.args(option.args(group.heading));
        }
    }
    let held = Arg::new("always-so")
        .long("secluded-args")
        .short('s')
        .aliases(ALWAYS_SO.iter().copied().filter(|name| *name != "secluded-args"));
    command.arg(held.hide(true).action(ArgAction::Count))
}

/// Returns what the matches of [`command`] ask for.
///
/// # Errors
/// [`CliError`] as [`Draft::finish`], and for values that are not taken.
pub(super) fn transfer(
    matches: &ArgMatches,
    live: bool,
    rsync_rsh: Option<&OsStr>,
) -> Result<Transfer, CliError> {
    let mut draft = Draft::new(live);
    apply_in_order(&groups(live), matches, &mut draft)
        .map_err(|(long, value, why)| CliError::value(&format!("--{long}"), &value, why))?;
    let source = matches.get_one::<OsString>("SOURCE").map(OsString::as_os_str).unwrap_or_default();
    let others = matches.get_many::<OsString>("TARGET").into_iter().flatten().map(OsString::as_os_str);
    draft.finish(&std::iter::once(source).chain(others).collect::<Vec<_>>(), rsync_rsh)
}
