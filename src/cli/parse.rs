//! From arguments to a [`Command`].

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, FromArgMatches, Subcommand};

use super::commands::{
    Agent, Agents, Approve, ArrivalsOf, Check, Complete, Completions, Demote, Doctor, Explain, Health,
    HeldOf, Init, LogLevel, Manual, Named, Notify, Past, Pause, Plain, Position, Promote, Reconcile, Rejoin,
    Reload, Retry, Run, Status, Targets, Trash, Undo, Verify, Wait, version,
};
use super::draft::Transfer;
use super::error::CliError;
use super::refused::refusal;
use super::table::groups;
use super::transfer::{command, transfer};
use crate::tree::quote;

/// What the user asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A live mirror without a configuration file.
    Mirror(Box<Transfer>),
    /// One pass.
    Sync(Box<Transfer>),
    /// A standby from nothing.
    Init(Init),
    /// The daemon.
    Run(Run),
    /// A look at a configuration.
    Check(Check),
    /// A look at what would stop it.
    Doctor(Doctor),
    /// What a target keeps.
    Trash(Trash),
    /// Have it put back.
    Undo(Undo),
    /// Compare every byte.
    Verify(Verify),
    /// The state of a running daemon.
    Status(Status),
    /// Why a path is where it is.
    Explain(Explain),
    /// Wait until the targets are in step.
    Wait(Wait),
    /// Ask a standby how it stands.
    Health(Health),
    /// Make a mark behind what was written.
    Position(Position),
    /// Tell what has arrived.
    Arrivals(ArrivalsOf),
    /// Make a tree primary.
    Promote(Promote),
    /// Make a tree a standby.
    Demote(Demote),
    /// Bring a tree to another truth.
    Rejoin(Rejoin),
    /// A full pass now.
    Reconcile(Reconcile),
    /// Hold changes back.
    Pause(Pause),
    /// Try again what fails.
    Retry(Retry),
    /// Read the configuration again.
    Reload(Reload),
    /// `speil target`.
    Target(Targets),
    /// `speil agents`.
    Agents(Agents),
    /// `speil log`.
    Log(Past),
    /// `speil notify`.
    Notify(Notify),
    /// Send again.
    Resume(Named),
    /// More or less in the log.
    LogLevel(LogLevel),
    /// Let held deletes go, or accept the volume that a target is on now.
    Approve(Approve),
    /// Drop held deletes.
    Discard(HeldOf),
    /// The man pages.
    Manual(Manual),
    /// The completions of a shell.
    Completions(Completions),
    /// What can come next.
    Complete(Complete),
    /// The receiver on standard input and output.
    Agent(Agent),
    /// Text for standard output: help or version.
    Text(String),
    /// How speil is used, for who typed no command.
    Usage(String),
}

impl From<Plain> for Command {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Init(it) => Self::Init(it),
            Plain::Run(run) => Self::Run(run),
            Plain::Check(check) => Self::Check(check),
            Plain::Doctor(it) => Self::Doctor(it),
            Plain::Trash(it) => Self::Trash(it),
            Plain::Undo(it) => Self::Undo(it),
            Plain::Verify(it) => Self::Verify(it),
            Plain::Status(status) => Self::Status(status),
            Plain::Explain(it) => Self::Explain(it),
            Plain::Wait(wait) => Self::Wait(wait),
            Plain::Health(health) => Self::Health(health),
            Plain::Position(it) => Self::Position(it),
            Plain::Arrivals(it) => Self::Arrivals(it),
            Plain::Promote(it) => Self::Promote(it),
            Plain::Demote(it) => Self::Demote(it),
            Plain::Rejoin(it) => Self::Rejoin(it),
            Plain::Reconcile(reconcile) => Self::Reconcile(reconcile),
            Plain::Pause(it) => Self::Pause(it),
            Plain::Retry(it) => Self::Retry(it),
            Plain::Reload(it) => Self::Reload(it),
            Plain::Target(it) => Self::Target(it),
            Plain::Agents(it) => Self::Agents(it),
            Plain::Log(it) => Self::Log(it),
            Plain::Notify(it) => Self::Notify(it),
            Plain::Resume(named) => Self::Resume(named),
            Plain::LogLevel(it) => Self::LogLevel(it),
            Plain::Approve(it) => Self::Approve(it),
            Plain::Discard(held) => Self::Discard(held),
            Plain::Manual(it) => Self::Manual(it),
            Plain::Completions(it) => Self::Completions(it),
            Plain::Complete(it) => Self::Complete(it),
            Plain::Agent(agent) => Self::Agent(agent),
        }
    }
}

/// Parses the arguments, the program's name first. Reads the list files that they name, and `RSYNC_RSH`
/// from the environment.
///
/// # Errors
/// [`CliError`], which knows its exit code and its hint; nothing was started.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    let args: Vec<OsString> = args.into_iter().collect();
    parse_with(&args, std::env::var_os("RSYNC_RSH").as_deref())
}

/// As [`parse`], with the environment as an argument.
pub(super) fn parse_with(args: &[OsString], rsync_rsh: Option<&OsStr>) -> Result<Command, CliError> {
    let first = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default().to_owned();
    let first = first.as_str();
    if let ("help", Some(page)) = (first, args.get(2).and_then(|arg| super::topics::topic(arg.to_str()?))) {
        return Ok(Command::Text(page.to_owned()));
    }
    if let ("help", Some(asked)) = (first, args.get(2).and_then(|arg| arg.to_str()))
        && top().find_subcommand(asked).is_none()
    {
        return Err(no_page(asked));
    }
    // rsync's -h is help when it stands alone, and a way to write numbers when it does not.
    let alone = matches!(args, [_, _, only] if only == "-h") && matches!(first, "sync" | "mirror");
    let matches = if alone {
        let program = args.first().cloned().unwrap_or_default();
        top().try_get_matches_from([program, OsString::from(first), OsString::from("--help")])
    } else {
        top().try_get_matches_from(args)
    };
    let matches = match matches {
        Ok(matches) => matches,
        Err(error) => return explain(&error, first),
    };
    match matches.subcommand() {
        Some(("sync", matches)) => Ok(Command::Sync(Box::new(transfer(matches, false, rsync_rsh)?))),
        Some(("mirror", matches)) => Ok(Command::Mirror(Box::new(transfer(matches, true, rsync_rsh)?))),
        Some(_) => match Plain::from_arg_matches(&matches) {
            Ok(plain) => Ok(plain.into()),
            Err(error) => explain(&error, first),
        },
        None if matches.get_flag("version") => Ok(Command::Text(version(matches.get_flag("verbose")))),
        None => Ok(Command::Usage(top().render_help().to_string())),
    }
}

/// Returns the whole command line as clap knows it.
pub(in crate::cli) fn top() -> clap::Command {
    let top = clap::Command::new("speil")
        .disable_version_flag(true)
        .after_help(format!(
            "Examples:\n  speil mirror /srv/uploads/ web2:/srv/uploads/\n  \
             speil sync -az --delete /srv/uploads/ web2:/srv/uploads/\n  \
             speil run /etc/speil/speil.lua\n  speil wait && deploy\n\n\
             speil COMMAND --help says more; speil help TOPIC shows a page: {}.",
            super::topics::names()
        ))
        .arg(
            clap::Arg::new("version")
                .long("version")
                .short('V')
                .action(ArgAction::SetTrue)
                .help("Show the version; with --verbose what this build can do"),
        )
        .arg(clap::Arg::new("verbose").long("verbose").action(ArgAction::SetTrue).hide(true))
        .subcommand(command(true))
        .subcommand(command(false));
    // Afterwards, since it brings the enum's own words along.
    Plain::augment_subcommands(top)
        .about("Keep a directory tree live on standby hosts over SSH")
        .long_about(None)
}

/// Returns what a clap error asks for: help is text, everything else is one of ours.
fn explain(error: &clap::Error, command: &str) -> Result<Command, CliError> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Command::Text(error.render().to_string())),
        ErrorKind::InvalidSubcommand => Err(no_command(command)),
        ErrorKind::UnknownArgument => Err(unknown(error, command)),
        ErrorKind::MissingRequiredArgument => {
            let missing = context(error, ContextKind::InvalidArg).join(" and ");
            let missing = missing.replace(['<', '>'], "");
            Err(CliError::Syntax(format!("speil {command}: missing {missing}")))
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let first = text.split("\n\n").next().unwrap_or_default();
            Err(CliError::Syntax(first.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
    }
}

/// Says that nothing has this name, and what has a name like it.
fn no_page(asked: &str) -> CliError {
    let commands = top();
    let commands =
        commands.get_subcommands().filter(|known| !known.is_hide_set()).map(|known| known.get_name());
    let names: Vec<&str> = commands.chain(super::topics::all()).collect();
    let nearest = crate::config::nearest(asked, &names);
    let hint = match nearest {
        Some(nearest) => format!("did you mean speil help {nearest}?"),
        None => format!("speil --help lists the commands; the pages are {}", super::topics::names()),
    };
    CliError::Unheard { text: format!("no command and no page is called {}", quote(asked.as_bytes())), hint }
}

/// Says that no command has this name, and which one is like it.
fn no_command(asked: &str) -> CliError {
    let commands = top();
    let names: Vec<&str> = commands
        .get_subcommands()
        .filter(|known| !known.is_hide_set())
        .map(|known| known.get_name())
        .collect();
    let hint = match crate::config::nearest(asked, &names) {
        Some(nearest) => format!("did you mean speil {nearest}?"),
        None => "speil --help shows the commands".to_owned(),
    };
    CliError::Unheard { text: format!("speil has no command {}", quote(asked.as_bytes())), hint }
}

/// Options of `speil sync` that would have a live mirror follow symlinks.
const FOLLOWING: &[&str] = &["-L", "--copy-links", "-k", "--copy-dirlinks", "--copy-unsafe-links"];

/// Says which kind of unknown an unknown option is.
fn unknown(error: &clap::Error, command: &str) -> CliError {
    let option = context(error, ContextKind::InvalidArg).pop().unwrap_or_default();
    let option = option.split('=').next().unwrap_or_default().to_owned();
    let transfers = match command {
        "sync" => Some(("sync", "mirror")),
        "mirror" => Some(("mirror", "sync")),
        _ => None,
    };
    if let Some((command, other)) = transfers {
        if let Some(reason) = refusal(&option) {
            return CliError::Refused { option, command, reason };
        }
        if command == "mirror" && FOLLOWING.contains(&option.as_str()) {
            let reason = "changes behind a symlink are not heard of; mirror each directory by itself, or run speil sync";
            return CliError::Refused { option, command, reason };
        }
        let has = |group: &&super::options::Group| group.options.iter().any(|o| o.is_called(&option));
        if groups(other == "mirror").iter().any(has) {
            return CliError::OtherCommand { option, command, other };
        }
    }
    if !option.starts_with('-') {
        return CliError::Syntax(format!(
            "speil {command}: {} is one argument too many",
            quote(option.as_bytes())
        ));
    }
    let nearest = context(error, ContextKind::SuggestedArg).pop();
    let option = quote(option.as_bytes()).trim_matches('"').to_owned();
    CliError::Unknown { option, nearest, command: command.to_owned() }
}

/// Returns what clap says about an error under `kind`.
fn context(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
