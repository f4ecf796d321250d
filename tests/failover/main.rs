//! The model of a failover: three hosts, every order of commands and faults, breadth first and at random, on the
//! product's own rules (`speil::role`).
//!
//! What is looked for: an upload that was acknowledged and has no copy; two primaries of one generation; a tree in the
//! middle of an adoption that is promoted; adoptions without an end; hosts that refuse each other although nobody is
//! told what to type; a host that is fit although it has heard of something younger.
//!
//! `make failover-model` searches as long as `SECONDS` says. A history that fails is printed.

mod apart;
mod events;
mod judge;
mod known;
mod mutants;
mod rng;
mod search;
mod step;
mod world;
