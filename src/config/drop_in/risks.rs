//! What is risky about a sync of lsyncd's, and what to write instead.
//!
//! **In → out:** a settled sync → lines of text, the risk and behind a semicolon the remedy. **Not here:** what
//! is risky about it as a mirror of speil's own ([`risks`](crate::config::risks)).

use super::{Handler, LsyncdSync, Verdict};

/// Options by which an answer of any host is taken for the right one.
const UNCHECKED: [&[u8]; 3] =
    [b"stricthostkeychecking=no", b"stricthostkeychecking=off", b"userknownhostsfile=/dev/null"];

/// Returns what somebody who writes this should think twice about, where rsync carries the sync over.
pub fn lsyncd_risks(sync: &LsyncdSync) -> Vec<String> {
    let mut risks = Vec::new();
    if !sync.layer {
        if !sync.exit_codes.is_given() {
            risks.push(
                "without exitcodes every exit code but 0 ends the sync; write exitcodes = { [0] = \"ok\", \
                 [1] = \"again\" }"
                    .to_owned(),
            );
        }
        return risks;
    }
    let has = |option: &str| sync.rsync.arguments.iter().any(|word| word == option.as_bytes());
    let letter = |letter: u8| {
        let cluster =
            sync.rsync.arguments.first().filter(|word| word.starts_with(b"-") && !word.starts_with(b"--"));
        cluster.is_some_and(|word| word.contains(&letter))
    };
    if sync.delete.startup || sync.delete.running {
        risks.push(
            "--delete --ignore-errors: what is below a source directory that cannot be read is deleted on the \
             target; write engine = \"native\", or delete = false"
                .to_owned(),
        );
    }
    if has("--inplace") || has("--append") || has("--append-verify") {
        risks.push(
            "inplace: who reads the target sees half of a file while it is written; leave it out".to_owned(),
        );
    }
    let codes = if sync.ssh.is_some() { &sync.rsync_codes } else { &sync.exit_codes };
    if codes.verdict(23) == Some(Verdict::Ok) {
        risks.push(
            "exit code 23 (some files were not transferred) counts as success; write exitcodes = { [0] = \"ok\", \
             [23] = \"again\", [24] = \"ok\", … }, or engine = \"native\""
                .to_owned(),
        );
    }
    if !letter(b'c') && !letter(b'I') {
        risks.push(
            "files of equal size and time in whole seconds count as equal: a rewrite within a second may be \
             missed; write engine = \"native\", or rsync = { checksum = true }"
                .to_owned(),
        );
    }
    if host_keys_unchecked(sync) {
        risks.push(
            "host keys are not checked: whoever answers for the host gets the files; write \
             StrictHostKeyChecking=accept-new"
                .to_owned(),
        );
    }
    if sync.init == Handler::Absent {
        risks.push("init = false: what changes while nothing runs never arrives; leave it out".to_owned());
    }
    risks
}

fn host_keys_unchecked(sync: &LsyncdSync) -> bool {
    let ssh = sync.ssh.iter().flat_map(|(flags, ..)| &flags.arguments);
    sync.rsync.arguments.iter().chain(ssh).any(|word| {
        let mut word = word.to_ascii_lowercase();
        word.retain(|byte| !matches!(byte, b'"' | b'\''));
        let text = String::from_utf8_lossy(&word).replace("checking ", "checking=");
        UNCHECKED.iter().any(|option| text.contains(&*String::from_utf8_lossy(option)))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::{LsyncdOptions, load_lsyncd};

    fn found(keys: &str) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "sync{{ {keys} }}").unwrap();
        let options = LsyncdOptions { file: Some(file.path().to_owned()), ..LsyncdOptions::default() };
        lsyncd_risks(&load_lsyncd(&options).unwrap().syncs[0])
    }

    fn count(keys: &str, text: &str) -> usize {
        found(keys).iter().filter(|risk| risk.contains(text)).count()
    }

    #[test]
    fn each_risk_is_named_where_it_is_and_nowhere_else() {
        let base = "default.rsync, source='/tmp', target='h:/x'";
        let safe = format!(
            "{base}, delete=false, exitcodes={{ [0]='ok' }}, rsync={{ checksum=true, rsh='ssh -o StrictHostKeyChecking=yes' }}"
        );
        assert_eq!(found(&safe), Vec::<String>::new());
        for (keys, text) in [
            ("", "--ignore-errors"),
            ("", "exit code 23"),
            ("", "whole seconds"),
            ("rsync={ inplace=true }", "half of a file"),
            ("rsync={ rsh='ssh -o StrictHostKeyChecking=no' }", "host keys"),
            ("rsync={ rsh='ssh -oUserKnownHostsFile=/dev/null' }", "host keys"),
            ("init=false", "init = false"),
        ] {
            assert_eq!(count(&format!("{base}, {keys}"), text), 1, "{keys}");
            assert_eq!(count(&safe, text), 0, "{keys}");
        }
        let ssh = "default.rsyncssh, source='/tmp', host='h', targetdir='/x', ssh={ options={ StrictHostKeyChecking='no' } }";
        assert_eq!((count(ssh, "host keys"), count(ssh, "exit code 23")), (1, 1));
        assert_eq!(count("source='/tmp', onCreate='true'", "without exitcodes"), 1);
    }
}
