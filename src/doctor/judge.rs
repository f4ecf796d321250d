//! What a look at a target means for the mirror. Pure.

use super::source::Tree;
use super::{Finding, size};
use crate::config::{DeleteMode, Sync};
use crate::error::errno_text;
use crate::protocol::Identified;
use crate::sender::Survey;

/// A clock that is further off than this is told, in milliseconds.
const SKEW_MS: i64 = 2000;
/// A durable write that takes longer than this makes many small files slow, in microseconds.
const SLOW_WRITE_US: u64 = 50_000;
/// A disk that is fuller than this share is told, in hundredths.
const FULL_SHARE: u64 = 95;

/// Returns what there is to say of a target that was reached.
pub(super) fn judge(sync: &Sync, survey: &Survey, tree: Option<&Tree>) -> Vec<Finding> {
    let mut findings = vec![agent(survey), way(survey), clock(survey)];
    let found = &survey.examination;
    if found.write_errno != 0 {
        findings.push(unwritable(survey));
        return findings;
    }
    findings.push(disk(survey));
    findings.extend(space(survey, tree));
    findings.extend(names(survey, tree));
    findings.push(kept(survey));
    findings.extend(survey.unknown_owners.iter().map(|owner| {
        let told = format!("the target has no {owner}, which is to own everything there (chown)");
        Finding::problem("owners", told, "correct the name, or make it there; a group follows a colon")
    }));
    if survey.greeting.identified == Identified::Stranger && sync.delete != DeleteMode::Never {
        findings.push(Finding::warning(
            "content",
            "the target holds entries that no mirror of this source put there",
            "what the source lacks is deleted there, under the guard: run once with --dry-run to see it",
        ));
    }
    findings
}

fn agent(survey: &Survey) -> Finding {
    let found = &survey.examination;
    let how = if survey.deployed { ", uploaded just now" } else { "" };
    let told = format!("speil {} runs there as {}{how}", survey.greeting.program, found.user);
    let own = env!("CARGO_PKG_VERSION");
    if survey.greeting.program == own {
        return Finding::fine("agent", told);
    }
    Finding::warning("agent", format!("{told}, this is {own}"), "install the same version on both sides")
}

fn way(survey: &Survey) -> Finding {
    let told = format!(
        "connected in {} ms; round trip {:.1} ms; {} to the target",
        survey.connect.as_millis(),
        survey.round_trip.as_secs_f64() * 1000.0,
        rate(survey.upload_rate)
    );
    Finding::fine("link", told)
        .figure("connect_ms", survey.connect.as_millis())
        .figure("round_trip_us", survey.round_trip.as_micros())
        .figure("upload_bytes_per_s", survey.upload_rate)
}

/// Returns a rate with three digits that count.
fn rate(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB/s", bytes as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.1} MB/s", bytes as f64 / 1e6),
        _ => format!("{} MB/s", bytes / 1_000_000),
    }
}

fn clock(survey: &Survey) -> Finding {
    let ahead = survey.clock_ahead_ms;
    let seconds = ahead.unsigned_abs() as f64 / 1000.0;
    let finding = if ahead.abs() <= SKEW_MS {
        Finding::fine("clock", format!("the target's clock is within {seconds:.1} s of this one"))
    } else {
        let word = if ahead > 0 { "ahead of" } else { "behind" };
        Finding::warning(
            "clock",
            format!("the target's clock is {seconds:.1} s {word} this one: logs and -u will mislead"),
            "run a time service (chrony, systemd-timesyncd) on both hosts",
        )
    };
    finding.figure("clock_ahead_ms", ahead)
}

fn unwritable(survey: &Survey) -> Finding {
    let found = &survey.examination;
    let cure = match found.write_errno {
        libc::EROFS => "mount -o remount,rw the filesystem on the target; its log says why it is read-only",
        libc::ENOSPC if found.free_inodes == Some(0) => "the inodes are used up: delete files there",
        libc::ENOSPC => "make room on the target, or move the directory to a larger disk",
        libc::EDQUOT => "raise the login's quota on the target",
        libc::EACCES | libc::EPERM => {
            "chown the directory to the login there, log in as another user, or let the agent run by sudo: \
             agent = { \"sudo\", \"-n\" }"
        }
        _ => "try it by hand: touch a file in the directory on the target",
    };
    let told = format!(
        "a file cannot be written as {}: {}; {} of {} are free",
        found.user,
        errno_text(found.write_errno),
        size(found.free_bytes),
        size(found.total_bytes)
    );
    Finding::problem("writing", told, cure).figure("free_bytes", found.free_bytes)
}

fn disk(survey: &Survey) -> Finding {
    let found = &survey.examination;
    let large = match found.large_write_rate {
        0 => "too little room to time a large one".to_owned(),
        found => format!("{} in one large one", rate(found)),
    };
    let told =
        format!("a durable write of 4 KiB takes {:.2} ms; {large}", found.small_write_us as f64 / 1000.0);
    let finding = if found.small_write_us > SLOW_WRITE_US {
        Finding::warning(
            "disk",
            told,
            "changes arrive late by that much: a faster disk, or durability = \"none\" where a power cut may \
             lose the last changes",
        )
    } else {
        Finding::fine("disk", told)
    };
    finding
        .figure("small_write_us", found.small_write_us)
        .figure("large_write_bytes_per_s", found.large_write_rate)
}

fn space(survey: &Survey, tree: Option<&Tree>) -> Vec<Finding> {
    let found = &survey.examination;
    let told = format!("{} of {} are free", size(found.free_bytes), size(found.total_bytes));
    let cure = "make room on the target, or move the directory to a larger disk";
    // What is there already need not come again; a changed file stands twice for a moment.
    let needed = tree.map_or(0, |tree| match survey.greeting.identified {
        Identified::Empty => tree.bytes,
        _ => tree.largest,
    });
    let used = found.total_bytes.saturating_sub(found.free_bytes);
    let finding = if needed > found.free_bytes {
        Finding::problem("space", format!("{told}; the source needs {}", size(needed)), cure)
    } else if used.saturating_mul(100) > found.total_bytes.saturating_mul(FULL_SHARE) {
        Finding::warning("space", told, cure)
    } else {
        Finding::fine("space", told)
    };
    let mut findings = vec![finding.figure("free_bytes", found.free_bytes).figure("needed_bytes", needed)];
    let entries = tree.map_or(0, |tree| tree.entries);
    let empty = survey.greeting.identified == Identified::Empty;
    if let Some(free) = found.free_inodes.filter(|&free| free == 0 || (empty && free < entries)) {
        let told = format!("{free} inodes are free; the source has {entries} entries");
        findings.push(Finding::problem("inodes", told, "delete files there, or use a filesystem with more"));
    }
    findings
}

fn names(survey: &Survey, tree: Option<&Tree>) -> Vec<Finding> {
    let found = &survey.examination;
    let nothing = Tree::default();
    let tree = tree.unwrap_or(&nothing);
    let mut findings = Vec::new();
    if tree.longest_name as u64 > u64::from(found.name_len) {
        findings.push(Finding::problem(
            "names",
            format!(
                "the source has names of {} bytes, the target takes {}",
                tree.longest_name, found.name_len
            ),
            "rename them, or use another filesystem on the target",
        ));
    }
    if found.folds_case && tree.twins > 0 {
        let first = tree.twin.as_ref().map(ToString::to_string).unwrap_or_default();
        findings.push(Finding::problem(
            "names",
            format!(
                "{} names of the source differ in case only, the first is {first}, and are one name there",
                tree.twins
            ),
            "rename them, or use a filesystem on the target that tells them apart",
        ));
    }
    if !found.any_bytes && tree.odd_names > 0 {
        findings.push(Finding::problem(
            "names",
            format!("{} names of the source are no UTF-8, which the target refuses", tree.odd_names),
            "rename them (convmv), or use another filesystem on the target",
        ));
    }
    if findings.is_empty() {
        let case = if found.folds_case { ", upper and lower case are one" } else { "" };
        findings.push(Finding::fine("names", format!("up to {} bytes{case}", found.name_len)));
    }
    findings
}

fn kept(survey: &Survey) -> Finding {
    match survey.examination.lacks.as_slice() {
        [] => Finding::fine("kept", "owners, rights, times, extended attributes and ACLs as the sync asks"),
        lacks => Finding::warning(
            "kept",
            format!("the target cannot hold {}; mirrored without", lacks.join(", ")),
            "owners and devices need root there, or sudo before the agent; the rest depends on the filesystem",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Verdict;
    use crate::protocol::{Confinement, Examination, Limits, ReplyHello, RootPlace};
    use crate::tree::{Mask, Time};

    fn survey() -> Survey {
        let place = RootPlace { boot_id: String::new(), lineage: Vec::new() };
        Survey {
            greeting: ReplyHello {
                watermark: None,
                volume: None,
                role: None,
                confinement: Confinement::Landlock,
                lineage: Vec::new(),
                sent_away: String::new(),
                version: 1,
                program: env!("CARGO_PKG_VERSION").to_owned(),
                profile: Mask::everything(),
                lacks: Vec::new(),
                identified: Identified::Empty,
                limits: Limits { streams: 1, name_len: 255 },
                session: 0,
                last_batch: 0,
                boot_id: String::new(),
                provisional: Vec::new(),
                mounts: Vec::new(),
                kept: 0,
                free_bytes: 0,
            },
            deployed: false,
            connect: Duration::from_millis(100),
            round_trip: Duration::from_millis(1),
            upload_rate: 100_000_000,
            examination: Examination {
                place,
                clock: Time { secs: 0, nanos: 0 },
                user: "root".to_owned(),
                write_errno: 0,
                lacks: Vec::new(),
                name_len: 255,
                folds_case: false,
                any_bytes: true,
                total_bytes: 1000,
                free_bytes: 500,
                free_inodes: Some(10),
                small_write_us: 100,
                large_write_rate: 1,
            },
            clock_ahead_ms: 0,
            unknown_owners: Vec::new(),
        }
    }

    fn sync() -> Sync {
        Sync::new("www", "/srv", Vec::new())
    }

    fn verdicts(change: impl Fn(&mut Survey, &mut Tree)) -> Vec<(&'static str, Verdict)> {
        let (mut survey, mut tree) = (survey(), Tree::default());
        change(&mut survey, &mut tree);
        let found = judge(&sync(), &survey, Some(&tree));
        assert!(found.iter().all(|f| (f.verdict == Verdict::Fine) == f.cure.is_none()), "{found:?}");
        let wrong = found.iter().filter(|finding| finding.verdict != Verdict::Fine);
        wrong.map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn each_thing_in_the_way_is_named_by_its_check() {
        assert_eq!(verdicts(|_, _| {}), []);
        assert_eq!(verdicts(|_, t| t.bytes = 501), [("space", Verdict::Problem)]);
        assert_eq!(verdicts(|s, _| s.examination.free_bytes = 49), [("space", Verdict::Warning)]);
        assert_eq!(verdicts(|_, t| t.entries = 11), [("inodes", Verdict::Problem)]);
        assert_eq!(verdicts(|s, _| s.clock_ahead_ms = -3000), [("clock", Verdict::Warning)]);
        assert_eq!(verdicts(|s, _| s.examination.small_write_us = 60_000), [("disk", Verdict::Warning)]);
        assert_eq!(verdicts(|s, _| s.examination.lacks = vec!["ACLs".into()]), [("kept", Verdict::Warning)]);
        let long = |s: &mut Survey, t: &mut Tree| (s.examination.name_len, t.longest_name) = (143, 200);
        assert_eq!(verdicts(long), [("names", Verdict::Problem)]);
        let twins = |s: &mut Survey, t: &mut Tree| (s.examination.folds_case, t.twins) = (true, 2);
        assert_eq!(verdicts(twins), [("names", Verdict::Problem)]);
        let odd = |s: &mut Survey, t: &mut Tree| (s.examination.any_bytes, t.odd_names) = (false, 2);
        assert_eq!(verdicts(odd), [("names", Verdict::Problem)]);
        assert_eq!(verdicts(|s, _| s.greeting.program = "9.9".into()), [("agent", Verdict::Warning)]);
        let nobody = |s: &mut Survey, _: &mut Tree| s.unknown_owners = vec!["user \"wwwdata\"".into()];
        assert_eq!(verdicts(nobody), [("owners", Verdict::Problem)]);
        let stranger = |s: &mut Survey, _: &mut Tree| s.greeting.identified = Identified::Stranger;
        assert_eq!(verdicts(stranger), [("content", Verdict::Warning)]);
        let full = |s: &mut Survey, _: &mut Tree| s.examination.write_errno = libc::ENOSPC;
        assert_eq!(verdicts(full), [("writing", Verdict::Problem)]);
    }

    #[test]
    fn a_target_that_holds_the_tree_needs_room_for_its_largest_file_alone() {
        let ours = |s: &mut Survey, t: &mut Tree| {
            s.greeting.identified = Identified::Ours;
            (t.bytes, t.largest) = (900, 400);
        };
        assert_eq!(verdicts(ours), []);
    }
}
