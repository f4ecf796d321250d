//! Tables of lsyncd configurations: any keys and values end in a configuration or one error.
#![no_main]

use std::fmt::Write;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Literal<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
    Table(Vec<(Key<'a>, Literal<'a>)>),
    Function,
}

#[derive(Debug, Arbitrary)]
enum Key<'a> {
    Known(u8),
    Position,
    Text(&'a [u8]),
}

#[derive(Debug, Arbitrary)]
struct Case<'a> {
    layer: u8,
    settings: Vec<(Key<'a>, Literal<'a>)>,
    sync: Vec<(Key<'a>, Literal<'a>)>,
}

const LAYERS: [&str; 5] = ["default.rsync", "default.rsyncssh", "default.direct", "default.mirror", "default"];
const KEYS: [&str; 40] = [
    "source", "target", "targetdir", "host", "delay", "delete", "exclude", "excludeFrom", "filter", "filterFrom",
    "rsync", "ssh", "init", "crontab", "batchSizeLimit", "_extra", "archive", "compress", "rsh", "rsync_path",
    "bwlimit", "chmod", "chown", "timeout", "whole_file", "binary", "options", "port", "identityFile", "xargs",
    "maxProcesses", "maxDelays", "statusInterval", "logfile", "allowTargets", "insist", "guard", "reconcile",
    "agent", "excludes",
];

fn text(bytes: &[u8], out: &mut String) {
    out.push('"');
    for byte in bytes {
        let _ = write!(out, "\\{byte:03}");
    }
    out.push('"');
}

fn literal(value: &Literal<'_>, depth: usize, out: &mut String) {
    match value {
        Literal::Nil => out.push_str("nil"),
        Literal::Bool(value) => drop(write!(out, "{value}")),
        Literal::Int(value) => drop(write!(out, "({value}//1)")),
        Literal::Float(value) if value.is_finite() => drop(write!(out, "({value:?})")),
        Literal::Float(_) => out.push_str("(0/0)"),
        Literal::Text(bytes) => text(bytes, out),
        Literal::Table(entries) if depth < 6 => table(entries, depth + 1, out),
        Literal::Table(_) => out.push_str("{}"),
        Literal::Function => out.push_str("function() end"),
    }
}

fn table(entries: &[(Key<'_>, Literal<'_>)], depth: usize, out: &mut String) {
    out.push('{');
    for (key, value) in entries.iter().take(16) {
        match key {
            Key::Known(number) => drop(write!(out, "{}=", KEYS[usize::from(*number) % KEYS.len()])),
            Key::Position => {}
            Key::Text(bytes) => {
                out.push('[');
                text(bytes, out);
                out.push_str("]=");
            }
        }
        literal(value, depth, out);
        out.push(',');
    }
    out.push('}');
}

fuzz_target!(|case: Case<'_>| {
    let mut program = String::from("settings");
    table(&case.settings, 0, &mut program);
    program.push_str("\nlocal t = ");
    table(&case.sync, 0, &mut program);
    let layer = LAYERS[usize::from(case.layer) % LAYERS.len()];
    let _ = write!(
        program,
        "\nt.source = t.source or '/' t.target = t.target or 'h:/p' t.host = t.host or 'h' t.targetdir = t.targetdir or '/p'\nt[1] = {layer}\nsync(t)\n"
    );
    let file = std::path::PathBuf::from(format!("/dev/shm/speil-fuzz-{}.lua", std::process::id()));
    std::fs::write(&file, program).expect("a file in memory");
    if let Ok(loaded) = speil::config::load(&file) {
        for sync in &loaded.config.syncs {
            let _ = speil::config::explain(sync);
        }
    }
});
