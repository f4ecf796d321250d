//! Targets that would work against each other.
//!
//! **Purpose:** what can be seen from the names alone; the handshake compares the machines and inodes
//! behind them. **In → out:** the syncs → the first conflict, or warnings.

use std::os::unix::ffi::OsStrExt;

use crate::config::error::Fault;
use crate::config::target::bare_host;
use crate::config::{DeleteMode, Sync, Target, spelling};
use crate::tree::quote;

/// Directories whose loss is the loss of the host.
const SYSTEM: [&[u8]; 8] = [b"/", b"/etc", b"/home", b"/usr", b"/var", b"/bin", b"/lib", b"/boot"];

/// Checks one sync by itself.
pub(super) fn within(sync: &Sync) -> Result<(), Fault> {
    let sync = &spelled(sync);
    let source = sync.source.as_os_str().as_bytes();
    for (at, target) in sync.targets.iter().enumerate() {
        if !sync.force_root && SYSTEM.contains(&target.path.as_slice()) {
            return Err(Fault::SystemRoot(target.to_string()));
        }
        if target.host.is_none() && (holds(&target.path, source) || holds(source, &target.path)) {
            return Err(Fault::TargetInSource { target: target.to_string(), source_dir: quote(source) });
        }
        for other in sync.targets.iter().skip(at + 1).filter(|other| same_tree_space(target, other)) {
            if target.path == other.path {
                return Err(Fault::TargetTwice { target: target.to_string(), other: None });
            }
            nested(target, other)?;
        }
    }
    Ok(())
}

/// Checks a sync against one that stands before it; returns a warning for what may be meant.
pub(super) fn between(before: &Sync, sync: &Sync) -> Result<Vec<String>, Fault> {
    let (before, sync) = (&spelled(before), &spelled(sync));
    let mut warnings = Vec::new();
    for (earlier, target) in before
        .targets
        .iter()
        .flat_map(|earlier| sync.targets.iter().map(move |target| (earlier, target)))
        .filter(|(earlier, target)| same_tree_space(earlier, target))
    {
        if earlier.path == target.path {
            return Err(Fault::TargetTwice { target: target.to_string(), other: Some(before.name.clone()) });
        }
        if before.source == sync.source {
            nested(earlier, target)?;
        }
        for (above, upper, below, lower) in [(before, earlier, sync, target), (sync, target, before, earlier)]
        {
            let meant = above.delete == DeleteMode::Never
                || excludes(above, upper, lower)
                || follows(above, upper, below, lower);
            if holds(&upper.path, &lower.path) && !meant {
                warnings.push(format!(
                    "target {lower} of sync \"{}\" lies inside target {upper} of sync \"{}\", which may \
                     delete what the first one brings: exclude it there",
                    below.name, above.name
                ));
            }
        }
    }
    Ok(warnings)
}

/// Says that a target of one sync is, holds or lies in one of another's.
pub(super) fn overlap(one: &Sync, other: &Sync) -> Option<String> {
    let (one, other) = (&spelled(one), &spelled(other));
    let pairs = one.targets.iter().flat_map(|a| other.targets.iter().map(move |b| (a, b)));
    let mut shared =
        pairs.filter(|(a, b)| same_tree_space(a, b) && (holds(&a.path, &b.path) || holds(&b.path, &a.path)));
    shared.next().map(|(a, b)| {
        if a.path == b.path {
            format!("it shares the target {a}")
        } else {
            format!("its target overlaps {b}")
        }
    })
}

/// Returns the sync with one spelling of each path, so that equal trees look equal.
fn spelled(sync: &Sync) -> Sync {
    let targets = sync.targets.iter().map(spelling::target).collect();
    Sync { source: spelling::local_path(&sync.source), targets, ..sync.clone() }
}

fn nested(one: &Target, other: &Target) -> Result<(), Fault> {
    let (outer, inner) = match (holds(&one.path, &other.path), holds(&other.path, &one.path)) {
        (true, _) => (one, other),
        (_, true) => (other, one),
        _ => return Ok(()),
    };
    Err(Fault::TargetNested { inner: inner.to_string(), outer: outer.to_string() })
}

/// Whether equal paths of both targets are the same tree, as far as names can tell: relative paths
/// belong to the user, absolute ones to the host.
fn same_tree_space(one: &Target, other: &Target) -> bool {
    let absolute = one.path.starts_with(b"/");
    absolute == other.path.starts_with(b"/")
        && bare_host(one) == bare_host(other)
        && (absolute || one.host == other.host)
}

/// Whether `inner` is `outer` or lies below it.
fn holds(outer: &[u8], inner: &[u8]) -> bool {
    outer == b"/" && inner.starts_with(b"/")
        || outer == b"." && !inner.starts_with(b"/")
        || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether a rule of `sync` names the part of its target in which `lower` lies.
fn excludes(sync: &Sync, upper: &Target, lower: &Target) -> bool {
    let rest = lower.path.strip_prefix(upper.path.as_slice()).unwrap_or(&lower.path);
    let trim = |path: &[u8]| String::from_utf8_lossy(path).trim_matches('/').to_owned();
    let rest = trim(rest);
    sync.filters.iter().any(|rule| {
        let pattern = rule.strip_prefix(b"- ").or_else(|| rule.strip_prefix(b"P ")).unwrap_or_default();
        let pattern = trim(pattern);
        let pattern = pattern.trim_end_matches("/**");
        !pattern.is_empty()
            && (rest == pattern || rest.strip_prefix(pattern).is_some_and(|r| r.starts_with('/')))
    })
}

/// Whether the lower source lies in the upper source as the targets do, so that both bring the same.
fn follows(above: &Sync, upper: &Target, below: &Sync, lower: &Target) -> bool {
    let tail = |inner: &[u8], outer: &[u8]| inner.strip_prefix(outer).map(<[u8]>::to_vec);
    let sources = tail(below.source.as_os_str().as_bytes(), above.source.as_os_str().as_bytes());
    sources.is_some() && sources == tail(&lower.path, &upper.path)
}
