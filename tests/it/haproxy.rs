//! A lagging standby leaves a real HAProxy's pool and comes back.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::command::{Background, Environment, eventually};
use crate::support::sshd::find;
use crate::support::stand::{Stand, free_port};

/// How the pool is asked.
struct Pool {
    _haproxy: Background,
    socket: std::path::PathBuf,
    front: u16,
}

impl Pool {
    /// Starts HAProxy with a server for each way of asking whether the standby is in step.
    fn start(stand: &Stand, health: u16, primary: u16, agent: u16) -> Self {
        let program = find("haproxy").expect("the tests need HAProxy: install haproxy");
        let (socket, front) = (stand.path("haproxy.sock"), free_port());
        let check = "check inter 100ms fall 1 rise 1";
        let text = format!(
            "global\n stats socket {} level admin\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend front\n bind 127.0.0.1:{front}\n default_backend standby\n\
             backend standby\n option httpchk\n http-check send meth GET uri /readyz\n \
             http-response set-header X-Served-By %s\n \
             server standby 127.0.0.1:{health} {check}\n server spare 127.0.0.1:{health} backup\n\
             backend primary\n option httpchk\n http-check send meth GET uri /target/standby?max_lag=1s\n \
             server standby 127.0.0.1:{health} {check} port {primary}\n\
             backend agent\n server standby 127.0.0.1:{health} agent-check agent-port {agent} \
             agent-inter 100ms agent-send \"standby\\n\"\n",
            socket.display()
        );
        let config = stand.path("haproxy.cfg");
        fs::write(&config, text).expect("a configuration");
        let mut command = Environment::new().command(program);
        command.arg("-db").arg("-f").arg(&config);
        let haproxy = Background::spawn(command);
        eventually("HAProxy answers", || UnixStream::connect(&socket).is_ok());
        Self { _haproxy: haproxy, socket, front }
    }

    /// Returns what HAProxy says of the standby in one of its backends.
    fn status(&self, backend: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("the stats socket");
        stream.write_all(b"show stat\n").expect("ask");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("statistics");
        let prefix = format!("{backend},standby,");
        let line = text.lines().find(|line| line.starts_with(&prefix)).expect("the server");
        line.split(',').nth(17).expect("a status").to_owned()
    }

    /// Returns which server answers a visitor.
    fn serves(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.front)).expect("the frontend");
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("ask");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let line = text
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("x-served-by: ").map(str::to_owned));
        line.unwrap_or(text)
    }

    fn all(&self, wanted: fn(&str) -> bool) -> bool {
        ["standby", "primary", "agent"].iter().all(|backend| wanted(&self.status(backend)))
    }
}

/// Waits until each backend says what is wanted; returns after which time each did.
fn times(pool: &Pool, since: Instant, wanted: fn(&str) -> bool) -> Vec<(&'static str, Duration)> {
    let mut left = vec!["standby", "primary", "agent"];
    let mut done = Vec::new();
    eventually("every way of asking agrees", || {
        left.retain(|backend| {
            let there = wanted(&pool.status(backend));
            if there {
                done.push((*backend, since.elapsed()));
            }
            !there
        });
        left.is_empty()
    });
    done
}

#[test]
fn a_lagging_standby_leaves_the_pool_and_comes_back() {
    let stand = Stand::new();
    let (primary, agent, health) = (free_port(), free_port(), free_port());
    let settings = format!(
        "http = \"127.0.0.1:{primary}\", agentCheck = {{ listen = \"127.0.0.1:{agent}\", maxLag = \"1s\" }}"
    );
    let daemon = stand.run(&["standby"], "", &settings);
    let root = stand.target("standby").display().to_string();
    let listen = format!("127.0.0.1:{health}");
    let asked = ["health", "--root", &root, "--listen", &listen, "--max-lag=1s"];
    let _health = stand.environment.spawn(asked);
    eventually("the standby answers", || TcpStream::connect(&listen).is_ok());
    let pool = Pool::start(&stand, health, primary, agent);
    let up: fn(&str) -> bool = |status| status.starts_with("UP") || status == "no check";
    eventually("the standby is in every pool", || pool.all(up) && pool.serves() == "standby");

    let control = format!("--control={}", stand.control().display());
    assert_eq!(stand.environment.run(["pause", &control]).code(), 0);
    fs::write(stand.source().join("file"), b"x").unwrap();
    let written = Instant::now();
    let limit = Duration::from_secs(1);
    for (backend, after) in
        times(&pool, written, |status| status.starts_with("DOWN") || status.starts_with("DRAIN"))
    {
        println!(
            "{backend}: left {:.2} s after its lag passed the limit",
            after.saturating_sub(limit).as_secs_f64()
        );
    }
    eventually("visitors go elsewhere", || pool.serves() == "spare");
    assert!(pool.status("agent").starts_with("DRAIN"), "{}", pool.status("agent"));

    assert_eq!(stand.environment.run(["resume", &control]).code(), 0);
    let resumed = Instant::now();
    for (backend, after) in times(&pool, resumed, up) {
        println!("{backend}: back {:.2} s after the standby was in step", after.as_secs_f64());
    }
    eventually("visitors come back", || pool.serves() == "standby");

    // A primary that is gone is no lag: the standby stays.
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    eventually("the primary's own answer is gone", || pool.status("primary").starts_with("DOWN"));
    assert!(up(&pool.status("standby")) && up(&pool.status("agent")), "silence is no lag");
    assert_eq!(pool.serves(), "standby");
}

#[test]
fn the_example_for_haproxy_is_valid() {
    let program = find("haproxy").expect("the tests need HAProxy: install haproxy");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/haproxy.cfg.example");
    let mut command = Environment::new().command(program);
    command.arg("-c").arg("-f").arg(example);
    let outcome = Background::spawn(command).wait().succeeded();
    assert!(!outcome.stderr.contains("WARNING"), "{}", outcome.stderr);
}
