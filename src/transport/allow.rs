//! Where a host leads, and whether data may go there.
//!
//! **Purpose:** `allowTargets`, judged by what ssh would really connect to, before it is started.
//! **In → Out:** what `ssh -G` says of a host and of the hosts on the way to it; nothing, or a refusal.
//! **Invariants:** what cannot be known is refused; every address that a name resolves to must be
//! allowed, since ssh may take any; jump hosts are judged as targets are.
//! **Not here:** whether a host is who it says it is: its key tells that. **Sources:** ssh_config(5).

use std::net::{IpAddr, ToSocketAddrs};
use std::process::{Command, Stdio};

use super::TransportError;
use crate::config::Allowed;
use crate::tree::quote;

/// Most hosts on the way to one.
const HOPS_MAX: usize = 8;

/// What `ssh -G` says, in its words.
type Lines = Vec<(String, String)>;

/// Refuses a host whose name, and one of whose addresses, is not allowed.
pub(super) fn check_host(allowed: &Allowed, host: &str, found: &[IpAddr]) -> Result<(), TransportError> {
    if !allowed.is_limited() || allowed.allows_name(host) {
        return Ok(());
    }
    match found.iter().find(|&&address| !allowed.allows_address(address)) {
        None if found.is_empty() => Err(refused(host, "has no address that could be judged".to_owned())),
        None => Ok(()),
        Some(address) if host.parse() == Ok(*address) => Err(refused(host, "is not allowed".to_owned())),
        Some(address) => Err(refused(host, format!("is {address}, which is not allowed"))),
    }
}

fn refused(host: &str, why: String) -> TransportError {
    TransportError::Forbidden { host: host.to_owned(), why }
}

/// Refuses what `words` (ssh and its options, up to the host) would connect `host` to.
pub(super) fn check_ssh(allowed: &Allowed, words: &[String], host: &str) -> Result<(), TransportError> {
    if !allowed.is_limited() {
        return Ok(());
    }
    let program = words.first().map(String::as_str).unwrap_or_default();
    if program.rsplit('/').next() != Some("ssh") {
        return Err(refused(
            host,
            format!("is reached by {}: where that leads is unknown", quote(program.as_bytes())),
        ));
    }
    let asked = |jump: Option<&str>, host: &str| match jump {
        None => ask(words, host),
        // Of all options only the file is handed on to a jump host.
        Some(jump) => ask(&[&words[..1], &config_file(words)].concat(), jump),
    };
    judge(allowed, host, &asked, &resolve)
}

/// Returns the `-F FILE` among ssh's words.
fn config_file(words: &[String]) -> Vec<String> {
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.strip_prefix("-F") {
            Some("") => return words.next().map_or(Vec::new(), |file| vec![word.clone(), file.clone()]),
            Some(_) => return vec![word.clone()],
            None => {}
        }
    }
    Vec::new()
}

fn ask(words: &[String], host: &str) -> Result<Lines, TransportError> {
    let (program, arguments) = words.split_first().ok_or_else(|| refused(host, "has no ssh".to_owned()))?;
    let output = Command::new(program).args(arguments).arg("-G").arg(host).stdin(Stdio::null()).output();
    let output = output.map_err(|error| TransportError::Start { program: program.clone(), error })?;
    if !output.status.success() {
        return Err(refused(host, "leads nobody knows where: ssh -G failed".to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line =
        |line: &str| line.split_once(' ').map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    Ok(text.lines().filter_map(line).collect())
}

fn resolve(host: &str, family: &str) -> Vec<IpAddr> {
    // A zone says by which interface, not where.
    let bare = host.split_once('%').map_or(host, |(bare, _)| bare);
    if let Ok(address) = bare.parse() {
        return vec![address];
    }
    let found = (host, 22).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let wanted = |address: &IpAddr| match family {
        "inet" => address.is_ipv4(),
        "inet6" => address.is_ipv6(),
        _ => true,
    };
    found.into_iter().map(|found| found.ip()).filter(wanted).collect()
}

/// Asks what ssh makes of a host: the target itself, or a jump host.
type Ask<'a> = &'a dyn Fn(Option<&str>, &str) -> Result<Lines, TransportError>;
/// Resolves a host's name within an address family.
type Resolve<'a> = &'a dyn Fn(&str, &str) -> Vec<IpAddr>;

/// Judges a host and those on the way to it.
fn judge(allowed: &Allowed, target: &str, ask: Ask<'_>, resolve: Resolve<'_>) -> Result<(), TransportError> {
    let mut lines = ask(None, target)?;
    let mut next = target.to_owned();
    let mut waiting: Vec<String> = Vec::new();
    for hop in 0..HOPS_MAX {
        let first = |key: &str| lines.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        if let Some(command) = first("proxycommand").filter(|value| *value != "none") {
            let why =
                format!("goes through ProxyCommand {}, whose end is unknown", quote(command.as_bytes()));
            return Err(refused(&next, why));
        }
        // A list of jumps on one host stands for the jumps of all but the first of them.
        if waiting.is_empty() {
            let jumps = first("proxyjump").filter(|value| *value != "none").unwrap_or_default();
            waiting = jumps.split(',').filter(|jump| !jump.is_empty()).map(str::to_owned).collect();
        }
        let bare = next.rsplit_once('@').map_or(next.as_str(), |(_, bare)| bare);
        let name = first("hostname").unwrap_or(bare).replace("%h", bare);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let found = if waiting.is_empty() {
            resolve(name, first("addressfamily").unwrap_or_default())
        } else {
            // A name is resolved by the host before this one, and not by us.
            name.parse().into_iter().collect()
        };
        check_host(allowed, name, &found)?;
        let Some(jump) = waiting.pop() else { return Ok(()) };
        let jump = jump_host(&jump);
        if hop + 1 < HOPS_MAX {
            lines = ask(Some(&jump), target)?;
        }
        next = jump;
    }
    Err(refused(target, format!("lies behind {HOPS_MAX} or more jump hosts")))
}

/// Returns the host of `[USER@]HOST[:PORT]` or `ssh://…`.
fn jump_host(jump: &str) -> String {
    let jump = jump.strip_prefix("ssh://").unwrap_or(jump).trim_end_matches('/');
    let bare = jump.rsplit_once('@').map_or(jump, |(_, bare)| bare);
    if let Some((inside, _)) = bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside.to_owned();
    }
    match bare.split_once(':') {
        Some((host, port)) if !port.contains(':') => host.to_owned(),
        _ => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(rules: &[&str]) -> Allowed {
        Allowed::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    /// What ssh says of a few hosts.
    fn ask(jump: Option<&str>, host: &str) -> Result<Lines, TransportError> {
        let lines: &[(&str, &str)] = match jump.unwrap_or(host) {
            "plain" => &[("hostname", "web2.example.no")],
            "alias" => &[("hostname", "203.0.113.5")],
            "private" => &[("hostname", "10.8.0.2")],
            "v6" => &[("hostname", "both"), ("addressfamily", "inet6")],
            "behind" => &[("hostname", "10.8.0.9"), ("proxyjump", "root@gate:2222")],
            "far" => &[("hostname", "10.8.0.9"), ("proxyjump", "private,plain")],
            "named" => &[("hostname", "inner"), ("proxyjump", "private")],
            "gate" => &[("hostname", "198.51.100.1")],
            "piped" => &[("hostname", "10.8.0.3"), ("proxycommand", "nc %h %p")],
            "loop" => &[("hostname", "10.8.0.4"), ("proxyjump", "loop")],
            other => panic!("{other}"),
        };
        Ok(lines.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn resolve(host: &str, family: &str) -> Vec<IpAddr> {
        match (host, family) {
            ("web2.example.no", _) => vec!["203.0.113.9".parse().unwrap()],
            ("both", "inet6") => vec!["2001:db8::1".parse().unwrap()],
            ("both", _) => vec!["10.8.0.2".parse().unwrap(), "203.0.113.5".parse().unwrap()],
            (literal, _) => literal.parse().into_iter().collect(),
        }
    }

    fn says(rules: &[&str], host: &str) -> String {
        judge(&allowed(rules), host, &ask, &resolve)
            .map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    #[test]
    fn a_target_is_judged_by_where_ssh_would_connect() {
        assert_eq!(says(&["10.8.0.0/24"], "private"), "ok");
        assert_eq!(says(&["*.example.no"], "plain"), "ok");
        assert_eq!(says(&["203.0.113.0/24"], "plain"), "ok");
        assert!(
            says(&["alias"], "alias").contains("203.0.113.5"),
            "the name in the configuration says nothing"
        );
        let text = says(&["10.8.0.0/24"], "plain");
        assert!(text.contains("203.0.113.9") && text.contains("nothing was sent"), "{text}");
        assert_eq!(says(&["2001:db8::/32"], "v6"), "ok");
    }

    #[test]
    fn jump_hosts_are_judged_as_targets_are() {
        assert!(says(&["10.8.0.0/24"], "behind").contains("198.51.100.1"));
        assert_eq!(says(&["10.8.0.0/24", "198.51.100.0/24"], "behind"), "ok");
        assert!(says(&["10.8.0.0/24"], "far").contains("web2.example.no"));
        assert_eq!(says(&["10.8.0.0/24", "*.example.no"], "far"), "ok");
        assert!(says(&["*.example.no"], "far").contains("10.8.0.9"));
        // What `inner` is, only the jump host knows.
        assert!(says(&["10.8.0.0/24"], "named").contains("inner"));
        assert_eq!(says(&["10.8.0.0/24", "inner.lan", "inner"], "named"), "ok");
        assert!(says(&["10.8.0.0/24"], "loop").contains("jump hosts"));
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        assert!(says(&["10.8.0.0/24"], "piped").contains("ProxyCommand"));
        let other = check_ssh(&allowed(&["10.8.0.0/24"]), &["/opt/carrier".to_owned()], "private");
        assert!(matches!(other, Err(TransportError::Forbidden { .. })));
        assert!(check_ssh(&Allowed::default(), &["/opt/carrier".to_owned()], "private").is_ok());
    }

    #[test]
    fn every_address_of_a_name_must_be_allowed() {
        let both = resolve("both", "");
        assert!(check_host(&allowed(&["10.8.0.0/24"]), "both", &both).is_err());
        assert!(check_host(&allowed(&["10.8.0.0/24", "203.0.113.5"]), "both", &both).is_ok());
        assert!(check_host(&allowed(&["10.8.0.0/24"]), "none", &[]).is_err());
    }

    #[test]
    fn jumps_are_read_as_ssh_writes_them() {
        for (text, host) in [
            ("gate", "gate"),
            ("me@gate:2222", "gate"),
            ("ssh://me@gate:22/", "gate"),
            ("me@[fe80::1]:22", "fe80::1"),
            ("fe80::1", "fe80::1"),
        ] {
            assert_eq!(jump_host(text), host);
        }
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(config_file(&words(&["ssh", "-p", "1", "-F", "file"])), ["-F", "file"]);
        assert_eq!(config_file(&words(&["ssh", "-Ffile"])), ["-Ffile"]);
    }
}
