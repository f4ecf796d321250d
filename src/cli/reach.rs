//! How a target that is named is reached, and a running daemon.

use std::path::PathBuf;

use clap::Args;

/// How a target that is named is reached.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Reach {
    /// How it is reached, as in speil sync
    #[arg(short = 'e', long, value_name = "COMMAND")]
    pub rsh: Option<String>,
    /// Where the agent there comes from, as in speil sync
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
}

/// How a running daemon is reached.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Control {
    /// The control socket [default: in the runtime directory]
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
}
