//! A sync in plain words, and what is risky about it.
//!
//! **Purpose:** what `speil check` prints. **In → out:** a [`Sync`] → lines of text. **Not here:** what
//! is wrong with it, which loading and [`Config::validate`](crate::config::Config::validate) say.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::config::{
    AgentSource, Backend, Compress, DeleteMode, Durability, Guard, MaxDelete, Reconcile, Ssh, Sync, Target,
    Transport, Verify,
};
use crate::tree::quote;

/// Files that stand in the directory of a running database, and whose it is.
const DATABASES: [(&str, &str); 8] = [
    ("ibdata1", "MySQL or MariaDB"),
    ("mysql/ibdata1", "MySQL or MariaDB"),
    ("postmaster.pid", "PostgreSQL"),
    ("PG_VERSION", "PostgreSQL"),
    ("WiredTiger", "MongoDB"),
    ("data.mdb", "LMDB"),
    ("appendonlydir", "Redis"),
    ("dump.rdb", "Redis"),
];

/// Longest `delay` that needs no warning.
const DELAY_CALM: Duration = Duration::from_secs(60);

/// Returns what a sync does, one statement a line; the first line is its heading.
pub fn explain(sync: &Sync) -> Vec<String> {
    let source = quote(sync.source.as_os_str().as_bytes());
    let many = match sync.targets.len() {
        1 => "1 target".to_owned(),
        many => format!("{many} targets"),
    };
    let mut lines = vec![format!("{}: mirrors {source} to {many}", sync.name)];
    if let Some(hosts) = &sync.hosts {
        let here = &hosts.here;
        lines.push(match hosts.may_lead {
            true => format!(
                "  this host is {here}, and sends while its tree is the primary: speil promote {}",
                sync.name
            ),
            false => format!("  this host is {here}, which has mayLead = false: it never sends"),
        });
    }
    let never = |target: &Target| if target.may_lead { "" } else { "; it never leads" };
    lines.extend(
        sync.targets
            .iter()
            .map(|target| format!("  {}: {}{}", target.name, reach(target, sync), never(target))),
    );
    let mut say = |text: String| lines.push(format!("  {text}"));
    say(when(sync));
    say(watched(sync));
    say(selected(sync));
    say(deleted(sync.delete, &sync.guard));
    if let Some(trash) = sync.trash {
        say(format!(
            "what is removed or replaced is kept on the target for {}, up to {}",
            span(trash.keep),
            size(trash.max)
        ));
    }
    say(kept(sync));
    say(passes(&sync.reconcile));
    if let Some(scrub) = sync.scrub {
        let then = if scrub.repair { "repaired" } else { "reported" };
        let (every, rate) = (span(scrub.interval), size(scrub.rate));
        say(format!("every {every} all contents are read at {rate} a second; what rotted is {then}"));
    }
    say(acknowledged(sync.durability));
    say(carried(sync));
    lines
}

fn reach(target: &Target, sync: &Sync) -> String {
    if target.host.is_none() {
        return format!("{target}, on this host");
    }
    let how = match (sync.transport, &sync.ssh.command) {
        (_, Some(command)) => format!("by {}", quote(command.join(" ").as_bytes())),
        (Transport::Ssh, None) => "over ssh".to_owned(),
        (Transport::Ssh2, None) => "over the built-in ssh".to_owned(),
    };
    let port = sync.ssh.port.map(|port| format!(", port {port}")).unwrap_or_default();
    let agent = match &sync.agent {
        AgentSource::Auto => "agent in PATH, else uploaded".to_owned(),
        AgentSource::Path => "agent in PATH".to_owned(),
        AgentSource::Deploy => "agent uploaded".to_owned(),
        AgentSource::Command(words) => format!("agent {}", quote(words.join(" ").as_bytes())),
        AgentSource::PathPrefixed(words) => {
            format!("agent in PATH, run by {}", quote(words.join(" ").as_bytes()))
        }
        AgentSource::Prefixed(words) => {
            format!("agent in PATH, else uploaded, run by {}", quote(words.join(" ").as_bytes()))
        }
    };
    format!("{target}, {how}{port}; {agent}")
}

fn when(sync: &Sync) -> String {
    if sync.delay.is_zero() {
        return "sends a change at once, a busy file again after every change".to_owned();
    }
    format!(
        "sends a change at once; a busy file when it was quiet for {}, or every {}; a large open file \
         when it is closed, or after {}",
        span(sync.delay),
        span(sync.max_delay),
        span(sync.max_open)
    )
}

fn watched(sync: &Sync) -> String {
    match sync.watch {
        Backend::Auto => format!(
            "notices changes by the kernel's events; where there are none, by a walk every {}",
            span(sync.poll_interval)
        ),
        Backend::Inotify => "notices changes by inotify".to_owned(),
        Backend::Fanotify => "notices changes by a mark on the filesystem (fanotify)".to_owned(),
        Backend::Notify => "notices changes by the portable backend".to_owned(),
        Backend::Poll => format!("notices changes by a walk every {}", span(sync.poll_interval)),
    }
}

fn selected(sync: &Sync) -> String {
    let mut limits = Vec::new();
    if sync.selection.one_file_system {
        limits.push("other filesystems stay out".to_owned());
    }
    for (size, text) in [(sync.selection.max_size, "above"), (sync.selection.min_size, "below")] {
        if let Some(size) = size {
            limits.push(format!("files {text} {} stay as they are on the target", self::size(size)));
        }
    }
    for (on, text) in [
        (sync.selection.update, "files that are newer on the target stay"),
        (sync.selection.existing, "only files that the target has"),
        (sync.selection.ignore_existing, "only files that the target lacks"),
        (sync.selection.size_only, "files of equal size count as equal"),
    ] {
        if on {
            limits.push(text.to_owned());
        }
    }
    match sync.filters.as_slice() {
        [] => {}
        [rule] => limits.push(format!("1 rule: {}", quote(rule))),
        rules => {
            let shown: Vec<String> = rules.iter().take(6).map(|rule| quote(rule)).collect();
            let more = if rules.len() > 6 { ", ..." } else { "" };
            limits.push(format!(
                "{} rules, the first that fits holds: {}{more}",
                rules.len(),
                shown.join(", ")
            ));
        }
    }
    if limits.is_empty() { "takes everything below the source".to_owned() } else { limits.join("; ") }
}

fn deleted(delete: DeleteMode, guard: &Guard) -> String {
    let when = match delete {
        DeleteMode::Never => return "deletes nothing on the targets".to_owned(),
        DeleteMode::Always => "deletes on the targets what the source lacks",
        DeleteMode::Startup => "deletes on the targets what the source lacks, in passes only",
        DeleteMode::Running => "deletes on the targets what is deleted while it runs",
    };
    let hold = match (guard.enabled, guard.max_delete) {
        (false, _) | (_, MaxDelete::Unlimited) => "nothing is held back".to_owned(),
        (_, MaxDelete::Half) => {
            "holds back what would leave less than half of 100 entries or more".to_owned()
        }
        (_, MaxDelete::Count(most)) => format!("holds back more than {most} at once"),
        (_, MaxDelete::Percent(most)) => format!("holds back more than {most} % at once"),
    };
    let excluded = if guard.delete_excluded { "; excluded entries as well" } else { "" };
    format!("{when}{excluded}; {hold}")
}

fn kept(sync: &Sync) -> String {
    let mask = &sync.mask;
    let properties = [
        (mask.perms, "permissions"),
        (mask.owner, "owners"),
        (mask.group, "groups"),
        (mask.times, "times"),
        (mask.symlinks, "symlinks"),
        (mask.hard_links, "hard links"),
        (mask.devices, "devices"),
        (mask.specials, "FIFOs and sockets"),
        (mask.xattrs, "extended attributes"),
        (mask.acls, "ACLs"),
    ];
    let names = |on: bool| {
        let names: Vec<&str> =
            properties.iter().filter(|&&(kept, _)| kept == on).map(|&(_, name)| name).collect();
        names.join(", ")
    };
    let mut text = match (names(true), names(false)) {
        (all, none) if none.is_empty() => format!("keeps {all}"),
        (none, all) if none.is_empty() => format!("keeps contents only, not {all}"),
        (some, others) => format!("keeps {some}; not {others}"),
    };
    if mask.owner || mask.group {
        text.push_str(if sync.selection.numeric_ids { "; ids by number" } else { "; ids by name" });
    }
    for (map, what) in [(&sync.selection.usermap, "users"), (&sync.selection.groupmap, "groups")] {
        if let Some(map) = map {
            text.push_str(&format!("; {what} are changed by {}", quote(map.as_bytes())));
        }
    }
    if let Some(chown) = &sync.selection.chown {
        text.push_str(&format!("; everything belongs to {}", quote(chown.as_bytes())));
    }
    if !sync.selection.chmod.is_empty() {
        text.push_str(&format!("; modes changed by {}", quote(sync.selection.chmod.join(",").as_bytes())));
    }
    text
}

fn passes(reconcile: &Reconcile) -> String {
    let what = match reconcile.verify {
        Verify::Quick => "sizes, times and metadata",
        Verify::Stamps => "sizes, times and metadata alone",
        Verify::Checksum => "all contents",
    };
    match reconcile.interval {
        Some(interval) => format!("compares {what} at start and every {}", span(interval)),
        None => format!("compares {what} at start only"),
    }
}

fn acknowledged(durability: Durability) -> String {
    match durability {
        Durability::Batch => "counts a batch as done when it is on the target's disk",
        Durability::File => "puts each file on the target's disk before its name changes",
        Durability::None => "counts a batch as done before it is on the target's disk",
    }
    .to_owned()
}

fn carried(sync: &Sync) -> String {
    let limit = |rate: Option<u64>| match rate {
        Some(rate) => format!("at most {}/s to each target", size(rate)),
        None => "as fast as the link allows".to_owned(),
    };
    let mut rate = limit(sync.bwlimit);
    for hours in &sync.bwlimit_hours {
        rate.push_str(&format!("; {} {}", super::hours::shown(hours), limit(hours.rate)));
    }
    let compress = match sync.compress {
        Compress::Never => "never compressed",
        Compress::Auto => "compressed where that is faster",
        Compress::Always => "compressed",
    };
    let connections =
        if sync.connections > 1 { format!(", over {} connections", sync.connections) } else { String::new() };
    format!("{rate}, {compress}{connections}; gives a silent connection up after {}", span(sync.timeout))
}

/// Returns what an administrator should think twice about. `exists` says whether a file of that name
/// stands in the source.
pub fn risks(sync: &Sync, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut risks = Vec::new();
    let mut warn = |text: String| risks.push(format!("{}: {text}", sync.name));
    if let Some((file, whose)) = DATABASES.iter().find(|(file, _)| exists(&sync.source.join(file))) {
        warn(format!(
            "the source holds {} of {whose}: a mirror of a running database is no replica; use the \
             database's own replication",
            quote(file.as_bytes())
        ));
    }
    for target in &sync.targets {
        match (target.path.as_slice(), &target.host) {
            (b"/", _) => warn(format!("target {target} is a whole system")),
            (b".", Some(_)) => warn(format!("target {target} is the whole home directory, .ssh included")),
            _ => {}
        }
    }
    if sync.delete != DeleteMode::Never
        && (!sync.guard.enabled || sync.guard.max_delete == MaxDelete::Unlimited)
    {
        warn("no delete is held back: an emptied source empties every target".to_owned());
    }
    if sync.durability == Durability::None {
        warn("durability = \"none\": a power cut on a target loses what was acknowledged".to_owned());
    }
    if sync.delay > DELAY_CALM {
        warn(format!("delay is {}: a target is that far behind, always", span(sync.delay)));
    }
    if sync.reconcile.interval.is_none() {
        warn("no periodic pass: what is changed on a target stays unnoticed until the next start".to_owned());
    }
    let local = |target: &&Target| sync.hosts.is_some() && target.host.is_none();
    for Target { name, path, .. } in sync.targets.iter().filter(local) {
        let path = String::from_utf8_lossy(path);
        warn(format!("hosts.{name} is a directory on this host: another host's is HOST:{path}"));
    }
    if sync.selection.size_only {
        warn("sizeOnly: a change that keeps the size is not found by a pass".to_owned());
    }
    if weak_host_keys(&sync.ssh) {
        warn("StrictHostKeyChecking=no: whoever answers for the host gets the files".to_owned());
    }
    risks
}

/// Whether host keys are not checked, wherever that is written: `options`, `extra` or the command.
fn weak_host_keys(ssh: &Ssh) -> bool {
    let options = ssh.options.iter().map(|(key, value)| format!("{key}={value}"));
    let words = ssh.extra.iter().chain(ssh.command.iter().flatten()).cloned();
    options.chain(words).any(|word| {
        let word = word.to_ascii_lowercase().replace(' ', "=");
        let word = word.strip_prefix("-o").unwrap_or(&word);
        matches!(
            word.trim_start_matches('='),
            "stricthostkeychecking=no" | "stricthostkeychecking=off" | "userknownhostsfile=/dev/null"
        )
    })
}

/// Returns a duration in its largest units: `20 ms`, `2.5 s`, `1 h 30 min`.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_secs_f64() * 1000.0);
    }
    if duration < Duration::from_secs(120) {
        return format!("{} s", duration.as_secs_f64());
    }
    let parts =
        [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    parts.join(" ")
}

/// Returns a number of bytes: `512 B`, `20 MiB`, `1.5 GiB`.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{} {unit}", (value * 10.0).round() / 10.0);
        }
        value /= 1024.0;
    }
    format!("{} TiB", (value * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    fn sync() -> Sync {
        Sync::new("www", "/srv/www", vec![parse_target("deploy@web2:/srv/www").unwrap()])
    }

    fn quiet(_: &Path) -> bool {
        false
    }

    #[test]
    fn the_defaults_read_as_sentences_and_carry_no_risk() {
        let lines = explain(&sync());
        assert_eq!(
            lines,
            [
                "www: mirrors \"/srv/www\" to 1 target",
                "  web2: deploy@web2:/srv/www, over ssh; agent in PATH, else uploaded",
                "  sends a change at once; a busy file when it was quiet for 20 ms, or every 2 s; a large open \
                 file when it is closed, or after 60 s",
                "  notices changes by the kernel's events; where there are none, by a walk every 10 s",
                "  takes everything below the source",
                "  deletes on the targets what the source lacks; holds back what would leave less than half of \
                 100 entries or more",
                "  keeps permissions, owners, groups, times, symlinks, hard links, devices, FIFOs and sockets, \
                 extended attributes, ACLs; ids by name",
                "  compares sizes, times and metadata at start and every 15 min",
                "  counts a batch as done when it is on the target's disk",
                "  as fast as the link allows, compressed where that is faster; gives a silent connection up \
                 after 60 s",
            ]
        );
        assert_eq!(risks(&sync(), &quiet), Vec::<String>::new());
    }

    #[test]
    fn every_risk_is_named_with_its_sync() {
        let found = |change: fn(&mut Sync)| {
            let mut sync = sync();
            change(&mut sync);
            let found = risks(&sync, &quiet);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("www: "), "{found:?}");
            found[0].clone()
        };
        assert!(found(|sync| sync.durability = Durability::None).contains("power cut"));
        assert!(found(|sync| sync.guard.enabled = false).contains("no delete is held back"));
        assert!(found(|sync| sync.guard.max_delete = MaxDelete::Unlimited).contains("no delete"));
        assert!(found(|sync| sync.delay = Duration::from_secs(61)).contains("delay is 61 s"));
        assert!(found(|sync| sync.reconcile.interval = None).contains("no periodic pass"));
        assert!(found(|sync| sync.targets[0].path = b"/".to_vec()).contains("whole system"));
        assert!(found(|sync| sync.targets[0].path = b".".to_vec()).contains("home directory"));
        assert!(found(|sync| sync.selection.size_only = true).contains("sizeOnly"));
    }

    #[test]
    fn a_disabled_guard_is_no_risk_where_nothing_is_deleted() {
        let mut sync = sync();
        sync.delete = DeleteMode::Never;
        sync.guard.enabled = false;
        assert_eq!(risks(&sync, &quiet), Vec::<String>::new());
    }

    #[test]
    fn unchecked_host_keys_are_found_wherever_they_are_written() {
        for ssh in [
            Ssh { options: vec![("stricthostkeychecking".into(), "no".into())], ..Ssh::default() },
            Ssh { extra: vec!["-o".into(), "StrictHostKeyChecking=no".into()], ..Ssh::default() },
            Ssh { extra: vec!["-oStrictHostKeyChecking=No".into()], ..Ssh::default() },
            Ssh { extra: vec!["-o StrictHostKeyChecking no".into()], ..Ssh::default() },
            Ssh {
                command: Some(vec!["ssh".into(), "-oUserKnownHostsFile=/dev/null".into()]),
                ..Ssh::default()
            },
        ] {
            assert!(weak_host_keys(&ssh), "{ssh:?}");
        }
        let fine =
            Ssh { options: vec![("StrictHostKeyChecking".into(), "accept-new".into())], ..Ssh::default() };
        assert!(!weak_host_keys(&fine));
    }

    #[test]
    fn a_database_in_the_source_is_told_by_its_file() {
        let found = risks(&sync(), &|path| path == Path::new("/srv/www/postmaster.pid"));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("\"postmaster.pid\" of PostgreSQL"), "{found:?}");
    }

    #[test]
    fn quantities_read_in_their_largest_units() {
        for (ms, text) in [
            (20, "20 ms"),
            (2_500, "2.5 s"),
            (60_000, "60 s"),
            (900_000, "15 min"),
            (5_400_000, "1 h 30 min"),
            (90_061_000, "1 d 1 h 1 min 1 s"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        for (bytes, text) in [(512, "512 B"), (20 << 20, "20 MiB"), (3 << 29, "1.5 GiB"), (1 << 44, "16 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
