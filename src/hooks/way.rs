//! The ways of a message: the host's mail program, curl, a program of the administrator's.
//!
//! **Invariants:** speil speaks neither SMTP nor TLS here: the host has both, set up by its administrator; whatever
//! is secret goes to a program by its standard input, not by its arguments, which every user can see.

use std::path::Path;
use std::time::{Duration, Instant};

use super::message::Message;
use crate::config::{Notify, Program};

/// Longest time that one delivery may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Where the mail program is that takes a whole message, if it is not in the PATH.
const SENDMAIL: [&str; 3] = ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/sendmail"];

/// One way.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Recipient {
    Command(Vec<String>),
    Webhook(String),
    Mail(Vec<String>),
}

impl Recipient {
    /// Returns all ways of a configuration; the quickest first.
    pub fn all(notify: &Notify) -> Vec<Self> {
        let command = (!notify.command.is_empty()).then(|| Self::Command(notify.command.clone()));
        let webhook = notify.webhook.clone().map(Self::Webhook);
        let mail = (!notify.mail.is_empty()).then(|| Self::Mail(notify.mail.clone()));
        [command, webhook, mail].into_iter().flatten().collect()
    }

    /// Returns what it is called in messages; nothing that is secret.
    pub fn name(&self) -> String {
        match self {
            Self::Command(words) => format!("command {}", words.first().map_or("", String::as_str)),
            Self::Webhook(url) => {
                let host = url.split_once("://").map_or("", |(_, rest)| rest);
                let host = host.split(['/', '?', '#']).next().unwrap_or_default();
                format!("webhook {}", host.rsplit_once('@').map_or(host, |(_, host)| host))
            }
            Self::Mail(addresses) => format!("mail to {}", addresses.join(", ")),
        }
    }

    /// Hands a message over.
    ///
    /// # Errors
    /// Why that failed, in one line.
    pub fn deliver(&self, message: &Message) -> Result<(), String> {
        match self {
            Self::Command(words) => {
                let variables =
                    [("SPEIL_SUBJECT", message.subject.clone()), ("SPEIL_JSON", message.json.clone())];
                run(words, &variables, message.text.as_bytes())
            }
            Self::Webhook(url) => {
                let words = ["curl", "--config", "-"].map(str::to_owned);
                run(&words, &[], curl_options(url, &message.json).as_bytes()).map_err(|error| match error {
                    missing if missing.ends_with("(ENOENT)") => {
                        "curl is not installed, which posts to webhooks".to_owned()
                    }
                    other => other,
                })
            }
            Self::Mail(addresses) => mail(addresses, message),
        }
    }
}

fn run(words: &[String], variables: &[(&'static str, String)], input: &[u8]) -> Result<(), String> {
    let mut said = String::new();
    let program = Program { words, variables, input };
    let code = program.run(Instant::now() + LIMIT, Some(&mut said))?;
    if code == 0 {
        return Ok(());
    }
    let name = words.first().map_or("", String::as_str);
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    Err(if said.is_empty() {
        format!("{name} ended with {code}")
    } else {
        format!("{name} ended with {code}: {said}")
    })
}

/// Returns what curl reads as its configuration: a word between quotes knows these escapes alone.
fn curl_options(url: &str, json: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "silent\nshow-error\nfail\nmax-time = {}\nheader = \"Content-Type: application/json\"\n\
         output = \"/dev/null\"\nurl = \"{}\"\ndata-raw = \"{}\"\n",
        LIMIT.as_secs() - 5,
        quoted(url),
        quoted(json)
    )
}

/// Hands a message to sendmail; to mail(1) where there is none.
fn mail(addresses: &[String], message: &Message) -> Result<(), String> {
    let in_path = std::env::var_os("PATH").is_some_and(|path| has(&path, "sendmail"));
    let elsewhere = || SENDMAIL.into_iter().find(|path| Path::new(path).exists());
    match in_path.then_some("sendmail").or_else(elsewhere) {
        Some(program) => {
            let words = [program, "-oi", "-t"].map(str::to_owned);
            run(&words, &[], letter(addresses, message).as_bytes())
        }
        None => {
            let words = ["mail", "-s", &message.subject].into_iter().map(str::to_owned);
            let words: Vec<String> = words.chain(addresses.iter().cloned()).collect();
            run(&words, &[], message.text.as_bytes()).map_err(|error| match error {
                missing if missing.ends_with("(ENOENT)") => {
                    "this host has neither sendmail nor mail; install one, or msmtp-mta".to_owned()
                }
                other => other,
            })
        }
    }
}

fn has(path: &std::ffi::OsStr, program: &str) -> bool {
    std::env::split_paths(path).any(|dir| dir.join(program).exists())
}

/// Returns a whole mail.
fn letter(addresses: &[String], message: &Message) -> String {
    format!(
        "To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n{}",
        addresses.join(", "),
        encoded(&message.subject),
        message.text
    )
}

/// Returns a header's text in ASCII. Source: RFC 2047: words of at most 75 characters.
fn encoded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > 42) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words: Vec<String> =
        words.iter().map(|word| format!("=?UTF-8?B?{}?=", base64(word.as_bytes()))).collect();
    words.join("\n ")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_ascii_in_short_words() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe", "//4=")]
        {
            assert_eq!(base64(bytes), text);
        }
        assert_eq!(encoded("plain"), "plain");
        assert_eq!(encoded("a → b"), "=?UTF-8?B?YSDihpIgYg==?=");
        for line in encoded(&"blåbær → ".repeat(20)).lines() {
            assert!(line.trim_start().len() <= 75 && line.is_ascii(), "{line}");
        }
    }

    #[test]
    fn no_way_tells_its_secret() {
        let webhook = Recipient::Webhook("https://me:pass@hooks.example.no/services/T0/secret?x".to_owned());
        assert_eq!(webhook.name(), "webhook hooks.example.no");
        assert_eq!(
            curl_options("https://h/\"x", "{\"a\":\"b\\\\n\"}").lines().skip(6).collect::<Vec<_>>(),
            ["url = \"https://h/\\\"x\"", "data-raw = \"{\\\"a\\\":\\\"b\\\\\\\\n\\\"}\""]
        );
    }
}
