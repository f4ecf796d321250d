//! Targets as rsync writes them, and what they are called.
//!
//! **Purpose:** `USER@HOST:PATH`, `[::1]:/path` or a local path into a [`Target`].
//! **Invariants:** a host never begins with `-` and holds nothing that a shell or ssh would read
//! otherwise; a path is never empty and ends in no slash but its first. **Sources:** rsync(1), ssh(1).

use crate::config::Target;
use crate::tree::quote;

/// The keys of a sync that say where its targets are; one of them is given, or `hosts`.
pub(super) const TARGETS: [&str; 3] = ["target", "targets", "targetsFile"];

/// A text that is no target. Consequence: die; the configuration is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing.
    #[error("a target is empty")]
    Empty,
    /// `rsync://host/module`.
    #[error("target {0}: speil does not speak to an rsync daemon (rsync://)")]
    RsyncUrl(String),
    /// `ssh://host/path` and the like.
    #[error("target {0}: speil takes no URLs")]
    Url(String),
    /// `host::module`.
    #[error("target {0}: speil does not speak to an rsync daemon (host::module)")]
    RsyncModule(String),
    /// No host before the colon, or a bracket that does not close.
    #[error("target {0}: no host before the colon")]
    NoHost(String),
    /// A host that ssh would take for an option.
    #[error("target {0}: a host or user that begins with \"-\" would be taken for an option of ssh")]
    DashHost(String),
    /// A character that no host or user has.
    #[error("target {0}: {1:?} cannot be part of a host or user")]
    HostCharacter(String, char),
    /// A NUL byte.
    #[error("target {0}: a path holds no NUL byte")]
    Nul(String),
    /// The home of another user, which only a shell could find.
    #[error("target {0}: the home directory of another user")]
    OtherHome(String),
    /// A local path with a tilde, which only a shell would replace.
    #[error("target {0}: \"~\" is not replaced in a local path")]
    LocalHome(String),
}

impl TargetError {
    /// Returns what to write instead.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RsyncUrl(_) | Self::RsyncModule(_) => Some("write host:/path; speil goes over ssh"),
            Self::Url(_) => {
                Some("write HOST:/PATH; a port goes into ~/.ssh/config, or into -e \"ssh -p PORT\"")
            }
            Self::NoHost(_) => Some("a local path with a colon begins with \"./\" or \"/\""),
            Self::OtherHome(_) => Some("write the absolute path"),
            Self::LocalHome(_) => Some("write the absolute path, or \"./~\" for a directory of that name"),
            _ => None,
        }
    }
}

/// Returns the target that `spec` names, as rsync reads it: what comes before the first colon is the
/// host unless a slash comes before it. An empty remote path is the home directory, `.`.
///
/// Its name is the host, or the last component of a local path; [`name_targets`] makes names unique.
///
/// # Errors
/// [`TargetError`] for rsync daemons, hosts that ssh could misread, and paths that need a shell.
pub fn parse_target(spec: impl AsRef<[u8]>) -> Result<Target, TargetError> {
    let spec = spec.as_ref();
    let shown = || quote(spec);
    if spec.is_empty() {
        return Err(TargetError::Empty);
    }
    if spec.contains(&0) {
        return Err(TargetError::Nul(shown()));
    }
    if spec.len() >= 8 && spec[..8].eq_ignore_ascii_case(b"rsync://") {
        return Err(TargetError::RsyncUrl(shown()));
    }
    if is_url(spec) {
        return Err(TargetError::Url(shown()));
    }
    let Some((host, path)) = split_host(spec)? else {
        if spec == b"~" || spec.starts_with(b"~/") {
            return Err(TargetError::LocalHome(shown()));
        }
        return Ok(named(None, clean(spec)));
    };
    if path.starts_with(b":") {
        return Err(TargetError::RsyncModule(shown()));
    }
    let host = check_host(&host).map_err(|error| match error {
        HostFault::Empty => TargetError::NoHost(shown()),
        HostFault::Dash => TargetError::DashHost(shown()),
        HostFault::Character(c) => TargetError::HostCharacter(shown(), c),
    })?;
    let path = match path.strip_prefix(b"~") {
        None => path,
        Some(b"") => b"",
        Some([b'/', below @ ..]) => {
            let start = below.iter().position(|&b| b != b'/').unwrap_or(below.len());
            below.get(start..).unwrap_or_default()
        }
        Some(_) => return Err(TargetError::OtherHome(shown())),
    };
    Ok(named(Some(host), clean(path)))
}

/// Whether `spec` is written as a URL. To rsync this is a host that is called like its scheme.
fn is_url(spec: &[u8]) -> bool {
    const SCHEMES: [&[u8]; 8] = [b"ssh", b"scp", b"sftp", b"ftp", b"file", b"http", b"https", b"smb"];
    SCHEMES.iter().any(|scheme| {
        spec.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
            && spec[scheme.len()..].starts_with(b"://")
    })
}

/// Whether `spec` names another host, rightly or not.
pub fn is_remote(spec: &[u8]) -> bool {
    !matches!(split_host(spec), Ok(None))
}

/// Returns the path of `spec` as it is written, where that names another host.
pub fn remote_path(spec: &[u8]) -> Option<&[u8]> {
    split_host(spec).ok().flatten().map(|(_, path)| path)
}

fn named(host: Option<String>, path: Vec<u8>) -> Target {
    let mut target = Target { host, path, name: String::new(), makes: 1, may_lead: true, lands: None };
    target.name = label(&target, 0);
    target
}

/// A host without its brackets, and the path after the colon.
type HostAndPath<'a> = (Vec<u8>, &'a [u8]);

/// Splits `HOST:PATH`, brackets taken off; `None` for a local path.
fn split_host(spec: &[u8]) -> Result<Option<HostAndPath<'_>>, TargetError> {
    let user_len = spec.iter().position(|&b| matches!(b, b'@' | b'/' | b':')).filter(|&at| spec[at] == b'@');
    let start = user_len.map_or(0, |at| at + 1);
    if spec.get(start) == Some(&b'[') {
        let Some(len) = spec[start..].windows(2).position(|pair| pair == b"]:") else {
            return if spec.contains(&b':') { Err(TargetError::NoHost(quote(spec))) } else { Ok(None) };
        };
        let inside = &spec[start + 1..start + len];
        if !inside.contains(&b'/') {
            return Ok(Some(([&spec[..start], inside].concat(), &spec[start + len + 2..])));
        }
    }
    match spec.iter().position(|&b| b == b':' || b == b'/') {
        Some(at) if spec[at] == b':' => Ok(Some((spec[..at].to_vec(), &spec[at + 1..]))),
        _ => Ok(None),
    }
}

enum HostFault {
    Empty,
    Dash,
    Character(char),
}

/// Checks `USER@HOST` for what ssh, or a shell behind its `%h`, would read otherwise.
fn check_host(host: &[u8]) -> Result<String, HostFault> {
    let text = std::str::from_utf8(host).map_err(|_| HostFault::Character('\u{fffd}'))?;
    if let Some(c) =
        text.chars().find(|&c| c.is_whitespace() || c.is_control() || "'`\"$\\;&<>|(){}[],/?*#".contains(c))
    {
        return Err(HostFault::Character(c));
    }
    let (user, bare) = text.rsplit_once('@').map_or((None, text), |(user, bare)| (Some(user), bare));
    if bare.is_empty() || user == Some("") {
        return Err(HostFault::Empty);
    }
    if bare.starts_with('-') || text.starts_with('-') {
        return Err(HostFault::Dash);
    }
    Ok(text.to_owned())
}

/// Takes off slashes at the end and doubled ones; nothing becomes `.`.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || clean.last() != Some(&b'/') {
            clean.push(byte);
        }
    }
    if clean.len() > 1 && clean.last() == Some(&b'/') {
        clean.pop();
    }
    if clean.is_empty() { b".".to_vec() } else { clean }
}

/// Returns the host without its user.
pub(super) fn bare_host(target: &Target) -> Option<&str> {
    let host = target.host.as_deref()?;
    Some(host.rsplit_once('@').map_or(host, |(_, bare)| bare))
}

/// Returns what a target could be called: the shortest form at `level` 0, the whole one at 2.
fn label(target: &Target, level: usize) -> String {
    let path = quote(&target.path);
    let path = path.trim_matches('"');
    match (bare_host(target), level) {
        (Some(host), 0) => host.to_owned(),
        (Some(host), 1) => format!("{host}:{path}"),
        (Some(_), _) => target.to_string(),
        (None, 0) => match path.rsplit('/').next() {
            Some("") | None => path.to_owned(),
            Some(name) => name.to_owned(),
        },
        (None, _) => path.to_owned(),
    }
}

/// Gives every target of a sync a name of its own: its host, with the path where two targets share
/// the host, with the user where they share that too.
pub fn name_targets(targets: &mut [Target]) {
    let mut levels = vec![0usize; targets.len()];
    for _ in 0..2 {
        let labels: Vec<String> =
            targets.iter().zip(&levels).map(|(target, &level)| label(target, level)).collect();
        for (at, level) in levels.iter_mut().enumerate() {
            if labels.iter().enumerate().any(|(other, name)| other != at && Some(name) == labels.get(at)) {
                *level += 1;
            }
        }
    }
    let mut taken: Vec<String> = Vec::with_capacity(targets.len());
    for (target, level) in targets.iter_mut().zip(levels) {
        let name = label(target, level);
        target.name = unique(&name, &taken);
        taken.push(target.name.clone());
    }
}

/// Returns `name`, with a number after it if it is taken.
pub(super) fn unique(name: &str, taken: &[String]) -> String {
    let free = |name: &String| !taken.contains(name);
    std::iter::once(name.to_owned())
        .chain((2..).map(|number: u32| format!("{name}-{number}")))
        .find(free)
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> (Option<String>, String) {
        let target = parse_target(spec).unwrap();
        (target.host, String::from_utf8(target.path).unwrap())
    }

    #[test]
    fn targets_read_as_rsync_reads_them() {
        for (spec, host, path) in [
            ("web2:/srv/www/", Some("web2"), "/srv/www"),
            ("deploy@10.8.0.2:/var/www/html/uploads/", Some("deploy@10.8.0.2"), "/var/www/html/uploads"),
            ("[::1]:/p", Some("::1"), "/p"),
            ("me@[fe80::1%eth0]:p", Some("me@fe80::1%eth0"), "p"),
            ("web2:backup", Some("web2"), "backup"),
            ("web2:", Some("web2"), "."),
            ("web2:~/b", Some("web2"), "b"),
            ("web2:~", Some("web2"), "."),
            ("web2:a:b", Some("web2"), "a:b"),
            ("/srv/a:b", None, "/srv/a:b"),
            ("./a:b", None, "./a:b"),
            ("dir", None, "dir"),
            ("/", None, "/"),
            ("//srv///www//", None, "/srv/www"),
            ("h:/", Some("h"), "/"),
            ("odd@dir/x:y", None, "odd@dir/x:y"),
            ("[dir", None, "[dir"),
            ("u@[fe80::1]:/x", Some("u@fe80::1"), "/x"),
            ("./a:b/", None, "./a:b"),
        ] {
            assert_eq!(read(spec), (host.map(str::to_owned), path.to_owned()), "{spec:?}");
        }
    }

    #[test]
    fn targets_that_ssh_could_misread_are_refused_by_name() {
        let shown = |spec: &str| quote(spec.as_bytes());
        for (spec, error) in [
            ("", TargetError::Empty),
            ("rsync://h/m", TargetError::RsyncUrl(shown("rsync://h/m"))),
            ("RSYNC://h/m", TargetError::RsyncUrl(shown("RSYNC://h/m"))),
            ("h::m", TargetError::RsyncModule(shown("h::m"))),
            (":/p", TargetError::NoHost(shown(":/p"))),
            ("@h:/p", TargetError::NoHost(shown("@h:/p"))),
            ("u@:/p", TargetError::NoHost(shown("u@:/p"))),
            ("[::1:/p", TargetError::NoHost(shown("[::1:/p"))),
            ("-oProxyCommand=x:/p", TargetError::DashHost(shown("-oProxyCommand=x:/p"))),
            ("u@-h:/p", TargetError::DashHost(shown("u@-h:/p"))),
            ("-u@h:/p", TargetError::DashHost(shown("-u@h:/p"))),
            ("[-h]:/p", TargetError::DashHost(shown("[-h]:/p"))),
            ("$(id):/p", TargetError::HostCharacter(shown("$(id):/p"), '$')),
            ("a;b:/p", TargetError::HostCharacter(shown("a;b:/p"), ';')),
            ("a[b]:/p", TargetError::HostCharacter(shown("a[b]:/p"), '[')),
            ("a b:/p", TargetError::HostCharacter(shown("a b:/p"), ' ')),
            ("h:~root/x", TargetError::OtherHome(shown("h:~root/x"))),
            ("~/x", TargetError::LocalHome(shown("~/x"))),
            ("h:/a\0b", TargetError::Nul(shown("h:/a\0b"))),
        ] {
            assert_eq!(parse_target(spec), Err(error), "{spec:?}");
        }
    }

    #[test]
    fn a_path_keeps_bytes_that_are_no_utf8() {
        assert_eq!(parse_target(b"h:/a\xff/").unwrap().path, b"/a\xff");
        assert_eq!(parse_target(b"/\xff").unwrap().path, b"/\xff");
        assert!(matches!(parse_target(b"w\xff:/x"), Err(TargetError::HostCharacter(..))));
    }

    #[test]
    fn names_are_no_longer_than_it_takes_to_be_unique() {
        let names = |specs: &[&str]| {
            let mut targets: Vec<Target> = specs.iter().map(|spec| parse_target(spec).unwrap()).collect();
            name_targets(&mut targets);
            targets.into_iter().map(|target| target.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&["deploy@10.8.0.2:/a", "web3:/a", "/mnt/copy"]), ["10.8.0.2", "web3", "copy"]);
        assert_eq!(names(&["h:/a", "h:/b", "web3:/a"]), ["h:/a", "h:/b", "web3"]);
        assert_eq!(names(&["u@h:a", "v@h:a", "h:b"]), ["u@h:a", "v@h:a", "h:b"]);
        assert_eq!(names(&["/m/copy", "/n/copy", "/"]), ["/m/copy", "/n/copy", "/"]);
        assert_eq!(names(&["h:/a", "h:/a"]), ["h:/a", "h:/a-2"]);
    }

    #[test]
    fn display_puts_an_ipv6_address_in_brackets() {
        for spec in ["[::1]:/p", "me@[::1]:/p", "web2:/p", "/p"] {
            assert_eq!(parse_target(spec).unwrap().to_string(), spec);
        }
    }
}
