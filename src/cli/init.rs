//! `speil init`: what may be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

pub(super) const INIT_HELP: &str = "\
Examples:
  speil init                                          # asks for everything
  speil init /srv/uploads root@standby                # into /srv/uploads there
  speil init /srv/uploads deploy@standby:/srv/copy    # another path, an ordinary login
  speil init -n /srv/uploads root@standby             # only print what would be done

Each step is printed as the command that does the same (+ ssh-keygen -t ed25519 ...). A step that is done already is
left out, so the same may be typed again after a failure or Ctrl-C.

Without a terminal nothing is asked: an answer that is missing is named with the option that gives it, exit code 1.

Exit codes: 0 done, 1 wrong usage, an answer is missing, or a configuration is there already, 3 the source cannot be
used, 11 a file cannot be written, 23 speil doctor found problems, 30 the first copy still runs, 255 the login failed;
else that of the command that failed.";

/// `speil init`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Init {
    /// The directory to mirror; its contents appear in the standby's directory
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// The standby
    #[arg(
        value_name = "STANDBY",
        help = "[USER@]HOST, or [USER@]HOST:PATH where the path differs from SOURCE"
    )]
    pub standby: Option<OsString>,
    /// The port of its sshd, where ssh's configuration does not say it
    #[arg(short = 'p', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// An option of ssh, as in ssh -o; it is written into the configuration too
    #[arg(short = 'o', long = "ssh-option", value_name = "KEY=VALUE", value_parser = pair)]
    pub ssh_options: Vec<(String, String)>,
    /// The private key; it is made if it does not exist [default: id_ed25519 beside the configuration]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The configuration to write [default: /etc/speil/speil.lua; without root ~/.config/speil/speil.lua]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Accept the host's key if it has this fingerprint: SHA256:...
    #[arg(long, value_name = "FINGERPRINT")]
    pub accept_host_key: Option<String>,
    /// Go on where the standby's directory holds what SOURCE does not have: the mirror deletes that
    #[arg(long)]
    pub accept_contents: bool,
    /// Let the key do nothing on the standby but receive this directory; speil must be installed there
    #[arg(long)]
    pub forced_command: bool,
    /// Do not install and start the service
    #[arg(long)]
    pub no_start: bool,
    /// Replace a configuration that says something else; it is kept as FILE.old
    #[arg(long)]
    pub force: bool,
    /// Print what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let is_word = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
    let halves =
        text.split_once('=').filter(|(key, value)| is_word(key) && !value.chars().any(char::is_control));
    let (key, value) = halves.ok_or_else(|| "KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
