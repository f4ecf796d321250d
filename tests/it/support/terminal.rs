//! A program at a terminal of its own, and what is typed there.
//!
//! **Sources:** script(1), which makes the terminal.

use std::io::{PipeWriter, Write};

use super::command::{Background, Environment};

/// A program that reads and writes a terminal.
pub struct Terminal {
    /// What it writes is its standard output.
    pub run: Background,
    keys: PipeWriter,
}

impl Terminal {
    /// Runs a line of sh at a new terminal.
    ///
    /// # Panics
    /// If there is no script(1).
    pub fn start(environment: &Environment, line: &str) -> Self {
        let mut command = environment.command("script");
        command.args(["-qefc", line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
        let (reader, keys) = std::io::pipe().expect("a pipe");
        command.stdin(reader);
        Self { run: Background::spawn(command), keys }
    }

    /// Types.
    ///
    /// # Panics
    /// If nobody reads any more.
    pub fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("the terminal reads");
    }
}
