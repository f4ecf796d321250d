//! speil keeps one directory tree live on one or more standby hosts over SSH.
//!
//! `ARCHITECTURE.md` is the map: which module holds what, and which may use which.

pub mod action;
pub mod batch;
pub mod cli;
pub mod config;
pub mod confine;
pub mod daemon;
pub mod debounce;
pub mod delta;
pub mod disk;
pub mod doctor;
pub mod error;
pub mod event;
pub mod failover;
pub mod filter;
pub mod hooks;
pub mod http;
pub mod monitor;
pub mod protocol;
pub mod receiver;
pub mod reconcile;
pub mod role;
pub mod role_file;
pub mod scan;
pub mod sender;
pub mod status;
pub mod transport;
pub mod tree;
pub mod watch;
