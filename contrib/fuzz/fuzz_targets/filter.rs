//! Filter rules, rsync's and lsyncd's: whatever is written in them, matching ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speil::filter::{Filter, LsyncdFilter};
use speil::tree::RelPath;

fuzz_target!(|bytes: &[u8]| {
    // The last line is a path, the others are rules.
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').take(32).collect();
    let Some(path) = lines.pop().and_then(|path| RelPath::new(path).ok()) else { return };
    if let Ok(filter) = Filter::new_at(&lines, b"/srv/www") {
        for dir in [false, true] {
            let _ = filter.excludes(&path, dir);
            let _ = filter.protects_entry(&path, dir);
            let _ = filter.which(&path, dir);
        }
        // What a filter says of itself is read the same on the other side.
        let rules = filter.rules();
        let again = Filter::new(&rules).expect("a filter's own rules parse");
        assert_eq!(again.excludes(&path, false), filter.excludes(&path, false), "{rules:?}");
    }
    if let Ok(filter) = LsyncdFilter::from_rules(&lines) {
        let _ = filter.excludes(&path, false);
        let _ = filter.excludes(&path, true);
    }
});
