//! The `speil` command.

fn main() {}
