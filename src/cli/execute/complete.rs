//! `speil completions` prints the scripts of the shells, `speil complete` answers them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::print;
use crate::cli::commands::{Complete, Completions, Script};
use crate::cli::complete::{Files, LocalNames, complete};
use crate::cli::parse::top;
use crate::daemon;
use crate::status::{Answer, Report, Request};

/// Nobody waits longer for a word.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How many files include each other.
const INCLUDES_MAX: usize = 16;

/// Prints what a shell sources.
pub(super) fn script(it: &Completions) -> u8 {
    print(match it.shell {
        Script::Bash => include_str!("../complete/speil.bash"),
        Script::Zsh => include_str!("../complete/speil.zsh"),
        Script::Fish => include_str!("../complete/speil.fish"),
    });
    0
}

/// Prints what can come next: a line for each word, a tab before what is said of it; `:files` or `:dirs` at the end.
pub(super) fn answer(it: &Complete) -> u8 {
    let words: Vec<String> = it.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut top = top();
    top.build();
    let answer = complete(&top, &words, &Here);
    let plain = |text: &str| !text.chars().any(char::is_control);
    let mut text = String::new();
    for (word, about) in answer.words.iter().filter(|(word, _)| plain(word)) {
        let tab = if about.is_empty() { "" } else { "\t" };
        text += &format!("{word}{tab}{about}\n");
    }
    match answer.files {
        Some(Files::Any) => text += ":files\n",
        Some(Files::Directories) => text += ":dirs\n",
        None => {}
    }
    print(&text);
    0
}

/// This host.
struct Here;

impl Here {
    fn report(socket: Option<&str>) -> Option<Report> {
        let socket = match socket {
            Some(socket) => PathBuf::from(socket),
            None => daemon::find_socket().ok()?,
        };
        match daemon::ask(&socket, &Request::Status, Some(ANSWER_MAX)) {
            Ok(Answer::Status(report)) => Some(report),
            _ => None,
        }
    }
}

impl LocalNames for Here {
    fn syncs(&self, socket: Option<&str>) -> Vec<String> {
        Self::report(socket).into_iter().flat_map(|report| report.syncs).map(|sync| sync.name).collect()
    }

    fn targets(&self, socket: Option<&str>, sync: Option<&str>) -> Vec<String> {
        let syncs = Self::report(socket).into_iter().flat_map(|report| report.syncs);
        let wanted = syncs.filter(|one| sync.is_none_or(|name| one.name == name));
        let mut names: Vec<String> = wanted.flat_map(|one| one.targets).map(|target| target.name).collect();
        names.sort();
        names.dedup();
        names
    }

    fn hosts(&self) -> Vec<String> {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh"));
        let mut files: Vec<PathBuf> =
            home.iter().map(|dir| dir.join("config")).chain(["/etc/ssh/ssh_config".into()]).collect();
        let mut hosts = Vec::new();
        let mut at = 0;
        while let Some(file) = files.get(at).filter(|_| at < INCLUDES_MAX).cloned() {
            read_hosts(&file, &mut hosts, &mut files);
            at += 1;
        }
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// Reads the names of `Host` lines, and which files `Include` lines name.
fn read_hosts(file: &Path, hosts: &mut Vec<String>, files: &mut Vec<PathBuf>) {
    let Ok(text) = fs::read_to_string(file) else { return };
    for line in text.lines() {
        let mut words =
            line.split(|c: char| c.is_whitespace() || c == '=' || c == '"').filter(|word| !word.is_empty());
        match words.next().map(str::to_ascii_lowercase).as_deref() {
            Some("host") => {
                hosts.extend(words.filter(|name| !name.contains(['*', '?', '!'])).map(str::to_owned))
            }
            Some("include") => words.for_each(|pattern| include(file, pattern, files)),
            _ => {}
        }
    }
}

/// Adds the files of an `Include`: a path, or a directory with `*` as its last name.
fn include(file: &Path, pattern: &str, files: &mut Vec<PathBuf>) {
    let dir = file.parent().unwrap_or(Path::new("/"));
    let path = match pattern.strip_prefix("~/") {
        Some(below) => dir.join("..").join(below),
        None => dir.join(pattern),
    };
    let Some(start) = path.to_str().and_then(|path| path.split_once('*')).map(|(start, _)| start.to_owned())
    else {
        return files.push(path);
    };
    let dir = start.rsplit_once('/').map_or(".", |(dir, _)| dir);
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(entries.filter(|path| path.to_string_lossy().starts_with(&start)));
}
