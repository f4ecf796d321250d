//! What to mirror, and how: the model that the command line and the Lua files both fill.
//!
//! **Purpose:** plain values without behaviour of their own; `config::lua` evaluates a configuration file
//! into them, `cli` fills them from arguments. **Not here:** defaults of other modules' tuning.

mod model;

pub use model::{
    AgentSource, Backend, Compress, Config, DeleteMode, Durability, Guard, MaxDelete, Reconcile, Selection,
    Settings, Ssh, Sync, Target, Transport, Verify,
};
