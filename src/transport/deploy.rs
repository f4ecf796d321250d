//! Bringing the agent to a target that has none: our own executable, by content hash.
//!
//! **Invariants:** nothing is sent to a target on which it would not start, as far as that can be known beforehand;
//! whoever allows uploads hears of each before it begins; a copy gets its name once it has stated its own hash.

mod unfit;

use std::sync::{Arc, OnceLock};

use super::TransportError;
use super::shell::{self, Shell};
use crate::error::io_text;

pub(super) use unfit::Host;

/// Directory below the remote user's home that holds deployed agents.
pub(super) const DIR: &str = ".cache/speil";

/// What is asked before this program is uploaded: it tells the number of bytes, or refuses.
#[derive(Clone)]
pub struct Uploads(Arc<dyn Fn(u64) -> Result<(), TransportError> + Send + Sync>);

impl Uploads {
    /// Uploads that `before` is told of, which may refuse them with [`TransportError::Unasked`].
    pub fn new(before: impl Fn(u64) -> Result<(), TransportError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(before))
    }

    /// Returns uploads that ask both, `next` only where this one allows them.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self::new(move |len| self.begin(len).and_then(|()| next.begin(len)))
    }

    /// Tells of an upload of `len` bytes.
    ///
    /// # Errors
    /// [`TransportError`] if it may not be made.
    pub fn begin(&self, len: u64) -> Result<(), TransportError> {
        (self.0)(len)
    }
}

impl Default for Uploads {
    /// Uploads of which nobody is told.
    fn default() -> Self {
        Self::new(|_| Ok(()))
    }
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uploads")
    }
}

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
            .map_err(|error| unread(&error))?;
        Ok(hasher.finalize().to_hex()[..32].to_owned())
    })
    .as_deref()
    .map_err(String::as_str)
}

/// Returns the path of the deployed agent of this build, below the remote user's home.
pub(super) fn remote_path() -> String {
    format!("{DIR}/speil-{}", own_hash().unwrap_or("none"))
}

/// Uploads this executable into a folder of the remote user's that nobody else may enter, and has
/// the remote copy state its own hash before it gets its name. `begin` is asked first.
pub(super) fn upload(
    target: &impl Shell,
    host: &Host,
    begin: &dyn Fn(u64) -> Result<(), TransportError>,
) -> Result<(), TransportError> {
    let fail = |text: String| TransportError::Deploy(text);
    let hash = own_hash().map_err(|text| fail(text.to_owned()))?;
    let program = std::fs::read("/proc/self/exe").map_err(|error| fail(unread(&error)))?;
    if let Some(why) = host.unfit_for(&program) {
        return Err(fail(why));
    }
    begin(program.len() as u64)?;
    let ended = shell::run(target, &format!("exec sh -c '{}'", script(hash)), &program)?;
    if ended.status == Some(0) {
        return Ok(());
    }
    Err(fail(unfit::explained(&ended)))
}

/// Returns what the remote shell runs. It tries the directory with an empty script before it takes many
/// megabytes.
fn script(hash: &str) -> String {
    let (noexec, unstarted) = (unfit::NOEXEC_MARK, unfit::UNSTARTED_MARK);
    format!(
        "umask 077; n=\".new.$$\"; end() {{ rm -f \"$n\"; exit 1; }}; \
         cd && mkdir -p {DIR} && chmod 700 {DIR} && cd ./{DIR} && : >\"$n\" && chmod 700 \"$n\" || end; \
         \"./$n\" </dev/null || {{ echo {noexec} >&2; end; }}; \
         cat >\"$n\" || end; \
         stated=$(\"./$n\" agent --identify) || {{ echo {unstarted} $? >&2; end; }}; \
         test \"$stated\" = {hash} && mv -f \"$n\" \"speil-{hash}\" || end"
    )
}

fn unread(error: &std::io::Error) -> String {
    format!("read own executable: {}", io_text(error))
}
