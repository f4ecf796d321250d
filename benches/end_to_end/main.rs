//! End-to-end benchmark: speil beside its peers, on one host, over one real sshd.
//!
//! **Purpose:** the figures of docs/performance.md, each measured in the same run as its peer's.
//! **In → Out:** `cargo bench --bench end_to_end -- [ROW...] [--quick] [--without CONTENDER]` → a table
//! on standard output, and `raw.csv`, `summary.md` and `environment.txt` in `benches/runs/DATE-CLASS/`.
//! **Invariants:** trees lie in memory; contenders take turns within every repetition; a figure is the
//! median of the repetitions; every copy is compared with its source before its time counts.
//! **Not here:** sshd, proxy, trees, process guards: the tests' support.

mod arena;
mod contender;
mod measure;
mod report;
mod rows;

#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use arena::Arena;
use contender::Contender;
use report::{Report, Run};
use rows::Row;

/// What the command line asks for.
struct Options {
    rows: Vec<&'static Row>,
    quick: bool,
    without: Vec<Contender>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts this as well, without the flag that `cargo bench` adds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("the end-to-end benchmark runs with `cargo bench --bench end_to_end`");
        return ExitCode::SUCCESS;
    }
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(message) => {
            eprintln!(
                "{message}\nusage: cargo bench --bench end_to_end -- [ROW...] [--quick] [--without CONTENDER]\n"
            );
            for row in &rows::ALL {
                eprintln!("  {:12} {}", row.name, row.title);
            }
            return ExitCode::from(2);
        }
    };
    match measure_all(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the report cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { rows: Vec::new(), quick: false, without: Vec::new() };
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--without" => {
                let name = words.next().ok_or("--without: which contender?")?;
                let left_out = Contender::ALL.into_iter().find(|contender| contender.name() == name);
                options.without.push(left_out.ok_or_else(|| format!("no contender {name:?}"))?);
            }
            name => {
                let row = rows::ALL.iter().find(|row| row.name == name);
                options.rows.push(row.ok_or_else(|| format!("no row {name:?}"))?);
            }
        }
    }
    if options.rows.is_empty() {
        options.rows = rows::ALL.iter().collect();
    }
    Ok(options)
}

/// Runs the rows and writes the report after each; returns whether every run succeeded.
fn measure_all(options: &Options) -> std::io::Result<bool> {
    let repetitions = if options.quick { 1 } else { 5 };
    let mut report = Report::create(options.quick)?;
    for row in &options.rows {
        let arena = Arena::new(options.quick);
        let contenders = row.contenders.iter().filter(|c| !options.without.contains(c));
        let contenders: Vec<Contender> = contenders.copied().collect();
        if let Err(error) = (row.prepare)(&arena) {
            eprintln!("{}: prepare: {error}", row.name);
            report.failed(row.name);
            continue;
        }
        for repetition in 1..=repetitions {
            for &contender in &contenders {
                eprintln!("{} {repetition}/{repetitions}: {}", row.name, contender.name());
                let run = || (row.measure)(&arena, contender);
                // What waits in vain panics; one contender that fails leaves the others their turn.
                let figures =
                    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(words_of(&*panic).into()));
                if let Err(error) = &figures {
                    eprintln!("{}: {}: {error}", row.name, contender.name());
                }
                report.add(Run { row: row.name, contender, repetition, figures });
            }
        }
        println!("{}", report.table(row));
        report.write(&options.rows)?;
    }
    println!("written to {}", report.shown_dir());
    Ok(report.is_complete())
}

/// Returns what a panic said.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
