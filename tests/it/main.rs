//! Integration tests: one binary, one module per behaviour.

mod cli;
mod layering;
mod live;
mod lsyncd;
mod ssh2;
mod support;
