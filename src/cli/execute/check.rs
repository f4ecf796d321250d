//! `speil check`: what a configuration comes to.

use super::{check_lsyncd, complain, complain_text, note, print};
use crate::cli::commands::Check;
use crate::cli::exit::Exit;
use crate::config::{self, Sync};

/// Prints what a configuration comes to, and what is wrong with it.
pub(super) fn run(check: &Check) -> u8 {
    if check.diff && check_lsyncd::is_speils(&check.config) {
        complain_text(
            &format!(
                "--diff shows what lsyncd would run, and {} is no configuration of lsyncd",
                check.config.display()
            ),
            Some("without --diff the configuration is explained"),
        );
        return Exit::Syntax.code();
    }
    if check.diff || check_lsyncd::is_lsyncds(&check.config) {
        return check_lsyncd::run(check);
    }
    let loaded = match config::load(&check.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error, error.hint().as_deref());
            return Exit::Syntax.code();
        }
    };
    for warning in &loaded.warnings {
        note(&warning.to_string());
    }
    let blocks: Vec<String> = loaded.config.syncs.iter().map(block).collect();
    print(&blocks.join("\n"));
    let invalid = loaded.config.validate();
    invalid.iter().for_each(|invalid| complain(invalid, None));
    if invalid.is_empty() { 0 } else { Exit::Syntax.code() }
}

/// Returns what one sync does and what is risky about it, a line each.
fn block(sync: &Sync) -> String {
    let mut lines = config::explain(sync);
    let risks = config::risks(sync, &|path| path.exists());
    lines.extend(risks.into_iter().map(|risk| format!("  warning: {risk}")));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
