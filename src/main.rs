//! The `speil` command.

use std::process::ExitCode;

use std::io::{IsTerminal, Write};

fn main() -> ExitCode {
    let command = match speil::cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            let style = speil::cli::Style::detect(std::io::stderr().is_terminal());
            let text = speil::cli::render_error(&error, error.hint().as_deref(), style);
            let _ = std::io::stderr().write_all(text.as_bytes());
            return error.exit().into();
        }
    };
    speil::cli::execute(command).into()
}
