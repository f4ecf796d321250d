//! Why this executable cannot run on a target, in words.
//!
//! **In → out:** what the target's shell says of its system, and how the copy ended; a line that names the cause and
//! what to install. Pure but for the name of this system.

use std::io::BufRead;

use super::DIR;
use crate::transport::Ended;
use crate::tree::quote;

/// What the remote shell prints where no program may be started from the agent's directory.
pub(super) const NOEXEC_MARK: &str = "speil-agent-noexec";
/// What it prints before the exit status of a copy that did not start.
pub(super) const UNSTARTED_MARK: &str = "speil-agent-unstarted";
/// What precedes a version of glibc in an executable and in the words of its loader.
const FIRST: u8 = b'G';
const REST: &[u8] = b"LIBC_";
/// For whoever cannot install another build.
const BUILD: &str = "the executable of make dist runs with glibc 2.17 and newer";

/// A target without an agent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transport) struct Host {
    /// Kernel and machine: `Linux x86_64`.
    system: String,
    libc: Libc,
}

#[derive(Debug, PartialEq, Eq)]
enum Libc {
    Glibc(Version),
    /// Another one, such as musl.
    Other,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Host {
    /// Words of sh that print what [`Self::parse`] reads.
    pub(in crate::transport) const QUESTION: &str = "$(uname -sm) $(command -v getconf >/dev/null && { \
                                                     getconf GNU_LIBC_VERSION 2>/dev/null || echo other; })";

    /// Reads what the remote shell printed.
    pub(in crate::transport) fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let system: Vec<&str> = words.by_ref().take(2).collect();
        let libc = match (words.next(), words.next().and_then(version)) {
            (Some("glibc"), Some(version)) => Libc::Glibc(version),
            (Some("other"), _) => Libc::Other,
            _ => Libc::Unknown,
        };
        Self { system: system.join(" "), libc }
    }

    /// Returns why `program`, which runs here, cannot run there; `None` if nothing speaks against it.
    pub(super) fn unfit_for(&self, program: &[u8]) -> Option<String> {
        let own = own_system();
        if self.system != own {
            let there = quote(self.system.as_bytes());
            return Some(format!(
                "the target is {there}, this program runs on {own}; install speil there, built for {there}"
            ));
        }
        let needs = needed_by(program)?;
        match &self.libc {
            Libc::Glibc(there) if *there < needs => Some(too_old(needs, Some(*there))),
            Libc::Other => Some(format!(
                "this program needs glibc {needs}, and the target has another C library (musl?); install speil \
                 there, built for it"
            )),
            _ => None,
        }
    }
}

/// Returns why a copy did not get its name.
pub(super) fn explained(ended: &Ended) -> String {
    let lines = &ended.stderr;
    let elsewhere = "install speil there, in the PATH of the login";
    if lines.iter().any(|line| line == NOEXEC_MARK) {
        return format!(
            "no program may be started from ~/{DIR} on the target (is its home mounted noexec?); {elsewhere}"
        );
    }
    let status = lines.iter().find_map(|line| line.strip_prefix(UNSTARTED_MARK));
    let said: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| !line.starts_with("speil-")).collect();
    let last = said.last().map(|line| format!(": \"{line}\"")).unwrap_or_default();
    let Some(status) = status else {
        return match said.last() {
            Some(line) => format!("upload: \"{line}\""),
            None => "upload: the remote copy did not verify".to_owned(),
        };
    };
    if let Some(needs) =
        said.iter().flat_map(|line| versions(line.as_bytes())).map(|named| named.version).max()
    {
        return too_old(needs, None);
    }
    let library = |line: &&str| line.split_once("shared libraries: ").map(|(_, rest)| rest.to_owned());
    if let Some(rest) = said.iter().find_map(library) {
        let name = rest.split(':').next().unwrap_or_default();
        return format!(
            "the uploaded copy lacks the library {name:?} on the target: install it, or speil, there"
        );
    }
    match status.trim() {
        // The kernel did not find the loader that the executable names.
        "127" => format!(
            "the target lacks the loader of this program (another C library, or 32 bits?); install speil there, \
             built for it{last}"
        ),
        "126" => format!("the target does not run programs of this kind{last}; {elsewhere}"),
        status => format!("the uploaded copy ended with status {status} on the target{last}; {elsewhere}"),
    }
}

fn too_old(needs: Version, there: Option<Version>) -> String {
    let has = there.map_or("has an older one".to_owned(), |version| format!("has {version}"));
    format!(
        "this program needs glibc {needs}, and the target {has}; install speil there, or upload another build: {BUILD}"
    )
}

/// A version of glibc as some bytes name it.
struct Named {
    version: Version,
    before: Option<u8>,
    after: Option<u8>,
}

/// Returns the newest version of glibc that an executable needs. Its symbols are words between zeros; the same letters
/// elsewhere in it are a text.
fn needed_by(program: &[u8]) -> Option<Version> {
    let symbols = versions(program).filter(|named| named.before == Some(0) && named.after == Some(0));
    symbols.map(|named| named.version).filter(|version| version.0 == 2).max()
}

fn versions(bytes: &[u8]) -> impl Iterator<Item = Named> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let mut rest = bytes.get(at..)?;
            // Searches many megabytes in no time, in a build without optimisation as well.
            match rest.skip_until(FIRST).ok()? {
                0 => return None,
                skipped => at += skipped,
            }
            if let Some(found) = rest.strip_prefix(REST).and_then(|rest| named(bytes, at - 1, rest)) {
                return Some(found);
            }
        }
    })
}

/// Returns the version at the start of `rest`, which follows the letters at `at`.
fn named(bytes: &[u8], at: usize, rest: &[u8]) -> Option<Named> {
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
    let version = version(std::str::from_utf8(rest.get(..end)?).ok()?)?;
    let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
    Some(Named { version, before, after: rest.get(end).copied() })
}

fn version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some(Version(numbers.next()??, numbers.next()??))
}

fn own_system() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.machine().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "GLIBC_";

    fn ended(lines: &[&str]) -> String {
        explained(&Ended { status: Some(1), stderr: lines.iter().map(|&line| line.to_owned()).collect() })
    }

    #[test]
    fn a_system_on_which_it_cannot_run_is_named_before_anything_is_sent() {
        let needs = format!("…\0{SYMBOLS}2.4\0{SYMBOLS}2.34\0{SYMBOLS}PRIVATE\0{SYMBOLS}2.3.4\0");
        let unfit = |said: &str| Host::parse(said).unfit_for(needs.as_bytes());
        let here = own_system();
        assert_eq!(unfit(&format!("{here} glibc 2.34")), None);
        assert_eq!(unfit(&here), None);
        let old = unfit(&format!("{here} glibc 2.31")).unwrap();
        assert!(
            old.contains("needs glibc 2.34, and the target has 2.31") && old.contains("make dist"),
            "{old}"
        );
        assert!(unfit(&format!("{here} other")).unwrap().contains("another C library"));
        let arch = unfit("Linux riscv128 glibc 2.99").unwrap();
        assert!(
            arch.contains("the target is \"Linux riscv128\"") && arch.contains("install speil"),
            "{arch}"
        );
        let text = format!("\0{SYMBOLS}127.0\0{SYMBOLS}2.99 in a text\0");
        assert_eq!(Host::parse(&format!("{here} glibc 2.5")).unfit_for(text.as_bytes()), None);
    }

    #[test]
    fn a_copy_that_does_not_start_is_explained_by_what_was_said() {
        let unstarted = |status: u8| format!("{UNSTARTED_MARK} {status}");
        assert!(ended(&[".new.7: Permission denied", NOEXEC_MARK]).contains("mounted noexec?"));
        let symbol = format!("./.new.7: libc.so.6: version `{SYMBOLS}2.34' not found (required by ./.new.7)");
        let text = ended(&[&symbol, &symbol.replace("2.34", "2.9"), &unstarted(1)]);
        assert!(text.contains("needs glibc 2.34, and the target has an older one"), "{text}");
        let library =
            "./.new.7: error while loading shared libraries: libz.so.1: cannot open shared object file";
        assert!(ended(&[library, &unstarted(127)]).contains("lacks the library \"libz.so.1\""));
        let text = ended(&["sh: 1: ./.new.7: not found", &unstarted(127)]);
        assert!(text.contains("lacks the loader") && text.contains("./.new.7: not found"), "{text}");
        let text = ended(&["sh: 1: ./.new.7: Exec format error", &unstarted(126)]);
        assert!(text.contains("programs of this kind: \"sh: 1: ./.new.7: Exec format error\""), "{text}");
        assert!(ended(&[&unstarted(132)]).contains("ended with status 132"));
    }

    #[test]
    fn an_upload_that_fails_otherwise_says_what_was_said_last() {
        let full = "cat: write error: No space left on device";
        assert_eq!(ended(&["motd", full]), format!("upload: \"{full}\""));
        assert_eq!(ended(&[]), "upload: the remote copy did not verify");
    }
}
