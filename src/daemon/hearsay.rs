//! What the far side of a pull tells, as it is put on this side.
//!
//! **In → Out:** a [`Word`]; the notice that it stands for. **Invariants:** every text is one line without control
//! characters, and no longer than is shown.

use std::time::Duration;

use crate::monitor::{Arrived, Notice};
use crate::protocol::{Arrival, Confinement, Failure, Word};
use crate::sender::clean_refusal;
use crate::tree::quote;

/// Longest text of the far side's that is shown, in characters.
const TEXT_LEN_MAX: usize = 400;
/// Texts in a list that are shown.
const TEXTS_MAX: usize = 20;
/// What may have been done, as the sender says it.
const DEEDS: [&str; 4] = ["metadata sent", "sent", "renamed", "deleted"];

/// Returns the notice that a word stands for; `None` for one that is none, or has no sense unless the pull is live.
pub(super) fn notice_of(word: Word, live: bool) -> Option<Notice> {
    Some(match word {
        Word::Problem { path, operation, errno, on_target } => {
            Notice::Problem { path, operation: shown(&operation), errno, on_target }
        }
        Word::Held { count, reason, first } => Notice::Held { count, reason: shown(&reason), first },
        Word::Stays(path) => Notice::Stays { path },
        Word::Warning { text, hint } => {
            Notice::Warning { text: shown(&text), hint: hint.as_deref().map(shown) }
        }
        Word::Detail(text) => Notice::Detail { text: shown(&text) },
        other if live => return course_of(other),
        _ => return None,
    })
}

fn course_of(word: Word) -> Option<Notice> {
    Some(match word {
        Word::Connected(program, lacks, confined) => Notice::Connected {
            program: shown(&program),
            lacks: lacks.iter().take(TEXTS_MAX).map(|text| shown(text)).collect(),
            confined: Confinement::known_words(&confined),
        },
        Word::Live => Notice::Live,
        Word::PassBegan(top, reason) => Notice::PassBegan { top, reason },
        Word::PassDone(top, reason, summary) => Notice::PassDone { top, reason, summary },
        Word::Kept(count) => Notice::Kept { count },
        Word::SetAside(path) => Notice::SetAside { path },
        Word::Rescan(path, reason) => Notice::Rescan { path, reason },
        Word::Batch(batch, changes) => Notice::Batch { batch, changes },
        Word::Paused(on) => Notice::Paused { on },
        Word::Message(text) => Notice::Message { text: shown(&text) },
        _ => return None,
    })
}

/// Returns what has arrived.
pub(super) fn heard_of(arrivals: &[Arrival]) -> Vec<Arrived<'_>> {
    let heard = arrivals.iter().map(|it| Arrived {
        what: DEEDS.into_iter().find(|known| *known == it.what).unwrap_or("sent"),
        path: &it.path,
        from: it.from.as_ref(),
        took: it.took_ms.map(Duration::from_millis),
    });
    heard.collect()
}

/// Returns a failure whose texts may be shown.
pub(super) fn clean_failure(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(refusal) => Failure::Refused(clean_refusal(refusal)),
        Failure::Other { text, hint, code } => {
            Failure::Other { text: shown(&text), hint: hint.as_deref().map(shown), code }
        }
    }
}

/// Returns a text of the far side's as it may be shown: one line, without control characters.
pub(super) fn shown(text: &str) -> String {
    let quoted = quote(text.as_bytes());
    let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    inside.replace("\\\"", "\"").replace("\\\\", "\\").chars().take(TEXT_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::RelPath;

    #[test]
    fn a_word_of_a_live_mirror_is_none_of_a_single_pass_and_drives_no_terminal() {
        for word in [Word::Live, Word::Paused(true), Word::SetAside(RelPath::root())] {
            assert!(notice_of(word.clone(), false).is_none(), "{word:?}");
            assert!(notice_of(word, true).is_some());
        }
        let forged = "\u{1b}[2J\r\nlive";
        let told = Word::Connected(forged.to_owned(), vec![forged.to_owned(); 99], forged.to_owned());
        let Some(Notice::Connected { program, lacks, confined }) = notice_of(told, true) else { panic!() };
        assert_eq!((confined, lacks.len()), ("not known to be confined", TEXTS_MAX));
        assert!(lacks.iter().chain([&program]).all(|text| !text.contains(char::is_control)), "{program}");
        let arrival =
            |what: &str| Arrival { what: what.to_owned(), path: RelPath::root(), from: None, took_ms: None };
        let (forged, known) = (arrival(forged), arrival("renamed"));
        let heard: Vec<&str> = heard_of(&[forged, known]).iter().map(|it| it.what).collect();
        assert_eq!(heard, ["sent", "renamed"]);
    }
}
