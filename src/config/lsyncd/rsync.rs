//! rsync's options, as `rsync = { … }` and its `_extra` give them, into the model.
//!
//! **Purpose:** one table of what each option means to speil. **Invariants:** an option is mapped only
//! if speil does the same with it; one that changes nothing in the result is a note; any other is
//! returned by name. **Sources:** rsync(1); the lsyncd manual, "default.rsync".

use std::time::Duration;

use super::Findings;
use crate::config::error::ConfigError;
use crate::config::raw::{Raw, Section, plain};
use crate::config::rules::rule;
use crate::config::suggest::nearest;
use crate::config::switches::SWITCHES;
use crate::config::units::{parse_bwlimit, parse_size, split_words};
use crate::config::{AgentSource, Compress, DeleteMode, Fault, Sync};
use crate::tree::{Chmod, Chown, OwnerMap};

/// What an option means to speil.
#[derive(Clone, Copy)]
enum Meaning {
    /// Switches a part of the model.
    Flag(fn(&mut Sync, bool)),
    /// Gives a value to a part of the model; says whether the value could be read.
    Value(fn(&mut Sync, &str) -> bool),
    /// Changes nothing in what stands on the target.
    Moot,
    /// As `Moot`, and takes a value.
    MootValue,
    /// Says what the model says anyway; else it has no like.
    Agree(fn(&Sync, bool) -> bool),
    /// Has no like in speil.
    Foreign,
    /// As `Foreign`, and takes a value.
    ForeignValue,
}

use Meaning::{Agree, Flag, Foreign, ForeignValue, Moot, MootValue, Value};

/// Every option but those of [`SWITCHES`]: its long name with `_` for `-`, its letter, its meaning. `archive` stands first, since
/// single options correct it; what limits an option stands behind it.
const OPTIONS: [(&str, char, Meaning); 58] = [
    ("archive", 'a', Flag(archive)),
    ("recursive", 'r', Moot),
    ("times", 't', Flag(times)),
    ("omit_dir_times", 'O', Flag(|sync, on| sync.mask.dir_times &= !on)),
    ("omit_link_times", 'J', Flag(|sync, on| sync.mask.link_times &= !on)),
    ("executability", 'E', Agree(|sync, on| !on || sync.mask.perms)),
    ("compress", 'z', Flag(compress)),
    ("one_file_system", 'x', Flag(|sync, on| sync.selection.one_file_system = on)),
    ("delete_excluded", ' ', Flag(|sync, on| sync.guard.delete_excluded = on)),
    ("ipv4", '4', Flag(|sync, on| extra(sync, "-4", on))),
    ("ipv6", '6', Flag(|sync, on| extra(sync, "-6", on))),
    ("bwlimit", ' ', Value(bwlimit)),
    ("chmod", ' ', Value(chmod)),
    ("chown", ' ', Value(chown)),
    ("timeout", ' ', Value(timeout)),
    ("rsh", 'e', Value(rsh)),
    ("rsync_path", ' ', Value(rsync_path)),
    ("binary", ' ', Value(|_, value| value.rsplit('/').next() == Some("rsync"))),
    ("delete", ' ', Agree(deletes)),
    ("delete_after", ' ', Agree(deletes)),
    ("delete_before", ' ', Agree(deletes)),
    ("delete_delay", ' ', Agree(deletes)),
    ("delete_during", ' ', Agree(deletes)),
    ("delay_updates", ' ', Moot),
    ("force", ' ', Moot),
    ("fuzzy", 'y', Moot),
    ("human_readable", 'h', Moot),
    ("partial", ' ', Moot),
    ("progress", ' ', Moot),
    ("protect_args", 's', Moot),
    ("quiet", 'q', Moot),
    ("stats", ' ', Moot),
    ("verbose", 'v', Moot),
    ("itemize_changes", 'i', Moot),
    ("contimeout", ' ', MootValue),
    ("compress_level", ' ', MootValue),
    ("partial_dir", ' ', MootValue),
    ("skip_compress", ' ', MootValue),
    ("temp_dir", ' ', MootValue),
    ("append", ' ', Foreign),
    ("append_verify", ' ', Foreign),
    ("backup", 'b', Foreign),
    ("copy_dirlinks", 'k', Foreign),
    ("copy_links", 'L', Foreign),
    ("copy_unsafe_links", ' ', Foreign),
    ("cvs_exclude", 'C', Foreign),
    ("dry_run", 'n', Foreign),
    ("inplace", ' ', Foreign),
    ("keep_dirlinks", 'K', Foreign),
    ("prune_empty_dirs", 'm', Foreign),
    ("backup_dir", ' ', ForeignValue),
    ("groupmap", ' ', Value(|sync, value| owners(&mut sync.selection.groupmap, value))),
    ("password_file", ' ', ForeignValue),
    ("suffix", ' ', ForeignValue),
    ("usermap", ' ', Value(|sync, value| owners(&mut sync.selection.usermap, value))),
    ("max_size", ' ', Value(|sync, value| size(&mut sync.selection.max_size, value))),
    ("min_size", ' ', Value(|sync, value| size(&mut sync.selection.min_size, value))),
    ("modify_window", ' ', Value(modify_window)),
];

/// Returns every option, with those that mean the same everywhere; `archive` first.
fn options() -> impl Iterator<Item = (&'static str, char, Meaning)> {
    let shared = SWITCHES.iter().map(|it| (it.lsyncd, it.short.unwrap_or(' '), Flag(it.set)));
    OPTIONS.into_iter().take(1).chain(shared).chain(OPTIONS.into_iter().skip(1))
}

/// Moot options that lsyncd's own defaults or every second file give; not worth a note.
const UNTOLD: [&str; 4] = ["protect_args", "recursive", "verbose", "quiet"];

/// Every key of lsyncd 2.2 and 2.3, as the manual lists them; `_extra` and `_computed` are none of rsync's.
#[cfg(test)]
const OF_LSYNCD: &str = "acls append append_verify archive backup backup_dir binary bwlimit checksum chmod \
    chown compress copy_dirlinks copy_links copy_unsafe_links cvs_exclude delete_excluded dry_run executability \
    existing group groupmap hard_links ignore_times inplace ipv4 ipv6 keep_dirlinks links one_file_system \
    omit_dir_times omit_link_times owner password_file perms protect_args prune_empty_dirs quiet rsh rsync_path sparse \
    suffix temp_dir timeout times update usermap verbose whole_file xattrs";

/// Brings `rsync = { … }` into `sync`, which holds lsyncd's defaults.
///
/// # Errors
/// [`ConfigError`] (die) for options that rsync does not have and values that it would refuse.
pub(super) fn apply(section: &Section, sync: &mut Sync, found: &mut Findings) -> Result<(), ConfigError> {
    for key in section.table.named.keys().filter(|key| key.as_str() != "_extra") {
        if !options().any(|(name, ..)| name == key) {
            let names: Vec<&str> = options().map(|(name, ..)| name).collect();
            let near = nearest(key, &names).map(|near| format!("{}{near}", section.prefix));
            let key = format!("{}{key}", section.prefix);
            return Err(section.error(Fault::UnknownKey { key, near }));
        }
    }
    for (name, _, meaning) in options() {
        let Some(given) = section.get(name) else { continue };
        let key = format!("{}{name}", section.prefix);
        // Only `false` is false to Lua: `archive = 0` is on.
        let on = *given != Raw::Bool(false);
        match meaning {
            Value(set) if on => {
                let text = plain(given).ok_or_else(|| section.wrong(name, given, "a string or a number"))?;
                if !set(sync, &text) {
                    found.unmapped.push(format!("{key} = {}", given.describe()));
                }
            }
            Value(_) => {}
            meaning => switch(sync, meaning, on, &key, found),
        }
    }
    match section.get("_extra") {
        Some(Raw::Table(_)) => words(&section.words("_extra", "a list of arguments")?, sync, found),
        Some(_) => found.notes.push("rsync._extra is no list; lsyncd ignores it".to_owned()),
        None => {}
    }
    Ok(())
}

/// Brings arguments as they stand on rsync's command line into `sync`.
fn words(words: &[String], sync: &mut Sync, found: &mut Findings) {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let key = format!("rsync._extra {word}");
        let read = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => long_option(long, &mut words, sync, &key, found),
            (None, Some(letters)) if !letters.is_empty() => {
                letters_of(letters, &mut words, sync, &key, found)
            }
            _ => false,
        };
        if !read {
            found.unmapped.push(key);
        }
    }
}

/// Brings `name`, `name=value` or `no-name` into `sync`; says whether it could.
fn long_option(
    long: &str,
    words: &mut std::slice::Iter<String>,
    sync: &mut Sync,
    key: &str,
    found: &mut Findings,
) -> bool {
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let mut take = || value.map(str::to_owned).or_else(|| words.next().cloned());
    if name == "exclude" {
        return take().map(|pattern| sync.filters.push(rule('-', pattern))).is_some();
    }
    let name = name.replace('-', "_");
    let (name, on) = name.strip_prefix("no_").map_or((name.as_str(), true), |name| (name, false));
    match options().find(|(option, ..)| *option == name).map(|(_, _, meaning)| meaning) {
        None => false,
        Some(Value(set)) => take().is_some_and(|value| set(sync, &value)),
        Some(meaning) => {
            if matches!(meaning, MootValue | ForeignValue) {
                take();
            }
            switch(sync, meaning, on, key, found);
            true
        }
    }
}

/// Brings `-avz` into `sync`; says whether all letters are known.
fn letters_of(
    letters: &str,
    words: &mut std::slice::Iter<String>,
    sync: &mut Sync,
    key: &str,
    found: &mut Findings,
) -> bool {
    for (at, letter) in letters.char_indices() {
        if letter == 'e' {
            let rest = letters.get(at + 1..).filter(|rest| !rest.is_empty()).map(str::to_owned);
            return rest.or_else(|| words.next().cloned()).is_some_and(|value| rsh(sync, &value));
        }
        match (letter, options().find(|&(_, short, _)| short == letter && letter != ' ')) {
            ('D', _) => (sync.mask.devices, sync.mask.specials) = (true, true),
            ('P', _) => {}
            (_, Some((.., meaning))) => switch(sync, meaning, true, key, found),
            (_, None) => return false,
        }
    }
    true
}

/// Switches an option that has no value, or none that matters.
fn switch(sync: &mut Sync, meaning: Meaning, on: bool, key: &str, found: &mut Findings) {
    let name = key.rsplit('.').next().unwrap_or(key);
    match meaning {
        Flag(set) => set(sync, on),
        Moot | MootValue if on && !UNTOLD.contains(&name) => {
            found.notes.push(format!("{key} changes nothing here"));
        }
        Agree(agrees) if !agrees(sync, on) => found.unmapped.push(key.to_owned()),
        Foreign | ForeignValue if on => found.unmapped.push(key.to_owned()),
        _ => {}
    }
}

fn deletes(sync: &Sync, on: bool) -> bool {
    sync.delete == if on { DeleteMode::Always } else { DeleteMode::Never }
}

fn archive(sync: &mut Sync, on: bool) {
    if on {
        times(sync, true);
        let mask = &mut sync.mask;
        (mask.symlinks, mask.perms, mask.group, mask.owner) = (true, true, true, true);
        (mask.devices, mask.specials) = (true, true);
    }
}

fn times(sync: &mut Sync, on: bool) {
    (sync.mask.times, sync.mask.dir_times, sync.mask.link_times) = (on, on, on);
}

fn compress(sync: &mut Sync, on: bool) {
    sync.compress = if on { Compress::Always } else { Compress::Never };
}

fn extra(sync: &mut Sync, word: &str, on: bool) {
    if on {
        sync.ssh.extra.push(word.to_owned());
    }
}

fn bwlimit(sync: &mut Sync, value: &str) -> bool {
    parse_bwlimit(value).map(|rate| sync.bwlimit = rate).is_ok()
}

fn chmod(sync: &mut Sync, value: &str) -> bool {
    sync.selection.chmod.push(value.to_owned());
    Chmod::parse(value, 0).is_ok()
}

fn chown(sync: &mut Sync, value: &str) -> bool {
    sync.selection.chown = Some(value.to_owned());
    Chown::parse(value).is_ok()
}

fn owners(map: &mut Option<String>, value: &str) -> bool {
    *map = Some(value.to_owned());
    OwnerMap::parse(value).is_ok()
}

fn size(limit: &mut Option<u64>, value: &str) -> bool {
    parse_size(value).map(|bytes| *limit = Some(bytes)).is_ok()
}

/// Whole seconds; 0 is rsync's default, none, for which speil's own stays.
fn timeout(sync: &mut Sync, value: &str) -> bool {
    match value.parse::<u32>() {
        Ok(0) => true,
        Ok(seconds) => {
            sync.timeout = Duration::from_secs(u64::from(seconds));
            true
        }
        Err(_) => false,
    }
}

fn modify_window(sync: &mut Sync, value: &str) -> bool {
    // -1 asks for nanoseconds, which speil compares anyway.
    match value.parse::<i32>().map(u64::try_from) {
        Ok(window) => {
            sync.selection.modify_window = Duration::from_secs(window.unwrap_or(0));
            true
        }
        Err(_) => false,
    }
}

fn rsh(sync: &mut Sync, value: &str) -> bool {
    match split_words(value) {
        Ok(words) => {
            sync.ssh.command = Some(words);
            true
        }
        Err(_) => false,
    }
}

/// `sudo rsync` is `sudo` before the agent; a plain path of rsync says nothing.
fn rsync_path(sync: &mut Sync, value: &str) -> bool {
    let Ok(mut words) = split_words(value) else { return false };
    if words.pop().is_none_or(|last| last.rsplit('/').next() != Some("rsync")) {
        return false;
    }
    match words.first() {
        None => true,
        Some(first) if crate::config::mirror::is_wrapper(first) => {
            sync.agent = AgentSource::Prefixed(words);
            true
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_lsyncd_is_known_once_and_its_own_list_has_no_other() {
        let known: Vec<&str> = options().map(|(name, ..)| name).collect();
        for key in OF_LSYNCD.split_whitespace() {
            assert_eq!(known.iter().filter(|name| **name == key).count(), 1, "{key}");
        }
        let layer = include_str!("../../../lua/lsyncd.lua");
        let begin = layer.find("  acls append append_verify").unwrap();
        let list = layer.get(begin..).unwrap().split("]]").next().unwrap();
        let sorted = |words: &'static str| -> Vec<&str> {
            let mut words: Vec<&str> =
                words.split_whitespace().filter(|word| !word.starts_with('_')).collect();
            words.sort_unstable();
            words
        };
        assert_eq!(sorted(list), sorted(OF_LSYNCD));
    }

    #[test]
    fn what_lsyncd_hands_to_rsync_is_told_by_the_same_letters() {
        for (key, letter) in crate::config::drop_in::SHORT {
            let (_, own, _) = options().find(|(name, ..)| *name == key).unwrap();
            assert_eq!(own, char::from(letter), "{key}");
        }
    }
}
