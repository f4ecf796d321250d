//! The HTTP listener and the agent-check port of a running daemon.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::command::eventually;
use crate::support::stand::{Stand, free_port};

/// Sends `request` as it is and returns everything that comes back.
fn exchange(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    stream.write_all(request.as_bytes()).expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(port: u16, path: &str) -> (u16, String) {
    let answer =
        exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

fn post(port: u16, token: &str, body: &str) -> u16 {
    let answer = exchange(
        port,
        &format!(
            "POST /act HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// Gathers the names of all fields, those of `rescans` excepted, whose values are reasons.
fn collect_fields(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                into.push(name.clone());
                if name != "rescans" {
                    collect_fields(value, into);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_fields(item, into)),
        _ => {}
    }
}

#[test]
fn a_daemon_serves_status_metrics_readiness_events_and_acts_with_the_token_alone() {
    let stand = Stand::new();
    let (port, check) = (free_port(), free_port());
    let token = "a token for this test";
    let settings = format!(
        "http = {{ listen = \"127.0.0.1:{port}\", token = \"{token}\" }}, \
         agentCheck = {{ listen = \"127.0.0.1:{check}\", target = \"standby\", maxLag = \"1s\", downLag = \"2s\" }}"
    );
    let daemon = stand.run(&["standby"], "", &settings);
    fs::write(stand.source().join("file"), b"x").unwrap();
    eventually("the file is counted", || {
        get(port, "/metrics").1.contains("files_total{sync=\"stand\",target=\"standby\"} 1")
    });
    let metrics = get(port, "/metrics").1;
    for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
        assert!(metrics.contains(&format!("\n{name} ")), "{name}: {metrics}");
    }
    eventually("it is counted how long that took", || {
        get(port, "/metrics")
            .1
            .contains("speil_target_arrival_seconds_bucket{sync=\"stand\",target=\"standby\",le=\"+Inf\"} ")
    });
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/target/standby", 200), ("/nothing", 404)] {
        assert_eq!(get(port, path).0, status, "{path}");
    }
    let status: serde_json::Value = serde_json::from_str(&get(port, "/status.json").1).unwrap();
    assert_eq!(status["syncs"][0]["targets"][0]["state"], "live");
    let page = include_str!("../../contrib/status.md");
    let mut fields = Vec::new();
    collect_fields(&status, &mut fields);
    let unnamed: Vec<_> = fields.iter().filter(|field| !page.contains(&format!("`{field}`"))).collect();
    assert!(fields.len() > 40 && unnamed.is_empty(), "contrib/status.md lacks {unnamed:?}");
    assert_eq!(exchange(check, ""), "up ready 100%\n");

    let mut events = TcpStream::connect(("127.0.0.1", port)).unwrap();
    events.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    eventually("two events came", || {
        let mut piece = [0; 4096];
        let len = events.read(&mut piece).unwrap();
        heard.extend_from_slice(&piece[..len]);
        String::from_utf8_lossy(&heard).matches("event: status").count() >= 2
    });

    let pause = r#"{"command":"pause","sync":null}"#;
    assert_eq!(post(port, "another token, not it", pause), 401);
    assert_eq!(post(port, token, pause), 200);
    fs::write(stand.source().join("file"), b"held back").unwrap();
    eventually("lag shows", || get(port, "/target/standby?max_lag=100ms").0 == 503);
    eventually("the check drains, then is down", || exchange(check, "") == "up drain\n");
    eventually("the check is down", || exchange(check, "") == "down\n");
    assert_eq!(post(port, token, r#"{"command":"resume","sync":null}"#), 200);
    eventually("the check is up again", || exchange(check, "") == "up ready 100%\n");
    daemon.terminate();
}

#[test]
fn an_address_that_cannot_be_had_is_one_line_and_the_mirror_goes_on() {
    let stand = Stand::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings =
        format!("http = \"127.0.0.1:{port}\", agentCheck = {{ listen = \"nowhere.invalid:99999\" }}");
    let daemon = stand.run(&["standby"], "", &settings);
    let lines =
        || daemon.stderr().into_iter().filter(|line| line.contains("goes on without it")).collect::<Vec<_>>();
    eventually("both are told", || lines().len() == 2);
    assert!(
        lines().iter().any(|line| line.contains("EADDRINUSE") && line.contains(&port.to_string())),
        "{:?}",
        lines()
    );
    fs::write(stand.source().join("file"), b"x").unwrap();
    eventually("the mirror goes on", || stand.target("standby").join("file").exists());
    drop(taken);
    // Not only after a while, but at once when the configuration is read again.
    daemon.signal(Signal::HUP);
    eventually("the port is taken once it is free", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(get(port, "/healthz").0, 200);
    assert_eq!(lines().len(), 2, "told once: {:?}", lines());
    daemon.terminate();
}

#[test]
fn clients_that_send_nothing_or_nonsense_do_not_keep_others_from_an_answer() {
    let stand = Stand::new();
    let port = free_port();
    let daemon = stand.run(&["standby"], "", &format!("http = \"127.0.0.1:{port}\""));
    eventually("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    // More than there are places; the last of them have sent half of a request.
    let mut silent: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for half in &mut silent[200..] {
        let _ = half.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n");
    }
    assert_eq!((get(port, "/healthz").0, get(port, "/target/standby").0), (200, 200));
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).unwrap_or(0), 0, "the oldest was closed");
    for nonsense in ["\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\u{1}"] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(50_000));
    assert!(exchange(port, &long).starts_with("HTTP/1.1 4"));
    assert_eq!(get(port, "/healthz").0, 200);
    // Begun, and never ended: the head of one, the body of the other.
    let begun = [
        "GET /healthz HTTP/1.1\r\nHost: x\r\n",
        "POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ];
    let half: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            // One that had to go already is no matter.
            let _ = stream.write_all(begun[number % 2].as_bytes());
            stream
        })
        .collect();
    for path in ["/healthz", "/target/standby"] {
        assert_eq!(get(port, path).0, 200, "{path}");
    }
    drop((silent, half));
    daemon.terminate();
}

#[test]
fn a_sync_that_is_left_out_and_a_refused_configuration_stay_in_view_until_they_are_mended() {
    let stand = Stand::new();
    let (port, log) = (free_port(), stand.path("log"));
    let typo = "}\nsync { default.mirror, name = \"typo\", source = \"/\", targts = {} ";
    let settings = format!("http = \"127.0.0.1:{port}\", logfile = {log:?} ");
    let daemon = stand.start(&["standby"], typo, &settings);
    eventually("the other is live", || get_or(port, "/target/standby").0 == 200);
    let status = || {
        let control = format!("--control={}", stand.control().display());
        let text = stand.environment.run(["status", &control]).succeeded().stdout;
        let json = stand.environment.run(["status", "--json", &control]).succeeded().stdout;
        (text, serde_json::from_str::<serde_json::Value>(&json).unwrap())
    };
    let (text, json) = status();
    assert!(text.contains("typo") && text.contains("targts"), "{text}");
    assert_eq!((&json["syncs"][1]["name"], &json["syncs"][1]["running"]), (&"typo".into(), &false.into()));
    let (code, body) = get(port, "/readyz");
    assert!(code == 503 && body.contains("typo: not started") && body.contains("targts"), "{body}");
    let control = format!("--control={}", stand.control().display());
    let waited = stand.environment.run(["wait", &control]);
    assert!(waited.code() == 12 && waited.stderr.contains("targts"), "{waited:?}");
    stand.environment.run(["wait", "stand", &control]).succeeded();

    // A log that was rotated is written under its name again.
    let config = stand.path("speil.lua");
    let good = fs::read_to_string(&config).unwrap().replace(typo, "");
    fs::write(&config, format!("{good} oops(")).unwrap();
    fs::rename(&log, stand.path("log.1")).unwrap();
    daemon.signal(Signal::HUP);
    let refused = || fs::read_to_string(&log).is_ok_and(|log| log.contains("new configuration refused"));
    eventually("it is refused, in a new log", refused);
    let (text, json) = status();
    assert!(text.contains("new configuration refused"), "{text}");
    assert!(json["refused_reload"].as_str().is_some_and(|why| why.contains("speil.lua")), "{json}");
    assert!(get(port, "/readyz").1.contains("new configuration refused"));

    fs::write(&config, good).unwrap();
    daemon.signal(Signal::HUP);
    eventually("all is mended", || get(port, "/readyz") == (200, "ready\n".to_owned()));
    let (text, json) = status();
    assert!(!text.contains("typo") && !text.contains("refused"), "{text}");
    assert_eq!(json["syncs"].as_array().map(Vec::len), Some(1));
    daemon.terminate();
}

/// As [`get`], of a listener that may not be there yet.
fn get_or(port: u16, path: &str) -> (u16, String) {
    match TcpStream::connect(("127.0.0.1", port)) {
        Ok(_) => get(port, path),
        Err(_) => (0, String::new()),
    }
}
