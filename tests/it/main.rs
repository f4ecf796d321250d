//! Integration tests: one binary, one module per behaviour.

mod ssh2;
mod support;
