//! `speil explain`: why a path is, or is not, on the targets.

use std::os::unix::ffi::OsStrExt;

use super::control::{ask, unexpected};
use super::{complain, complain_text, print};
use crate::cli::commands::Explain;
use crate::cli::exit::Exit;
use crate::config;
use crate::daemon::explain_rules;
use crate::status::{Answer, Explanation, Request};

/// Asks the daemon, or a configuration where one is named.
pub(super) fn run(it: &Explain) -> u8 {
    if it.config.is_some() {
        return from_configuration(it);
    }
    let path = it.path.as_os_str().as_bytes().to_vec();
    let request = Request::Explain { sync: it.sync.clone(), path };
    match ask(&it.control, &request) {
        None => Exit::Stream.code(),
        Some((_, Ok(Answer::Explained(told)))) => tell(&told, it.json),
        Some((socket, other)) => unexpected(&socket, other),
    }
}

fn from_configuration(it: &Explain) -> u8 {
    let Some(file) = &it.config else { return Exit::Syntax.code() };
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error, error.hint().as_deref());
            return Exit::Syntax.code();
        }
    };
    let Some(sync) = loaded.config.syncs.iter().find(|sync| sync.name == it.sync) else {
        let names: Vec<&str> = loaded.config.syncs.iter().map(|sync| sync.name.as_str()).collect();
        let hint = format!("it has {}", names.join(", "));
        complain_text(&format!("no sync is called {:?} in {}", it.sync, file.display()), Some(&hint));
        return Exit::Syntax.code();
    };
    match explain_rules(sync, it.path.as_os_str().as_bytes()) {
        Ok(told) => tell(&told, it.json),
        Err(error) => {
            complain_text(&error, None);
            Exit::Syntax.code()
        }
    }
}

fn tell(told: &Explanation, json: bool) -> u8 {
    if json {
        print(&(serde_json::to_string_pretty(told).unwrap_or_default() + "\n"));
    } else {
        print(&told.text());
    }
    0
}
