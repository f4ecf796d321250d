//! HAProxy's agent checks: one line out, and the connection is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Site;
use super::judge::{Judgement, Limits, judge};
use crate::status::TargetReport;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long the name of a target (`agent-send`) is waited for.
const ASK_WAIT: Duration = Duration::from_millis(200);
/// How long one check may take.
const CHECK_MAX: Duration = Duration::from_secs(5);
/// Longest name of a target that is read, in bytes.
const NAME_LEN_MAX: u64 = 1024;

/// What is judged, and by what.
#[derive(Debug, Clone)]
pub struct AgentCheckOptions {
    /// The target; what the check sends (`agent-send`), or all of them, if `None`.
    pub target: Option<String>,
    /// What is good enough.
    pub limits: Limits,
}

/// Answers agent checks until the task is ended. Cancel safe.
pub async fn serve_agent_checks(listener: TcpListener, site: Arc<dyn Site>, options: AgentCheckOptions) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let options = Arc::new(options);
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: the next one may fare better.
            tokio::time::sleep(ASK_WAIT).await;
            continue;
        };
        let (site, options) = (Arc::clone(&site), Arc::clone(&options));
        tokio::spawn(async move {
            let _permit = permit;
            // A checker that goes away early concerns nobody.
            let _ = timeout(CHECK_MAX, answer(stream, &*site, &options)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, site: &dyn Site, options: &AgentCheckOptions) -> std::io::Result<()> {
    let asked = match &options.target {
        Some(name) => Some(name.clone()),
        None => {
            let mut bytes = Vec::new();
            let (from, _) = stream.split();
            let mut from = from.take(NAME_LEN_MAX);
            let line = async {
                while !bytes.contains(&b'\n') && from.read_buf(&mut bytes).await? > 0 {}
                Ok::<(), std::io::Error>(())
            };
            // Without `agent-send` nothing comes.
            let _ = timeout(ASK_WAIT, line).await;
            let name = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim().to_owned();
            Some(name).filter(|name| !name.is_empty())
        }
    };
    stream.write_all(line(site, asked.as_deref(), options.limits).as_bytes()).await?;
    stream.shutdown().await
}

/// Returns the answer about one target, or the worst of all.
///
/// "ready" ends a drain and "up" a down that an earlier answer ordered; each leaves the other be. A path
/// that fails changes none of them: it is named behind the sharp, where HAProxy has its description.
fn line(site: &dyn Site, asked: Option<&str>, limits: Limits) -> String {
    let report = site.report();
    let targets = report.syncs.iter().flat_map(|sync| &sync.targets);
    let picked = targets.filter(|target| asked.is_none_or(|name| name == target.name));
    let order = match picked.clone().map(|target| judge(target, limits)).max() {
        Some(Judgement::Up) => "up ready 100%",
        // A target that is not known here is not known to be in step.
        Some(Judgement::Drain) | None => "up drain",
        Some(Judgement::Down) => "down",
    };
    match picked.filter_map(TargetReport::failure).next() {
        Some(failure) => format!("{order} #{}\n", failure.replace(['\n', '\r'], " ")),
        None => format!("{order}\n"),
    }
}
