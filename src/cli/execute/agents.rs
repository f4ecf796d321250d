//! `speil agents`: which speil each host has, and which copies of it.

use std::path::PathBuf;

use serde_json::json;

use super::{complain, complain_text, note, print};
use crate::cli::commands::Agents;
use crate::cli::exit::Exit;
use crate::config::{self, Sync, Target};
use crate::daemon::transport_of;
use crate::monitor::sized;
use crate::status;
use crate::transport::{AgentCopy, Copies, Uploads};

/// What is read without an argument.
const DEFAULT: &str = "/etc/speil/speil.lua";

/// Asks every host of the configurations once.
pub(super) fn run(it: &Agents) -> u8 {
    let configs = if it.configs.is_empty() { vec![PathBuf::from(DEFAULT)] } else { it.configs.clone() };
    let loaded = match config::load_all(&configs) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error, error.hint().as_deref());
            return Exit::Syntax.code();
        }
    };
    let mut asked: Vec<(String, &Sync)> = Vec::new();
    let (mut hosts, mut failed) = (Vec::new(), false);
    for (sync, target) in
        loaded.config.syncs.iter().flat_map(|sync| sync.targets.iter().map(move |t| (sync, t)))
    {
        let Some(host) = &target.host else { continue };
        // The same host, reached in the same way.
        if asked
            .iter()
            .any(|(known, by)| known == host && (&by.ssh, by.transport) == (&sync.ssh, sync.transport))
        {
            continue;
        }
        asked.push((host.clone(), sync));
        let told = ask(sync, target, it.remove);
        failed |= told.is_err();
        if it.json {
            hosts.push(object(host, &told));
        } else {
            tell(host, &told);
        }
    }
    if it.json {
        let version = env!("CARGO_PKG_VERSION");
        print(&format!("{}\n", json!({ "schema": status::SCHEMA, "version": version, "hosts": hosts })));
    } else if asked.is_empty() {
        note("every target is on this host, where this program is the agent");
    }
    if failed { Exit::Partial.code() } else { 0 }
}

fn ask(sync: &Sync, target: &Target, remove: bool) -> Result<Copies, String> {
    let sync = crate::doctor::prepared(sync);
    let transport = transport_of(&sync, target, Uploads::default()).map_err(|error| error.to_string())?;
    transport.copies(remove).unwrap_or_else(|| Ok(Copies::default())).map_err(|error| error.to_string())
}

fn tell(host: &str, told: &Result<Copies, String>) {
    let copies = match told {
        Ok(copies) => copies,
        Err(error) => return complain_text(&format!("{host}: {error}"), None),
    };
    print(&match &copies.installed {
        Some(version) => format!("{host}: {version} is installed\n"),
        None => format!("{host}: none is installed\n"),
    });
    for AgentCopy { name, bytes, version, own, removed } in &copies.uploaded {
        let version = if version.is_empty() { "does not start" } else { version };
        let what = match (own, removed) {
            (true, _) => "of this program",
            (false, true) => "removed",
            (false, false) => "of another build; --remove removes it",
        };
        print(&format!("    ~/.cache/speil/{name}: {version}, {}, {what}\n", sized(*bytes)));
    }
}

fn object(host: &str, told: &Result<Copies, String>) -> serde_json::Value {
    match told {
        Err(error) => json!({ "host": host, "error": error }),
        Ok(Copies { installed, uploaded }) => {
            let copies = uploaded.iter().map(|copy| {
                let AgentCopy { name, bytes, version, own, removed } = copy;
                json!({ "name": name, "bytes": bytes, "version": version, "own": own, "removed": removed })
            });
            let copies: Vec<_> = copies.collect();
            json!({ "host": host, "error": null, "installed": installed, "copies": copies })
        }
    }
}
