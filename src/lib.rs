//! speil keeps one directory tree live on one or more standby hosts over SSH.
//!
//! `ARCHITECTURE.md` is the map: which module holds what, and which may use which.

pub mod batch;
pub mod config;
pub mod error;
pub mod event;
pub mod tree;
