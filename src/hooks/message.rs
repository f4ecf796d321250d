//! What is told when something got worse, or well again: for people and for programs.

use serde_json::json;

use super::alarm::{Item, News};
use crate::monitor::{counted, spanned};
use crate::status::{Cause, Grade, SCHEMA};
use crate::tree::Time;

/// Changes that a message names one by one.
const ITEMS_MAX: usize = 30;
/// Longest subject, in characters.
const SUBJECT_MAX: usize = 150;

/// A message, ready for every way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// One line.
    pub subject: String,
    /// All of it, for people; the subject is its first line.
    pub text: String,
    /// All of it, for programs.
    pub json: String,
}

/// Returns the message for what is to be told, by the daemon on `host`.
pub(super) fn message(host: &str, news: &News) -> Message {
    let subject = clipped(&format!("speil on {host}: {}", summary(news)));
    let mut text = format!("{subject}\n");
    for (heading, items, tell) in [
        ("Worse", &news.worse, &bad as &dyn Fn(&Item, u64) -> String),
        ("Well again", &news.well, &good),
        ("Still wrong, told before", &news.still, &bad),
    ] {
        if !items.is_empty() {
            text += &format!("\n{heading}:\n");
            text.extend(items.iter().take(ITEMS_MAX).map(|item| format!("- {}\n", tell(item, news.time))));
        }
        if items.len() > ITEMS_MAX {
            text += &format!("- and {} more\n", items.len() - ITEMS_MAX);
        }
    }
    text += "\nspeil status shows everything.\n";
    if news.last {
        text += "This is the last message within an hour; what changes meanwhile is told by the next one.\n";
    }
    let list = |items: &[Item], change: &str| -> Vec<serde_json::Value> {
        items.iter().take(ITEMS_MAX).map(|item| object(item, change)).collect()
    };
    let changes = [list(&news.worse, "worse"), list(&news.well, "well")].concat();
    let json = json!({
        "schema": SCHEMA,
        "host": host,
        "time": news.time,
        "subject": subject,
        "text": text,
        "changes": changes,
        "still": list(&news.still, "still"),
        "last_of_the_hour": news.last,
    });
    Message { subject, text, json: json.to_string() }
}

/// Returns the message that shows whether a way works.
pub(super) fn trial(host: &str, time: u64) -> Message {
    let subject = clipped(&format!("speil on {host}: this is a test"));
    let text = format!("{subject}\n\nspeil notify was typed. Nothing is wrong.\n");
    let json = json!({
        "schema": SCHEMA, "host": host, "time": time, "subject": subject, "text": text,
        "changes": [], "still": [], "last_of_the_hour": false,
    });
    Message { subject, text, json: json.to_string() }
}

fn summary(news: &News) -> String {
    match (&news.worse[..], &news.well[..]) {
        ([one], []) => one.complaint.text(),
        ([], [one]) => format!("{} {}", one.complaint.subject(), over(one.complaint.cause)),
        (worse, []) => counted(worse.len() as u64, "thing got worse", "things got worse"),
        ([], well) => counted(well.len() as u64, "thing is well again", "things are well again"),
        (worse, well) => format!("{} worse, {} well again", worse.len(), well.len()),
    }
}

fn bad(item: &Item, now: u64) -> String {
    let since = item.since;
    let at = rfc3339(since);
    let age = if now > since { format!(", for {}", spanned(now - since)) } else { String::new() };
    let hint = item.complaint.hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
    format!("{} (since {at}{age}){hint}", item.complaint.text())
}

fn good(item: &Item, now: u64) -> String {
    let Item { complaint, since } = item;
    let lasted = spanned(now.saturating_sub(*since));
    format!("{} {}; it was not for {lasted}", complaint.subject(), over(complaint.cause))
}

/// Says that something is over.
fn over(cause: Cause) -> &'static str {
    match cause {
        Cause::Refused => "is in force, or the old one is wanted again",
        Cause::NotStarted => "runs",
        Cause::Down => "has a connection again",
        Cause::Waiting => "waits for nothing any more",
        Cause::Held => "holds no deletes back any more",
        Cause::Failing => "has no path that fails any more",
        Cause::Behind => "is no longer behind",
        Cause::Paused | Cause::FirstCopy | Cause::Connecting => "is in step",
    }
}

fn object(item: &Item, change: &str) -> serde_json::Value {
    let Item { complaint, since } = item;
    json!({
        "change": change,
        "sync": complaint.sync,
        "target": complaint.target,
        "cause": word(complaint.cause),
        "severity": if complaint.grade == Grade::Critical { "critical" } else { "warning" },
        "since": since,
        "why": complaint.why,
        "hint": complaint.hint,
    })
}

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Refused => "refused",
        Cause::NotStarted => "not_started",
        Cause::Down => "down",
        Cause::Paused => "paused",
        Cause::Waiting => "waiting",
        Cause::FirstCopy => "first_copy",
        Cause::Connecting => "connecting",
        Cause::Held => "held",
        Cause::Failing => "failing",
        Cause::Behind => "behind",
    }
}

fn rfc3339(seconds: u64) -> String {
    let time = Time { secs: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
    time.rfc3339().replace(".000000", "")
}

/// Returns a subject that is one line and not too long.
fn clipped(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SUBJECT_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Complaint;

    fn item(cause: Cause, why: &str) -> Item {
        let complaint = Complaint {
            grade: Grade::Critical,
            sync: "www".into(),
            target: "web2".into(),
            cause,
            why: why.into(),
            hint: (cause == Cause::Down).then(|| "check the key".into()),
        };
        Item { complaint, since: 1_772_000_000 }
    }

    #[test]
    fn a_message_says_what_changed_since_when_and_what_to_do() {
        let news = News {
            time: 1_772_000_600,
            worse: vec![item(Cause::Down, "is down: no\nroute")],
            well: vec![],
            still: vec![item(Cause::Failing, "fails: write \"x\": ENOSPC")],
            last: true,
        };
        let told = message("bergen", &news);
        assert_eq!(told.subject, "speil on bergen: www → web2 is down: no route");
        assert_eq!(
            told.text,
            "speil on bergen: www → web2 is down: no route\n\nWorse:\n\
             - www → web2 is down: no\nroute (since 2026-02-25T06:13:20Z, for 10 min)\n  check the key\n\n\
             Still wrong, told before:\n\
             - www → web2 fails: write \"x\": ENOSPC (since 2026-02-25T06:13:20Z, for 10 min)\n\n\
             speil status shows everything.\n\
             This is the last message within an hour; what changes meanwhile is told by the next one.\n"
        );
        let json: serde_json::Value = serde_json::from_str(&told.json).unwrap();
        assert_eq!(json["changes"][0]["cause"], "down");
        assert_eq!(json["changes"][0]["change"], "worse");
        assert_eq!(json["still"][0]["cause"], "failing");
        let back = News { time: 1_772_000_600, well: vec![item(Cause::Down, "")], ..News::default() };
        let told = message("bergen", &back);
        assert_eq!(told.subject, "speil on bergen: www → web2 has a connection again");
        assert!(
            told.text.contains("- www → web2 has a connection again; it was not for 10 min\n"),
            "{}",
            told.text
        );
    }

    #[test]
    fn a_message_is_bounded() {
        let many = vec![item(Cause::Down, &"x".repeat(500)); 300];
        let told = message("bergen", &News { worse: many, ..News::default() });
        assert_eq!(told.subject, "speil on bergen: 300 things got worse");
        assert!(told.text.contains("- and 270 more\n") && told.json.len() < 100_000);
        let one = News { worse: vec![item(Cause::Down, &"x".repeat(500))], ..News::default() };
        assert_eq!(message("bergen", &one).subject.chars().count(), SUBJECT_MAX + 1);
    }
}
