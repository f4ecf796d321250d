//! The processes that a sync's `tunnel` keeps up: forwarded ports, as a rule.
//!
//! **Invariants:** a sync with a tunnel does nothing while none of its processes has lived for `readyDelay`;
//! what ended is started again after `retryDelay`; all are killed at the end. **Not here:** reading the table
//! (`config`). **Sources:** lsyncd's manual, "Tunnel".

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::calls::Call;
use super::log::Log;
use crate::config::TunnelSpec;

struct Process {
    child: Option<Child>,
    since: Instant,
    port: u16,
}

/// One tunnel of however many syncs.
struct Tunnel {
    spec: TunnelSpec,
    processes: Vec<Process>,
    /// Whether it was told that it is up.
    up: bool,
    turn: usize,
}

/// Every tunnel of a configuration, and which sync uses which.
#[derive(Default)]
pub struct Tunnels {
    all: Vec<Tunnel>,
    of_sync: Vec<Option<usize>>,
}

fn free_port() -> u16 {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map_or(0, |address| address.port())
}

fn replaced(text: &[u8], variables: [(&[u8], &[u8]); 2]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    'bytes: while let Some((&byte, behind)) = rest.split_first() {
        for (name, value) in variables {
            if let Some(after) = rest.strip_prefix(name) {
                out.extend_from_slice(value);
                rest = after;
                continue 'bytes;
            }
        }
        out.push(byte);
        rest = behind;
    }
    out
}

impl Process {
    fn start(&mut self, spec: &TunnelSpec, log: &Log) {
        let port = self.port.to_string();
        let variables =
            [(&b"^localport"[..], port.as_bytes()), (&b"^localhost"[..], spec.localhost.as_bytes())];
        let words: Vec<String> = spec
            .command
            .iter()
            .map(|word| {
                if spec.pool {
                    String::from_utf8_lossy(&replaced(word.as_bytes(), variables)).into_owned()
                } else {
                    word.clone()
                }
            })
            .collect();
        self.since = Instant::now();
        let Some((program, arguments)) = words.split_first() else { return };
        log.line("Info", &format!("Start tunnel command {}", words.join(" ")));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).process_group(0);
        match command.spawn() {
            Ok(child) => self.child = Some(child),
            Err(error) => log.line("Error", &format!("cannot execute {program}: {error}")),
        }
    }

    /// Starts what is not there, and says whether it is up.
    fn look(&mut self, spec: &TunnelSpec, now: Instant, log: &Log) -> bool {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            log.line("Info", &format!("a process of tunnel {} has ended", spec.name));
            (self.child, self.since) = (None, now);
        }
        if self.child.is_none() && now.duration_since(self.since) >= spec.retry_delay {
            self.start(spec, log);
        }
        self.child.is_some() && now.duration_since(self.since) >= spec.ready_delay
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Its group: what it started belongs to it.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}

impl Tunnels {
    /// Starts what the syncs use, each tunnel once.
    pub fn start<'a>(specs: impl Iterator<Item = Option<&'a TunnelSpec>>, log: &Log) -> Self {
        let mut tunnels = Self::default();
        for spec in specs {
            let at = spec.map(|spec| match tunnels.all.iter().position(|known| known.spec.id == spec.id) {
                Some(at) => at,
                None => {
                    let since = Instant::now();
                    let one =
                        |_| Process { child: None, since, port: if spec.pool { free_port() } else { 0 } };
                    let mut processes: Vec<Process> = (0..spec.parallel).map(one).collect();
                    processes.iter_mut().for_each(|process| process.start(spec, log));
                    tunnels.all.push(Tunnel { spec: spec.clone(), processes, up: false, turn: 0 });
                    tunnels.all.len() - 1
                }
            });
            tunnels.of_sync.push(at);
        }
        tunnels
    }

    /// Looks after every process.
    pub fn look(&mut self, now: Instant, log: &Log) {
        for tunnel in &mut self.all {
            let mut up = false;
            for process in &mut tunnel.processes {
                up |= process.look(&tunnel.spec, now, log);
            }
            if up != tunnel.up {
                tunnel.up = up;
                let state = if up { "up" } else { "down" };
                log.line("Normal", &format!("tunnel {} is {state}", tunnel.spec.name));
            }
        }
    }

    /// Whether the sync at `at` may work.
    pub fn is_up(&self, at: usize) -> bool {
        let tunnel = self.of_sync.get(at).copied().flatten().and_then(|at| self.all.get(at));
        tunnel.is_none_or(|tunnel| tunnel.up)
    }

    /// Returns when to look again; `None` without tunnels.
    pub fn due(&self) -> Option<Instant> {
        (!self.all.is_empty()).then(|| Instant::now() + std::time::Duration::from_millis(200))
    }

    /// Puts host and port of a process that is up, in turn, into a call.
    pub fn fill(&mut self, at: usize, call: &mut Call) {
        let tunnel = self.of_sync.get(at).copied().flatten().and_then(|at| self.all.get_mut(at));
        let Some(tunnel) = tunnel.filter(|tunnel| tunnel.spec.pool) else { return };
        let alive: Vec<u16> = tunnel
            .processes
            .iter()
            .filter(|process| process.child.is_some())
            .map(|process| process.port)
            .collect();
        tunnel.turn += 1;
        let Some(port) = alive.get(tunnel.turn % alive.len().max(1)) else { return };
        let (port, host) = (port.to_string(), tunnel.spec.localhost.clone());
        for word in &mut call.arguments {
            *word = replaced(
                word,
                [(&b"^localport"[..], port.as_bytes()), (&b"^localhost"[..], host.as_bytes())],
            );
        }
    }

    /// Returns a line for each tunnel of the status file.
    pub fn report(&self) -> String {
        let mut out = String::new();
        for tunnel in &self.all {
            let state = if tunnel.up { "UP" } else { "DOWN" };
            let running = tunnel.processes.iter().filter(|process| process.child.is_some()).count();
            out +=
                &format!("Tunnel: name={} status={state}\nRunning processes: {running}\n", tunnel.spec.name);
            for child in tunnel.processes.iter().filter_map(|process| process.child.as_ref()) {
                out += &format!("  pid={}\n", child.id());
            }
            out.push('\n');
        }
        out
    }
}
