//! What the libraries trace, into the same log.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::{Log, Record};
use crate::monitor::Level;

/// Has a log hear what is traced from now on.
///
/// # Errors
/// One line, if something hears it already.
pub(in crate::cli) fn listen(log: &Arc<Log>) -> Result<(), String> {
    let layer = Traced(Arc::clone(log));
    tracing_subscriber::registry().with(layer).try_init().map_err(|error| error.to_string())
}

struct Traced(Arc<Log>);

impl<S: tracing::Subscriber> Layer<S> for Traced {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let level = match *meta.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        // Other crates have much to say that concerns nobody here.
        let ours = meta.target().starts_with("speil") || meta.target() == "agent";
        if !ours && level > Level::Warn {
            return;
        }
        let mut told = Said { text: String::new(), fields: Vec::new() };
        event.record(&mut told);
        for (name, value) in &told.fields {
            let _ = write!(told.text, " {name}={value}");
        }
        self.0.take(Record {
            level: Some(level),
            event: "trace",
            text: told.text.trim_start().to_owned(),
            fields: told.fields,
            ..Record::default()
        });
    }
}

struct Said {
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.text, "{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }
}
