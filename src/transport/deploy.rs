//! Bringing the agent to a target that has none: our own executable, by content hash.

use std::sync::OnceLock;

use super::TransportError;
use super::shell::{self, Shell};

/// Directory below the remote user's home that holds deployed agents.
const DIR: &str = ".cache/speil";

/// Returns the BLAKE3 of this executable as 32 hex digits, or what stopped it from being read.
///
/// # Errors
/// A line with the reason.
pub fn own_hash() -> Result<&'static str, &'static str> {
    static HASH: OnceLock<Result<String, String>> = OnceLock::new();
    HASH.get_or_init(|| {
        let mut hasher = blake3::Hasher::new();
        std::fs::File::open("/proc/self/exe")
            .and_then(|file| hasher.update_reader(file).map(|_| ()))
            .map_err(|error| format!("read own executable: {}", crate::error::io_text(&error)))?;
        Ok(hasher.finalize().to_hex()[..32].to_owned())
    })
    .as_deref()
    .map_err(String::as_str)
}

/// Returns where the deployed agent of this build stands, below the remote user's home.
pub(super) fn remote_path() -> String {
    format!("{DIR}/speil-{}", own_hash().unwrap_or("none"))
}

/// Uploads this executable into a folder of the remote user's that nobody else may enter, and has
/// the remote copy state its own hash before it gets its name.
pub(super) fn upload(target: &impl Shell, remote_system: &str) -> Result<(), TransportError> {
    let fail = |text: String| TransportError::Deploy(text);
    let hash = own_hash().map_err(|text| fail(text.to_owned()))?;
    let own_system = own_system();
    if remote_system != own_system {
        return Err(fail(format!(
            "the target is {}, this program runs on {own_system}; install speil there",
            crate::tree::quote(remote_system.as_bytes())
        )));
    }
    let script = format!(
        "umask 077; d=\"$HOME/{DIR}\"; mkdir -p \"$d\" && chmod 700 \"$d\" && n=\"$d/.new.$$\" && cat >\"$n\" && \
         chmod 700 \"$n\" && test \"$(\"$n\" agent --identify)\" = {hash} && mv -f \"$n\" \"$d/speil-{hash}\" || \
         {{ rm -f \"$d/.new.$$\"; exit 1; }}"
    );
    let program = std::fs::read("/proc/self/exe")
        .map_err(|error| fail(format!("read own executable: {}", crate::error::io_text(&error))))?;
    let ended = shell::run(target, &format!("exec sh -c '{script}'"), &program)?;
    if ended.status == Some(0) {
        return Ok(());
    }
    let last = ended.stderr.last().map_or("the remote copy did not verify", String::as_str);
    Err(fail(format!("upload: \"{last}\"")))
}

fn own_system() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.machine().to_string_lossy())
}
