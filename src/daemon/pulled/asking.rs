//! What the control socket asks of a mirror that is pulled: the far side knows, and is asked in turn.
//!
//! **Invariants:** a request is answered by a far side that is connected, or with the reason why none is; `wait` goes
//! on with the next connection, and its comparison covers what was written before the call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;

use super::super::report::clean;
use super::Pulled;
use crate::status::{Answer, Request, Wait};

/// A state that is older than this is shown where the far side does not answer.
const STATUS_WAIT: Duration = Duration::from_secs(2);
/// How long the far side may take for what it does at once.
const ACT_WAIT: Duration = Duration::from_secs(30);
/// How often is looked whether there is a connection again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest text that is shown of what the far side says, in characters.
const TEXT_LEN_MAX: usize = 4096;
/// Most entries of a list of the far side's.
const LIST_MAX: usize = 10_000;

/// Returns an answer of the far side's as it may be shown; `None` if it is none.
pub(super) fn heard(answer: &[u8]) -> Option<Answer> {
    let mut value = serde_json::from_slice::<Value>(answer).ok()?;
    wash(&mut value);
    serde_json::from_value(value).ok()
}

/// Leaves no control character and nothing endless in a value.
fn wash(value: &mut Value) {
    match value {
        Value::String(text) => {
            *text = clean(&text.chars().take(TEXT_LEN_MAX).collect::<String>());
        }
        Value::Array(list) => {
            list.truncate(LIST_MAX);
            list.iter_mut().for_each(wash);
        }
        Value::Object(fields) => fields.values_mut().for_each(wash),
        _ => {}
    }
}

impl Pulled {
    /// Does what a client asks for, where that is the mirror's; `None` where this daemon answers by itself. Cancel safe.
    pub async fn answer(self: &Arc<Self>, request: &Request) -> Option<Answer> {
        Some(match request {
            Request::Status => {
                self.refresh().await;
                return None;
            }
            Request::Wait(wait) => self.wait(wait.clone()).await,
            Request::Explain { .. } => self.only_there("only there it is known why a path is where it is"),
            Request::Position { .. } => {
                self.only_there("a mirror that runs there gives positions, this one does not")
            }
            Request::LogLevel { .. } => {
                failed("this process keeps no log whose level can be set".to_owned(), 1)
            }
            Request::Pause { sync } | Request::Resume { sync } if self.is_called(sync.as_deref()) => {
                let on = matches!(request, Request::Pause { .. });
                self.pause(on);
                // What is not connected is paused from its first moment on.
                self.act(request).await.unwrap_or(Answer::Done { count: 1 })
            }
            Request::PauseFor { sync, for_ms } if self.is_called(sync.as_deref()) => {
                let number = self.pause(true);
                let paused = self.act(&Request::Pause { sync: sync.clone() }).await;
                self.resume_after(Duration::from_millis(*for_ms), number);
                paused.unwrap_or(Answer::Done { count: 1 })
            }
            Request::EnterAnew { sync, .. } if self.is_called(Some(sync)) => {
                self.inner().before = None;
                self.try_now();
                Answer::Done { count: 1 }
            }
            Request::Retry { sync, .. } | Request::Reconcile { sync } if self.is_called(sync.as_deref()) => {
                match self.act(request).await {
                    Some(answer) => answer,
                    None => {
                        self.try_now();
                        Answer::Done { count: 1 }
                    }
                }
            }
            Request::Approve { sync, .. } | Request::Discard { sync, .. }
                if self.is_called(sync.as_deref()) =>
            {
                self.act(request).await.unwrap_or_else(|| {
                    failed(
                        format!(
                            "{}; nothing is held while there is no connection: the next pass \
                                    finds the deletes again",
                            self.why_down()
                        ),
                        12,
                    )
                })
            }
            Request::Pause { sync: Some(name) }
            | Request::Resume { sync: Some(name) }
            | Request::PauseFor { sync: Some(name), .. }
            | Request::EnterAnew { sync: name, .. }
            | Request::Retry { sync: Some(name), .. }
            | Request::Reconcile { sync: Some(name) }
            | Request::Approve { sync: Some(name), .. }
            | Request::Discard { sync: Some(name), .. } => failed(format!("no sync is called {name:?}"), 1),
            _ => return None,
        })
    }

    /// Refuses what only a process on the source's host can answer.
    fn only_there(&self, why: &str) -> Answer {
        failed(format!("the source is on {}, and {why}", clean(&self.it.host)), 1)
    }

    /// Has the far side say how things are, now and then.
    pub fn look(self: &Arc<Self>) {
        let this = Arc::clone(self);
        tokio::spawn(async move { this.refresh().await });
    }

    /// Has everything compared.
    pub fn reconcile(self: &Arc<Self>) {
        let this = Arc::clone(self);
        tokio::spawn(async move { this.answer(&Request::Reconcile { sync: None }).await });
    }

    fn is_called(&self, name: Option<&str>) -> bool {
        name.is_none_or(|name| name == self.it.sync.name)
    }

    async fn refresh(self: &Arc<Self>) {
        self.ask(&Request::Status, Some(STATUS_WAIT)).await;
    }

    async fn act(self: &Arc<Self>, request: &Request) -> Option<Answer> {
        self.ask(request, Some(ACT_WAIT)).await
    }

    /// Asks the far side; `None` if it does not answer.
    async fn ask(self: &Arc<Self>, request: &Request, limit: Option<Duration>) -> Option<Answer> {
        let stopper = self.inner().stopper.clone()?;
        let id = self.asks.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.asked().insert(id, tell);
        let bytes = serde_json::to_vec(request).ok()?;
        let sending = tokio::task::spawn_blocking(move || stopper.ask(id, &bytes).is_ok());
        let answered = async {
            if !sending.await.unwrap_or(false) {
                return None;
            }
            match limit {
                Some(limit) => tokio::time::timeout(limit, answer).await.ok()?.ok(),
                None => answer.await.ok(),
            }
        };
        let answered = answered.await;
        self.asked().remove(&id);
        answered
    }

    async fn wait(self: &Arc<Self>, wait: Wait) -> Answer {
        let deadline = wait.timeout_ms.map(|limit| Instant::now() + Duration::from_millis(limit));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let request = Request::Wait(Wait { timeout_ms: left_ms, ..wait.clone() });
            let limit = left.map(|left| left + STATUS_WAIT);
            if let Some(answer) = self.ask(&request, limit).await {
                return answer;
            }
            if left.is_some_and(|left| left.is_zero()) {
                return failed(format!("{}: {}", self.scope, self.why_down()), 12);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn why_down(&self) -> String {
        match &self.inner().link.error {
            Some(error) => clean(error),
            None => "not connected yet".to_owned(),
        }
    }

    fn try_now(&self) {
        self.inner().retry = true;
        self.changed.notify_all();
    }

    /// Pauses, or goes on. Returns the number of the pause.
    fn pause(&self, on: bool) -> u64 {
        let mut inner = self.inner();
        inner.paused = on;
        inner.pauses += 1;
        inner.pauses
    }

    /// Goes on by itself after some time, unless somebody pauses anew or resumes meanwhile.
    fn resume_after(self: &Arc<Self>, span: Duration, number: u64) {
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(span).await;
            if let Some(this) = this.upgrade()
                && this.inner().pauses == number
            {
                this.pause(false);
                this.act(&Request::Resume { sync: None }).await;
            }
        });
    }
}

fn failed(error: String, code: u8) -> Answer {
    Answer::Failed { error, code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Report, SyncReport};

    #[test]
    fn what_the_far_side_answers_drives_no_terminal() {
        let forged = "\u{1b}[2J\nlive".to_owned();
        let sync =
            SyncReport { name: forged.clone(), watch_problems: vec![forged; 3], ..SyncReport::default() };
        let answer = Answer::Status(Report { syncs: vec![sync], ..Report::default() });
        let Some(Answer::Status(report)) = heard(&serde_json::to_vec(&answer).unwrap()) else { panic!() };
        assert_eq!(report.syncs[0].watch_problems.len(), 3);
        assert!(!format!("{report:?}").contains('\u{1b}') && !report.syncs[0].name.contains('\n'));
        assert_eq!(heard(b"nothing"), None);
    }
}
