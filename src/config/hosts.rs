//! `hosts`: the hosts that hold one tree, in a configuration that is the same file on each of them.
//!
//! **In → out:** the table and what this host is called → which of them this host is, and the others as targets.
//! **Invariants:** exactly one key means this host, or nothing is configured; every entry is checked on every host, so
//! that what is wrong is found by the first one. **Not here:** which of them sends: the roles of the trees say that.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::error::{ConfigError, Fault};
use crate::config::raw::{Raw, RawTable, Section, lit};
use crate::config::target::{TARGETS, bare_host, parse_target};
use crate::config::{Hosts, Target};

const HOSTS: &str = "names and addresses: { oslo = \"root@10.8.0.1\", bergen = \"root@10.8.0.2\" }";
const ENTRY: &str = "\"root@10.8.0.1\", with \":/dir/\" where the tree is not at source, or { \"root@10.8.0.1\", \
                     mayLead = false }";
const DIRECTORY: &str = "with an absolute directory, or with none";
const NAME: &str = "a name of at most 64 characters without blanks, \"/\" and \":\"";

/// By what this host is known.
pub(super) struct ThisHost {
    /// What it is called.
    pub name: String,
    /// What `settings.host` says.
    pub chosen: Option<String>,
}

/// Options by which a standby may rightly differ from its primary.
const DIFFER: [&str; 6] = ["update", "existing", "ignoreExisting", "sizeOnly", "maxSize", "minSize"];

/// What `hosts` makes of a sync.
pub(super) struct HostTargets {
    /// Where the tree is on this host.
    pub source: PathBuf,
    /// Where it is on the others.
    pub targets: Vec<Target>,
    /// Which host this is.
    pub hosts: Hosts,
}

/// Reads `hosts`; `None` if it is not given. `source` is where the tree is on a host whose entry names no directory.
///
/// # Errors
/// [`ConfigError`] (die) for what cannot be read or stands beside `target`, and where not exactly one key means this
/// host.
pub(super) fn hosts(
    section: &Section<'_>,
    source: &Path,
    this: &ThisHost,
) -> Result<Option<HostTargets>, ConfigError> {
    let Some(table) = section.section("hosts", HOSTS)? else { return Ok(None) };
    if let Some(key) = TARGETS.into_iter().find(|key| section.get(key).is_some()) {
        return Err(section.error(Fault::Both("hosts", key)));
    }
    // As the sessions refuse it: a standby that may differ could not be promoted.
    let is_on = |key: &&str| section.get(key).is_some_and(|given| *given != Raw::Bool(false));
    if let Some(key) = DIFFER.into_iter().find(is_on) {
        return Err(section.error(Fault::Both("hosts", key)));
    }
    if let Some(stray) = table.table.items.values().next() {
        return Err(section.error(Fault::Stray { block: "hosts", given: stray.describe() }));
    }
    let mut all = Vec::new();
    for (key, given) in &table.table.named {
        all.push(entry(&table, key, given, source)?);
    }
    distinct(section, &all)?;
    if !all.iter().any(|host| host.may_lead) {
        return Err(section.error(Fault::NobodyMayLead));
    }
    let here = this.among(&all).map_err(|fault| section.error(fault))?;
    let own = all.remove(here);
    if all.is_empty() {
        return Err(section.error(Fault::NoOtherHost(own.name)));
    }
    let hosts = Hosts { here: own.name, may_lead: own.may_lead };
    Ok(Some(HostTargets { source: PathBuf::from(OsStr::from_bytes(&own.path)), targets: all, hosts }))
}

impl ThisHost {
    /// Returns which of the hosts this is.
    fn among(&self, all: &[Target]) -> Result<usize, Fault> {
        let names = |found: &[usize]| found.iter().map(|&at| all[at].name.clone()).collect::<Vec<_>>();
        let every: Vec<usize> = (0..all.len()).collect();
        let is_meant = |at: &usize| match &self.chosen {
            Some(chosen) => all[*at].name == *chosen,
            None => same_host(&all[*at].name, &self.name),
        };
        let found: Vec<usize> = every.iter().copied().filter(is_meant).collect();
        match (&found[..], &self.chosen) {
            ([one], _) => Ok(*one),
            ([], Some(chosen)) => Err(Fault::NotAmongHosts { hosts: names(&every), chosen: chosen.clone() }),
            ([], None) => Err(Fault::NoSuchHost { hosts: names(&every), name: self.name.clone() }),
            (several, _) => Err(Fault::SeveralHosts { hosts: names(several), name: self.name.clone() }),
        }
    }
}

/// Whether a key means a host of this name: they are equal, or one of them is the other's first label.
fn same_host(key: &str, name: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let short = !key.contains('.') || !name.contains('.');
    key.eq_ignore_ascii_case(name) || short && first(key) == first(name)
}

/// Reads one host's entry.
fn entry(table: &Section<'_>, key: &str, given: &Raw, source: &Path) -> Result<Target, ConfigError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '"' | '\\' | '`');
    if key.is_empty() || key.chars().count() > 64 || key.chars().any(odd) || key.starts_with('-') {
        return Err(table.error(Fault::Value {
            key: "hosts".to_owned(),
            given: lit(key).describe(),
            allowed: NAME,
        }));
    }
    let mut may_lead = true;
    let address = match given {
        Raw::Text(address) => address,
        Raw::Table(more) => {
            let more = Section { place: table.place, prefix: format!("{}{key}.", table.prefix), table: more };
            address_of(table, &more, key, given, &mut may_lead)?
        }
        _ => return Err(table.wrong(key, given, ENTRY)),
    };
    let target = parse_target(whole(address, source)).map_err(|error| table.error(Fault::Target(error)))?;
    if !target.path.starts_with(b"/") {
        return Err(table.wrong(key, given, DIRECTORY));
    }
    Ok(Target { name: key.to_owned(), may_lead, ..target })
}

/// Reads an entry that says more than an address.
fn address_of<'a>(
    table: &Section<'_>,
    more: &Section<'a>,
    key: &str,
    given: &Raw,
    may_lead: &mut bool,
) -> Result<&'a Vec<u8>, ConfigError> {
    let RawTable { named, items } = more.table;
    if let Some(unknown) = named.keys().find(|key| *key != "mayLead") {
        let near = crate::config::nearest(unknown, &["mayLead"]);
        return Err(more.error(Fault::UnknownKey { key: format!("{}{unknown}", more.prefix), near }));
    }
    more.flag("mayLead", may_lead)?;
    match (items.len(), items.get(&1)) {
        (1, Some(Raw::Text(address))) => Ok(address),
        _ => Err(table.wrong(key, given, ENTRY)),
    }
}

/// Returns an address with its directory: `source`, unless it names one.
fn whole(address: &[u8], source: &Path) -> Vec<u8> {
    let user_len = address.iter().position(|&byte| byte == b'@').map_or(0, |at| at + 1);
    let host = &address[user_len..];
    let is_bare = match host {
        [b'[', .., b']'] => !host.contains(&b'/'),
        _ => !host.is_empty() && !host.contains(&b':') && !address.contains(&b'/'),
    };
    if is_bare { [address, b":", source.as_os_str().as_bytes()].concat() } else { address.to_vec() }
}

/// Refuses two entries that name one tree: each would take the other for itself.
fn distinct(section: &Section<'_>, all: &[Target]) -> Result<(), ConfigError> {
    for (at, one) in all.iter().enumerate() {
        let same = |other: &&Target| bare_host(one) == bare_host(other) && one.path == other.path;
        if let Some(other) = all.iter().skip(at + 1).find(same) {
            return Err(section.error(Fault::TargetTwice { target: other.to_string(), other: None }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sync, load_all};

    const THREE: &str = "hosts = { oslo = 'root@10.8.0.1:/data/', bergen = 'bergen', \
                         tromso = { 'root@[fe80::3]', mayLead = false } }";

    /// Loads a sync with these keys on the host that `settings.host` names.
    fn on(host: &str, keys: &str) -> Result<Sync, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.lua");
        let text = format!(
            "settings {{ host = '{host}' }} sync {{ default.mirror, name = 'uploads', source = '/srv/', {keys} }}"
        );
        std::fs::write(&file, text).unwrap();
        match load_all(&[&file]) {
            Ok(loaded) => Ok(loaded.config.syncs[0].clone()),
            Err(error) => Err(match error.hint() {
                Some(hint) => format!("{}; hint: {hint}", error.message()),
                None => error.message(),
            }),
        }
    }

    #[test]
    fn one_file_says_on_each_host_where_its_tree_is_and_which_the_others_are() {
        let told = |host| {
            let sync = on(host, THREE).unwrap();
            let others = sync.targets.iter().map(|it| (it.name.clone(), it.to_string(), it.may_lead));
            (sync.source.display().to_string(), sync.hosts.unwrap().may_lead, others.collect::<Vec<_>>())
        };
        let other = |name: &str, tree: &str, leads| (name.to_owned(), tree.to_owned(), leads);
        let oslo = other("oslo", "root@10.8.0.1:/data", true);
        let bergen = other("bergen", "bergen:/srv", true);
        let tromso = other("tromso", "root@[fe80::3]:/srv", false);
        assert_eq!(told("oslo"), ("/data".to_owned(), true, vec![bergen.clone(), tromso.clone()]));
        assert_eq!(told("bergen"), ("/srv".to_owned(), true, vec![oslo.clone(), tromso]));
        assert_eq!(told("tromso"), ("/srv".to_owned(), false, vec![bergen, oslo]));
    }

    #[test]
    fn what_is_wrong_with_hosts_is_said_with_what_to_write() {
        for (host, keys, said) in [
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = 'i' }, target = 'h:/d'",
                "key \"hosts\" and key \"target\" cannot both be given",
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = 'i' }, targets = {}",
                "key \"hosts\" and key \"targets\" cannot both be given",
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = 'i' }, update = true",
                "key \"hosts\" and key \"update\" cannot both be given",
            ),
            (
                "olso",
                "hosts = { oslo = 'h', bergen = 'i' }",
                "key \"settings.host\" is \"olso\", and key \"hosts\" has bergen and oslo: write one of these",
            ),
            (
                "oslo",
                "hosts = { oslo = 'h' }",
                "key \"hosts\" names no other host than oslo; hint: add the others: hosts = { oslo = \"root@10.8.0.1\", bergen = ... }",
            ),
            (
                "oslo",
                "hosts = { 'root@h', 'root@i' }",
                "hosts cannot hold \"root@h\" without a key; hint: name each host: hosts = { oslo = \"root@10.8.0.1\", ... }",
            ),
        ] {
            assert_eq!(on(host, keys).unwrap_err(), said, "{keys}");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_reached_as_it_is_written_is_named() {
        for (host, keys, said) in [
            ("oslo", "hosts = 'h'", format!("key \"hosts\" is \"h\", allowed: {HOSTS}")),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = 5 }",
                format!("key \"hosts.bergen\" is 5, allowed: {ENTRY}"),
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = { mayLead = false } }",
                format!("key \"hosts.bergen\" is a table, allowed: {ENTRY}"),
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = { 'i', maylead = false } }",
                "unknown key \"hosts.bergen.maylead\"; hint: did you mean \"mayLead\"?".to_owned(),
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = { 'i', mayLead = 'no' } }",
                "key \"hosts.bergen.mayLead\" is \"no\", allowed: true or false".to_owned(),
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', bergen = 'i:d' }",
                format!("key \"hosts.bergen\" is \"i:d\", allowed: {DIRECTORY}"),
            ),
            ("oslo", "hosts = { oslo = 'h', bergen = 'root@h' }", "target h:/srv is given twice".to_owned()),
            (
                "oslo",
                "hosts = { oslo = { 'h', mayLead = false }, bergen = { 'i', mayLead = false } }",
                "key \"hosts\" lets no host lead: each entry has mayLead = false".to_owned(),
            ),
            (
                "oslo",
                "hosts = { oslo = 'h', ['a b'] = 'i' }",
                format!("key \"hosts\" is \"a b\", allowed: {NAME}"),
            ),
            (
                "oslo",
                "hosts = { oslo = '-h', bergen = 'i' }",
                "target \"-h:/srv\": a host or user that begins with \"-\" would be taken for an option of ssh".to_owned(),
            ),
        ] {
            assert_eq!(on(host, keys).unwrap_err(), said, "{keys}");
        }
    }

    #[test]
    fn none_or_two_that_could_be_this_host_is_an_error_that_names_them() {
        let host = |name: &str| Target { name: name.to_owned(), ..parse_target("h:/d").unwrap() };
        let all = |names: &[&str]| names.iter().map(|name| host(name)).collect::<Vec<_>>();
        let this = |name: &str, chosen: Option<&str>| ThisHost {
            name: name.to_owned(),
            chosen: chosen.map(str::to_owned),
        };
        let three = all(&["bergen", "oslo", "tromso"]);
        assert_eq!(this("oslo.example.no", None).among(&three), Ok(1));
        assert_eq!(this("web1", Some("tromso")).among(&three), Ok(2));
        assert_eq!(
            this("web1", None).among(&three).unwrap_err().to_string(),
            "none of the hosts bergen, oslo and tromso is this one, which is called \"web1\": write settings { host = \
             \"bergen\" }, or whichever it is"
        );
        assert_eq!(
            this("oslo", None).among(&all(&["oslo.a", "oslo.b"])).unwrap_err().to_string(),
            "each of the hosts oslo.a and oslo.b could be this one, which is called \"oslo\": write settings { host = \
             \"oslo.a\" }, or whichever it is"
        );
        assert_eq!(this("oslo.a", None).among(&all(&["oslo.a", "oslo.b"])), Ok(0));
        assert!(this("oslo.a", None).among(&all(&["oslo", "oslo.a"])).is_err());
    }

    #[test]
    fn a_key_means_a_host_by_its_whole_name_or_its_first_label() {
        for (key, name, means) in [
            ("oslo", "oslo", true),
            ("oslo", "oslo.example.no", true),
            ("Oslo", "oslo.example.no", true),
            ("oslo.example.no", "oslo", true),
            ("oslo.example.no", "oslo.example.no", true),
            ("oslo.example.no", "oslo.example.se", false),
            ("oslo", "oslo2", false),
            ("oslo", "bergen", false),
        ] {
            assert_eq!(same_host(key, name), means, "{key} {name}");
        }
    }

    #[test]
    fn an_address_without_a_directory_means_the_source() {
        for (address, expected) in [
            ("root@10.8.0.1", "root@10.8.0.1:/s"),
            ("web1", "web1:/s"),
            ("root@[fe80::1]", "root@[fe80::1]:/s"),
            ("[::1]:/d", "[::1]:/d"),
            ("web1:/d/", "web1:/d/"),
            ("/d", "/d"),
            ("::1", "::1"),
        ] {
            assert_eq!(whole(address.as_bytes(), Path::new("/s")), expected.as_bytes(), "{address}");
        }
    }
}
