//! From a host's name to a session that may run commands: connection, host key, keys of the user.
//!
//! **Invariants:** nothing of the user's is shown before the host's key is accepted; no secret is
//! asked for, on any terminal; every step ends within the connect timeout, but for the agent, which
//! may ask its user.
//! **Not here:** passwords, security keys, certificates of hosts.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssh2::{CheckResult, HashType, KnownHostFileKind, MethodType, PublicKey, Session};

use super::known_hosts::{self, Files, Key, NameHash, Names, Verdict};
use super::settings::{Address, Keys, KnownHosts, Methods, Settings, Strict};
use crate::config::Allowed;
use crate::error::io_text;
use crate::transport::cancel::Cancel;
use crate::transport::{TransportError, allow};
use crate::tree::quote;

/// How a private key begins that no passphrase guards: the format's name and the cipher `none`.
const UNGUARDED: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbm";

/// A session that is logged in, and its socket.
pub(super) struct Login {
    /// The session.
    pub(super) session: Session,
    /// The socket below it, which must stay open while the session is there.
    pub(super) socket: TcpStream,
}

/// Connects and logs in.
///
/// # Errors
/// [`TransportError::Connect`] and [`TransportError::HostKey`], consequence again;
/// [`TransportError::Forbidden`], consequence die.
pub(super) fn login(
    settings: &Settings,
    allowed: &Allowed,
    cancel: &Cancel,
) -> Result<Login, TransportError> {
    let (address, limit, limited) = (settings.address.clone(), settings.alive_limit, allowed.clone());
    let socket = cancel.run(move || connect(&address, limit, &limited))?;
    if let Ok(socket) = socket.try_clone() {
        // A copy that outlives the session is a socket that is down.
        cancel.add(move || drop(socket.shutdown(std::net::Shutdown::Both)));
    }
    let mut session = Session::new().map_err(|error| failed("start libssh2", &error))?;
    session.set_tcp_stream(Number(socket.as_raw_fd()));
    let timeout = settings.address.timeout.as_millis();
    session.set_timeout(u32::try_from(timeout).unwrap_or(u32::MAX));
    session.set_compress(settings.methods.compress);
    let known = &settings.known;
    let paths = known.user_files.iter().chain(&known.global_files);
    let files = Files::read(paths).map_err(|(path, error)| {
        TransportError::HostKey(format!("read {}: {}", path.display(), io_text(&error)))
    })?;
    let names = Names::new(&settings.address.host, settings.address.port, known.alias.as_deref());
    prefer(&session, &settings.methods, &files.kinds(&names, &Hash))?;
    session.handshake().map_err(|error| failed("handshake", &error))?;
    check_host(&session, known, &files, &names)?;
    authenticate(&session, &settings.address.user, &settings.keys)?;
    Ok(Login { session, socket })
}

/// The number of a descriptor that somebody else owns.
struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn connect_error(text: &str) -> TransportError {
    TransportError::Connect(text.to_owned())
}

/// Words for an error of libssh2; what it quotes of the server is escaped.
fn failed(step: &str, error: &ssh2::Error) -> TransportError {
    TransportError::Connect(format!("{step}: {}", text_of(error)))
}

/// Returns what libssh2 says of an error, control characters escaped.
pub(super) fn text_of(error: &ssh2::Error) -> String {
    let text = quote(error.message().as_bytes());
    text.trim_matches('"').to_owned()
}

fn connect(address: &Address, alive_limit: Duration, allowed: &Allowed) -> Result<TcpStream, TransportError> {
    let shown = quote(address.host.as_bytes());
    let fail = |text: String| connect_error(&format!("{shown} port {}: {text}", address.port));
    let found =
        (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| fail(io_text(&error)))?;
    let wanted = |found: &SocketAddr| address.only_v6.is_none_or(|v6| v6 == found.is_ipv6());
    let found: Vec<SocketAddr> = found.filter(wanted).collect();
    let addresses: Vec<_> = found.iter().map(SocketAddr::ip).collect();
    allow::check_host(allowed, &address.host, &addresses)?;
    let mut last = fail("it has no address".to_owned());
    for candidate in found {
        match TcpStream::connect_timeout(&candidate, address.timeout) {
            Ok(socket) => {
                // Both only make the link livelier: a refusal is no reason to have none.
                let _ = socket.set_nodelay(true);
                let limit = u32::try_from(alive_limit.as_millis()).unwrap_or(u32::MAX);
                let _ = rustix::net::sockopt::set_tcp_user_timeout(&socket, limit);
                return Ok(socket);
            }
            Err(error) => last = fail(io_text(&error)),
        }
    }
    Err(last)
}

/// Sets the algorithms. The host is asked for a key of a kind that is noted for it, so that a
/// second key of its does not look like a stranger's.
fn prefer(session: &Session, methods: &Methods, noted: &[String]) -> Result<(), TransportError> {
    let host_keys = methods.host_keys.as_deref().map(|list| ordered(list, noted));
    let lists = [
        (MethodType::Kex, "KexAlgorithms", methods.exchanges.as_deref()),
        (MethodType::HostKey, "HostKeyAlgorithms", host_keys.as_deref()),
        (MethodType::CryptCs, "Ciphers", methods.ciphers.as_deref()),
        (MethodType::CryptSc, "Ciphers", methods.ciphers.as_deref()),
        (MethodType::MacCs, "MACs", methods.macs.as_deref()),
        (MethodType::MacSc, "MACs", methods.macs.as_deref()),
    ];
    for (kind, name, list) in lists {
        let Some(list) = list else { continue };
        // libssh2 leaves out what it does not have, and fails if nothing is left.
        session.method_pref(kind, list).map_err(|_| {
            TransportError::Setting(format!("{name} {}: libssh2 has none of them", quote(list.as_bytes())))
        })?;
    }
    Ok(())
}

/// Returns the list without certificates, noted kinds first.
fn ordered(list: &str, noted: &[String]) -> String {
    let is_noted = |method: &&str| {
        let kind = if method.starts_with("rsa-sha2-") { "ssh-rsa" } else { method };
        noted.iter().any(|noted| noted == kind)
    };
    let plain: Vec<&str> = list.split(',').filter(|method| !method.contains("-cert-")).collect();
    let (first, rest): (Vec<&str>, Vec<&str>) = plain.into_iter().partition(is_noted);
    [first, rest].concat().join(",")
}

/// Asks libssh2 whether a hashed name is the hash of a plain one.
struct Hash;

impl NameHash for Hash {
    fn is_of(&self, hashed: &str, name: &str) -> bool {
        // A key that is given the hashed name and found under the plain one.
        const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.resize(51, 0);
        let found = || {
            let mut hosts = Session::new().ok()?.known_hosts().ok()?;
            hosts.read_str(&format!("{hashed} ssh-ed25519 {KEY}\n"), KnownHostFileKind::OpenSSH).ok()?;
            Some(matches!(hosts.check(name, &blob), CheckResult::Match))
        };
        !name.contains('\0') && found().unwrap_or(false)
    }
}

fn check_host(
    session: &Session,
    known: &KnownHosts,
    files: &Files,
    names: &Names,
) -> Result<(), TransportError> {
    let refuse = |text: String| Err(TransportError::HostKey(text));
    let Some(key) = session.host_key().and_then(|(blob, _)| Key::of_blob(blob)) else {
        return refuse("the host shows no key".to_owned());
    };
    let print = session.host_key_hash(HashType::Sha256).map(known_hosts::fingerprint).unwrap_or_default();
    let host = quote(names.full.as_bytes());
    let shown = format!("{} {print}", key.kind);
    match (files.judge(names, &key, &Hash), known.strict) {
        (Verdict::Known, _) => Ok(()),
        (Verdict::Revoked(place), _) => refuse(format!(
            "{host} shows {shown}, which {} line {} revokes",
            place.file.display(),
            place.line
        )),
        (Verdict::Mismatch(place), Strict::No) => {
            tracing::warn!(host = %names.full, file = %place.file.display(), line = place.line, key = %shown,
                "host key is another than the noted one; taken, as StrictHostKeyChecking=no says");
            Ok(())
        }
        (Verdict::Mismatch(place), _) => refuse(format!(
            "{host} shows {shown}, but {} line {} holds another key: somebody may be in between; if the host \
             has a new key, remove that line and add the new one",
            place.file.display(),
            place.line
        )),
        (Verdict::Unknown, Strict::Yes) => refuse(format!(
            "the key of {host}, {shown}, is not in known_hosts; connect once with ssh, or add it after comparing it"
        )),
        (Verdict::Unknown, strict) => note(known, names, &key, strict, &shown),
    }
}

/// Notes the key of a host that nobody knew.
fn note(
    known: &KnownHosts,
    names: &Names,
    key: &Key,
    strict: Strict,
    shown: &str,
) -> Result<(), TransportError> {
    let noted = match known.user_files.first() {
        Some(file) => known_hosts::add(file, names, key)
            .map_err(|error| format!("add to {}: {}", file.display(), io_text(&error))),
        None => Err("UserKnownHostsFile names no file to note the key in".to_owned()),
    };
    match (noted, strict) {
        (Ok(()), Strict::AcceptNew | Strict::Yes) => {
            tracing::info!(host = %names.full, key = %shown, "new host key noted");
        }
        (Ok(()), Strict::No) => {
            tracing::warn!(host = %names.full, key = %shown,
                "unknown host key taken and noted, as StrictHostKeyChecking=no says");
        }
        (Err(text), Strict::No) => {
            tracing::warn!(host = %names.full, key = %shown, error = %text,
                "unknown host key taken, as StrictHostKeyChecking=no says");
        }
        // Taking it unnoted would be taking any key, every time.
        (Err(text), _) => return Err(TransportError::HostKey(text)),
    }
    Ok(())
}

/// Proves who we are: the agent's keys first, those that are named as files before others, then the
/// files themselves.
fn authenticate(session: &Session, user: &str, keys: &Keys) -> Result<(), TransportError> {
    let methods = match session.auth_methods(user) {
        Ok(methods) => methods.to_owned(),
        Err(_) if session.authenticated() => return Ok(()),
        Err(error) => return Err(failed("log in", &error)),
    };
    let who = quote(user.as_bytes());
    if !methods.split(',').any(|method| method == "publickey") {
        let offered = quote(methods.as_bytes());
        return Err(connect_error(&format!("log in as {who}: the host takes no keys, only {offered}")));
    }
    let mut tried = Vec::new();
    if let Some(socket) = &keys.agent
        && offer_agent(session, user, keys, socket, &mut tried)
    {
        return Ok(());
    }
    for file in &keys.files {
        if offer_file(session, user, file, &keys.certificates, &mut tried) {
            return Ok(());
        }
    }
    let tried = if tried.is_empty() { "there is no key to try".to_owned() } else { tried.join(", ") };
    Err(connect_error(&format!("log in as {who}: Permission denied (publickey): {tried}")))
}

fn offer_agent(session: &Session, user: &str, keys: &Keys, socket: &Path, tried: &mut Vec<String>) -> bool {
    let named: Vec<String> = keys.files.iter().filter_map(|file| public_part(file)).collect();
    let offer = || -> Result<(Option<()>, usize), ssh2::Error> {
        let mut agent = session.agent()?;
        agent.set_identity_path(socket)?;
        agent.connect()?;
        agent.list_identities()?;
        let is_named =
            |key: &PublicKey| Key::of_blob(key.blob()).is_some_and(|key| named.contains(&key.base64));
        let (mut identities, others): (Vec<_>, Vec<_>) = agent.identities()?.into_iter().partition(is_named);
        if !keys.only_files {
            identities.extend(others);
        }
        let taken = identities.iter().any(|key| agent.userauth(user, key).is_ok());
        Ok((taken.then_some(()), identities.len()))
    };
    match offer() {
        Ok((Some(()), _)) => return true,
        Ok((None, 0)) => tried.push("the agent has no key for it".to_owned()),
        Ok((None, count)) => tried.push(format!("{count} of the agent's keys refused")),
        Err(error) => tried.push(format!("agent: {}", text_of(&error))),
    }
    false
}

/// Returns the key in base64 of `FILE.pub`, or of the file itself if that is a public key.
fn public_part(file: &Path) -> Option<String> {
    let text =
        std::fs::read_to_string(beside(file, ".pub")).or_else(|_| std::fs::read_to_string(file)).ok()?;
    let mut words = text.split_ascii_whitespace();
    let kind = words.next()?;
    (kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-"))
        .then(|| words.next().map(str::to_owned))?
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn offer_file(
    session: &Session,
    user: &str,
    file: &Path,
    certificates: &[PathBuf],
    tried: &mut Vec<String>,
) -> bool {
    match std::fs::read(file) {
        Ok(content) => {
            if let Some(why) = unusable(file, &String::from_utf8_lossy(&content)) {
                tried.push(format!("{} {why}", file.display()));
                return false;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        Err(error) => {
            tried.push(format!("{}: {}", file.display(), io_text(&error)));
            return false;
        }
    }
    let own = beside(file, "-cert.pub");
    let beside = own.exists().then_some(&own);
    for certificate in certificates.iter().chain(beside) {
        match session.userauth_pubkey_file(user, Some(certificate), file, None) {
            Ok(()) => return true,
            Err(error) => tried.push(format!("{} ({})", certificate.display(), text_of(&error))),
        }
    }
    match session.userauth_pubkey_file(user, None, file, None) {
        Ok(()) => return true,
        Err(error) => tried.push(format!("{} ({})", file.display(), text_of(&error))),
    }
    false
}

/// Returns why a private key cannot be used, without trying it.
fn unusable(file: &Path, content: &str) -> Option<&'static str> {
    let mut lines = content.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.take(2).collect();
    let guarded = match first {
        "-----BEGIN OPENSSH PRIVATE KEY-----" => !rest.concat().starts_with(UNGUARDED),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----" => true,
        _ => rest.iter().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED")),
    };
    if guarded {
        return Some("has a passphrase, which is not asked for: add it to an ssh-agent");
    }
    let meta = std::fs::metadata(file).ok()?;
    let own = meta.uid() == rustix::process::geteuid().as_raw();
    // As ssh: a private key that others can read is none.
    (own && meta.permissions().mode() & 0o077 != 0).then_some("is open to others: chmod 600 it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noted_kinds_of_host_keys_come_first_and_certificates_go() {
        let list =
            "ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256";
        assert_eq!(ordered(list, &[]), "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256");
        let noted = ["ssh-rsa".to_owned()];
        assert_eq!(ordered(list, &noted), "rsa-sha2-512,rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp256");
    }

    #[test]
    fn hashed_names_are_recognised() {
        // ssh-keygen -H of "[web]:2222".
        let hashed = "|1|VUD046IoH0CEeZioGDtQyQwpkgQ=|eAND+4MPZpVTFB6X75SVxZQjJng=";
        assert!(Hash.is_of(hashed, "[web]:2222"));
        assert!(!Hash.is_of(hashed, "web"));
        assert!(!Hash.is_of("|1|broken", "web") && !Hash.is_of(hashed, "we\0b"));
    }

    #[test]
    fn guarded_and_open_keys_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        let openssh = |body: &str| format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n");
        let plain = openssh("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAA");
        assert_eq!(unusable(&file, &plain), None);
        let guarded = openssh("b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAG");
        assert!(unusable(&file, &guarded).unwrap().contains("passphrase"));
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n";
        assert!(unusable(&file, pem).unwrap().contains("passphrase"));
        assert!(unusable(&file, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").is_some());
        mode(0o640);
        assert!(unusable(&file, &plain).unwrap().contains("chmod"));
    }
}
