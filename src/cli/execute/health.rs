//! `speil health`: whether a tree may serve, asked on its host: a standby by its lag, and each by its role.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};

use super::barred::barred_by;
use super::{complain_text, note, print};
use crate::cli::commands::Health;
use crate::cli::exit::Exit;
use crate::disk::kept_since;
use crate::error::io_text;
use crate::http::{self, AgentCheckOptions, Judgement, Limits, ServeOptions, Site, judge};
use crate::monitor::spanned;
use crate::protocol::NoPosition;
use crate::receiver::{Asked, Ranked, Standing, has_reached, standing};
use crate::role::{Here, Refusal, Role};
use crate::status::{Report, SCHEMA, SyncReport, TargetReport};

/// How often is looked whether a position is reached.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A standby, read anew for each question.
struct Standby(Health);

impl Standby {
    fn standing(&self) -> Result<Standing, String> {
        standing(&self.0.root).map_err(|error| match error.raw_os_error() {
            _ if self.obstacle().is_some() => self.obstacle().unwrap_or_default(),
            Some(libc::ENOENT) => "was never mirrored to".to_owned(),
            _ => io_text(&error),
        })
    }

    /// Returns what is in the place of the state directory and is none.
    fn obstacle(&self) -> Option<String> {
        let state = self.0.root.join(".speil");
        let there = state.symlink_metadata().ok().filter(|there| !there.is_dir())?;
        let what = if there.is_symlink() { "a symlink" } else { "no directory" };
        Some(format!(
            "{state:?} is {what}, and speil keeps its state in a directory of that name; move it out of the \
             way: mv {state:?} \"{}.old\"",
            state.display()
        ))
    }

    fn lag_text(&self) -> String {
        let lag = self.standing().ok().and_then(|standing| standing.lag);
        lag.map_or("lag not known".to_owned(), |lag| format!("lag {:.3} s", lag.as_secs_f64()))
    }

    fn limits(&self) -> Limits {
        Limits { max_lag: self.0.max_lag, down_lag: None }
    }

    /// Returns why this host never leads, where it is asked for one that may. What a configuration says that cannot be
    /// read keeps nobody from leading.
    fn barred(&self) -> Option<(String, Option<String>)> {
        let (sync, barred) =
            self.0.may_lead.then(|| barred_by(&self.0.config, &self.0.root).ok().flatten()).flatten()?;
        let told = Refusal::MayNotLead(barred).told();
        let hint = told.hint(&Here { there: Some(sync), ..self.here() });
        Some((told.line, hint))
    }

    /// Returns why a tree with a role may not serve, and what to type; `None` if its role allows it.
    fn unfit(&self, standing: &Standing) -> Option<(String, Option<String>)> {
        if let Some(told) = self.barred() {
            return Some(told);
        }
        let ranked = standing.ranked.as_ref();
        if let Some(told) = ranked.and_then(|ranked| ranked.unfit.as_ref()) {
            return Some((told.line.clone(), told.hint(&self.here())));
        }
        let role = ranked.and_then(|ranked| ranked.role);
        let wanted = self.0.role.filter(|wanted| role != Some(*wanted))?;
        let is = role.map_or("without a role", Role::word);
        Some((format!("the tree is {is}, not {}", wanted.word()), None))
    }

    /// Returns what is said of another primary of the same tree, and what to type.
    fn split(&self, standing: &Standing) -> Option<(String, Option<String>)> {
        let told = standing.ranked.as_ref()?.split.as_ref()?;
        Some((told.line.clone(), told.hint(&self.here())))
    }

    fn here(&self) -> Here {
        Here::root(&self.0.root.display().to_string())
    }

    /// Returns why a standby that its role allows to serve may not; `None` if it may.
    fn short(&self, standing: &Standing) -> Option<String> {
        let silence = standing.silence.map(|silence| spanned(silence.as_secs()));
        match (standing.lag, &self.0.max_silence) {
            (_, Some(max)) if self.is_silent(standing) => {
                let since = silence
                    .map_or("never stated anything".to_owned(), |it| format!("stated nothing for {it}"));
                Some(format!("the primary has {since}, and --max-silence allows {}", spanned(max.as_secs())))
            }
            (None, _) => Some("the first copy is not complete".to_owned()),
            (Some(lag), _) if lag > self.0.max_lag => {
                Some(format!("the lag is more than --max-lag allows, {} s", self.0.max_lag.as_secs_f64()))
            }
            _ => None,
        }
    }

    /// Whether the primary has been silent for longer than is allowed.
    fn is_silent(&self, standing: &Standing) -> bool {
        self.0.max_silence.is_some_and(|max| standing.silence.is_none_or(|silence| silence > max))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Site for Standby {
    fn report(&self) -> Report {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let root = crate::tree::quote(self.0.root.as_os_str().as_encoded_bytes());
        let root = root.trim_matches('"').to_owned();
        let mut target = TargetReport { name: root.clone(), target: root, ..TargetReport::default() };
        let (mut name, mut ranked) = (String::new(), None::<Ranked>);
        match self.standing() {
            Ok(standing) if self.unfit(&standing).is_some() => {
                target.state = "unfit".to_owned();
                (target.error, target.hint) =
                    self.unfit(&standing).map_or((None, None), |(line, hint)| (Some(line), hint));
                ranked = standing.ranked;
            }
            Ok(standing) if is_primary(&standing) => {
                (target.known, target.state) = (true, "primary".to_owned());
                if let Some((line, hint)) = self.split(&standing) {
                    (target.error, target.hint) = (Some(line), hint);
                }
                ranked = standing.ranked;
            }
            Ok(standing) => {
                target.known = standing.lag.is_some() && !self.is_silent(&standing);
                target.lag_ms = standing.lag.map_or(0, millis);
                target.since = time.saturating_sub(standing.silence.map_or(0, |silence| silence.as_secs()));
                target.state = state_of(&standing, self.is_silent(&standing)).to_owned();
                target.error = self.short(&standing);
                let label = crate::tree::quote(standing.label.as_bytes());
                name = label.trim_matches('"').to_owned();
                ranked = standing.ranked;
            }
            Err(error) => {
                target.state = "unknown".to_owned();
                target.error = Some(error);
            }
        }
        let role = ranked.as_ref().and_then(|ranked| ranked.role).map(|role| role.word().to_owned());
        let generation = ranked.map(|ranked| ranked.generation).filter(|n| *n > 0);
        let kept = role.as_ref().and_then(|_| kept_since(&self.0.root));
        let kept_aside_since = kept.map(|time| u64::try_from(time.secs).unwrap_or(0));
        let targets = vec![target];
        let of_tree = SyncReport { name, running: true, role, generation, ..SyncReport::default() };
        let sync = SyncReport { kept_aside_since, targets, ..of_tree };
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            time,
            syncs: vec![sync],
            ..Report::default()
        }
    }

    fn has_reached(&self, position: &str) -> Option<Result<(bool, String), String>> {
        let position = match position.parse() {
            Ok(position) => position,
            Err(error @ NoPosition) => return Some(Err(error.to_string())),
        };
        Some(match has_reached(&self.0.root, position) {
            Ok(Asked::Here) => Ok((true, "there".to_owned())),
            Ok(Asked::NotYet) => Ok((false, format!("not there yet, {}", self.lag_text()))),
            Ok(Asked::Never(why)) => Err(why),
            Err(error) => Err(io_text(&error)),
        })
    }

    fn metrics(&self) -> Option<String> {
        let mut text = String::new();
        let mut add = |name: &str, help: &str, value: f64| {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
        };
        let report = self.report();
        let up = report
            .syncs
            .iter()
            .flat_map(|sync| &sync.targets)
            .all(|t| judge(t, self.limits()) == Judgement::Up);
        add(
            "speil_standby_up",
            "Whether the standby is in step, by the limits that were given.",
            f64::from(u8::from(up)),
        );
        if let Ok(standing) = self.standing() {
            if let Some(ranked) = &standing.ranked {
                let primary = f64::from(u8::from(is_primary(&standing)));
                add("speil_standby_is_primary", "Whether the role of the tree is primary.", primary);
                let help = "Number of the generation that the tree holds.";
                add("speil_standby_generation", help, ranked.generation as f64);
            }
            if let Some(lag) = standing.lag {
                add("speil_standby_lag_seconds", "The last lag that the primary stated.", lag.as_secs_f64());
            }
            if let Some(silence) = standing.silence {
                let help = "Time since the primary stated anything.";
                add("speil_standby_silence_seconds", help, silence.as_secs_f64());
            }
        }
        Some(text)
    }
}

fn is_primary(standing: &Standing) -> bool {
    standing.ranked.as_ref().is_some_and(|ranked| ranked.role == Some(Role::Primary))
}

fn state_of(standing: &Standing, silent: bool) -> &'static str {
    match standing {
        Standing { lag: None, .. } => "first_pass",
        _ if silent => "silent",
        Standing { paused: true, .. } => "paused",
        _ => "live",
    }
}

/// Answers once, or serves until INT or TERM.
pub(super) fn run(health: Health) -> u8 {
    if let Some(Err(error)) = health.may_lead.then(|| barred_by(&health.config, &health.root)) {
        note(&format!("whether this host may lead is not known: {error}"));
    }
    let standby = Standby(health);
    if let Some(position) = &standby.0.at {
        return reached(&standby, position);
    }
    if standby.0.listen.is_none() && standby.0.agent_check.is_none() {
        return once(&standby);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain_text(&format!("start: {}", io_text(&error)), None);
            return Exit::Stream.code();
        }
    };
    match runtime.block_on(serve(standby)) {
        Ok(exit) => exit.code(),
        Err(text) => {
            complain_text(&text, None);
            Exit::Stream.code()
        }
    }
}

/// Waits until a position is reached, as long as is allowed.
fn reached(standby: &Standby, position: &str) -> u8 {
    let until = Instant::now() + standby.0.timeout;
    loop {
        match standby.has_reached(position) {
            Some(Ok((true, line))) => {
                print(&format!("{line}\n"));
                return Exit::Success.code();
            }
            Some(Ok((false, _))) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Some(Ok((_, line)) | Err(line)) => {
                complain_text(&format!("{}: {line}", standby.0.root.display()), None);
                return Exit::Timeout.code();
            }
            None => return Exit::Timeout.code(),
        }
    }
}

fn once(standby: &Standby) -> u8 {
    let standing = match standby.standing() {
        Ok(standing) => standing,
        Err(error) => {
            complain_text(&format!("{}: {error}", standby.0.root.display()), None);
            return Exit::File.code();
        }
    };
    if let Some((line, hint)) = standby.unfit(&standing) {
        complain_text(&format!("{}: {line}", standby.0.root.display()), hint.as_deref());
        return Exit::Timeout.code();
    }
    let generation = standing.ranked.as_ref().map_or(0, |ranked| ranked.generation);
    if is_primary(&standing) {
        print(&format!("primary of generation {generation}\n"));
        if let Some((line, hint)) = standby.split(&standing) {
            complain_text(&format!("{}: {line}", standby.0.root.display()), hint.as_deref());
        }
        return Exit::Success.code();
    }
    let rank = if generation > 0 { format!(", standby at generation {generation}") } else { String::new() };
    let lag =
        standing.lag.map_or("lag not known".to_owned(), |lag| format!("lag {:.3} s", lag.as_secs_f64()));
    let silence = standing.silence.unwrap_or_default().as_secs();
    print(&format!("{lag}, stated {silence} s ago{rank}\n"));
    // Judged by what was read above, as `judge` judges the report.
    let Some(short) = standby.short(&standing) else { return Exit::Success.code() };
    complain_text(&format!("{}: {short}", standby.0.root.display()), None);
    Exit::Timeout.code()
}

async fn serve(standby: Standby) -> Result<Exit, String> {
    let fail = |what: &str, error: &std::io::Error| format!("{what}: {}", io_text(error));
    let mut int = signal(SignalKind::interrupt()).map_err(|error| fail("start", &error))?;
    let mut term = signal(SignalKind::terminate()).map_err(|error| fail("start", &error))?;
    let limits = standby.limits();
    let addresses = (standby.0.listen.clone(), standby.0.agent_check.clone());
    let site: Arc<dyn Site> = Arc::new(standby);
    let bind = |address: &str| {
        http::listen(address)
            .and_then(tokio::net::TcpListener::from_std)
            .map_err(|error| fail(&format!("listen at {address:?}"), &error))
    };
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(address) = addresses.0 {
        let options = ServeOptions { token: None, limits, page: false };
        tasks.spawn(http::serve(bind(&address)?, Arc::clone(&site), options));
    }
    if let Some(address) = addresses.1 {
        let own =
            site.report().syncs.into_iter().flat_map(|sync| sync.targets).map(|target| target.name).next();
        let options = AgentCheckOptions { target: own, limits };
        tasks.spawn(http::serve_agent_checks(bind(&address)?, site, options));
    }
    tokio::select! {
        _ = int.recv() => Ok(Exit::Signal),
        _ = term.recv() => Ok(Exit::Success),
    }
}
