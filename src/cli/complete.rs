//! What can come next on a command line that is being typed: `speil complete`, which the shells' scripts call.
//!
//! **In → Out:** the words after `speil`, the last one unfinished; the words that it could become, and whether
//! files could follow. **Invariants:** the commands and options are those of [`super::parse::top`], and the values of
//! an option those that its own error message names. **Not here:** asking the daemon and reading ssh's
//! configuration ([`LocalNames`]), the shells' scripts (`complete/`).

use clap::{Arg, Command};

use super::table::groups;

/// The words of a level.
const LEVELS: &str = "error, warn, info, debug, trace";
const FORMATS: &str = "human, json, syslog";
const AGENTS: &str = "auto, path, deploy";

/// What only this host can say.
pub(super) trait LocalNames {
    /// Names of the syncs of the running daemon. `socket` is what `--control` says.
    fn syncs(&self, socket: Option<&str>) -> Vec<String>;
    /// Names of the targets of one sync, or of all.
    fn targets(&self, socket: Option<&str>, sync: Option<&str>) -> Vec<String>;
    /// Hosts that ssh's configuration names.
    fn hosts(&self) -> Vec<String>;
}

/// Which files can come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    Any,
    Directories,
}

/// What can come next.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Words, and what is to be said of each.
    pub words: Vec<(String, String)>,
    pub files: Option<Files>,
}

impl Answer {
    fn add(&mut self, word: impl Into<String>, about: impl Into<String>) {
        self.words.push((word.into(), about.into()));
    }

    fn add_all<W: Into<String>>(&mut self, words: impl IntoIterator<Item = W>) {
        words.into_iter().for_each(|word| self.add(word, ""));
    }

    /// Keeps what begins with what is typed so far, and puts in front what belongs to the same word.
    fn beginning(mut self, front: &str, typed: &str) -> Self {
        self.words.retain(|(word, _)| word.starts_with(typed));
        self.words.iter_mut().for_each(|(word, _)| word.insert_str(0, front));
        self
    }
}

/// Returns what the last of `words` can become.
pub(super) fn complete(top: &Command, words: &[String], known: &dyn LocalNames) -> Answer {
    let (typed, before) =
        words.split_last().map_or(("", [].as_slice()), |(last, rest)| (last.as_str(), rest));
    let Some(at) = before.iter().position(|word| !word.starts_with('-')) else {
        return commands(top, typed);
    };
    let (name, after) = (before[at].as_str(), &before[at + 1..]);
    if name == "help" {
        return help(top, typed);
    }
    let Some(command) = top.find_subcommand(name) else {
        return Answer { files: Some(Files::Any), ..Answer::default() };
    };
    let line = Line::read(command, after);
    if let Some(option) = line.open {
        return values(&line, option, known, typed).beginning("", typed);
    }
    if !line.ended && typed.starts_with('-') {
        if let Some((option, value)) = typed.split_once('=').filter(|_| typed.starts_with("--")) {
            let Some(arg) = line.option(option) else { return Answer::default() };
            return values(&line, arg, known, value).beginning(&format!("{option}="), value);
        }
        return options(command, typed);
    }
    match line.positional() {
        Some(arg) => values(&line, arg, known, typed).beginning("", typed),
        None => Answer::default(),
    }
}

fn commands(top: &Command, typed: &str) -> Answer {
    if typed.starts_with('-') {
        return options(top, typed);
    }
    let mut answer = Answer::default();
    for command in top.get_subcommands().filter(|command| !command.is_hide_set()) {
        answer.add(command.get_name(), about(command.get_about()));
    }
    // It has a command line of its own, lsyncd's.
    answer.add("lsyncd", "Run lsyncd's configuration, with lsyncd's arguments");
    answer.add("rsync", "Do what rsync's arguments ask for; what speil does not take, the real rsync does");
    answer.beginning("", typed)
}

fn help(top: &Command, typed: &str) -> Answer {
    let mut answer = commands(top, typed);
    answer.words.retain(|(word, _)| !["help", "lsyncd", "rsync"].contains(&word.as_str()));
    super::topics::all().iter().for_each(|topic| answer.add(*topic, "A page of the documentation"));
    answer.beginning("", typed)
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

fn options(command: &Command, typed: &str) -> Answer {
    let mut answer = Answer::default();
    for arg in command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()) {
        let needs_equals = if arg.is_require_equals_set() && takes_value(arg) { "=" } else { "" };
        match (arg.get_long(), arg.get_short()) {
            (Some(long), _) => answer.add(format!("--{long}{needs_equals}"), about(arg.get_help())),
            (None, Some(letter)) => answer.add(format!("-{letter}"), about(arg.get_help())),
            (None, None) => {}
        }
    }
    answer.beginning("", typed)
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// A command line so far.
struct Line<'a> {
    command: &'a Command,
    /// Words that are no options.
    plain: Vec<&'a str>,
    /// The option whose value comes next.
    open: Option<&'a Arg>,
    /// After `--` nothing is an option.
    ended: bool,
    socket: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn read(command: &'a Command, words: &'a [String]) -> Self {
        let mut line = Self { command, plain: Vec::new(), open: None, ended: false, socket: None };
        for word in words {
            line.take(word);
        }
        line
    }

    fn take(&mut self, word: &'a str) {
        if let Some(option) = self.open.take() {
            self.value(option, word);
        } else if self.ended || !word.starts_with('-') || word == "-" {
            self.plain.push(word);
        } else if word == "--" {
            self.ended = true;
        } else if let Some((option, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
            if let Some(option) = self.option(option) {
                self.value(option, value);
            }
        } else {
            self.open = self.awaited(word);
        }
    }

    fn value(&mut self, option: &Arg, value: &'a str) {
        if option.get_long() == Some("control") {
            self.socket = Some(value);
        }
    }

    /// Returns the option that takes the next word as its value, if `word` is one.
    fn awaited(&self, word: &str) -> Option<&'a Arg> {
        let needs = |arg: &&Arg| takes_value(arg) && !arg.is_require_equals_set();
        if word.starts_with("--") {
            return self.option(word).filter(needs);
        }
        let letters = word.get(1..)?;
        let (at, arg) = letters.char_indices().find_map(|(at, letter)| {
            let mut args = self.command.get_arguments();
            Some((at + letter.len_utf8(), args.find(|arg| arg.get_short() == Some(letter)).filter(needs)?))
        })?;
        // What follows the letter is its value.
        (at == letters.len()).then_some(arg)
    }

    fn option(&self, written: &str) -> Option<&'a Arg> {
        let name = written.strip_prefix("--")?;
        let is = |arg: &&Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
        };
        self.command.get_arguments().find(is).filter(|arg| takes_value(arg))
    }

    /// Returns what the next word that is no option is for.
    fn positional(&self) -> Option<&'a Arg> {
        let mut args: Vec<&Arg> = self.command.get_positionals().collect();
        args.sort_by_key(|arg| arg.get_index());
        let last = args.last().copied();
        let repeats = |arg: &&Arg| arg.get_num_args().is_some_and(|count| count.max_values() > 1);
        args.get(self.plain.len()).copied().or_else(|| last.filter(repeats))
    }
}

/// Returns the values of an option, or of a word in its place.
fn values(line: &Line, arg: &Arg, known: &dyn LocalNames, typed: &str) -> Answer {
    let mut answer = Answer::default();
    for value in arg.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
        answer.add(value.get_name(), about(value.get_help()));
    }
    let name = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map_or(arg.get_id().as_str(), |name| name.as_str());
    if let Some(words) = arg.get_long().and_then(|long| words_of(line.command.get_name(), long)) {
        answer.add_all(words.split(", "));
        return answer;
    }
    let sync = line.plain.first().copied();
    match name {
        "CONFIG" | "FILE" | "SOCKET" | "WHERE" => answer.files = Some(Files::Any),
        "SOURCE" if line.command.get_name() == "sync" => places(&mut answer, known, typed),
        "SOURCE" if line.command.get_name() == "mirror" => {
            places(&mut answer, known, typed);
            answer.files = answer.files.map(|_| Files::Directories);
        }
        "DIR" | "SOURCE" => answer.files = Some(Files::Directories),
        "LEVEL" => answer.add_all(LEVELS.split(", ")),
        "FORMAT" if line.command.get_name() == "run" => answer.add_all(FORMATS.split(", ")),
        "AGENT" => answer.add_all(AGENTS.split(", ")),
        "SYNC" => answer.add_all(known.syncs(line.socket)),
        "SYNC|HOST" => {
            if sync.is_none() {
                answer.add_all(known.syncs(line.socket));
            }
            // A host is called as the target that it is.
            answer.add_all(known.targets(line.socket, sync));
            places(&mut answer, known, typed);
        }
        "TARGET" if sync_first(line.command) => answer.add_all(known.targets(line.socket, sync)),
        "TARGET" | "CONFIG|TARGET" | "STANDBY" => places(&mut answer, known, typed),
        // A path on the target, which this host does not know.
        "PATH" if !matches!(line.command.get_name(), "explain" | "log") => {}
        "PATH" => answer.files = Some(Files::Any),
        "all|any|N|NAME,..." => {
            answer.add_all(["all", "any"]);
            answer.add_all(known.targets(line.socket, sync));
        }
        choice if choice.contains('|') || choice == "half" => answer.add_all(choice.split('|')),
        _ => {}
    }
    answer
}

/// Whether a target is named behind its sync, and not as a place.
fn sync_first(command: &Command) -> bool {
    command.get_positionals().any(|arg| arg.get_id() == "sync")
}

/// Adds hosts, each with the colon that makes it one, and files.
fn places(answer: &mut Answer, known: &dyn LocalNames, typed: &str) {
    answer.files = Some(Files::Any);
    let user = typed.find('@').and_then(|at| typed.get(..=at)).unwrap_or_default();
    if !typed.contains(['/', ':']) {
        answer.add_all(known.hosts().iter().map(|host| format!("{user}{host}:")));
    }
}

/// Returns the words that an option of `sync` or `mirror` takes, as its own message names them.
fn words_of(command: &str, long: &str) -> Option<&'static str> {
    let live = match command {
        "mirror" => true,
        "sync" => false,
        _ => return None,
    };
    let mut options = groups(live).into_iter().flat_map(|group| group.options);
    options.find(|option| option.is_called(&format!("--{long}")))?.words(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Here;

    impl LocalNames for Here {
        fn syncs(&self, socket: Option<&str>) -> Vec<String> {
            socket.map_or(vec!["uploads".into(), "avatars".into()], |socket| vec![format!("of {socket}")])
        }

        fn targets(&self, _: Option<&str>, sync: Option<&str>) -> Vec<String> {
            vec![format!("{}-web2", sync.unwrap_or("any"))]
        }

        fn hosts(&self) -> Vec<String> {
            vec!["web2".into(), "bergen".into()]
        }
    }

    fn answer(line: &str) -> Answer {
        let mut top = super::super::parse::top();
        top.build();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        complete(&top, &words, &Here)
    }

    fn words(line: &str) -> Vec<String> {
        answer(line).words.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn commands_come_first_then_their_options() {
        assert_eq!(words("stat"), ["status"]);
        assert_eq!(words("ls"), ["lsyncd"]);
        assert!(words("").contains(&"init".to_owned()) && !words("").contains(&"complete".to_owned()));
        assert_eq!(words("sync --max-del"), ["--max-delete"]);
        assert_eq!(words("status --ch"), ["--check"]);
        assert_eq!(words("help from-"), ["from-rsync", "from-lsyncd"]);
        assert!(words("mirror --no-such").is_empty() && words("mirror -- --").is_empty());
        assert!(answer("stat").words[0].1.starts_with("Show each target"));
    }

    #[test]
    fn files_follow_where_files_are_meant() {
        for line in ["run ", "check /etc/", "run a b ", "sync --exclude-from ", "run --log-file=", "sync "] {
            assert_eq!(answer(line).files, Some(Files::Any), "{line}");
        }
        for line in ["mirror ", "mirror -az /s", "doctor --source ", "promote --root=", "mirror -e ssh "] {
            assert_eq!(answer(line).files, Some(Files::Directories), "{line}");
        }
        assert_eq!(answer("status "), Answer::default());
        assert_eq!(answer("sync --exclude "), Answer::default());
    }

    #[test]
    fn every_option_offers_the_words_that_its_message_names() {
        assert_eq!(words("mirror --watch "), ["auto", "inotify", "fanotify", "notify", "poll"]);
        assert_eq!(words("mirror --watch=f"), ["--watch=fanotify"]);
        assert_eq!(words("sync --transport ss"), ["ssh", "ssh2"]);
        assert!(!words("sync --durability ").is_empty());
        assert_eq!(words("log-level uploads d"), ["debug"]);
        assert_eq!(words("log-level --all t"), ["trace"]);
        assert_eq!(words("health --role "), ["primary", "standby"]);
        assert_eq!(words("run --log-format j"), ["json"]);
        assert_eq!(words("completions z"), ["zsh"]);
    }

    #[test]
    fn syncs_and_targets_are_the_running_daemons() {
        assert_eq!(words("retry "), ["uploads", "avatars"]);
        assert_eq!(words("retry uploads "), ["uploads-web2"]);
        assert_eq!(words("explain u"), ["uploads"]);
        assert_eq!(words("wait --targets a"), ["all", "any", "any-web2"]);
        assert_eq!(words("rejoin u"), ["uploads"]);
        assert_eq!(words("rejoin uploads u"), ["uploads-web2"]);
        assert_eq!(words("pause --control /s "), ["of /s"]);
        assert_eq!(words("pause --control=/s "), ["of /s"]);
    }

    #[test]
    fn hosts_are_those_of_ssh_with_a_colon() {
        assert_eq!(words("sync /srv/ b"), ["bergen:"]);
        assert_eq!(words("sync -a /srv/ root@w"), ["root@web2:"]);
        assert_eq!(words("init /srv root@"), ["root@web2:", "root@bergen:"]);
        assert!(words("sync /srv/ web2:").is_empty());
        assert_eq!(words("trash w"), ["web2:"]);
    }
}
