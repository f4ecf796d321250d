//! A target: reached as the mirror would reach it, tried out, and judged.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use super::judge::judge;
use super::source::Tree;
use crate::config::{Sync, Target, Transport};
use crate::daemon::{hint, mirror_id, transport_of};
use crate::protocol::{Identified, Refusal, RootPlace, VERSION_ORIGIN};
use crate::sender::{Lead, SessionError, SessionOptions, Stand, Survey, survey};
use crate::transport::Uploads;

/// A silent target is given up after this, whatever the configuration says.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at one target.
pub(super) fn check(sync: &Sync, target: &Target, tree: Option<&Tree>, uploads: &Uploads) -> Vec<Finding> {
    let sync = prepared(sync);
    let mut findings = key_file(&sync, target);
    let nowhere = RootPlace { boot_id: String::new(), lineage: Vec::new() };
    let source = tree.and_then(|tree| tree.place.clone()).unwrap_or_else(|| nowhere.clone());
    // A tree with a role that does not lead sends nothing: trees with roles go round by design, and no mirror is asked for.
    let stand = if is_named(&sync) { Lead::of_sync(&sync).stand() } else { Stand::Plain };
    let waits = matches!(stand, Stand::Waits { .. });
    findings.extend(role(stand));
    match reach(&sync, target, source, is_named(&sync) && !waits, uploads) {
        Ok(survey) => {
            findings.extend(owner(&sync, &survey).filter(|_| !waits));
            findings.extend(judge(&sync, &survey, tree));
        }
        Err(SessionError::Refused(Refusal::Root { errno: libc::ENOENT, path })) => {
            findings.extend(missing(&sync, target, &path, nowhere, tree));
        }
        Err(error) => findings.push(unreachable(&error)),
    }
    findings
}

/// Returns the sync as a daemon would run it: no questions at the terminal, and no endless wait.
pub fn prepared(sync: &Sync) -> Sync {
    let mut sync = sync.clone();
    sync.timeout = sync.timeout.clamp(Duration::from_secs(3), PATIENCE);
    let program = sync.ssh.command.as_ref().and_then(|words| words.first());
    let is_ssh = program.is_none_or(|program| program.rsplit('/').next() == Some("ssh"));
    if is_ssh && sync.transport == Transport::Ssh {
        let limit = sync.timeout.as_secs().to_string();
        for (key, value) in [("BatchMode", "yes".to_owned()), ("ConnectTimeout", limit)] {
            sync.ssh.options.push((key.to_owned(), value));
        }
    }
    sync
}

fn key_file(sync: &Sync, target: &Target) -> Vec<Finding> {
    let Some(file) = sync.ssh.identity_file.as_deref().filter(|_| target.host.is_some()) else {
        return Vec::new();
    };
    let shown = file.display();
    let found = match std::fs::File::open(file) {
        Ok(_) => return own_alone(file),
        Err(error) => format!("{shown}: {}", crate::error::io_text(&error)),
    };
    let cure =
        format!("ssh-keygen -t ed25519 -N '' -f {shown} makes one; ssh-copy-id -i {shown} HOST brings it");
    vec![Finding::problem("key", found, cure)]
}

fn own_alone(file: &Path) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if !open {
        return Vec::new();
    }
    let shown = file.display();
    let found = format!("{shown} may be read by others, so ssh ignores it");
    vec![Finding::problem("key", found, format!("chmod 600 {shown}"))]
}

/// Whether it is known which mirror this is.
fn is_named(sync: &Sync) -> bool {
    !sync.source.as_os_str().is_empty()
}

/// Says what the role of the source keeps it from.
fn role(stand: Stand) -> Option<Finding> {
    let Stand::Waits { line, hint, standby, well, .. } = stand else { return None };
    Some(match (standby, well) {
        (true, true) => Finding::fine("role", line),
        (true, false) => {
            Finding::warning("role", line, "it waits for its primary: look whether that one runs")
        }
        (false, _) => Finding::problem("role", line, hint),
    })
}

/// Says whether the target would take this very mirror.
fn owner(sync: &Sync, survey: &Survey) -> Option<Finding> {
    if !is_named(sync) {
        return None;
    }
    if survey.greeting.version < VERSION_ORIGIN {
        let told = "the agent there is too old to say beforehand whether another mirror owns the target";
        return Some(Finding::warning("mirror", told, "install the same version on both sides"));
    }
    let told = match survey.greeting.identified {
        Identified::Ours => "the target belongs to this mirror",
        Identified::Empty => "the target is empty and takes this mirror",
        Identified::Stranger => "the target belongs to no mirror and takes this one",
    };
    Some(Finding::fine("mirror", format!("asked as the daemon asks: {told}")))
}

/// Asks as the daemon would if `as_daemon` says so: then a target that belongs to another mirror refuses.
fn reach(
    sync: &Sync,
    target: &Target,
    source: RootPlace,
    as_daemon: bool,
    uploads: &Uploads,
) -> Result<Survey, SessionError> {
    let options = SessionOptions {
        sync: sync.clone(),
        target: target.clone(),
        mirror: mirror_id(sync, target),
        live: as_daemon,
        dry_run: true,
        rehearsal: false,
    };
    survey(&*transport_of(sync, target, uploads.clone())?, &options, source)
}

/// A directory that does not exist yet is made by the first run, if what is above it allows that.
fn missing(
    sync: &Sync,
    target: &Target,
    path: &str,
    nowhere: RootPlace,
    tree: Option<&Tree>,
) -> Vec<Finding> {
    let above = match target.path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/".to_vec(),
        Some(at) => target.path.get(..at).unwrap_or_default().to_vec(),
        None => b".".to_vec(),
    };
    let parent = Target { path: above, ..target.clone() };
    // Only looked at: what is dangerous to mirror into is not dangerous to look at.
    let open = Sync { force_root: true, ..sync.clone() };
    // An agent has answered there by now.
    match reach(&open, &parent, nowhere, false, &Uploads::default()) {
        Ok(mut survey) => {
            survey.greeting.identified = Identified::Empty;
            let mut findings = judge(sync, &survey, tree);
            let inside = tree.and_then(|tree| tree.place.as_ref()).is_some_and(|source| {
                let there = &survey.examination.place;
                source.boot_id == there.boot_id
                    && source.lineage.first().is_some_and(|root| there.lineage.contains(root))
            });
            if inside {
                findings.push(unreachable(&SessionError::Refused(Refusal::Nested)));
            } else if findings.iter().all(|finding| finding.verdict != super::Verdict::Problem) {
                let told = format!("target directory {path:?} does not exist; the first run makes it");
                findings.push(Finding::fine("directory", told));
            }
            findings
        }
        Err(SessionError::Refused(Refusal::Root { .. })) => {
            let told = format!("target directory {path:?} does not exist, and neither does the one above it");
            vec![Finding::problem("directory", told, "mkdir -p it on the target, or correct the path")]
        }
        Err(error) => vec![unreachable(&error)],
    }
}

fn unreachable(error: &SessionError) -> Finding {
    let check = match error {
        SessionError::Refused(Refusal::Root { .. } | Refusal::Dangerous(_) | Refusal::Nested) => "directory",
        SessionError::Refused(_) => "mirror",
        SessionError::Ended(ended) if ended.status != Some(255) => "agent",
        SessionError::Frame(_) | SessionError::Fatal(_) => "agent",
        SessionError::Transport(crate::transport::TransportError::Deploy(_)) => "agent",
        SessionError::Option(_) | SessionError::Owner(_) => "configuration",
        _ => "login",
    };
    let mut finding = Finding::new(check, super::Verdict::Problem, error.to_string());
    finding.cure = hint(error).or_else(|| Some("run the ssh command by hand, with -v".to_owned()));
    finding
}
