//! Integration tests: one binary, one module per behaviour.

mod cli;
mod contrib;
mod cron;
mod doctor;
mod drill;
mod exact;
mod explain;
mod faults;
mod haproxy;
mod hooks;
mod http;
mod layering;
mod live;
mod log;
mod lsyncd;
mod manual;
mod moves;
mod page;
mod roots;
mod service;
mod ssh2;
mod support;
mod systemd;
mod torn;
mod version;
mod wait;
