//! Read your own upload: a standby that says that a position is there has everything that was written before it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use crate::support::command::{Background, Environment, eventually};
use crate::support::stand::{Stand, free_port};

/// Rounds: `SPEIL_ROUNDS`, else few.
fn rounds() -> usize {
    std::env::var("SPEIL_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// Asks over HTTP; returns the status and the body.
fn ask(port: u16, method: &str, path: &str, more: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n{more}\r\n")
        .expect("ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

/// A daemon and the `speil health` of its standby `t`, both with HTTP.
struct Pair {
    stand: Stand,
    primary: u16,
    standby: u16,
    _health: Background,
}

impl Pair {
    fn new() -> (Self, Background) {
        let stand = Stand::new();
        let (primary, standby) = (free_port(), free_port());
        let daemon = stand.run(&["t"], "", &format!("http = \"127.0.0.1:{primary}\""));
        let root = stand.target("t").display().to_string();
        let listen = format!("127.0.0.1:{standby}");
        let health = stand.environment.spawn(["health", "--root", &root, "--listen", &listen]);
        eventually("the standby answers", || TcpStream::connect(&listen).is_ok());
        (Self { stand, primary, standby, _health: health }, daemon)
    }

    /// Returns a token from the primary.
    fn position(&self) -> String {
        let (status, body) = ask(self.primary, "POST", "/position", "");
        assert_eq!(status, 200, "{body}");
        body.trim().to_owned()
    }

    fn reached(&self, token: &str, timeout: &str) -> (u16, String) {
        ask(self.standby, "GET", &format!("/position?at={token}&timeout={timeout}"), "")
    }

    fn control(&self, words: &[&str]) -> String {
        let control = format!("--control={}", self.stand.control().display());
        self.stand.environment.run([words, &[&control]].concat()).succeeded().stdout
    }
}

#[test]
fn a_standby_that_says_yes_has_it_whatever_else_is_written() {
    let (pair, _daemon) = Pair::new();
    let (source, target) = (pair.stand.source(), pair.stand.target("t"));
    // Others write as much as a daemon can send meanwhile, so many times in each round.
    let (rounds_left, begins) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let source = &source;
        scope.spawn(move || {
            for number in begins.iter().flat_map(|()| 0..300) {
                let name = format!("other-{}", number % 20);
                fs::write(source.join(&name), number.to_string().repeat(1000)).unwrap();
                let _ = fs::rename(source.join(name), source.join(format!("moved-{}", number % 7)));
            }
        });
        for number in 0..rounds() {
            rounds_left.send(()).unwrap();
            let name = format!("upload-{number}");
            // New, written over in place, and renamed over another one; now and then one that takes its time.
            let content =
                format!("{number:010}").repeat(1 + number % 3 * if number % 5 == 1 { 1 << 20 } else { 5000 });
            match number % 3 {
                0 => fs::write(source.join(&name), &content).unwrap(),
                1 => fs::write(source.join("again"), &content).unwrap(),
                _ => {
                    fs::write(source.join("new"), &content).unwrap();
                    fs::rename(source.join("new"), source.join("over")).unwrap();
                }
            }
            let token = pair.position();
            let (status, body) = pair.reached(&token, "10s");
            assert_eq!((status, body.as_str()), (200, "there\n"), "round {number}");
            let there = ["again", "over"].get((number % 3).wrapping_sub(1)).copied().unwrap_or(&name);
            let there = fs::read_to_string(target.join(there)).expect("the upload");
            assert!(there == content, "round {number}: {} bytes of {}", there.len(), content.len());
        }
        drop(rounds_left);
    });
}

#[test]
fn what_is_held_back_is_not_there_and_what_is_no_position_never_is() {
    let (pair, _daemon) = Pair::new();
    let old = pair.position();
    assert_eq!(pair.reached(&old, "10s").0, 200);
    pair.control(&["pause"]);
    fs::write(pair.stand.source().join("upload"), "1").unwrap();
    let token = pair.control(&["position"]).trim().to_owned();
    let (status, body) = pair.reached(&token, "0s");
    assert_eq!(status, 503);
    assert!(body.starts_with("not there yet, lag "), "{body}");
    assert_eq!(pair.reached(&old, "0s").0, 200, "what was there stays there");
    let root = pair.stand.target("t").display().to_string();
    let health = |token: &str| pair.stand.environment.run(["health", "--root", &root, "--at", token]);
    assert_eq!(health(&token).code(), 30);
    pair.control(&["resume"]);
    assert_eq!(pair.reached(&token, "10s").0, 200);
    assert_eq!(health(&token).code(), 0);

    let (status, body) = pair.reached("nonsense", "10s");
    assert_eq!(status, 503);
    assert!(body.contains("no position"), "{body}");
    let foreign = token.replacen("0.", "7.", 1);
    let (status, body) = pair.reached(&foreign, "10s");
    assert_eq!(
        (status, body.as_str()),
        (503, "the position is of generation 7, and this is a tree without a role\n")
    );
    assert_eq!(ask(pair.standby, "GET", "/position", "").0, 400);
    assert_eq!(ask(pair.standby, "POST", "/position", "").0, 404);
    assert_eq!(ask(pair.primary, "GET", &format!("/position?at={token}"), "").0, 404);
    assert_eq!(ask(pair.primary, "POST", "/position?sync=other", "").0, 404);
    assert_eq!(ask(pair.primary, "DELETE", "/position", "").0, 405);
}

#[test]
fn a_daemon_that_is_started_anew_vouches_for_what_was_written_before() {
    let (pair, daemon) = Pair::new();
    pair.control(&["pause"]);
    fs::write(pair.stand.source().join("upload"), "1").unwrap();
    let token = pair.position();
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    assert_eq!(pair.reached(&token, "0s").0, 503);
    let _daemon = pair.stand.run(&["t"], "", &format!("http = \"127.0.0.1:{}\"", pair.primary));
    assert_eq!(pair.reached(&token, "10s").0, 200);
    assert_eq!(fs::read_to_string(pair.stand.target("t").join("upload")).unwrap(), "1");
}

#[test]
fn a_path_that_fails_is_not_there() {
    let (pair, _daemon) = Pair::new();
    // What stands there cannot be replaced: a name that is too long for what is put before it would be refused earlier.
    let blocked = pair.stand.source().join("blocked");
    fs::write(&blocked, "1").unwrap();
    assert_eq!(pair.reached(&pair.position(), "10s").0, 200);
    let _lock = Immutable::new(&pair.stand.target("t"));
    if _lock.is_none() {
        return;
    }
    fs::write(&blocked, "2").unwrap();
    let token = pair.position();
    eventually("a problem", || pair.control(&["status"]).contains("blocked"));
    assert_eq!(pair.reached(&token, "0s").0, 503);
    drop(_lock);
    pair.control(&["retry"]);
    assert_eq!(pair.reached(&token, "10s").0, 200);
}

/// A directory in which no name can be changed; `None` where the filesystem cannot do that.
struct Immutable(PathBuf);

impl Immutable {
    fn new(dir: &Path) -> Option<Self> {
        let done = Environment::new().command("chattr").arg("+i").arg(dir).status();
        done.is_ok_and(|status| status.success()).then(|| Self(dir.to_owned()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Environment::new().command("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn those_who_ask_at_once_share_a_mark_that_is_behind_all_of_them() {
    let (pair, _daemon) = Pair::new();
    let source = pair.stand.source();
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let asking = |number: usize| {
            let (pair, source) = (&pair, &source);
            scope.spawn(move || {
                fs::write(source.join(format!("upload-{number}")), "1").unwrap();
                let mut control = BufReader::new(UnixStream::connect(pair.stand.control()).unwrap());
                control.get_mut().write_all(b"{\"command\":\"position\"}\n").unwrap();
                let mut line = String::new();
                control.read_line(&mut line).unwrap();
                let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
                let token = answer["position"]["position"].as_str().or(answer["position"].as_str());
                let token = token.unwrap_or_else(|| panic!("{line}")).to_owned();
                assert_eq!(pair.reached(&token, "10s").0, 200);
                assert!(pair.stand.target("t").join(format!("upload-{number}")).exists(), "{number}");
                token
            })
        };
        let threads: Vec<_> = (0..40).map(asking).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(tokens.len(), 40);
}

/// Returns nginx: from PATH, or where `make packages` puts it.
fn nginx() -> PathBuf {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/sbin/nginx");
    if kept.is_file() { kept } else { PathBuf::from("nginx") }
}

#[test]
fn nginx_serves_an_upload_from_the_standby_when_it_is_there_and_from_the_primary_until_then() {
    let (pair, _daemon) = Pair::new();
    let (front, primary) = (free_port(), free_port());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/nginx-read-your-own.conf");
    let mut text = fs::read_to_string(example).unwrap();
    for (from, to) in [
        ("listen 80;", format!("listen 127.0.0.1:{front};")),
        ("root /srv/uploads;", format!("root {};", pair.stand.target("t").display())),
        ("http://127.0.0.1:8088", format!("http://127.0.0.1:{}", pair.standby)),
        ("http://10.8.0.1;", format!("http://127.0.0.1:{primary};")),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, &to);
    }
    let dir = pair.stand.path("nginx");
    fs::create_dir(&dir).unwrap();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", dir.display()))
        .concat();
    let config = format!(
        "user root;\ndaemon off;\npid {dir}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{places}\n\
         add_header X-Served-By standby;\n{text}\n\
         server {{ listen 127.0.0.1:{primary}; root {source}; add_header X-Served-By primary; }}\n}}\n",
        dir = dir.display(),
        source = pair.stand.source().display()
    );
    fs::write(dir.join("conf"), config).unwrap();
    let mut command = Environment::new().command(nginx());
    command.arg("-e").arg("stderr").arg("-p").arg(&dir).arg("-c").arg(dir.join("conf"));
    let nginx = Background::spawn(command);
    eventually("nginx answers", || {
        assert!(nginx.is_running(), "{:?}", nginx.stderr());
        TcpStream::connect(("127.0.0.1", front)).is_ok()
    });

    fs::write(pair.stand.source().join("upload"), "new").unwrap();
    let cookie = |token: &str| format!("Cookie: speil_position={token}\r\n");
    let token = pair.position();
    let fetched = ask(front, "GET", "/upload", &cookie(&token));
    assert_eq!((fetched.0, fetched.1.as_str()), (200, "new"));
    // No read of an own upload is a 404, and none is the version before it.
    for number in 0..rounds() {
        let name = format!("own-{}", number % 10);
        fs::write(pair.stand.source().join(&name), number.to_string()).unwrap();
        let token = pair.position();
        let fetched = ask(front, "GET", &format!("/{name}"), &cookie(&token));
        assert_eq!(fetched, (200, number.to_string()), "round {number}");
    }
    pair.control(&["pause"]);
    fs::write(pair.stand.source().join("late"), "late").unwrap();
    let token = pair.position();
    assert_eq!(ask(front, "GET", "/late", &cookie(&token)), (200, "late".to_owned()), "from the primary");
    assert_eq!(ask(front, "GET", "/late", "").0, 404, "who has uploaded nothing is served here");
    assert_eq!(ask(front, "GET", "/upload", &cookie("x&timeout=10s")), (200, "new".to_owned()));
    assert_eq!(ask(front, "GET", "/.speil/memory", "").0, 404);
    nginx.signal(rustix::process::Signal::TERM);
    nginx.wait();
}
