//! `notify` of `settings{}`: who is told when something gets worse, or well again.

use std::time::Duration;

use super::error::ConfigError;
use super::mirror::command;
use super::raw::{Raw, Section};

const NOTIFY: &str =
    "{ mail = \"NAME@HOST\", webhook = \"https://…\", command = { \"PROGRAM\", … } }, one or more of them";
const MAIL: &str = "an address, \"NAME@HOST\" or \"NAME\", or a list of them";
const WEBHOOK: &str = "\"https://HOST/PATH\" or \"http://HOST/PATH\"";

/// Who is told, and of what.
#[derive(Clone, PartialEq, Eq)]
pub struct Notify {
    /// Addresses; the host's own mail program sends.
    pub mail: Vec<String>,
    /// Where a JSON object is posted. A secret: often whoever knows it may write there.
    pub webhook: Option<String>,
    /// A program and its arguments.
    pub command: Vec<String>,
    /// How long something must be wrong before it is told, and the least time between two messages.
    pub after: Duration,
    /// A target that lags by more is behind.
    pub max_lag: Duration,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notify")
            .field("mail", &self.mail)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// Reads `notify`.
///
/// # Errors
/// [`ConfigError`] (die) for anything that could tell nobody.
pub(super) fn notify(section: &Section<'_>) -> Result<Option<Notify>, ConfigError> {
    let Some(given) = section.get("notify").filter(|&given| *given != Raw::Bool(false)) else {
        return Ok(None);
    };
    let Some(table) = section.section("notify", NOTIFY)? else { return Ok(None) };
    table.only(&["after", "command", "mail", "maxLag", "webhook"], "notify")?;
    let mail = table.words("mail", MAIL)?;
    if let Some(raw) = table.get("mail").filter(|_| !mail.iter().all(|address| is_address(address))) {
        return Err(table.wrong("mail", raw, MAIL));
    }
    let webhook = table.text("webhook", WEBHOOK)?;
    if !webhook.as_deref().is_none_or(is_url) {
        // Not the address itself: messages end in logs.
        return Err(table.wrong("webhook", &Raw::Other("different text"), WEBHOOK));
    }
    let command = command(&table, "command")?;
    if mail.is_empty() && webhook.is_none() && command.is_empty() {
        return Err(section.wrong("notify", given, NOTIFY));
    }
    let after = table.duration("after")?.unwrap_or(Duration::from_secs(300));
    let max_lag = table.duration("maxLag")?.unwrap_or(Duration::from_secs(30));
    Ok(Some(Notify { mail, webhook, command, after, max_lag }))
}

/// Whether a mail program takes this as one address, and as nothing else.
fn is_address(text: &str) -> bool {
    let odd = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '<' | '>' | '"' | '|' | '\\')
    };
    !text.starts_with(['-', '/', '@']) && !text.ends_with('@') && !text.contains(odd) && text.len() <= 254
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}
