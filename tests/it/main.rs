//! Integration tests: one binary, one module per behaviour.

mod cli;
mod cron;
mod doctor;
mod drill;
mod exact;
mod explain;
mod faults;
mod hooks;
mod layering;
mod live;
mod log;
mod lsyncd;
mod manual;
mod moves;
mod roots;
mod service;
mod ssh2;
mod support;
mod systemd;
mod torn;
