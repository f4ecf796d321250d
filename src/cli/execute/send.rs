//! `speil agent --send`: the far side of a pull.

use std::fs::File;
use std::io;

use super::complain;
use super::sync::exit_of_source;
use crate::cli::commands::Agent;
use crate::cli::exit::Exit;
use crate::cli::told::{Told, line};
use crate::daemon::{self, SendError, SendOptions, Words};
use crate::filter::{Filter, FilterError};
use crate::monitor::{Notice, Scope};
use crate::protocol::Failure;
use crate::sender::SessionError;

/// Sends what the other side asks for and returns the exit code.
pub(super) fn run(agent: &Agent) -> u8 {
    let filter = match filter(agent) {
        Ok(filter) => filter,
        Err(error) => {
            complain(&error, None);
            return Exit::Syntax.code();
        }
    };
    crate::disk::raise_limits();
    let Ok(input) = rustix::io::dup(io::stdin()) else { return Exit::Stream.code() };
    let options = SendOptions { root: agent.root.clone(), filter, confine: !agent.no_confine };
    let words = Words { failure, detail };
    match daemon::send(File::from(input), Box::new(io::stdout()), &options, words) {
        // The other side says it.
        Ok(()) | Err(SendError::Unsent(_)) => 0,
        Err(error) => {
            complain(&error, None);
            Exit::Stream.code()
        }
    }
}

/// Returns what is hidden, whatever is asked for.
fn filter(agent: &Agent) -> Result<Filter, FilterError> {
    let mut filter = Filter::default();
    agent.filter.iter().try_for_each(|rule| filter.push_rule(rule.as_bytes()))?;
    agent.exclude.iter().try_for_each(|pattern| filter.push_exclude(pattern.as_bytes()))?;
    Ok(filter)
}

fn failure(error: &SessionError) -> Failure {
    Failure::Other { text: error.to_string(), hint: daemon::hint(error), code: exit_of_source(error).code() }
}

/// Returns what only a close look needs; whom it is about is said where it is shown.
fn detail(notice: &Notice) -> Option<String> {
    let scope = Scope::new("", "");
    match line(&scope, notice, false) {
        Told::Detail(text) => Some(text.strip_prefix(&format!("{scope}: ")).unwrap_or(&text).to_owned()),
        _ => None,
    }
}
