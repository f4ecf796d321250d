//! What is printed below the options of a command: examples, and its exit codes where they are its own.

pub(super) const AGENT_HELP: &str = "\
For a key that may do nothing else, in ~/.ssh/authorized_keys on the target:
  command=\"speil agent --root /srv/uploads\",restrict ssh-ed25519 AAAA… source

For a key that may only be pulled with, from what is in one directory:
  command=\"speil agent --root /srv/uploads --send --exclude=*.key\",restrict ssh-ed25519 AAAA… backup

With --root the agent serves this directory alone, whatever the source asks for. More that a standby
may set: --min-free=5G --no-devices --no-setid --no-chown. SECURITY.md says what each is good for.

Where the kernel has Landlock (5.19 or later) the agent opens nothing outside its root, starts no
program and binds no socket; the source's log (-vv) and speil doctor say whether that worked.";

pub(super) const DOCTOR_HELP: &str = "\
Without CONFIG or TARGET it looks at /etc/speil/speil.lua, if that exists, and at this host.
It connects as the daemon would and tries the target's directory out with files that it removes;
nothing is mirrored. Where an agent is missing and may be uploaded, it is.

Exit codes: 0 nothing is in the way, 1 wrong usage or configuration, 23 there are problems.";

pub(super) const TRASH_HELP: &str = "\
Examples:
  speil trash web2:/srv/uploads
  speil trash web2:/srv/uploads reports/june.ods    # every version of one path, or of a directory
  speil trash web2:/srv/uploads --since 1h --json

Each line is a version: the moment until which it was the present one, its size, its path. To bring
it back: speil undo TARGET PATH --since MOMENT, with that moment.

A target keeps what a mirror with a trash removes and replaces (trash in the configuration, --trash).
What someone else wrote on the target and a mirror removed or replaced is kept for 30 days in any case.

Exit codes: 0 done, 1 wrong usage, 23 something could not be read, else as speil sync.";

pub(super) const UNDO_HELP: &str = "\
Examples:
  speil undo web2:/srv/uploads reports/june.ods --list
  speil undo web2:/srv/uploads reports/june.ods --since 10m
  speil undo web2:/srv/uploads --since 14:05 --dry-run

TIME is RFC 3339 (2026-03-01T12:00:00Z), HH:MM of today on this host, or a span before now (10m).
What was removed or replaced since that moment comes back as it was; what is there now moves to
the trash. New paths stay, and so do new names of renames: a rename leaves nothing in the trash, nor
does a change of mode or owner alone. While a mirror is at work on the target this is refused: stop it
first, or it takes away again what its source does not have.

Exit codes: 0 done, 1 wrong usage, 3 a mirror is at work there, 23 something could not be put back,
24 there was nothing to put back, else as speil sync.";

pub(super) const VERIFY_HELP: &str = "\
Contents are compared by BLAKE3, read on both sides at once; then type, mode, owner, times, links,
xattrs and ACLs. A mirror may be at work meanwhile: a difference counts if it is there at a second look.
Nothing is changed and nothing is left behind on either side.

Exit codes: 0 no difference, 1 wrong usage, 23 differences, or something could not be read; else as
speil sync.";

pub(super) const STATUS_HELP: &str = "\
Examples:
  speil status
  speil status --check --max-lag 30s      # for Nagios, Icinga, or a script
  speil status --json | jq '.syncs[].targets[].lag_ms'

With --check it prints one line and ends as a plugin of Nagios does: 0 every target is in step,
1 one is behind, holds deletes back or has paths that fail, 2 one is down or a sync is not started,
3 no daemon answers.";

pub(super) const PAUSE_HELP: &str = "\
Examples:
  speil pause uploads
  speil pause --for 1h                    # every sync; each goes on by itself after an hour
  speil resume uploads

What changes meanwhile is kept in mind and sent afterwards. A daemon that is started anew is not
paused.";

pub(super) const RETRY_HELP: &str = "\
Examples:
  speil retry                             # after permissions were corrected, or a host is back
  speil retry uploads web2

It returns at once; speil wait says when all is on the targets. speil reconcile compares the whole
tree.";

pub(super) const RELOAD_HELP: &str = "\
Examples:
  speil check /etc/speil/speil.lua && speil reload
  speil reload --json

It returns when the new configuration is in force. Syncs that did not change run on untouched. If
anything in the new one is wrong it is refused as a whole, and the old one stays in force:
exit code 1.";
