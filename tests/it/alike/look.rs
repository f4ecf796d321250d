//! What a run left and said, in a form that is compared.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use super::words::Case;
use crate::support::command::Outcome;

/// The trees after a run, and what it said.
pub struct Look {
    entries: BTreeMap<String, String>,
    code: i32,
    lines: Vec<String>,
    stats: BTreeMap<String, String>,
    said: String,
}

/// What is said of a file of ours that holds what the source does.
pub const SOURCES: &str = ", as the source";

/// Figures that mean the same in both.
const FIGURES: [&str; 6] = [
    "Number of files",
    "Number of created files",
    "Number of deleted files",
    "Number of regular files transferred",
    "Total file size",
    "Total transferred file size",
];

impl Look {
    /// Looks at everything below a directory. What was changed after `begun` by a clock counts as "now".
    pub fn of(dir: &Path, outcome: Outcome, begun: SystemTime) -> Self {
        let begun = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 - 2;
        let mut entries = BTreeMap::new();
        let mut names = HashMap::new();
        for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name().into_iter().flatten() {
            let path = entry.path();
            let meta = path.symlink_metadata().unwrap();
            let below = path.strip_prefix(dir).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
            let group = names.entry((meta.dev(), meta.ino())).or_insert_with(|| below.clone()).clone();
            let mut text = kind(path, &meta);
            let _ = write!(text, " {:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
            if meta.mtime() >= begun {
                text.push_str(" now");
            } else {
                let _ = write!(text, " {}.{}", meta.mtime(), meta.mtime_nsec());
            }
            if !meta.is_dir() && group != below {
                let _ = write!(text, " ={}", group.replace(' ', "_"));
            }
            let mut value = [0; 16];
            if let Ok(len) = rustix::fs::lgetxattr(path, "user.note", &mut value[..]) {
                let _ = write!(text, " note={len}");
            }
            for (name, what) in [("system.posix_acl_access", "acl"), ("system.posix_acl_default", "default")]
            {
                let mut value = [0; 256];
                if let Ok(len) = rustix::fs::lgetxattr(path, name, &mut value[..]) {
                    let _ = write!(text, " {what}={}", &blake3::hash(&value[..len]).to_hex()[..4]);
                }
            }
            entries.insert(below, text);
        }
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        let stats =
            lines.iter().filter_map(|line| line.split_once(": ")).filter(|(key, _)| FIGURES.contains(key));
        let stats = stats.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
        let lines: Vec<String> =
            lines.iter().filter(|line| is_item(line)).map(|&line| line.to_owned()).collect();
        Self {
            entries,
            code: outcome.code(),
            lines,
            stats,
            said: format!("{}\n{}", outcome.stderr, outcome.stdout),
        }
    }
}

impl Look {
    /// Whether a file of the target holds what the source does under the same path.
    fn is_sources(&self, path: &str) -> bool {
        let Some((target @ ("dst" | "new"), below)) = path.split_once('/') else { return false };
        let content = |path: &str| {
            let text = self.entries.get(path)?.strip_prefix("file ")?;
            text.match_indices(' ').nth(1).map(|(end, _)| text[..end].to_owned())
        };
        let ours = content(&format!("{target}/{below}"));
        ours.is_some() && ["src/", "more/", ""].iter().any(|top| content(&format!("{top}{below}")) == ours)
    }

    /// Returns what the lines of `-i` tell of each path. Which of several names of a file is the first is nobody's promise:
    /// with hard links they do not say which name a name was linked to, nor which one's content was sent.
    fn items(&self, case: &Case) -> BTreeMap<String, Vec<String>> {
        let mut items: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &self.lines {
            let (mut what, mut path) = (line[..11].to_owned(), case.below(&line[12..]));
            if case.has("-H") {
                path = path.split(" => ").next().unwrap_or(path);
                if ["hf", ">f", "<f", "cf"].iter().any(|front| what.starts_with(front)) {
                    what.replace_range(..2, "xf");
                }
            }
            items.entry(path.to_owned()).or_default().push(what);
        }
        items.values_mut().for_each(|told| told.sort_unstable());
        items
    }
}

/// Whether a line is one of `-i`.
fn is_item(line: &str) -> bool {
    line.starts_with("*deleting")
        || line.as_bytes().get(11) == Some(&b' ') && b"<>ch.".contains(&line.as_bytes()[0])
}

fn kind(path: &Path, meta: &std::fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_file() {
        let content = std::fs::read(path).unwrap_or_default();
        format!("file {} {}", content.len(), &blake3::hash(&content).to_hex()[..8])
    } else {
        "other".to_owned()
    }
}

/// Returns in what two runs differ, each as `KIND: what`.
pub fn differences(case: &Case, theirs: &Look, ours: &Look) -> Vec<String> {
    let mut found = all_differences(case, theirs, ours);
    // "a `--delete` where something of the source cannot be read": rsync then deletes nothing.
    if theirs.said.contains("IO error encountered -- skipping file deletion") && ours.code == 23 {
        found.retain(|what| {
            let is_kept = what.starts_with("tree: kept") || what.contains("~: rsync ");
            !(is_kept && what.contains(": rsync nothing, speil ")
                || what.starts_with("line: ") && what.ends_with(": rsync nothing, speil *deleting  ")
                || what.starts_with("stats: Number of deleted files")
                || what.starts_with("tree: ") && what.ends_with(", speil nothing"))
        });
    }
    // "`--ignore-existing`, where the target has a file in the place of a directory": after its errors rsync deletes nothing.
    if case.has("--ignore-existing") && (theirs.code, ours.code) == (23, 0) {
        found.retain(|what| {
            let is_delete =
                what.ends_with(": rsync nothing, speil *deleting  ") || what.ends_with(", speil nothing");
            !(is_delete || what.starts_with("stats: Number of deleted files"))
        });
    }
    found
}

fn all_differences(case: &Case, theirs: &Look, ours: &Look) -> Vec<String> {
    let mut found = Vec::new();
    if theirs.code != ours.code {
        let first = |said: &str| said.lines().next().unwrap_or_default().to_owned();
        let texts = (first(&theirs.said), first(&ours.said));
        found.push(format!("code: rsync {} speil {} ({} / {})", theirs.code, ours.code, texts.0, texts.1));
    }
    let paths =
        theirs.entries.keys().chain(ours.entries.keys().filter(|path| !theirs.entries.contains_key(*path)));
    for path in paths {
        let (one, two) = (theirs.entries.get(path), ours.entries.get(path));
        if one != two {
            let shown = |text: Option<&String>| text.map_or("nothing", String::as_str).to_owned();
            let as_source = if ours.is_sources(path) { SOURCES } else { "" };
            found.push(format!("tree: {path}: rsync {}, speil {}{as_source}", shown(one), shown(two)));
        }
    }
    if case.has("-i") || case.has("-ii") {
        let (theirs, ours) = (theirs.items(case), ours.items(case));
        let paths: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for path in paths {
            let (one, two) = (theirs.get(path), ours.get(path));
            if one != two {
                let shown =
                    |told: Option<&Vec<String>>| told.map_or("nothing".to_owned(), |told| told.join(" & "));
                found.push(format!("line: {path}: rsync {}, speil {}", shown(one), shown(two)));
            }
        }
    }
    if case.has("--stats") {
        for (key, value) in &theirs.stats {
            let other = ours.stats.get(key).map_or("nothing", String::as_str);
            if other != value {
                found.push(format!("stats: {key}: rsync {value}, speil {other}"));
            }
        }
    }
    found
}
