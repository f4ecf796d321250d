//! What the documents say can be done: every command is run, every configuration loaded, every link leads
//! somewhere.
//!
//! The blocks marked `sh` of a page are run in their order, by a shell on a primary with a standby beside it
//! (`tests/data/documents/world.sh`; as root, for its mounts). A block whose first line is `# on the standby`
//! is run there; a command that does not end by itself is ended when it does what it is for. Where a command
//! ends with another code than 0, the page says so: `# exit code 0 or 24`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::command::{Environment, SPEIL};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Pages for people who use speil: README and `docs/`.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_string_lossy().ends_with(".md") {
            pages.push(Path::new("docs").join(name));
        }
    }
    pages.sort();
    pages
}

fn text_of(page: &Path) -> String {
    fs::read_to_string(Path::new(ROOT).join(page))
        .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// Returns the blocks of a page in one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some((of, block))) if of == language => found.push(block),
            (Some(_), Some(_)) | (None, None) => {}
            (None, Some((of, block))) => open = Some((of, block + line + "\n")),
        }
    }
    found
}

/// Returns a line of a block as the world runs it.
fn as_run(line: &str) -> String {
    if let Some((command, codes)) = line.split_once("# exit code ") {
        let codes = codes.replace(" or ", "|");
        return format!("{{ {command}; }} || case $? in {codes}) ;; *) exit 1 ;; esac");
    }
    for endless in ["speil mirror ", "speil lsyncd -nodaemon "] {
        if line.contains(endless) {
            return line.replace(endless, &format!("until_live {endless}"));
        }
    }
    let listens = line.starts_with("speil health ") && line.contains(" --listen ");
    if listens { format!("until_it_listens {line}") } else { line.to_owned() }
}

/// Returns the script of a page.
fn script(page: &Path) -> String {
    let mut script = String::new();
    for block in blocks(&text_of(page), "sh") {
        let there = block.starts_with("# on the standby");
        let lines = block.lines().map(|line| as_run(line) + "\n").collect::<String>();
        if there {
            script += &format!("on_standby <<'END_OF_BLOCK'\n{lines}END_OF_BLOCK\n");
        } else {
            script += &lines;
        }
    }
    script
}

/// Runs a page; `prepared` is where "Getting started" ends.
fn run(page: &str, prepared: bool) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (work, file) = (dir.path().join("work"), dir.path().join("script"));
    fs::create_dir(&work).unwrap();
    fs::write(&file, script(Path::new(page))).unwrap();
    let mut command = Environment::new().command("unshare");
    command.args(["-m", "--propagation", "private"]);
    command
        .arg(Path::new(ROOT).join("tests/data/documents/world.sh"))
        .args([SPEIL, ROOT])
        .arg(&work)
        .arg(&file);
    if prepared {
        command.arg("prepared");
    }
    // Two hosts and a page of commands take as long as the machine needs; the commands have limits of their own.
    let done = command.output().expect("unshare");
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}\n{}", done.status, String::from_utf8_lossy(&said));
}

#[test]
fn the_commands_of_the_readme_work_as_they_stand() {
    run("README.md", false);
}

#[test]
fn whoever_follows_getting_started_has_a_live_standby() {
    run("docs/getting-started.md", false);
}

#[test]
fn whoever_sets_up_by_hand_has_a_live_standby() {
    run("docs/by-hand.md", false);
}

#[test]
fn the_commands_of_operations_work_as_they_stand() {
    run("docs/operations.md", true);
}

#[test]
fn the_commands_of_failover_work_as_they_stand() {
    run("docs/failover.md", true);
}

#[test]
fn the_commands_of_from_rsync_work_as_they_stand() {
    run("docs/from-rsync.md", true);
}

#[test]
fn the_commands_of_from_lsyncd_work_as_they_stand() {
    run("docs/from-lsyncd.md", true);
}

#[test]
fn the_commands_of_monitoring_work_as_they_stand() {
    run("docs/monitoring.md", true);
}

#[test]
fn the_commands_of_the_example_of_failover_set_three_hosts_up() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Hosts in namespaces, with the real keepalived and HAProxy; `make failover` goes on from here.
    let mut command = Environment::new().command(Path::new(ROOT).join("tests/data/failover/drill.py"));
    let done = command.args([SPEIL, "nothing"]).output().expect("the tests need python3");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success() && said.contains("set up by the 10 commands"), "{}\n{said}", done.status);
}

#[test]
fn every_page_with_commands_is_run_above() {
    let this = include_str!("documents.rs");
    for page in pages() {
        if !script(&page).is_empty() {
            assert!(this.contains(&format!("run(\"{}\"", page.display())), "{} is not run", page.display());
        }
    }
}

#[test]
fn every_configuration_in_the_documents_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let here = |path: &str| dir.path().join(path).display().to_string();
    for name in ["srv/uploads", "srv/avatars", "etc/speil"] {
        fs::create_dir_all(here(name)).unwrap();
    }
    fs::write(here("etc/speil/id_ed25519"), "").unwrap();
    fs::write(here("etc/speil/token"), "a token for this test\n").unwrap();
    let key = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(here("etc/speil/token"), key).unwrap();
    let mut count = 0;
    for page in pages() {
        for block in blocks(&text_of(&page), "lua") {
            let mut text = block.replace("\"/srv/", &format!("\"{}/", here("srv")));
            text = text.replace("\"/etc/speil/", &format!("\"{}/", here("etc/speil")));
            if !text.contains("sync {") {
                let source = here("srv/uploads");
                text += &format!(
                    "sync {{ default.mirror, source = \"{source}\", target = \"standby:/srv/uploads\" }}\n"
                );
            }
            if text.contains("hosts = {") && !text.contains("settings {") {
                text = format!("settings {{ host = \"oslo\" }}\n{text}");
            }
            let file = here("speil.lua");
            fs::write(&file, &text).unwrap();
            let checked = Environment::new().run(["check", &file]);
            assert_eq!(checked.code(), 0, "{}:\n{block}\n{checked:?}", page.display());
            assert!(!checked.stderr.contains("warning"), "{}:\n{block}\n{checked:?}", page.display());
            count += 1;
        }
    }
    assert!(count >= 7, "{count} configurations");
}

/// Returns the names in the list `KEYS` of a source file.
fn keys_of(source: &str) -> Vec<String> {
    let text = text_of(Path::new(source));
    let (_, list) = text.split_once("const KEYS: [&str; ").expect("a list of keys");
    let (list, _) = list.split_once("];").unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_configuration_is_told() {
    let page = text_of(Path::new("docs/configuration.md"));
    let told: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let editors = text_of(Path::new("contrib/editor/speil.meta.lua"));
    for key in keys_of("src/config/mirror.rs").iter().chain(&keys_of("src/config/settings.rs")) {
        if key != "_layer" {
            assert!(told.contains(key.as_str()), "docs/configuration.md does not tell {key}");
            assert!(editors.contains(&format!("---@field {key}")), "the editor's file lacks {key}");
        }
    }
}

/// Returns the commands of speil that a text mentions between backquotes.
fn mentioned(text: &str) -> BTreeSet<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let spans = outside.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| span.starts_with("speil ")).map(str::to_owned).collect()
}

#[test]
fn every_command_and_option_that_is_mentioned_exists() {
    let environment = Environment::new();
    for page in pages() {
        for command in mentioned(&text_of(&page)) {
            let words: Vec<&str> = command.split_whitespace().collect();
            if words[1].starts_with('-') || ["lsyncd", "help", "COMMAND"].contains(&words[1]) {
                continue;
            }
            let help = environment.run([words[1], "--help"]);
            assert_eq!(help.code(), 0, "{}: {command}", page.display());
            for option in words.iter().filter_map(|word| word.trim_start_matches('[').strip_prefix("--")) {
                let name: String =
                    option.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
                assert!(help.stdout.contains(&format!("--{name}")), "{}: {command}", page.display());
            }
        }
    }
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for page in pages().into_iter().chain(["examples/failover/README.md".into()]) {
        let text = text_of(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(Path::new(ROOT).join(&file).exists(), "{}: {link}", page.display());
            let headings = || text_of(&file);
            let known = heading.is_empty()
                || headings().lines().any(|line| {
                    line.starts_with('#') && anchor(line.trim_start_matches(['#', ' '])) == heading
                });
            assert!(known, "{}: {link}", page.display());
        }
    }
}

#[test]
fn the_readme_is_short() {
    let words = text_of(Path::new("README.md")).split_whitespace().count();
    assert!(words <= 1200, "{words} words");
}

/// Lays out an installation as the packages do, with an executable that is a script: pages and scripts for shells are
/// tested elsewhere.
fn staged(prefix: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::write(
        &program,
        "#!/bin/sh\n[ \"$1\" != manual ] || { mkdir -p \"$2\" && touch \"$2/a.1\" \"$2/a.5\"; }\n",
    )
    .unwrap();
    let stage = Path::new(ROOT).join("contrib/package/stage");
    let root = dir.path().join("root");
    let done = std::process::Command::new(stage).arg(&program).args([prefix]).arg(&root).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
    dir
}

#[test]
fn the_packages_hold_what_the_documents_point_to() {
    let dir = staged("/usr");
    let doc = dir.path().join("root/usr/share/doc/speil");
    // What only builders use stays behind.
    let elsewhere = ["contrib/fuzz", "contrib/container", "contrib/package", "contrib/recording"];
    let mut count = 0;
    for page in pages().into_iter().chain(["examples/failover/README.md".into()]) {
        let text = fs::read_to_string(doc.join(&page)).expect("the page itself");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.starts_with("http")) {
            let file = doc.join(page.parent().unwrap()).join(link);
            assert!(file.exists(), "{}: the packages lack {link}", page.display());
            count += 1;
        }
        let words = text.split(|c: char| c.is_whitespace() || "()[]`,;:#".contains(c));
        for word in words.map(|word| word.trim_end_matches(['.', '/'])) {
            let ours = ["contrib/", "examples/", "docs/"].iter().any(|dir| word.starts_with(dir));
            if !ours || word.ends_with('*') || elsewhere.iter().any(|dir| word.starts_with(dir)) {
                continue;
            }
            assert!(doc.join(word).exists(), "{}: the packages lack {word}", page.display());
            count += 1;
        }
    }
    assert!(count > 50, "{count} files");
    assert!(dir.path().join("root/etc/speil/speil.lua").is_file());
}

#[test]
fn every_package_takes_all_that_is_laid_out() {
    let dir = staged("/usr");
    let manifest = text_of(Path::new("Cargo.toml"));
    let root = dir.path().join("root");
    let mut files = vec![];
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { dirs.push(entry) } else { files.push(entry) }
        }
    }
    for package in ["deb", "rpm"] {
        let start = format!("\"target/package/{package}/");
        let patterns: Vec<&str> =
            manifest.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for file in &files {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
            let taken = |pattern: &&str| match pattern.split_once("**/") {
                Some((dir, _)) => path.starts_with(dir),
                None => *pattern == path,
            };
            assert_eq!(patterns.iter().filter(|pattern| taken(pattern)).count(), 1, "{package}: {path}");
        }
    }
}

#[test]
fn an_installation_names_the_program_that_it_brings() {
    for prefix in ["/usr", "/usr/local", "/opt/speil"] {
        let dir = staged(prefix);
        let usr = dir.path().join("root").join(&prefix[1..]);
        assert!(usr.join("bin/speil").is_file());
        assert_eq!(dir.path().join("root/etc").exists(), prefix == "/usr");
        for file in [
            "lib/systemd/system/speil.service",
            "lib/systemd/system/speil@.service",
            "lib/systemd/system/speil-sync@.service",
            "share/doc/speil/contrib/speil.service",
            "share/doc/speil/contrib/keepalived/keepalived.conf",
            "share/doc/speil/contrib/authorized_keys.example",
        ] {
            let text = fs::read_to_string(usr.join(file)).unwrap();
            let paths: BTreeSet<&str> = text
                .split(|c: char| c.is_whitespace() || "=\"".contains(c))
                .filter(|word| word.ends_with("/bin/speil"))
                .collect();
            assert_eq!(paths, BTreeSet::from([format!("{prefix}/bin/speil").as_str()]), "{file}");
        }
    }
}
