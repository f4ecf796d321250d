//! What is written on this host: the key and the configuration. And what is read: a first file.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

use super::answers::Answers;
use super::shell::{Shell, Stop};
use crate::cli::exit::Exit;
use crate::tree::shell_word;

/// How far the first file is looked for.
const ENTRIES_MAX: usize = 2000;
/// It is sent to see one arrive, not for its size.
const FIRST_BYTES_MAX: u64 = 16 << 20;

/// What is to become of the configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    text: String,
    stands: Stands,
}

#[derive(Debug, PartialEq)]
enum Stands {
    Nothing,
    Same,
    Other,
}

/// Looks at what the configuration says already.
///
/// # Errors
/// If it says something else, which is to stay.
pub(super) fn judge(answers: &Answers, force: bool) -> Result<Configuration, Stop> {
    let text = text(answers);
    let path = &answers.config;
    let stands = match fs::read(path) {
        Ok(present) if present == text.as_bytes() => Stands::Same,
        Ok(present) => {
            if !force && !says_nothing(&present) {
                let told = format!("{} exists and says something else; it stays as it is", path.display());
                let hint = format!(
                    "add a sync {{ }} for {} to it by hand; or --config names another file, --force replaces this one \
                     and keeps it as {}.old",
                    answers.shown(),
                    path.display()
                );
                return Err(Stop::new(Exit::Syntax, told, hint));
            }
            Stands::Other
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Stands::Nothing,
        Err(error) => return Err(Stop::file(path, &error)),
    };
    Ok(Configuration { text, stands })
}

/// Whether a configuration holds only comments, as the one that the packages bring.
fn says_nothing(text: &[u8]) -> bool {
    let is_nothing = |line: &[u8]| {
        let line = line.trim_ascii();
        line.is_empty() || (line.starts_with(b"--") && !line.starts_with(b"--["))
    };
    text.split(|&byte| byte == b'\n').all(is_nothing)
}

fn text(answers: &Answers) -> String {
    let mut ssh = vec![format!("identityFile = {}", lua(&answers.key.to_string_lossy()))];
    ssh.extend(answers.port.map(|port| format!("port = {port}")));
    if !answers.ssh_options.is_empty() {
        let options = answers.ssh_options.iter().map(|(key, value)| format!("{key} = {}", lua(value)));
        ssh.push(format!("options = {{ {} }}", options.collect::<Vec<_>>().join(", ")));
    }
    format!(
        "-- Written by speil init. After a change: speil check {} && speil reload\n\
         -- Every key: speil help configuration\n\
         sync {{\n  default.mirror,\n  source = {},\n  target = {},\n  ssh = {{ {} }},\n}}\n",
        shell_word(&answers.config.to_string_lossy()),
        lua(&answers.source_with_slash()),
        lua(&answers.shown()),
        ssh.join(", ")
    )
}

/// Returns a text without control characters as Lua reads it.
fn lua(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Writes the configuration, whole or not at all. Returns whether it says something new.
pub(super) fn write(it: &Configuration, answers: &Answers, shell: Shell) -> Result<bool, Stop> {
    let path = answers.config.as_path();
    if it.stands == Stands::Same {
        super::print(&format!("{} says this already.\n", path.display()));
        return Ok(false);
    }
    make_dir(path, shell)?;
    if it.stands == Stands::Other {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        shell.run(Command::new("cp").arg("-p").arg("--").arg(path).arg(old))?.or_stop()?;
    }
    put(path, &it.text, shell)?;
    Ok(true)
}

/// Writes a file, whole or not at all, and prints it as a shell would write it.
pub(super) fn put(path: &Path, text: &str, shell: Shell) -> Result<(), Stop> {
    shell.show(&format!("cat >{} <<'END'\n{text}END", shell_word(&path.to_string_lossy())));
    if shell.dry_run {
        return Ok(());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let written = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|error| Stop::file(path, &error))
}

/// Makes the directory of a file.
fn make_dir(file: &Path, shell: Shell) -> Result<(), Stop> {
    match file.parent() {
        Some(dir) if !dir.is_dir() => {
            shell.run(Command::new("mkdir").arg("-p").arg("--").arg(dir))?.or_stop()
        }
        _ => Ok(()),
    }
}

/// Makes the directory of a file that is ssh's, for its owner alone.
pub(super) fn make_private_dir(file: &Path, shell: Shell) -> Result<(), Stop> {
    let Some(dir) = file.parent().filter(|dir| !dir.is_dir()) else { return Ok(()) };
    shell.show(&format!("mkdir -m 700 {}", shell_word(&dir.to_string_lossy())));
    if shell.dry_run {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| Stop::file(dir, &error))
}

/// Makes the key, or the half of it that is missing.
pub(super) fn make_key(answers: &Answers, shell: Shell) -> Result<(), Stop> {
    let key = answers.key.as_path();
    let public = public(key);
    let exists = |path: &Path| path.try_exists().map_err(|error| Stop::file(path, &error));
    if !exists(key)? {
        make_dir(key, shell)?;
        let name = crate::disk::host_name();
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", &format!("speil@{name}"), "-f"]).arg(key);
        return shell.run(&mut make)?.or_stop();
    }
    if exists(&public)? {
        return Ok(());
    }
    // A key from elsewhere, or a first run that was ended in between.
    let ran = shell.ask(Command::new("ssh-keygen").arg("-y").arg("-f").arg(key))?;
    let text = ran.stdout.clone();
    ran.or_stop()?;
    put(&public, &text, shell)
}

/// Returns where the public half of a key is.
pub(super) fn public(key: &Path) -> std::path::PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Returns the path of a file near the top of the source, below it; `None` if none is found.
pub(super) fn first(source: &Path) -> Option<String> {
    let mut dirs = std::collections::VecDeque::from([source.to_owned()]);
    let mut left = ENTRIES_MAX;
    while let Some(dir) = dirs.pop_front() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            left = left.checked_sub(1)?;
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let below = path.strip_prefix(source).ok().and_then(Path::to_str);
            // In a list of files some characters mean something.
            let plain =
                |text: &&str| !text.starts_with(['.', '#', ';']) && !text.chars().any(char::is_control);
            let Some(below) = below.filter(plain) else { continue };
            let small = || entry.metadata().is_ok_and(|meta| meta.len() <= FIRST_BYTES_MAX);
            if kind.is_file() && small() && fs::File::open(&path).is_ok() {
                return Some(below.to_owned());
            }
            if kind.is_dir() {
                dirs.push_back(path);
            }
        }
    }
    None
}

/// Appends one line to a file.
pub(super) fn append(path: &Path, line: &str, shell: Shell) -> Result<(), Stop> {
    shell.show(&format!("echo {} >>{}", shell_word(line), shell_word(&path.to_string_lossy())));
    if shell.dry_run {
        return Ok(());
    }
    let broken = fs::read(path).is_ok_and(|text| text.last().is_some_and(|&byte| byte != b'\n'));
    let start = if broken { "\n" } else { "" };
    let mut options = fs::OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("{start}{line}\n").as_bytes()));
    written.map_err(|error| Stop::file(path, &error))
}
