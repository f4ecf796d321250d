//! Asking another host what it knows of generations, and telling it what this one knows.

use std::time::Duration;

use super::dialogue::Dialogue;
use super::error::SessionError;
use super::hello::hello;
use super::session::SessionOptions;
use crate::protocol::{Errand, RoleTold, RootPlace, ToReceiver, VERSION_ROLES};
use crate::transport::Transport;

/// Whoever is asked says one thing. A host that dies during the log-in is silent, and the link that asks it cannot send
/// until then, should its own host be promoted.
const LONGEST: Duration = Duration::from_secs(10);

/// Exchanges what two hosts know. Changes nothing on the other one but what it remembers of generations, and takes no
/// lock there. Returns what it tells; `None` if its tree has no role.
///
/// # Errors
/// [`SessionError`], as for a session.
pub fn ask(
    transport: &dyn Transport,
    options: &SessionOptions,
    told: &RoleTold,
) -> Result<Option<RoleTold>, SessionError> {
    Dialogue::hold(transport, options.sync.timeout.min(LONGEST), |talk| {
        let nowhere = RootPlace { boot_id: String::new(), lineage: Vec::new() };
        let mut hello = hello(options, nowhere);
        hello.terms.errand = Errand::Keeper;
        (hello.dry_run, hello.force_root) = (true, true);
        hello.role = Some(told.clone());
        let greeting = talk.greet(hello)?;
        // A goodbye that does not arrive costs nothing.
        let _ = talk.say(&ToReceiver::Bye);
        match greeting.role {
            Some(answer) if greeting.version >= VERSION_ROLES => Ok(answer.told),
            _ => {
                let text = format!("speil {:?} on the target knows no roles: upgrade it", greeting.program);
                Err(SessionError::Fatal(text))
            }
        }
    })
}
