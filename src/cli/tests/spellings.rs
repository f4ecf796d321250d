//! Every spelling of an option that `rsync --help` lists: taken, taken with a documented difference, or refused by name.

use super::super::refused::{ALWAYS_SO, refusal};
use super::super::table::groups;
use crate::config::KEYS;
use crate::config::switches::SWITCHES;

/// Keys of `sync{}` that are named as a word is and are no switches: they have a value, or `sync{}` says by several keys
/// what the word says at once (`times` and `dirTimes`, `xattrs` and `privilegedXattrs`), or the word implies more.
const APART: [&str; 8] =
    ["acls", "delete", "deleteExcluded", "oneFileSystem", "times", "xattrs", "forceRoot", "compress"];

/// An option stands in one row. A key that is added beside an equal word would be a second one.
#[test]
fn every_switch_of_configurations_is_a_word_and_no_key_is_a_switch_beside_the_table() {
    let all = groups(true).into_iter().chain(groups(false)).flat_map(|group| group.options);
    let names: Vec<String> =
        all.filter(|option| option.is_switch()).flat_map(|option| option.names()).collect();
    for switch in SWITCHES {
        let short = switch.short.map(|letter| format!("-{letter}"));
        let words = switch.no.iter().chain([&switch.long]).map(|word| format!("--{word}"));
        for word in words.chain(short) {
            assert!(names.contains(&word), "{word}");
        }
        assert_eq!(switch.lsyncd, switch.long.replace('-', "_"));
        assert!(switch.key.is_none_or(|key| !KEYS.contains(&key)), "{}", switch.long);
    }
    for key in KEYS.into_iter().filter(|key| !APART.contains(key)) {
        let kebab: String = key
            .chars()
            .flat_map(|c| c.is_uppercase().then_some('-').into_iter().chain([c.to_ascii_lowercase()]))
            .collect();
        let is_switch = names.contains(&format!("--{kebab}"));
        assert!(!is_switch, "{key} and --{kebab} are one option: it belongs into config/switches.rs");
    }
}

/// What becomes of a spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    /// Taken, and `contrib/rsync-differences.md` says what is different.
    Documented,
    Refused,
}

/// Returns every option as `rsync --help` spells it; `None` without rsync. What asks for help or the version is none.
fn spellings() -> Option<Vec<String>> {
    let help = std::process::Command::new("rsync").arg("--help").output().ok()?;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, options) = help.split_once("\nOptions\n")?;
    let mut all = Vec::new();
    for line in options.lines().filter(|line| line.starts_with('-')) {
        let (names, text) = line.split_once("  ").unwrap_or((line, ""));
        let aka = text.split("aka ").skip(1).filter_map(|rest| rest.split(')').next());
        for name in names.split([' ', ',']).chain(aka).filter(|name| name.starts_with('-')) {
            let name = name.split(['=', '[']).next().unwrap_or(name).to_owned();
            let is_help = matches!(name.as_str(), "--no-OPTION" | "--help" | "-h" | "--version" | "-V");
            if !is_help && !all.contains(&name) {
                all.push(name);
            }
        }
    }
    Some(all)
}

#[test]
fn every_spelling_of_the_installed_rsync_is_taken_or_refused_by_name() {
    let Some(spellings) = spellings() else {
        eprintln!("SKIPPED: no rsync on this host");
        return;
    };
    let ours: Vec<String> =
        groups(false).iter().flat_map(|group| group.options).flat_map(|option| option.names()).collect();
    let differences = include_str!("../../../contrib/rsync-differences.md");
    let documented = |name: &str| {
        differences
            .split('`')
            .skip(1)
            .step_by(2)
            .any(|code| code.split([' ', '=', ',']).any(|word| word == name))
    };
    let fate = |name: &str| {
        let long = name.trim_start_matches('-');
        let taken = ours.iter().any(|our| our == name) || ALWAYS_SO.contains(&long) || name == "-s";
        match (taken, refusal(name).is_some()) {
            (true, false) if documented(name) => Fate::Documented,
            (true, false) => Fate::Taken,
            (false, true) => Fate::Refused,
            (taken, refused) => panic!("{name}: taken {taken}, refused {refused}"),
        }
    };
    let fates: Vec<Fate> = spellings.iter().map(|name| fate(name)).collect();
    let count = |one: Fate| fates.iter().filter(|fate| **fate == one).count();
    println!(
        "of {} spellings {} are taken as in rsync, {} with a documented difference, {} are refused by name",
        fates.len(),
        count(Fate::Taken),
        count(Fate::Documented),
        count(Fate::Refused)
    );
    let refused = spellings.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Refused);
    println!("refused: {}", refused.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" "));
    assert!(fates.len() > 190, "only {} options were found", fates.len());
    // What is taken once stays taken.
    assert!(count(Fate::Refused) <= REFUSED_MAX, "{} are refused", count(Fate::Refused));
}

/// Spellings that are refused by name, at most.
const REFUSED_MAX: usize = 47;
