//! `speil verify`: every byte of both sides, and each difference in a line.

use serde_json::{Value, json};

use super::reach::{missing, one_target};
use super::{complain, complain_text, exit_of, print, uploads};
use crate::cli::commands::Verify;
use crate::cli::draft::check_source;
use crate::cli::exit::Exit;
use crate::config::is_remote;
use crate::daemon::{hint, mirror_id, transport_of, unreadable};
use crate::error::errno_text;
use crate::monitor::{counted, sized};
use crate::sender::{Finding, Nature, SessionError, SessionOptions, Source, Verified, verify};
use crate::tree::{Entry, Mask, quote};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

/// Compares and tells.
pub(super) fn run(it: &Verify) -> u8 {
    let bytes = it.source.as_os_str().as_encoded_bytes();
    if is_remote(bytes) && !it.source.exists() {
        let text = format!("{} is on another host, and verify reads a source on this one", quote(bytes));
        complain_text(&text, Some("run it on that host, or name the tree here first and that one second"));
        return Exit::Syntax.code();
    }
    if let Err(error) = check_source(&it.source) {
        complain(&error, error.hint().as_deref());
        return error.exit().code();
    }
    crate::disk::raise_limits();
    let mut sync = match one_target(&it.target, &it.source, &it.reach) {
        Ok(sync) => sync,
        Err(code) => return code,
    };
    sync.filters = it.filter.iter().map(|rule| rule.clone().into_bytes()).collect();
    sync.filters.extend(it.exclude.iter().map(|pattern| format!("- {pattern}").into_bytes()));
    sync.selection.numeric_ids = it.numeric_ids;
    sync.timeout = it.timeout;
    sync.force_root = true;
    let Some(target) = sync.targets.first().cloned() else { return Exit::Syntax.code() };
    let mirror = mirror_id(&sync, &target);
    let options =
        SessionOptions { sync, target: target.clone(), mirror, live: false, dry_run: true, rehearsal: false };
    let mut findings = Vec::new();
    let verified = transport_of(&options.sync, &target, uploads::told())
        .map_err(SessionError::from)
        .and_then(|transport| {
            let source = Source::open(&it.source, 1).map_err(|error| unreadable(&it.source, &error))?;
            verify(&*transport, &options, &source, &mut |finding| findings.push(finding))
        });
    match verified {
        Ok(verified) => {
            print(&if it.json { json(&findings, &verified) } else { text(it, &findings, &verified) });
            if findings.is_empty() { 0 } else { Exit::Partial.code() }
        }
        Err(error) => {
            complain_text(&format!("{target}: {error}"), missing(&error).or_else(|| hint(&error)).as_deref());
            exit_of(&error).code()
        }
    }
}

fn text(it: &Verify, findings: &[Finding], verified: &Verified) -> String {
    let mut out = String::new();
    for finding in findings {
        let (word, detail) = words(&finding.nature, &verified.mask);
        out.push_str(&format!("{word:<10} {}", quote(finding.path.as_bytes())));
        out.push_str(&if detail.is_empty() { "\n".to_owned() } else { format!("  {detail}\n") });
    }
    if it.verbose || !findings.is_empty() {
        let (entries, bytes) = (verified.entries, verified.bytes);
        let found = counted(findings.len() as u64, "difference", "differences");
        let entries = counted(entries, "entry", "entries");
        out.push_str(&format!("{found} in {entries}, {}\n", sized(bytes)));
    }
    out
}

fn words(nature: &Nature, mask: &Mask) -> (&'static str, String) {
    match nature {
        Nature::Content { source, target } => {
            let side = |entry: &Entry| format!("{} ({} bytes)", hash(entry), entry.attrs.meta.size);
            ("content", format!("source {}, target {}", side(source), side(target)))
        }
        Nature::Metadata { source, target } => ("metadata", differences(source, target, mask).join(", ")),
        Nature::Type(source, target) => {
            ("type", format!("source {}, target {}", source.noun(), target.noun()))
        }
        Nature::Missing(kind) => ("missing", kind.noun().to_owned()),
        Nature::Extra(kind) => ("extra", kind.noun().to_owned()),
        Nature::Links => ("links", String::new()),
        Nature::Unreadable(errno, on_target) => {
            let side = if *on_target { "target" } else { "source" };
            ("unreadable", format!("{side}: {}", errno_text(*errno)))
        }
    }
}

fn hash(entry: &Entry) -> String {
    let bytes = entry.hash.unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns in words which metadata differ.
fn differences(source: &Entry, target: &Entry, mask: &Mask) -> Vec<String> {
    let (a, b) = (&source.attrs, &target.attrs);
    let mut told = Vec::new();
    let mut tell = |name: &str, kept: bool, a: String, b: String| {
        if kept && a != b {
            told.push(format!("{name} {a} on the source, {b} on the target"));
        }
    };
    let bits = if mask.set_id { 0o7777 } else { 0o777 };
    let mode = |mode: u32| format!("{:04o}", mode & bits);
    tell("mode", mask.perms, mode(a.meta.mode), mode(b.meta.mode));
    tell("owner", mask.owner, a.meta.uid.to_string(), b.meta.uid.to_string());
    tell("group", mask.group, a.meta.gid.to_string(), b.meta.gid.to_string());
    let step = mask.granularity_ns;
    let time = |entry: &Entry| {
        let time = entry.attrs.meta.mtime.truncated(step);
        format!("{} and {} ns", Exact(time), time.nanos % 1000)
    };
    tell("time", mask.keeps_time(a.meta.kind), time(source), time(target));
    tell("link", true, quote(&a.symlink), quote(&b.symlink));
    tell("device", true, a.meta.rdev.to_string(), b.meta.rdev.to_string());
    let xattrs = |entry: &Entry| {
        let kept: Vec<_> = mask.kept_xattrs(&entry.attrs).collect();
        let names: Vec<String> = kept.iter().map(|xattr| quote(&xattr.name)).collect();
        let bytes = kept.iter().flat_map(|xattr| xattr.name.iter().chain(&xattr.value).copied());
        let digest = blake3::hash(&bytes.collect::<Vec<u8>>());
        if names.is_empty() {
            "none".to_owned()
        } else {
            format!("{} {:.8}", names.join(" "), digest.to_hex())
        }
    };
    tell("xattrs", mask.wants_xattrs(), xattrs(source), xattrs(target));
    told
}

struct Exact(crate::tree::Time);

impl std::fmt::Display for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.rfc3339())
    }
}

fn json(findings: &[Finding], verified: &Verified) -> String {
    let all: Vec<Value> = findings.iter().map(|finding| value(finding, &verified.mask)).collect();
    let report = json!({
        "schema": SCHEMA,
        "entries": verified.entries,
        "bytes": verified.bytes,
        "differences": all,
    });
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn value(finding: &Finding, mask: &Mask) -> Value {
    let (word, detail) = words(&finding.nature, mask);
    let shown = quote(finding.path.as_bytes());
    let mut value = json!({ "path": shown.trim_matches('"'), "difference": word, "detail": detail });
    if let Nature::Content { source, target } = &finding.nature {
        let side = |entry: &Entry| json!({ "blake3": hash(entry), "size": entry.attrs.meta.size });
        value["source"] = side(source);
        value["target"] = side(target);
        value["metadata"] = json!(differences(source, target, mask));
    }
    value
}
