//! Names, sizes and times are equal and the bytes are not: what came to a name otherwise than by a rename
//! that the target acknowledged is read. rsync --checksum judges.

use std::fs;
use std::path::Path;

use rustix::fs::Timespec;

use crate::support::stand::{Stand, judged};
use crate::support::tree::set_times;

/// Sets the same time for a directory and everything below it, as reproducible archives have it.
fn stamp(root: &Path) {
    for entry in walkdir::WalkDir::new(root).contents_first(true).into_iter().map(Result::unwrap) {
        set_times(entry.path(), Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 }).unwrap();
    }
}

/// Plants a release: three directories, of which two hold what is the same in every version.
fn release(root: &Path, version: &str) {
    let at = |name: &str| root.join(version).join(name);
    for (name, content) in
        [("bin/app", version), ("lib/deep/f", version), ("static/logo", "<svg/>"), ("VERSION", version)]
    {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), content).unwrap();
    }
    fs::write(at("static/film"), vec![b'f'; 400_000]).unwrap();
    fs::write(at("lib/big"), vec![b'b'; 400_000]).unwrap();
    fs::write(at("empty"), "").unwrap();
    stamp(&root.join(version));
}

/// Replaces release 1.2.3 by 1.2.4.
fn upgrade(root: &Path) {
    fs::remove_dir_all(root.join("1.2.3")).unwrap();
    release(root, "1.2.4");
}

/// Runs `speil sync` and returns what it says.
fn sync(stand: &Stand) -> String {
    let paths = [format!("{}/", stand.source().display()), format!("{}/", stand.target("copy").display())];
    let options = ["sync", "-aHAX", "--delete", "--no-delete-guard", "--stats"].map(String::from);
    stand.environment.run(options.into_iter().chain(paths)).succeeded().stdout
}

/// Returns the bytes that were sent as content.
fn literal(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("Literal data: ")).unwrap();
    line.chars().filter(char::is_ascii_digit).collect()
}

#[test]
fn a_release_with_the_stamps_of_another_has_its_own_bytes_after_one_pass() {
    let stand = Stand::new();
    release(&stand.source(), "1.2.3");
    sync(&stand);
    upgrade(&stand.source());
    let said = sync(&stand);
    assert_eq!(judged(&stand.source(), &stand.target("copy"), &[]), "");
    // bin/app, lib/deep/f and VERSION; what is the same below is renamed.
    assert_eq!(literal(&said), "15", "{said}");
    // A release that is only renamed is one rename, whatever its stamps.
    fs::rename(stand.source().join("1.2.4"), stand.source().join("1.2.5")).unwrap();
    let said = sync(&stand);
    assert_eq!(judged(&stand.source(), &stand.target("copy"), &[]), "");
    assert_eq!(literal(&said), "0", "{said}");
}

#[test]
fn a_daemon_that_was_down_takes_a_release_for_no_other_with_its_stamps() {
    let stand = Stand::new();
    release(&stand.source(), "1.2.3");
    stand.mirror(&["standby"], &[]).terminate();
    upgrade(&stand.source());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    stand.wait();
    assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "");
    mirror.terminate();
}
