//! The filters and lists of a command line, with the files that they name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Draft, Pattern};
use crate::cli::error::CliError;
use crate::cli::filters::{Lists, Rules, listed_paths};
use crate::filter::{Merge, Named, cvs_rules};

/// Files of rules that may name each other, one within the other.
const MERGES_MAX: u8 = 16;

impl Draft {
    pub(super) fn read_lists(&mut self, carried: Option<&[u8]>) -> Result<(), CliError> {
        let mut lists = Lists::default();
        let mut rules = Rules::default();
        for pattern in std::mem::take(&mut self.lists.patterns) {
            match &pattern {
                Pattern::Rule(rule) => {
                    add_rule((&mut lists, &mut rules), rule.as_bytes(), self.lists.from0, 0)?;
                }
                Pattern::One(sign, one) => rules.add_pattern(*sign, one.as_bytes()),
                Pattern::File(sign, file, from0) => {
                    let option = if *sign == '-' { "--exclude-from" } else { "--include-from" };
                    rules.add_lines(*sign, &lists.read(option, file, *from0)?);
                }
            }
        }
        for rule in [b":C", b"-C"].into_iter().filter(|_| self.asked.cvs) {
            add_rule((&mut lists, &mut rules), rule, false, 0)?;
        }
        if self.live && rules.merges() {
            let reason = "a live mirror does not read rule files again; write their rules into --filter";
            return Err(CliError::Refused { option: "dir-merge".to_owned(), command: "mirror", reason });
        }
        rules.check()?;
        let below = rules.below(carried);
        self.sync.filters =
            below.map_err(|(rule, reason)| CliError::value("--filter", OsStr::from_bytes(&rule), reason))?;
        if let Some(file) = &self.lists.files_from {
            let entries = lists.read("--files-from", file, self.lists.from0)?;
            let paths =
                listed_paths(&entries).map_err(|reason| CliError::value("--files-from", file, reason))?;
            self.sync.selection.files_from = Some(paths);
        }
        Ok(())
    }
}

/// Adds a rule; for one that names a file of this host, the rules in that.
fn add_rule(
    (lists, rules): (&mut Lists, &mut Rules),
    rule: &[u8],
    from0: bool,
    depth: u8,
) -> Result<(), CliError> {
    match Merge::parse(rule)? {
        Named::Cvs => {
            let home = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".cvsignore"));
            let home = home.and_then(|path| std::fs::read(path).ok());
            let named = std::env::var_os("CVSIGNORE").map(|text| text.as_bytes().to_vec());
            let more: Vec<Vec<u8>> = home.into_iter().chain(named).collect();
            cvs_rules(&more).iter().for_each(|rule| rules.add_rule(rule));
        }
        Named::File(merge) if !merge.per_dir => {
            let file = OsStr::from_bytes(&merge.file);
            if depth >= MERGES_MAX {
                return Err(CliError::value("--filter", file, crate::cli::values::ValueError::Merges));
            }
            let text = lists.text("--filter", file, from0)?;
            for rule in merge.rules(&text) {
                add_rule((&mut *lists, &mut *rules), &rule, from0, depth + 1)?;
            }
        }
        _ => rules.add_rule(rule),
    }
    Ok(())
}
