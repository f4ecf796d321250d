//! rsync's options that speil does not have, and why.
//!
//! **Purpose:** a script that says `--inplace` means it; silence would break a promise. Sources: rsync(1),
//! 3.0 to 3.5.

/// The names of one refused option, and why it is refused.
pub(super) struct Refusal {
    names: &'static [&'static str],
    reason: &'static str,
}

const fn refuse(names: &'static [&'static str], reason: &'static str) -> Refusal {
    Refusal { names, reason }
}

const WHOLE: &str = "a target's file is always its old or its new whole version; leave it out";
const UNMIRRORED: &str = "this time is not mirrored; only modification times are";
const DAEMON: &str = "it concerns rsync daemons; speil runs its agent over ssh";
const BATCH: &str = "there are no batch files; sync to each target";
const ARGS: &str = "nothing is deleted for a SOURCE that is missing";
const STOP: &str = "use timeout(1); an interrupted run leaves no half file";
const DEVICES: &str = "device nodes are mirrored as nodes (-D), their content is not";
const NETWORK: &str = "the connection is ssh's: put the setting into -e or ssh_config";

/// Every refusal.
const REFUSALS: &[Refusal] = &[
    refuse(&["inplace"], WHOLE),
    refuse(&["append", "append-verify"], WHOLE),
    refuse(&["delay-updates"], "each file changes at once and whole; a whole tree does not"),
    refuse(&["partial-dir"], WHOLE),
    refuse(
        &["temp-dir", "T"],
        "the temporary file must lie beside the target's for the rename to be one step",
    ),
    refuse(&["munge-links"], "symlinks are mirrored as they are; exclude those that must not be"),
    refuse(
        &["keep-dirlinks", "K"],
        "speil never writes through a symlink on the target, which may lead anywhere",
    ),
    refuse(&["insecure-links", "confine-root"], "speil never follows a symlink out of its roots"),
    refuse(&["atimes", "U", "open-noatime", "crtimes", "N"], UNMIRRORED),
    refuse(&["executability", "E"], "use -p, or --chmod"),
    refuse(&["super"], "the agent changes owners where it may; --rsync-path=\"sudo rsync\" runs it as root"),
    refuse(&["fake-super"], "privileged attributes are not stored in xattrs; run the agent as root"),
    refuse(&["copy-devices", "write-devices"], DEVICES),
    refuse(&["drop-D"], "leave out -D on the command line"),
    refuse(&["copy-as"], "log in as that user: USER@HOST:PATH"),
    refuse(&["delete-missing-args"], ARGS),
    refuse(&["sockopts", "address"], NETWORK),
    refuse(&["old-args"], "names never pass through a remote shell; leave it out"),
    refuse(&["remote-option", "M"], "the agent on the target is speil, not rsync"),
    refuse(&["server", "sender", "daemon", "config", "dparam", "detach"], DAEMON),
    refuse(&["password-file", "early-input"], DAEMON),
    refuse(&["stop-after", "time-limit", "stop-at"], STOP),
    refuse(&["write-batch", "only-write-batch", "read-batch"], BATCH),
    refuse(&["protocol"], "speil's protocol is its own and settles its version by itself"),
    refuse(&["iconv"], "names are bytes and stay as they are"),
    refuse(&["debug"], "use -v, up to three times"),
    refuse(&["msgs2stderr"], "errors go to standard error, what is done to standard output"),
];

/// rsync's options that only turn something off that speil never does, or ask for what it always does.
pub(super) const ALWAYS_SO: &[&str] = &[
    "inc-recursive",
    "i-r",
    "no-inc-recursive",
    "no-i-r",
    "secluded-args",
    "protect-args",
    "no-secluded-args",
    "no-protect-args",
    "no-s",
    "no-old-args",
    "trust-sender",
    "no-atimes",
    "no-U",
    "no-open-noatime",
    "no-crtimes",
    "no-N",
    "no-super",
    "no-8-bit-output",
    "no-8",
    "no-inplace",
    "no-append",
    "ignore-errors",
    "no-ignore-errors",
    "no-fuzzy",
    "no-y",
    "no-delay-updates",
    "no-iconv",
    "no-munge-links",
    "no-motd",
    "no-msgs2stderr",
    "no-executability",
    "no-E",
    "no-keep-dirlinks",
    "no-K",
    "no-fake-super",
];

/// Returns why rsync's option `written` is refused (`--inplace`, `--no-motd`, `-b`); `None` if rsync has no
/// such option, or speil has it as well.
pub(super) fn refusal(written: &str) -> Option<&'static str> {
    let name = match written.strip_prefix("--") {
        Some(long) if long.len() > 1 => long,
        _ => written.strip_prefix('-').filter(|short| short.len() == 1)?,
    };
    let name = name.split('=').next().unwrap_or(name);
    let positive = name.strip_prefix("no-").unwrap_or(name);
    REFUSALS
        .iter()
        .find(|refusal| refusal.names.contains(&name) || refusal.names.contains(&positive))
        .map(|r| r.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_by_every_name() {
        for option in ["--inplace", "-T", "--partial-dir=x", "--no-iconv=x", "-E", "--temp-dir"] {
            assert!(refusal(option).is_some(), "{option}");
        }
        for option in ["--bogus", "-a", "--b", "b", "--delete"] {
            assert!(refusal(option).is_none(), "{option}");
        }
    }

    #[test]
    fn no_option_is_refused_twice() {
        let mut names: Vec<&str> = REFUSALS.iter().flat_map(|refusal| refusal.names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
