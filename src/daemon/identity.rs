//! Which mirror a sync and a target are.
//!
//! **In → Out:** a sync and one of its targets; 16 bytes, the same for every spelling of the two paths, on
//! every start. **Invariants:** links are not resolved: where a deployment switches one, the mirror stays
//! the same.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::config::{Sync, Target, spelling};
use crate::protocol::FORMER_MAX;
use crate::sender::Identity;

/// Returns the identity of the mirror from a source on this host to a target: the same for every
/// session, another for every other pair.
pub fn mirror_id(sync: &Sync, target: &Target) -> Identity {
    let one = spelling::target(target);
    let mut source = spelling::local(sync.source.as_os_str().as_bytes());
    // Runs with other sources are other runs.
    for word in sync.sources.iter().flat_map(|sources| &sources.words) {
        source.push(0);
        source.extend_from_slice(word);
    }
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let hash = |source: &[u8], target: &Target| hash(machine.trim(), source, target);
    let id = hash(&source, &one);
    let mut former = Vec::new();
    for target in former_targets(target, &one) {
        for source in former_sources(sync, &source) {
            let other = hash(&source, &target);
            if other != id && !former.contains(&other) {
                former.push(other);
            }
        }
    }
    former.truncate(FORMER_MAX);
    Identity { id, former }
}

/// Returns the name of a file that is kept for a mirror.
pub(super) fn file_name(mirror: &[u8; 16], suffix: &str) -> String {
    let name: String = mirror.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}.{suffix}")
}

fn hash(machine: &str, source: &[u8], target: &Target) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in [machine.as_bytes(), source, target.to_string().as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

/// Returns the sources that earlier versions hashed: as it was written but absolute, with its slash.
fn former_sources(sync: &Sync, one: &[u8]) -> Vec<Vec<u8>> {
    let written = std::path::absolute(&sync.source).unwrap_or_else(|_| PathBuf::from(&sync.source));
    vec![written.into_os_string().into_vec(), [one, b"/"].concat(), one.to_vec()]
}

/// Returns the targets that earlier versions hashed: as it was written, also relative to any directory.
fn former_targets(written: &Target, one: &Target) -> Vec<Target> {
    let mut paths = vec![written.path.clone(), one.path.clone()];
    if one.path.starts_with(b"/") && one.host.is_none() {
        let names: Vec<&[u8]> = one.path.split(|&byte| byte == b'/').skip(1).collect();
        paths.extend((0..names.len()).rev().map(|at| names.get(at..).unwrap_or_default().join(&b'/')));
    }
    let relative = paths.iter().filter(|path| !path.starts_with(b"/") && !path.starts_with(b"."));
    let dotted: Vec<Vec<u8>> = relative.map(|path| [b"./", path.as_slice()].concat()).collect();
    paths.extend(dotted);
    paths.into_iter().map(|path| Target { path, ..written.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    fn id(source: &str, target: &str) -> Identity {
        let target = parse_target(target).unwrap();
        mirror_id(&Sync::new("name", source, vec![target.clone()]), &target)
    }

    /// What earlier versions hashed.
    fn earlier(source: &str, target: &str) -> [u8; 16] {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let source = std::path::absolute(source).unwrap();
        hash(machine.trim(), source.as_os_str().as_bytes(), &parse_target(target).unwrap())
    }

    #[test]
    fn one_pair_has_one_identity_however_it_is_written_and_knows_its_former_ones() {
        let here = spelling::local(b"x");
        let here = String::from_utf8(here).unwrap();
        let (s, t) = (here.replace("/x", "/s"), here.replace("/x", "/t"));
        let spellings: [(&str, String, String); 6] = [
            ("a slash", format!("{s}/"), format!("{t}/")),
            ("doubled slashes", format!("/{s}//"), format!("/{t}")),
            ("dots", format!("{s}/."), format!("{t}/./")),
            ("the directory above", format!("{s}/../s"), format!("{t}/missing/..")),
            ("relative", "s/".to_owned(), "t".to_owned()),
            ("relative with dots", "./s".to_owned(), "./t/".to_owned()),
        ];
        let one = id(&s, &t);
        assert_eq!(one.id, earlier(&s, &t), "what most configurations say keeps its identity");
        for (what, source, target) in &spellings {
            assert_eq!(id(source, target).id, one.id, "{what}");
            let was = earlier(source, target);
            let known = |identity: &Identity| was == one.id || identity.former.contains(&was);
            assert!(known(&id(source, target)), "{what}: written in the same way again");
            if !["..", "//", "/."].iter().any(|odd| source.contains(odd)) {
                assert!(known(&one), "{what}: written otherwise now");
            }
        }
        let remote = id(&s, "h:b");
        assert_eq!(id(&s, "h:./b/").id, remote.id);
        assert!(remote.former.contains(&earlier(&s, "h:./b")));
        let all = [one.id, remote.id, id(&s, "h:/b").id, id(&s, "u@h:b").id, id(&t, &s).id, id(&s, "/t").id];
        for (at, this) in all.iter().enumerate() {
            assert!(!all[..at].contains(this), "another pair, number {at}, is another mirror");
        }
    }
}
