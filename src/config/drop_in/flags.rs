//! The options of rsync and of ssh that a sync's tables stand for.

use mlua::{Lua, Table, Value};

/// Keys of `rsync = { … }` that are one letter, in the order in which they stand in the cluster.
pub const SHORT: [(&str, u8); 30] = [
    ("acls", b'A'),
    ("backup", b'b'),
    ("checksum", b'c'),
    ("compress", b'z'),
    ("copy_dirlinks", b'k'),
    ("copy_links", b'L'),
    ("cvs_exclude", b'C'),
    ("dry_run", b'n'),
    ("executability", b'E'),
    ("group", b'g'),
    ("hard_links", b'H'),
    ("ignore_times", b'I'),
    ("ipv4", b'4'),
    ("ipv6", b'6'),
    ("keep_dirlinks", b'K'),
    ("links", b'l'),
    ("one_file_system", b'x'),
    ("omit_dir_times", b'O'),
    ("omit_link_times", b'J'),
    ("owner", b'o'),
    ("perms", b'p'),
    ("protect_args", b's'),
    ("prune_empty_dirs", b'm'),
    ("quiet", b'q'),
    ("sparse", b'S'),
    ("times", b't'),
    ("update", b'u'),
    ("verbose", b'v'),
    ("whole_file", b'W'),
    ("xattrs", b'X'),
];

/// Keys that are long options, in their order; the flag says whether they take their value along.
const LONG: [(&str, &str, bool); 17] = [
    ("append", "--append", false),
    ("append_verify", "--append-verify", false),
    ("backup_dir", "--backup-dir=", true),
    ("bwlimit", "--bwlimit=", true),
    ("chmod", "--chmod=", true),
    ("chown", "--chown=", true),
    ("copy_unsafe_links", "--copy-unsafe-links", false),
    ("groupmap", "--groupmap=", true),
    ("existing", "--existing", false),
    ("inplace", "--inplace", false),
    ("password_file", "--password-file=", true),
    ("rsh", "--rsh=", true),
    ("rsync_path", "--rsync-path=", true),
    ("suffix", "--suffix=", true),
    ("temp_dir", "--temp-dir=", true),
    ("timeout", "--timeout=", true),
    ("usermap", "--usermap=", true),
];

/// What `archive` implies unless it is set by itself.
const ARCHIVE: [&str; 5] = ["links", "perms", "times", "group", "owner"];

/// `rsync = { … }` as arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncFlags {
    /// The program.
    pub binary: Vec<u8>,
    /// Short cluster, `_extra`, long options.
    pub arguments: Vec<Vec<u8>>,
    /// Whether the pass over everything deletes what is excluded.
    pub delete_excluded: bool,
}

/// `ssh = { … }` as arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshFlags {
    /// The program.
    pub binary: Vec<u8>,
    /// Its options.
    pub arguments: Vec<Vec<u8>>,
    /// What rsync is told to call; `None` if nothing is set.
    pub rsh: Option<Vec<u8>>,
}

fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Nil | Value::Boolean(false))
}

/// Returns a value as the text that it is joined into; `None` for what has none.
fn text(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(number) => Some(number.to_string().into_bytes()),
        // As Lua 5.3 writes it: 10/2 is 5.0.
        Value::Number(number) if number.fract() == 0.0 => Some(format!("{number:.1}").into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

fn list(table: &Table, key: &str) -> mlua::Result<Vec<Vec<u8>>> {
    let Value::Table(list) = table.get::<Value>(key)? else { return Ok(Vec::new()) };
    let mut words = Vec::new();
    for word in list.sequence_values::<Value>() {
        words.extend(text(&word?));
    }
    Ok(words)
}

/// Returns what the old `rsyncOps` or `rsyncOpts` holds.
fn old_options(table: &Table) -> mlua::Result<Option<Vec<Vec<u8>>>> {
    for key in ["rsyncOpts", "rsyncOps"] {
        match table.get::<Value>(key)? {
            Value::String(text) => return Ok(Some(vec![text.as_bytes().to_vec()])),
            Value::Table(_) => return list(table, key).map(Some),
            _ => {}
        }
    }
    Ok(None)
}

/// Adds the functions by which the prelude asks for the words of both programs.
pub(super) fn serve(lua: &Lua, host: &Table) -> mlua::Result<()> {
    let sequence = |lua: &Lua, words: &[Vec<u8>]| -> mlua::Result<Table> {
        let words: Vec<_> = words.iter().map(|word| lua.create_string(word)).collect::<Result<_, _>>()?;
        lua.create_sequence_from(words)
    };
    let rsync = move |lua: &Lua, sync: Table| sequence(lua, &RsyncFlags::of(&sync)?.arguments);
    host.set("rsync_words", lua.create_function(rsync)?)?;
    let ssh = move |lua: &Lua, table: Table| {
        let flags = SshFlags::read(Some(&table))?;
        let shell = flags.rsh.map(|shell| lua.create_string(shell)).transpose()?;
        Ok((sequence(lua, &flags.arguments)?, shell))
    };
    host.set("ssh_words", lua.create_function(ssh)?)
}

impl RsyncFlags {
    /// Takes over what `prepare` of a configuration has made of the words; `shell` is among them and is said by itself.
    /// Returns whether it has changed any.
    pub(super) fn recompute(&mut self, table: &Table, shell: Option<&Vec<u8>>) -> mlua::Result<bool> {
        if !table.contains_key("_computed")? {
            return Ok(false);
        }
        let mut words = list(table, "_computed")?;
        if let Some(at) = shell.and_then(|shell| words.iter().rposition(|word| word == shell)) {
            words.remove(at);
        }
        let changed = words != self.arguments;
        self.arguments = words;
        Ok(changed)
    }

    /// Reads what a sync says of rsync.
    pub(super) fn of(sync: &Table) -> mlua::Result<Self> {
        Self::read(sync.get::<Option<Table>>("rsync")?.as_ref(), old_options(sync)?)
    }

    /// Reads the table `rsync` of a sync; `replaced` is what the old `rsyncOpts` says instead of the
    /// short flags.
    fn read(table: Option<&Table>, replaced: Option<Vec<Vec<u8>>>) -> mlua::Result<Self> {
        let get = |key: &str| table.map_or(Ok(Value::Nil), |table| table.get::<Value>(key));
        let archive = is_set(&get("archive")?);
        let mut cluster = vec![b'-'];
        for (key, letter) in &SHORT {
            let value = get(key)?;
            if is_set(&value) || (archive && matches!(value, Value::Nil) && ARCHIVE.contains(key)) {
                cluster.push(*letter);
            }
        }
        if archive {
            cluster.push(b'D');
        }
        let mut arguments = match replaced {
            Some(replaced) => replaced,
            None if cluster.len() > 1 => vec![cluster],
            None => Vec::new(),
        };
        if let Some(table) = table {
            arguments.extend(list(table, "_extra")?);
        }
        for (key, option, valued) in &LONG {
            let value = get(key)?;
            if is_set(&value) {
                let tail = if *valued { text(&value).unwrap_or_default() } else { Vec::new() };
                arguments.push([option.as_bytes(), &tail].concat());
            }
        }
        let binary = text(&get("binary")?).unwrap_or_else(|| b"/usr/bin/rsync".to_vec());
        Ok(Self { binary, arguments, delete_excluded: is_set(&get("delete_excluded")?) })
    }
}

impl SshFlags {
    /// Reads the table `ssh` of a sync.
    pub(super) fn read(table: Option<&Table>) -> mlua::Result<Self> {
        let mut flags = Self { binary: b"/usr/bin/ssh".to_vec(), arguments: Vec::new(), rsh: None };
        let Some(table) = table else { return Ok(flags) };
        if let Some(binary) = text(&table.get::<Value>("binary")?) {
            flags.binary = binary;
        }
        if let Some(file) = text(&table.get::<Value>("identityFile")?) {
            flags.arguments.extend([b"-i".to_vec(), file]);
        }
        if let Value::Table(options) = table.get::<Value>("options")? {
            for pair in options.pairs::<Value, Value>() {
                let (key, value) = pair?;
                if let (Some(key), Some(value)) = (text(&key), text(&value)) {
                    flags.arguments.extend([b"-o".to_vec(), [&key, &b"="[..], &value].concat()]);
                }
            }
        }
        if let Some(port) = text(&table.get::<Value>("port")?) {
            flags.arguments.extend([b"-p".to_vec(), port]);
        }
        flags.arguments.extend(list(table, "_extra")?);
        if !flags.arguments.is_empty() {
            let mut rsh = b"--rsh=ssh".to_vec();
            for word in &flags.arguments {
                rsh.push(b' ');
                rsh.extend_from_slice(word);
            }
            flags.rsh = Some(rsh);
        }
        Ok(flags)
    }
}
