//! Integration tests: one binary, one module per behaviour.

mod cli;
mod contrib;
mod cron;
mod haproxy;
mod http;
mod layering;
mod live;
mod lsyncd;
mod page;
mod service;
mod ssh2;
mod support;
mod version;
mod wait;
