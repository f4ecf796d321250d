//! What becomes of a source's symlinks, beside being sent as they are: rsync's `-L` and its kin.
//!
//! **Sources:** rsync(1) `--copy-unsafe-links`, `--safe-links`; observed with rsync 3.5.0.

use super::RelPath;

/// Which symlinks of a source stand for what they lead to, and which are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per rsync option; the field's own vocabulary")]
pub struct LinkRules {
    /// Each stands for what it leads to (`-L`).
    pub copy: bool,
    /// Those do that lead out of the tree (`--copy-unsafe-links`).
    pub copy_unsafe: bool,
    /// Those that lead out of the tree are left out (`--safe-links`).
    pub safe: bool,
    /// Those do that lead to a directory (`-k`).
    pub copy_dirs: bool,
    /// Directories above the root that belong to the tree: one where the source has no slash at its end.
    pub depth: u32,
}

/// What becomes of one symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRule {
    /// It is sent as it is.
    Keep,
    /// What it leads to is sent in its place.
    Follow,
    /// The same, if that is a directory.
    FollowDir,
}

impl LinkRules {
    /// Whether any symlink may stand for something else.
    pub fn follows(&self) -> bool {
        self.copy || self.copy_unsafe || self.copy_dirs
    }

    /// Whether a symlink to a directory that is named without a slash is that directory.
    pub fn follows_named(&self) -> bool {
        self.copy || self.copy_dirs
    }

    /// Returns what becomes of the symlink `text` at `path`. With `FollowDir` it stays a symlink where it leads to no
    /// directory.
    pub fn rule(&self, path: &RelPath, text: &[u8]) -> LinkRule {
        match self.rule_of_other(path, text) {
            LinkRule::Keep if self.copy_dirs => LinkRule::FollowDir,
            rule => rule,
        }
    }

    fn rule_of_other(&self, path: &RelPath, text: &[u8]) -> LinkRule {
        if self.copy || self.copy_unsafe && self.leads_out(path, text) {
            LinkRule::Follow
        } else {
            LinkRule::Keep
        }
    }

    /// Whether a symlink that is kept is left out, and what the target has in its place stays.
    pub fn leaves_out(&self, path: &RelPath, text: &[u8]) -> bool {
        self.safe && self.leads_out(path, text)
    }

    /// Whether the text of a symlink leads out of the tree, as rsync judges it: by its words, whatever is on the disk.
    pub fn leads_out(&self, path: &RelPath, text: &[u8]) -> bool {
        if text.is_empty() || text.starts_with(b"/") {
            return true;
        }
        let holds = path.components().count().saturating_sub(1) + self.depth as usize;
        let words: Vec<&[u8]> = text.split(|&byte| byte == b'/').filter(|word| !word.is_empty()).collect();
        let rises = words.iter().take_while(|word| **word == b"..").count();
        rises > holds || words.iter().skip(rises).any(|word| *word == b"..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_out_by_its_words() {
        let judge = |depth: u32, path: &str, text: &str| {
            let rules = LinkRules { depth, ..LinkRules::default() };
            rules.leads_out(&RelPath::try_from(path).unwrap(), text.as_bytes())
        };
        for (path, text, out) in [
            ("l", "x", false),
            ("l", "a/b", false),
            ("l", "../x", true),
            ("l", "..", true),
            ("l", "/etc/passwd", true),
            ("l", "", true),
            ("d/l", "../x", false),
            ("d/l", "..", false),
            ("d/l", "../../x", true),
            ("d/e/l", "../../x", false),
            ("d/l", "a/../x", true),
            ("d/l", "../a/..", true),
        ] {
            assert_eq!(judge(0, path, text), out, "{path} -> {text}");
        }
        assert!(!judge(1, "l", "../x"));
        assert!(judge(1, "l", "../../x"));
    }
}
