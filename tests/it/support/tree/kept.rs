//! What a target keeps below `.speil/`, as a test looks at it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Returns the content of every file that is kept in a place, by its path: oldest first.
pub fn kept_below(place: &Path) -> BTreeMap<String, Vec<String>> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let moments = fs::read_dir(place).map(|all| all.flatten().map(|moment| moment.path()).collect());
    let mut moments: Vec<_> = moments.unwrap_or_default();
    moments.sort();
    for moment in moments {
        for entry in walkdir::WalkDir::new(&moment).into_iter().flatten() {
            if entry.file_type().is_file() {
                let path = entry.path().strip_prefix(&moment).unwrap_or(entry.path());
                let content = fs::read(entry.path()).unwrap_or_default();
                let content = String::from_utf8_lossy(&content).into_owned();
                kept.entry(path.display().to_string()).or_default().push(content);
            }
        }
    }
    kept
}
