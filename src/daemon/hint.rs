//! What a human can change, where an error shows it.

use crate::config::Target;
use crate::protocol::{FrameError, Lost, Refusal, VERSION_MIN};
use crate::sender::SessionError;
use crate::transport::{Ended, TransportError};

/// Words of ssh and of shells, and what to do about them; the first that is found counts.
const SAID: [(&str, &str); 16] = [
    (
        "remote host identification has changed",
        "the host shows another key than known_hosts has for it. If its administrator says that it was \
         installed anew: ssh-keygen -R HOST, then connect once by hand with ssh and compare the new key; if \
         not, somebody else answers for it",
    ),
    (
        "host key verification failed",
        "compare the host's key with what its administrator says, then connect once by hand with ssh, or \
         add it to known_hosts",
    ),
    ("unprotected private key file", "chmod 600 the private key: ssh ignores a key that others may read"),
    ("no such identity", "the key file does not exist: check identityFile, or -i in the ssh command"),
    (
        "permission denied (",
        "check the key: ssh -i KEY USER@HOST true must work without a question; ssh-copy-id -i KEY USER@HOST \
         brings it there",
    ),
    ("connection refused", "nothing listens there: is sshd running, and is the port right?"),
    ("could not resolve hostname", "check the host's name: getent hosts NAME must find it"),
    ("no route to host", "the host is down, or a firewall or a route is in the way: ping it"),
    ("connection timed out", "the host is down, or a firewall drops the packets: ping it, check the port"),
    ("operation timed out", "the host is down, or a firewall drops the packets: ping it, check the port"),
    ("network is unreachable", "this host has no route there: check its network"),
    ("connection reset", "the host closed the connection: its sshd log says why (MaxStartups, a firewall)"),
    (
        "this account is currently not available",
        "the login has no shell: give it one, or a forced command with speil agent --root",
    ),
    ("sudo: a password is required", "allow the agent without a password in sudoers: NOPASSWD"),
    (
        "uploading it is not allowed",
        "install speil on the target, or let it be uploaded with agent = \"auto\"",
    ),
    ("no space left on device", "make room in the login's home on the target"),
];

/// Returns what a human can change, where the error shows it.
pub fn hint(error: &SessionError) -> Option<String> {
    let fixed = match error {
        SessionError::Frame(FrameError::Noise(_)) => {
            "the target's shell prints something before the agent starts; silence it for non-interactive logins (.bashrc)"
        }
        SessionError::Refused(refusal @ Refusal::Root { path, .. }) if refusal.is_about_state() => {
            return Some(format!("move it out of the way on the target: mv {path:?} \"{path}.old\""));
        }
        SessionError::Refused(Refusal::Role { hint, .. }) | SessionError::Role { hint, .. } => {
            return Some(hint.clone()).filter(|hint| !hint.is_empty());
        }
        SessionError::Refused(refusal) => refused(refusal)?,
        SessionError::Ended(Ended { status: Some(127), .. }) => {
            "the agent's command does not exist there: install speil, or let it be uploaded with agent = \"auto\""
        }
        SessionError::Ended(Ended { status: Some(126), .. }) => {
            "the agent's command may not be executed there: is its directory mounted noexec?"
        }
        SessionError::Ended(ended) => {
            let hint = said(&ended.stderr.join("\n"))?;
            return Some(match forgets(&ended.stderr) {
                Some(command) => hint.replace("ssh-keygen -R HOST", &command),
                None => hint,
            });
        }
        SessionError::Transport(TransportError::Start { program, .. }) if program.ends_with("ssh") => {
            "install the ssh client (openssh-client), or use transport = \"ssh2\""
        }
        SessionError::Transport(TransportError::Unasked(_)) => {
            "--agent=auto allows the upload (for a configuration: speil doctor uploads it); or install speil there"
        }
        SessionError::Owner(_) => {
            "correct the name, or make it there (getent passwd NAME, getent group NAME); a group follows a colon"
        }
        SessionError::Silent(_) => {
            "the host does not answer: is it down, behind a firewall, or does its shell wait for something?"
        }
        other => return said(&other.to_string()),
    };
    Some(fixed.to_owned())
}

/// Returns the command by which ssh says that a key is to be forgotten. Whoever answers may have written the line:
/// nothing in it means anything to a shell but its quotes.
fn forgets(lines: &[String]) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " \"'[]:/._-~@%".contains(c);
    let mut lines = lines.iter().map(|line| line.trim().replace("\\\"", "\""));
    lines.find(|line| line.starts_with("ssh-keygen ") && line.contains(" -R ") && line.chars().all(plain))
}

/// Returns what a human can change where a session with this target has failed.
pub fn hint_for(error: &SessionError, target: &Target) -> Option<String> {
    forgotten_colon(error, target).or_else(|| hint(error))
}

/// Says what to write where a path on this host was probably meant to be one on another.
fn forgotten_colon(error: &SessionError, target: &Target) -> Option<String> {
    let SessionError::Refused(Refusal::Root { errno: libc::ENOENT, .. }) = error else { return None };
    let path = std::str::from_utf8(&target.path)
        .ok()
        .filter(|path| target.host.is_none() && !path.starts_with(['/', '.']))?;
    let (first, rest) = path.split_once('/')?;
    let missing = std::fs::symlink_metadata(first).is_err();
    missing.then(|| {
        format!(
            "there is no directory {first:?} here; if it is a host, write a colon behind it: {first}:/{rest}"
        )
    })
}

fn said(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    let found = SAID.iter().find(|(words, _)| text.contains(words));
    found.map(|(_, hint)| (*hint).to_owned())
}

fn refused(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::Foreign { .. } => {
            "if it is this mirror by another path (a link, a mount), name both paths as they are told here; if it \
             is another one that is still wanted, name another target; only if it has ended for good, take its \
             tree over, on the target: mv .speil/memory .speil/memory.old in that directory (what would be \
             deleted then waits for speil approve)"
        }
        Refusal::Within { .. } => {
            "exclude the directory in the other mirror, name a target outside of its target, or end one of the two"
        }
        Refusal::Beside { errno: libc::EXDEV, .. } => {
            "the --root of the key's forced command is the target itself, and holds the directories of --link-dest as \
             well: name them below it, or give the key a --root of its own for each day"
        }
        Refusal::Beside { errno: libc::EINVAL, .. } => {
            "name another directory, or leave --backup-dir out: then NAME~ is kept beside NAME"
        }
        Refusal::Beside { .. } => {
            "--link-dest and its kin name directories on the target's host, as seen from the target"
        }
        Refusal::Dangerous(_) => "name a directory of its own, or pass --force-root",
        Refusal::Refused(_) => "remove .speil/refuse on the target when it may be mirrored to again",
        Refusal::Version { newest, .. } if *newest < VERSION_MIN => {
            "without a speil in the target's PATH, agent = \"deploy\" brings this one along"
        }
        Refusal::Version { .. } | Refusal::Filter(_) | Refusal::Role { .. } => return None,
        Refusal::Root { errno: libc::ENOTDIR, .. } => "name a directory: a file is in its place, or above it",
        Refusal::Root { errno: libc::EACCES | libc::EPERM, .. } => {
            "the login there may not make or enter it: correct the rights of the directory, log in as another user, or \
             let the agent run by sudo: agent = { \"sudo\", \"-n\" }"
        }
        Refusal::Root { .. } => "the target's parent directory must exist and be writable",
        Refusal::Lost { how: Lost::Replaced, .. } => return None,
        Refusal::Lost { .. } => {
            "mount the volume or put the directory back; to fill what is there now: \
             speil approve --volume SYNC TARGET"
        }
        Refusal::Nested => "name a target outside the source, and a source outside the target",
        Refusal::Busy { .. } => {
            "wait until the other run ends; a live mirror does not end by itself: stop it on its host (systemctl stop \
             speil) and start it again afterwards"
        }
        Refusal::Circle { .. } => {
            "end one of these mirrors: the one that is wrong, or the one that is no longer wanted"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32, lines: &[&str]) -> Option<String> {
        let stderr = lines.iter().map(|&line| line.to_owned()).collect();
        hint(&SessionError::Ended(Ended { status: Some(status), stderr }))
    }

    #[test]
    fn what_ssh_says_anywhere_in_its_words_leads_to_the_cure() {
        let host = ["No ED25519 host key is known for h.", "Host key verification failed."];
        assert!(ended(255, &host).is_some_and(|hint| hint.contains("known_hosts")));
        let changed = [
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
            "  ssh-keygen -f \\\"/root/.ssh/known_hosts\\\" -R \\\"[h]:2222\\\"",
            "Host key verification failed.",
        ];
        let command = "ssh-keygen -f \"/root/.ssh/known_hosts\" -R \"[h]:2222\", then";
        assert!(ended(255, &changed).is_some_and(|hint| hint.contains(command)));
        let crafted = [changed[0], "ssh-keygen -R h; rm -rf ~"];
        assert!(ended(255, &crafted).is_some_and(|hint| hint.contains("ssh-keygen -R HOST, then")));
        let key = ["@ WARNING: UNPROTECTED PRIVATE KEY FILE! @", "u@h: Permission denied (publickey)."];
        assert!(ended(255, &key).is_some_and(|hint| hint.contains("chmod 600")));
        let port = ["ssh: connect to host h port 22: Connection refused"];
        assert!(ended(255, &port).is_some_and(|hint| hint.contains("sshd")));
        assert_eq!(ended(3, &["something else"]), None);
    }
}
