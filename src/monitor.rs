//! The one way in which the pipeline speaks to people.
//!
//! **Purpose:** every stage states what happened as a [`Notice`] or adds to a counter; the caller
//! decides whether that becomes a log line, a progress bar, a status field or a test's assertion.
//! **Invariants:** nothing here prints; a notice carries typed values, never a formatted name.
//! **Not here:** rendering (`cli`), serving (`status`).

mod counters;
mod counts;
mod notice;
mod words;

pub use counters::{Counters, Totals};
pub use counts::Counts;
pub use notice::{Arrived, Itemized, Level, Monitor, Notice, PassSummary, Progress, Scope, Silent};
pub use words::{counted, sized, spanned, time_left};
