//! Integration tests: one binary, one module per behaviour.

mod layering;
mod live;
mod support;
