//! One option of `speil sync` and `speil mirror`, and how it is declared and read.
//!
//! **Purpose:** [`super::table`] says what exists; this turns it into clap arguments and turns matches
//! back into calls in the order of the command line, since rsync's later options overrule its earlier ones.

use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::draft::Draft;
use super::values::ValueError;
use crate::config::Sync;
use crate::config::switches::Switch;

/// Sets what an option with a value says.
pub(super) type SetValue = fn(&mut Draft, &OsStr) -> Result<(), ValueError>;

/// What an option does.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// On, or off by its `--no-` form.
    Switch(fn(&mut Draft, bool)),
    /// The same, of an option that a configuration has as well.
    Shared(fn(&mut Sync, bool)),
    /// How often it was given; 0 by its `--no-` form.
    Count(fn(&mut Draft, u8)),
    /// A value; the `--no-` form stands for the value `off`.
    Value { name: &'static str, off: &'static str, set: SetValue },
    /// A value after `=`, else `missing`; the `--no-` form stands for the value `off`.
    Optional { name: &'static str, missing: &'static str, off: &'static str, set: SetValue },
}

/// One option.
#[derive(Clone, Copy)]
pub(super) struct Opt {
    short: Option<char>,
    long: &'static str,
    also: &'static [&'static str],
    no: &'static [&'static str],
    help: &'static str,
    takes: Takes,
}

/// Options under one heading of the help.
pub(super) struct Group {
    pub(super) heading: &'static str,
    pub(super) options: &'static [Opt],
}

/// Returns a switch. `long` is the bare letter of an option without a long name.
pub(super) const fn switch(long: &'static str, help: &'static str, set: fn(&mut Draft, bool)) -> Opt {
    Opt { short: None, long, also: &[], no: &[], help, takes: Takes::Switch(set) }
}

/// Returns a switch that configurations have as well.
pub(super) const fn shared(of: &Switch) -> Opt {
    let Switch { long, short, help, no, set, .. } = *of;
    Opt { short, long, also: &[], no, help, takes: Takes::Shared(set) }
}

/// Returns an option that counts.
pub(super) const fn count(long: &'static str, help: &'static str, set: fn(&mut Draft, u8)) -> Opt {
    Opt { short: None, long, also: &[], no: &[], help, takes: Takes::Count(set) }
}

/// Returns an option with a value.
pub(super) const fn value(long: &'static str, name: &'static str, help: &'static str, set: SetValue) -> Opt {
    Opt { short: None, long, also: &[], no: &[], help, takes: Takes::Value { name, off: "0", set } }
}

/// Returns an option whose value may be missing.
pub(super) const fn optional(
    long: &'static str,
    (name, missing, off): (&'static str, &'static str, &'static str),
    help: &'static str,
    set: SetValue,
) -> Opt {
    Opt { short: None, long, also: &[], no: &[], help, takes: Takes::Optional { name, missing, off, set } }
}

impl Opt {
    /// Adds the letter.
    pub(super) const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    /// Adds other long names, not shown.
    pub(super) const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    /// Adds the forms that turn it off: `no-perms`, `no-p`.
    pub(super) const fn no(self, no: &'static [&'static str]) -> Self {
        Self { no, ..self }
    }

    /// Returns every name as it is written.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<String> {
        let long =
            self.long_name().into_iter().chain(self.also.iter().copied()).chain(self.no.iter().copied());
        long.map(|name| format!("--{name}")).chain(self.letter().map(|letter| format!("-{letter}"))).collect()
    }

    /// Whether it is on or off.
    #[cfg(test)]
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.takes, Takes::Switch(_) | Takes::Shared(_))
    }

    /// Whether `written` (`--delay`, `-z`) is one of its names.
    pub(super) fn is_called(&self, written: &str) -> bool {
        let name = written.strip_prefix("--").map(|name| name.split('=').next().unwrap_or(name));
        name.is_some_and(|name| {
            self.long_name() == Some(name) || self.also.contains(&name) || self.no.contains(&name)
        })
    }

    /// Returns the words that its value may be, as its own message names them; `None` if it takes others.
    pub(super) fn words(&self, live: bool) -> Option<&'static str> {
        let (Takes::Value { set, .. } | Takes::Optional { set, .. }) = self.takes else { return None };
        match set(&mut Draft::new(live), OsStr::new("?")) {
            Err(ValueError::Word(words)) => Some(words),
            _ => None,
        }
    }

    fn letter(&self) -> Option<char> {
        self.short.or_else(|| self.long.chars().next().filter(|_| self.long.len() == 1))
    }

    fn long_name(&self) -> Option<&'static str> {
        (self.long.len() > 1).then_some(self.long)
    }

    /// Returns the name for messages.
    fn shown(&self) -> &'static str {
        // Written out where a message can need it: options with values all have long names.
        self.long
    }

    /// Returns the clap arguments: the option, and its `--no-` form.
    pub(super) fn args(&self, heading: &'static str) -> Vec<Arg> {
        let mut arg = Arg::new(self.long).help(self.help).help_heading(heading).aliases(self.also);
        if let Some(letter) = self.letter() {
            arg = arg.short(letter);
        }
        if let Some(long) = self.long_name() {
            arg = arg.long(long);
        }
        arg = match self.takes {
            Takes::Switch(_) | Takes::Shared(_) => arg.action(ArgAction::SetTrue).overrides_with(self.long),
            Takes::Count(_) => arg.action(ArgAction::Count),
            Takes::Value { name, .. } => arg
                .action(ArgAction::Append)
                .value_name(name)
                .value_parser(value_parser!(OsString))
                .allow_hyphen_values(true),
            Takes::Optional { name, missing, .. } => arg
                .action(ArgAction::Append)
                .value_name(name)
                .value_parser(value_parser!(OsString))
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(missing),
        };
        let mut args = vec![arg];
        if let Some((first, rest)) = self.no.split_first() {
            let off = Arg::new(*first).long(*first).aliases(rest.iter().copied()).hide(true);
            args.push(off.action(ArgAction::SetTrue).overrides_with(*first));
        }
        args
    }

    /// Returns what `matches` holds of this option, with the place on the command line.
    fn calls<'a>(&'a self, matches: &'a ArgMatches) -> Vec<(usize, Call<'a>)> {
        let mut calls = Vec::new();
        if let Some(off) = self.no.first()
            && let Some(at) = place(matches, off)
        {
            calls.push((at, Call { opt: self, what: What::Off }));
        }
        let Some(at) = place(matches, self.long) else { return calls };
        match self.takes {
            Takes::Switch(_) | Takes::Shared(_) => calls.push((at, Call { opt: self, what: What::On })),
            Takes::Count(_) => {
                calls.push((at, Call { opt: self, what: What::Times(matches.get_count(self.long)) }));
            }
            Takes::Value { .. } | Takes::Optional { .. } => {
                let places = matches.indices_of(self.long).into_iter().flatten();
                let values = matches.get_raw(self.long).into_iter().flatten();
                calls
                    .extend(places.zip(values).map(|(at, v)| (at, Call { opt: self, what: What::Value(v) })));
            }
        }
        calls
    }
}

/// Returns where `id` stands for the last time, if somebody wrote it.
fn place(matches: &ArgMatches, id: &str) -> Option<usize> {
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return None;
    }
    matches.indices_of(id)?.next_back()
}

/// One option as it was given.
struct Call<'a> {
    opt: &'a Opt,
    what: What<'a>,
}

enum What<'a> {
    On,
    Off,
    Times(u8),
    Value(&'a OsStr),
}

impl Call<'_> {
    fn apply(&self, draft: &mut Draft) -> Result<(), (&'static str, OsString, ValueError)> {
        let (set, value): (SetValue, &OsStr) = match (self.opt.takes, &self.what) {
            (Takes::Switch(set), what) => {
                set(draft, !matches!(what, What::Off));
                return Ok(());
            }
            (Takes::Shared(set), what) => {
                set(&mut draft.sync, !matches!(what, What::Off));
                return Ok(());
            }
            (Takes::Count(set), What::Times(times)) => {
                set(draft, *times);
                return Ok(());
            }
            (Takes::Count(set), _) => {
                set(draft, 0);
                return Ok(());
            }
            (Takes::Value { set, .. } | Takes::Optional { set, .. }, What::Value(value)) => (set, value),
            (Takes::Value { set, off, .. } | Takes::Optional { set, off, .. }, _) => (set, OsStr::new(off)),
        };
        set(draft, value).map_err(|error| (self.opt.shown(), value.to_owned(), error))
    }
}

/// Applies every option in `matches` to `draft`, in the order of the command line.
///
/// # Errors
/// The first option whose value is not taken: its long name, the value, and why.
pub(super) fn apply_in_order(
    groups: &[&Group],
    matches: &ArgMatches,
    draft: &mut Draft,
) -> Result<(), (&'static str, OsString, ValueError)> {
    let options = groups.iter().flat_map(|group| group.options);
    let mut calls: Vec<_> = options.flat_map(|opt| opt.calls(matches)).collect();
    calls.sort_by_key(|(at, _)| *at);
    calls.iter().try_for_each(|(_, call)| call.apply(draft))
}
