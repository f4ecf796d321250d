//! Man pages, out of the same tables as the command line itself.

use std::fs;
use std::io;
use std::path::Path;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::complain_text;
use crate::cli::commands::Manual;
use crate::cli::exit::Exit;
use crate::cli::parse::top;
use crate::error::io_text;

/// Files that the whole program knows.
const FILES: [(&str, &str); 6] = [
    ("/etc/speil/speil.lua", "the configuration of the service: speil.lua(5)"),
    ("/run/speil/control", "the control socket of root's daemon"),
    (
        "/var/lib/speil/",
        "of root's daemon: which filesystem each target is on, what arrived; else ~/.local/state/speil/",
    ),
    ("~/.cache/speil/", "on a target: agents that were uploaded"),
    (".speil/", "in a target's root: the state of the mirror, never mirrored"),
    (".speil/refuse", "in a target's root, by hand: every mirror is refused, with its text as the reason"),
];

/// Writes `speil.1`, a page for each command, and `speil.lua.5`.
pub(super) fn pages(it: &Manual) -> u8 {
    match write_pages(&it.dir) {
        Ok(()) => 0,
        Err(error) => {
            complain_text(&format!("{}: {}", it.dir.display(), io_text(&error)), None);
            Exit::File.code()
        }
    }
}

fn write_pages(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut top = top().disable_help_subcommand(true).version(env!("CARGO_PKG_VERSION"));
    top.build();
    let mut page = render(&top, "speil")?;
    exit_codes(&mut page)?;
    files(&mut page)?;
    fs::write(dir.join("speil.1"), page)?;
    fs::write(dir.join("speil.lua.5"), crate::cli::topics::configuration_man())?;
    for command in top.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("speil-{}", command.get_name());
        let mut page = render(command, &name)?;
        see_also(&mut page)?;
        fs::write(dir.join(format!("{name}.1")), page)?;
    }
    Ok(())
}

fn render(command: &clap::Command, name: &str) -> io::Result<Vec<u8>> {
    let command = command.clone().display_name(name.to_owned()).bin_name(name.replacen('-', " ", 1));
    let mut page = Vec::new();
    Man::new(command)
        .title(name)
        .manual("User Commands")
        .source(concat!("speil ", env!("CARGO_PKG_VERSION")))
        .date("")
        .render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).replace("\n.SH EXTRA\n", "\n.SH NOTES\n").into_bytes())
}

fn exit_codes(page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman("As rsync's, where rsync has one. When several apply, the gravest counts.")]);
    for exit in Exit::ALL {
        roff.control("TP", []);
        roff.text([bold(exit.code().to_string())]);
        roff.text([roman(exit.meaning())]);
    }
    roff.to_writer(page)
}

fn files(page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    for (file, what) in FILES {
        roff.control("TP", []);
        roff.text([italic(file)]);
        roff.text([roman(what)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("speil.lua"),
        roman("(5), "),
        bold("rsync"),
        roman("(1), "),
        bold("ssh_config"),
        roman("(5), "),
        bold("sshd"),
        roman("(8)"),
    ]);
    roff.to_writer(page)
}

fn see_also(page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("speil"), roman("(1), for exit codes and files")]);
    roff.to_writer(page)
}
