//! `speil promote`, `speil demote` and `speil rejoin`: what may be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reach::Reach;
use crate::config::parse_duration;
use crate::role::Force;

pub(super) const PROMOTE_HELP: &str = "\
Examples:
  speil promote --root /srv/uploads      a planned switch, or the primary is gone: this host takes its place
  speil promote uploads                  the same by the name of a sync; the others are asked
  speil promote --wait 10m uploads       only if the primary hands over, which may take so long
  speil promote -n --root /srv/uploads   say what would be done, or what is in the way

A primary that is connected is asked to hand over: it sends what is left, becomes a standby, and
then this host is promoted. If it does not, this host is promoted all the same, unless --wait is
given; the old primary learns of the new generation and sends nothing any more. What it had not sent
stays on its disk. When it becomes a standby (speil demote there), that is kept aside in
.speil/strangers; speil trash --strangers lists it.

Needs no daemon and no way to the other hosts. May be typed again at any time, also after it was
killed.

Exit codes: 0 done, also where the tree is primary already, or a later demote was typed meanwhile;
1 wrong usage or configuration; 3 refused, the hint says what to type; 11 the role cannot be read
or written; 30 with --wait the primary did not hand over, or a session or another verb does not end.";

pub(super) const DEMOTE_HELP: &str = "\
Examples:
  speil wait && speil demote --root /srv/uploads   a planned switch: everything is on the standbys
  speil demote --root /srv/uploads                 a new tree joins; or the old primary is back

Nothing in the tree changes. The daemon sends nothing from it any more. When the next primary
connects, what only this tree holds is kept aside in .speil/strangers; speil trash --strangers
lists it.

Exit codes: 0 done, also where the tree is a standby already, or a later promote was typed
meanwhile; 1 wrong usage or configuration; 11 the role cannot be read or written; 30 another verb
does not end.";

pub(super) const REJOIN_HELP: &str = "\
Examples:
  speil rejoin --plan uploads bergen          say what would be kept aside, change nothing
  speil rejoin uploads bergen                 a sync, and a host of it
  speil rejoin --root /srv/uploads bergen     a tree that is a sync's source, and a host of it
  speil rejoin --root /srv/uploads root@bergen:/srv/uploads

For the case that two hosts were promoted while they could not see each other, or one with
--force: decide which one is the truth, and type this on each other one. Nothing in the tree
changes now. When the chosen primary connects, what only this tree holds is kept aside in
.speil/strangers; speil trash --strangers lists it.

Exit codes: 0 done, also where the tree is there already; 1 wrong usage or configuration; 3
refused, the hint says what to type; 10 the other host does not answer; 11 the role cannot be read
or written; 23 --plan: something would be kept aside, or the comparison is not complete; 30 another
verb does not end.";

/// Which tree.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Which {
    /// A sync of the configuration: its source on this host
    #[arg(value_name = "SYNC", required_unless_present = "root", conflicts_with = "root")]
    pub sync: Option<String>,
    /// The tree, a directory on this host
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The configuration that has the sync
    #[arg(long, value_name = "CONFIG", default_value = "/etc/speil/speil.lua")]
    pub config: PathBuf,
    /// Say what would be done, change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `speil promote`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Promote {
    /// Which tree.
    #[command(flatten)]
    pub which: Which,
    /// Also where another host may hold something younger, which becomes another truth; =half: also a tree that was
    /// being brought to another generation
    #[arg(
        long,
        value_name = "half",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_parser = force
    )]
    pub force: Option<Force>,
    /// How long the primary that sends to this host has to send what is left and hand over (5s). Given here: the tree
    /// is not promoted where it does not
    #[arg(long, value_name = "DURATION", value_parser = time_to_hand_over)]
    pub wait: Option<Duration>,
    /// Promote at once: a primary that sends to this host is not asked to hand over
    #[arg(long, conflicts_with = "wait")]
    pub no_hand_over: bool,
}

/// `speil rejoin`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Rejoin {
    /// A sync, and a host of it that leads
    #[arg(
        value_name = "SYNC|HOST",
        required = true,
        num_args = 1..=2,
        help = "A sync, and a host of it that leads; with --root one word: a host of the sync that has the tree, [USER@]HOST:PATH, or a path with a / on this host"
    )]
    pub words: Vec<String>,
    /// The tree, a directory on this host
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The configuration that has the sync
    #[arg(long, value_name = "CONFIG", default_value = "/etc/speil/speil.lua")]
    pub config: PathBuf,
    /// Say what would be done, change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Compare the two trees and say what would be kept aside, change nothing
    #[arg(long)]
    pub plan: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How it is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// `speil demote`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Demote {
    /// Which tree.
    #[command(flatten)]
    pub which: Which,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// A script that computes the time must not promote without asking because nothing of it is left.
fn time_to_hand_over(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait.is_zero() {
        return Err(
            "leaves no time to hand over; --no-hand-over promotes without asking the primary".to_owned()
        );
    }
    Ok(wait)
}

fn force(text: &str) -> Result<Force, String> {
    match text {
        "" => Ok(Force::Yes),
        "half" => Ok(Force::Half),
        _ => Err("nothing, or half".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        promote: Promote,
    }

    #[test]
    fn a_promotion_that_asks_nobody_is_typed_as_such_and_not_as_no_time() {
        let parse = |words: &[&str]| Line::try_parse_from([&["promote", "uploads"], words].concat());
        let it = parse(&["--wait", "10m"]).unwrap().promote;
        assert_eq!((it.wait, it.no_hand_over), (Some(Duration::from_secs(600)), false));
        let it = parse(&["--no-hand-over"]).unwrap().promote;
        assert_eq!((it.wait, it.no_hand_over), (None, true));
        for wait in ["0", "0s", "0ms"] {
            let error = parse(&["--wait", wait]).unwrap_err().to_string();
            assert!(error.contains("--no-hand-over"), "{error}");
        }
        assert!(parse(&["--wait", "1s", "--no-hand-over"]).is_err());
    }
}
