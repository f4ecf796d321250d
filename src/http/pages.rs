//! What is answered to which request.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/status.json`, `/history.json`, `/activity.json` | the report, the samples, what happened |
//! | `/events` | server-sent events: `status` each second |
//! | `/metrics` | Prometheus text |
//! | `/healthz` | 200: the process answers |
//! | `/readyz` | 200 if every target is in step, or is a standby that stands by (`?role=primary`: and each tree has that role) |
//! | `/target/NAME` | 200 if this target is (`?max_lag=10s`, `?sync=NAME`, `?role=primary`) |
//! | POST `/position` | on a primary: a token for what was written so far (`?sync=NAME`) |
//! | `/position?at=TOKEN` | on a standby: 200 when everything up to it is there (`&timeout=200ms`), else 503 |
//! | POST `/act` | with the token: a [`Request`] as JSON |

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Site;
use super::judge::{Judgement, Limits, judge};
use super::metrics::process_metrics;
use super::process::Process;
use crate::config::parse_duration;
use crate::status::{Answer, Report, Request, Sample, SyncReport, TargetReport};

/// The page, and what is put into it: one answer, so that nothing else has to be loaded.
const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Longest time that an answer waits for a position to be reached, and how often is looked.
const POSITION_WAIT_MAX: Duration = Duration::from_secs(10);
const POSITION_LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a site is served.
#[derive(Clone)]
pub struct ServeOptions {
    /// What a client must present to act.
    pub token: Option<String>,
    /// What is good enough, where a request does not say.
    pub limits: Limits,
    /// Whether there is a page, with events, and targets have names: a standby answers machines alone, and
    /// for itself.
    pub page: bool,
}

/// A request, as far as it matters here.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    /// What was presented.
    pub token: Option<String>,
    pub content_type: String,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub status: u16,
    kind: &'static str,
    pub body: String,
    /// The body goes on for ever.
    pub events: bool,
    extra: Vec<(&'static str, String)>,
}

impl Page {
    pub fn text(status: u16, text: &str) -> Self {
        Self { status, kind: TEXT, body: text.to_owned(), ..Self::default() }
    }

    fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let mut body = serde_json::to_string(value).unwrap_or_default();
        body.push('\n');
        Self { status, kind: JSON, body, ..Self::default() }
    }

    /// Returns the headers; no answer is kept anywhere, shown in a frame, or taken for something else.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("content-type", self.kind.to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("x-frame-options", "DENY".to_owned()),
            ("referrer-policy", "no-referrer".to_owned()),
            ("cross-origin-resource-policy", "same-origin".to_owned()),
        ];
        headers.extend(self.extra.iter().cloned());
        headers
    }
}

/// All pages.
pub(super) struct Pages {
    site: Arc<dyn Site>,
    options: ServeOptions,
}

impl Pages {
    pub fn new(site: Arc<dyn Site>, options: ServeOptions) -> Self {
        Self { site, options }
    }

    /// Answers one request.
    pub async fn page(&self, asked: &Asked, body: &[u8]) -> Page {
        let reads = matches!(asked.method.as_str(), "GET" | "HEAD");
        match asked.path.as_str() {
            "/act" if asked.method == "POST" => self.act(asked, body).await,
            "/act" => Page { extra: vec![("allow", "POST".to_owned())], ..Page::text(405, "POST\n") },
            "/position" => self.position(asked).await,
            _ if !reads => {
                Page { extra: vec![("allow", "GET, HEAD".to_owned())], ..Page::text(405, "GET or HEAD\n") }
            }
            "/" if self.options.page => self.html(),
            "/" => Page::text(200, &crate::status::text(&self.site.report())),
            "/status.json" => Page::json(200, &self.site.report()),
            "/history.json" => Page::json(200, &self.site.series()),
            "/activity.json" => Page::json(200, &self.site.activity()),
            "/events" if self.options.page => {
                Page { status: 200, kind: "text/event-stream", events: true, ..Page::default() }
            }
            "/metrics" => Page {
                kind: "text/plain; version=0.0.4; charset=utf-8",
                ..Page::text(200, &self.site.metrics().unwrap_or_else(|| self.metrics()))
            },
            "/healthz" => Page::text(200, "ok\n"),
            "/readyz" => self.ready(asked),
            path => match path.strip_prefix("/target/").and_then(percent_decoded) {
                Some(name) => self.target(asked, &name),
                None => Page::text(404, "no such page\n"),
            },
        }
    }

    fn html(&self) -> Page {
        // The page brings its script and style along; nothing else may run or be loaded.
        let nonce: String = random().iter().map(|byte| format!("{byte:02x}")).collect();
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let body = HTML
            .replace("{{style}}", STYLE)
            .replace("{{script}}", SCRIPT)
            .replace("{{nonce}}", &nonce)
            .replace("{{acts}}", if self.options.token.is_some() { "true" } else { "false" });
        Page {
            status: 200,
            kind: "text/html; charset=utf-8",
            body,
            extra: vec![("content-security-policy", policy)],
            ..Page::default()
        }
    }

    /// Returns the next event: the report, the last samples, and what happened since `seen`.
    pub fn event(&self, seen: &mut u64) -> String {
        #[derive(serde::Serialize)]
        struct Last<'a> {
            sync: &'a str,
            target: &'a str,
            sample: Option<&'a Sample>,
        }
        let series = self.site.series();
        let last: Vec<Last<'_>> = series
            .iter()
            .map(|series| Last { sync: &series.sync, target: &series.target, sample: series.samples.last() })
            .collect();
        let news: Vec<_> = self.site.activity().into_iter().filter(|item| item.number > *seen).collect();
        *seen = news.last().map_or(*seen, |item| item.number);
        let event = serde_json::json!({ "report": self.site.report(), "last": last, "news": news });
        format!("event: status\ndata: {event}\n\n")
    }

    fn metrics(&self) -> String {
        let report = self.site.report();
        super::metrics(&report) + &process_metrics(&Process::now(), report.started)
    }

    fn ready(&self, asked: &Asked) -> Page {
        let limits = match self.limits(asked) {
            Ok(limits) => limits,
            Err(refused) => return refused,
        };
        let report = self.site.report();
        let mut text = String::new();
        for sync in &report.syncs {
            if !sync.running {
                text.push_str(&format!("{}: not started: {}\n", sync.name, sync.why_not()));
            }
            text.extend(of_another_role(asked, sync));
            for target in &sync.targets {
                // What a standby lacks, the primary says.
                let stands_by = target.state == "standby" && target.error.is_none();
                if !stands_by && judge(target, limits) != Judgement::Up {
                    text.push_str(&format!("{} → {}: {}\n", sync.name, target.name, state_of(target)));
                }
                if let Some(failure) = target.failure() {
                    text.push_str(&format!("{} → {}: {failure}\n", sync.name, target.name));
                }
            }
        }
        if let Some(error) = &report.refused_reload {
            text.push_str(&format!("new configuration refused, the old one stays in force: {error}\n"));
        }
        if report.syncs.is_empty() {
            text.push_str("no sync is running\n");
        }
        if text.is_empty() { Page::text(200, "ready\n") } else { Page::text(503, &text) }
    }

    fn target(&self, asked: &Asked, name: &str) -> Page {
        let limits = match self.limits(asked) {
            Ok(limits) => limits,
            Err(refused) => return refused,
        };
        let only = parameter(&asked.query, "sync");
        let report = self.site.report();
        // A standby is its own only target, whatever the others call it.
        let roles: Vec<String> =
            report.syncs.iter().filter_map(|sync| of_another_role(asked, sync)).collect();
        if !roles.is_empty() {
            return Page::text(503, &roles.concat());
        }
        let found = if self.options.page {
            targets_named(&report, name, only.as_deref())
        } else {
            let syncs = report.syncs.iter();
            syncs.flat_map(|sync| sync.targets.iter().map(|target| (sync.name.as_str(), target))).collect()
        };
        match found.iter().map(|(_, target)| judge(target, limits)).max() {
            None => Page::text(404, "no such target\n"),
            Some(judgement) => {
                let lines = found.iter().map(|(sync, target)| {
                    let failure = target.failure().map(|text| format!("  {text}\n")).unwrap_or_default();
                    format!("{sync} → {}: {}, {}\n{failure}", target.name, state_of(target), target.lag())
                });
                Page::text(if judgement == Judgement::Up { 200 } else { 503 }, &lines.collect::<String>())
            }
        }
    }

    fn limits(&self, asked: &Asked) -> Result<Limits, Page> {
        let mut limits = self.options.limits;
        if let Some(text) = parameter(&asked.query, "max_lag") {
            limits.max_lag = parse_duration(&text)
                .map_err(|_| Page::text(400, "max_lag: a duration, as 10s, 500ms or 2m\n"))?;
        }
        Ok(limits)
    }

    /// Makes a position, or says whether one is reached.
    async fn position(&self, asked: &Asked) -> Page {
        let refused = |status, text: &str| Page::text(status, text);
        match asked.method.as_str() {
            "GET" | "HEAD" => {}
            "POST" => {
                let sync = parameter(&asked.query, "sync");
                return match self.site.act(Request::Position { sync }).await {
                    Answer::Position { position } => Page::text(200, &format!("{position}\n")),
                    Answer::Failed { error, code: 1 } => Page::text(404, &format!("{error}\n")),
                    Answer::Failed { error, .. } => Page::text(503, &format!("{error}\n")),
                    _ => refused(500, "another version answers\n"),
                };
            }
            _ => {
                let allow = vec![("allow", "GET, HEAD, POST".to_owned())];
                return Page { extra: allow, ..refused(405, "GET, HEAD or POST\n") };
            }
        }
        let Some(position) = parameter(&asked.query, "at") else {
            return refused(400, "at=TOKEN is missing: what POST /position answers on the primary\n");
        };
        let limit =
            parameter(&asked.query, "timeout").map_or(Ok(Duration::ZERO), |text| parse_duration(&text));
        let Ok(limit) = limit else { return refused(400, "timeout: a duration, as 200ms or 2s\n") };
        let until = Instant::now() + limit.min(POSITION_WAIT_MAX);
        loop {
            match self.site.has_reached(&position) {
                None => return refused(404, "ask a standby: speil health --listen\n"),
                Some(Err(line)) => return refused(503, &format!("{line}\n")),
                Some(Ok((true, line))) => return refused(200, &format!("{line}\n")),
                Some(Ok((false, line))) if Instant::now() >= until => {
                    return refused(503, &format!("{line}\n"));
                }
                Some(Ok((false, _))) => tokio::time::sleep(POSITION_LOOK_EVERY).await,
            }
        }
    }

    async fn act(&self, asked: &Asked, body: &[u8]) -> Page {
        let refused = |status, text| Page::text(status, text);
        let Some(token) = &self.options.token else {
            return refused(403, "read-only: no token is configured\n");
        };
        if !asked.token.as_ref().is_some_and(|presented| same(presented, token)) {
            let challenge = vec![("www-authenticate", "Bearer".to_owned())];
            return Page { extra: challenge, ..refused(401, "the token is missing or wrong\n") };
        }
        if !asked.content_type.starts_with(JSON) {
            return refused(415, "a request is application/json\n");
        }
        let request = match serde_json::from_slice::<Request>(body) {
            Ok(
                request @ (Request::Reconcile { .. }
                | Request::Pause { .. }
                | Request::PauseFor { .. }
                | Request::Retry { .. }
                | Request::Resume { .. }
                | Request::Approve { .. }
                | Request::Discard { .. }),
            ) => request,
            _ => return refused(400, "no such request\n"),
        };
        match self.site.act(request).await {
            answer @ Answer::Failed { .. } => Page::json(409, &answer),
            answer => Page::json(200, &answer),
        }
    }
}

fn targets_named<'a>(report: &'a Report, name: &str, only: Option<&str>) -> Vec<(&'a str, &'a TargetReport)> {
    let syncs = report.syncs.iter().filter(|sync| only.is_none_or(|only| only == sync.name));
    syncs
        .flat_map(|sync| sync.targets.iter().map(|target| (sync.name.as_str(), target)))
        .filter(|(_, target)| target.name == name)
        .collect()
}

/// Returns a line for a tree that has not the role that is asked for.
fn of_another_role(asked: &Asked, sync: &SyncReport) -> Option<String> {
    let wanted = parameter(&asked.query, "role").filter(|wanted| sync.role.as_ref() != Some(wanted))?;
    let is = sync.role.as_deref().unwrap_or("without a role");
    Some(format!("{}: it is {is}, not {}\n", sync.name, wanted.escape_debug()))
}

fn state_of(target: &TargetReport) -> String {
    let state = target.state.replace('_', " ");
    match &target.error {
        Some(error) => format!("{state}: {error}"),
        None => state,
    }
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    // Comparing hashes of this type takes constant time.
    blake3::hash(a.as_bytes()) == blake3::hash(b.as_bytes())
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}

/// Returns the value of a parameter.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| percent_decoded(&value.replace('+', " ")))
}

/// Returns a piece of a URL with its escapes undone; `None` if that is no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
