//! Status, metrics and the page over HTTP, and HAProxy's agent checks.
//!
//! **Purpose:** tells people's browsers and other machines how the mirror does. **In → Out:** a [`Site`]
//! that knows; requests and answers on listening sockets.
//! **Invariants:** read-only unless a token is configured and presented; no remote byte reaches the page
//! unescaped; a client that is slow or silent holds a bounded number of connections for a bounded time.
//! **Not here:** gathering the values (`daemon`, `receiver`).
//! **Sources:** RFC 9110, RFC 9112; the Prometheus text format 0.0.4; WHATWG HTML "Server-sent events";
//! HAProxy's configuration manual on `agent-check` and `option httpchk`.

mod agent_check;
mod judge;
mod metrics;
mod pages;
mod places;
mod process;
mod server;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::Pin;

use crate::status::{Answer, Happening, Report, Request, Series};

pub use agent_check::{AgentCheckOptions, serve_agent_checks};
pub use judge::{Judgement, Limits, judge};
pub use metrics::metrics;
pub use pages::ServeOptions;
pub use server::serve;

/// What a listener tells of.
pub trait Site: Send + Sync {
    /// Returns how things are.
    fn report(&self) -> Report;

    /// Returns how each target did lately.
    fn series(&self) -> Vec<Series> {
        Vec::new()
    }

    /// Returns what happened lately, oldest first.
    fn activity(&self) -> Vec<Happening> {
        Vec::new()
    }

    /// Returns the metrics, where they are other ones than the report's.
    fn metrics(&self) -> Option<String> {
        None
    }

    /// Says whether everything up to a position is here: `None` where nobody can be asked that, else whether it is, with
    /// a line; a line that says that waiting does not help is an error.
    fn has_reached(&self, _position: &str) -> Option<Result<(bool, String), String>> {
        None
    }

    /// Does what a client asks for that has presented the token, or that changes nothing.
    fn act(&self, _request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let error = "nothing can be done here".to_owned();
        Box::pin(std::future::ready(Answer::Failed { error, code: 1 }))
    }
}

/// Returns a socket that listens at `HOST:PORT`.
///
/// # Errors
/// What resolving, binding and listening say; nothing else is affected.
pub fn listen(address: &str) -> io::Result<TcpListener> {
    let addresses: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| {
            // A name that does not resolve comes without an errno, and a bad port with words of its own.
            io::Error::new(error.kind(), format!("not an address: {}", crate::error::io_text(&error)))
        })?
        .collect();
    let listener = TcpListener::bind(addresses.as_slice())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
