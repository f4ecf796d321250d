//! Integration tests: one binary, one module per behaviour.

mod cli;
mod cron;
mod http;
mod layering;
mod live;
mod lsyncd;
mod page;
mod service;
mod ssh2;
mod support;
mod wait;
