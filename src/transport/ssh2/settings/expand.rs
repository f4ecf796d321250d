//! Names of files as ssh_config(5) allows them: `~/`, `%h`, `${NAME}`.

use std::path::PathBuf;

use super::{Local, bad};
use crate::transport::TransportError;

/// Expands what may stand in the name of a file.
pub(super) struct Paths<'a> {
    /// This host.
    pub(super) local: &'a Local,
    /// The host as it is connected to.
    pub(super) host: &'a str,
    /// The host as the user wrote it.
    pub(super) original: &'a str,
    /// Its port.
    pub(super) port: u16,
    /// The user there.
    pub(super) user: &'a str,
}

impl Paths<'_> {
    /// Returns the files of a list with blanks between them.
    pub(super) fn list(&self, value: &str) -> Result<Vec<PathBuf>, TransportError> {
        self.each(value.split_ascii_whitespace())
    }

    /// Returns the files of several lines; `none` is no file.
    pub(super) fn each<'v>(
        &self,
        values: impl Iterator<Item = &'v str>,
    ) -> Result<Vec<PathBuf>, TransportError> {
        let named = values.filter(|value| !value.eq_ignore_ascii_case("none"));
        named.map(|value| self.expand(value)).collect()
    }

    /// Returns the socket of the agent.
    pub(super) fn agent(&self, value: Option<&str>) -> Result<Option<PathBuf>, TransportError> {
        let variable = |name| (self.local.variable)(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        match value {
            None | Some("SSH_AUTH_SOCK") => Ok(variable("SSH_AUTH_SOCK")),
            Some("none") => Ok(None),
            Some(value) => match value.strip_prefix('$').filter(|name| !name.starts_with('{')) {
                Some(name) => Ok(variable(name)),
                None => self.expand(value).map(Some),
            },
        }
    }

    fn expand(&self, value: &str) -> Result<PathBuf, TransportError> {
        let wrong = || bad("the file name", value);
        let text = value.trim_matches('"');
        let below_home = text.strip_prefix('~');
        let mut rest = match below_home {
            Some(rest) => rest.strip_prefix('/').ok_or_else(wrong)?,
            None => text,
        };
        let mut path = String::new();
        while let Some(at) = rest.find(['%', '$']) {
            let (before, from) = rest.split_at_checked(at).ok_or_else(wrong)?;
            path.push_str(before);
            if let Some(braced) = from.strip_prefix("${") {
                let (name, after) = braced.split_once('}').ok_or_else(wrong)?;
                path.push_str(&(self.local.variable)(name).ok_or_else(wrong)?);
                rest = after;
            } else if let Some(after) = from.strip_prefix('$') {
                path.push('$');
                rest = after;
            } else {
                let mut letters = from.chars();
                let _percent = letters.next();
                path.push_str(&self.token(letters.next()).ok_or_else(wrong)?);
                rest = letters.as_str();
            }
        }
        path.push_str(rest);
        Ok(if below_home.is_some() { self.local.home.join(path) } else { PathBuf::from(path) })
    }

    fn token(&self, letter: Option<char>) -> Option<String> {
        Some(match letter? {
            '%' => "%".to_owned(),
            'd' => self.local.home.to_string_lossy().into_owned(),
            'h' => self.host.to_owned(),
            'i' => self.local.uid.to_string(),
            'n' => self.original.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user.to_owned(),
            'u' => self.local.user.clone(),
            _ => return None,
        })
    }
}
