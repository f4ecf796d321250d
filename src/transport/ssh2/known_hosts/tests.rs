use super::*;

/// Stands in for the hash: `|1|SALT|NAME` is the hash of NAME.
struct Fake;

impl NameHash for Fake {
    fn is_of(&self, hashed: &str, name: &str) -> bool {
        hashed.rsplit('|').next() == Some(name)
    }
}

fn judge(text: &str, host: &str, port: u16) -> Verdict {
    let key = Key { kind: "ssh-ed25519".into(), base64: "GOOD".into() };
    files(text).judge(&Names::new(host, port, None), &key, &Fake)
}

fn files(text: &str) -> Files {
    Files { files: vec![("known".into(), text.to_owned())] }
}

fn place(line: usize) -> FileLine {
    FileLine { file: "known".into(), line }
}

#[test]
fn only_the_very_key_for_the_very_host_is_known() {
    assert_eq!(judge("web ssh-ed25519 GOOD", "web", 22), Verdict::Known);
    assert_eq!(judge("web ssh-ed25519 GOOD", "WEB", 22), Verdict::Known);
    assert_eq!(judge("db ssh-ed25519 GOOD", "web", 22), Verdict::Unknown);
    assert_eq!(judge("# web ssh-ed25519 GOOD", "web", 22), Verdict::Unknown);
    assert_eq!(judge("web ssh-ed25519", "web", 22), Verdict::Unknown);
    assert_eq!(judge("", "web", 22), Verdict::Unknown);
}

#[test]
fn another_key_is_a_mismatch_with_its_line() {
    assert_eq!(judge("# c\n\nweb ssh-ed25519 BAD\n", "web", 22), Verdict::Mismatch(place(3)));
    assert_eq!(judge("web ssh-rsa BAD\nweb ssh-rsa BAD2", "web", 22), Verdict::Mismatch(place(1)));
    // A host may have more than one key.
    assert_eq!(judge("web ssh-rsa OTHER\nweb ssh-ed25519 GOOD", "web", 22), Verdict::Known);
}

#[test]
fn a_port_is_part_of_the_name() {
    assert_eq!(judge("[web]:2222 ssh-ed25519 GOOD", "web", 2222), Verdict::Known);
    assert_eq!(judge("[web]:2222 ssh-ed25519 GOOD", "web", 22), Verdict::Unknown);
    assert_eq!(judge("[web]:2222 ssh-ed25519 GOOD", "web", 2223), Verdict::Unknown);
    assert_eq!(judge("[web]:2222 ssh-ed25519 BAD", "web", 2222), Verdict::Mismatch(place(1)));
    // As in ssh: the bare host's key will do, another key of the bare host's says nothing.
    assert_eq!(judge("web ssh-ed25519 GOOD", "web", 2222), Verdict::Known);
    assert_eq!(judge("web ssh-ed25519 BAD", "web", 2222), Verdict::Unknown);
}

#[test]
fn hashed_names_are_names() {
    assert_eq!(judge("|1|c2FsdA==|web ssh-ed25519 GOOD", "web", 22), Verdict::Known);
    assert_eq!(judge("|1|c2FsdA==|[web]:2222 ssh-ed25519 BAD", "web", 2222), Verdict::Mismatch(place(1)));
    assert_eq!(judge("|1|c2FsdA==|db ssh-ed25519 GOOD", "web", 22), Verdict::Unknown);
}

#[test]
fn patterns_and_what_they_except() {
    assert_eq!(judge("*.example,db? ssh-ed25519 GOOD", "a.example", 22), Verdict::Known);
    assert_eq!(judge("*.example,db? ssh-ed25519 GOOD", "db7", 22), Verdict::Known);
    assert_eq!(judge("*.example,db? ssh-ed25519 GOOD", "db", 22), Verdict::Unknown);
    assert_eq!(judge("!bad.example,*.example ssh-ed25519 GOOD", "bad.example", 22), Verdict::Unknown);
    assert_eq!(judge("*,!bad.example ssh-ed25519 GOOD", "bad.example", 22), Verdict::Unknown);
    for (pattern, name, fit) in [
        ("a*b*c", "aXbYbZc", true),
        ("a*b*c", "aXbYbZ", false),
        ("*", "", true),
        ("?", "", false),
        ("", "a", false),
    ] {
        assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
    }
}

#[test]
fn revocation_beats_everything() {
    let text = "web ssh-ed25519 GOOD\n@revoked * ssh-ed25519 GOOD";
    assert_eq!(judge(text, "web", 22), Verdict::Revoked(place(2)));
    assert_eq!(judge("@revoked web ssh-ed25519 OTHER\nweb ssh-ed25519 GOOD", "web", 22), Verdict::Known);
}

#[test]
fn certificate_authorities_vouch_for_nothing() {
    assert_eq!(judge("@cert-authority * ssh-ed25519 GOOD", "web", 22), Verdict::Unknown);
}

#[test]
fn noted_kinds_are_asked_for() {
    let files =
        files("[web]:1 ssh-rsa A\n[web]:1 ecdsa-sha2-nistp256 B\nweb ssh-ed25519 C\n@revoked web x D");
    assert_eq!(files.kinds(&Names::new("web", 1, None), &Fake), ["ssh-rsa", "ecdsa-sha2-nistp256"]);
    assert_eq!(files.kinds(&Names::new("web", 2, None), &Fake), ["ssh-ed25519"]);
    assert!(files.kinds(&Names::new("db", 22, None), &Fake).is_empty());
}

#[test]
fn an_alias_stands_for_the_host_whatever_the_port() {
    assert_eq!(Names::new("10.0.0.2", 2222, Some("Cluster")).full, "cluster");
}

#[test]
fn an_added_key_is_known_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ssh/known_hosts");
    let names = Names::new("web", 2222, None);
    let key = Key { kind: "ssh-ed25519".into(), base64: "GOOD".into() };
    add(&file, &names, &key).unwrap();
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "# no end of line").unwrap();
    let other = Names::new("db", 22, None);
    add(&file, &other, &key).unwrap();
    let files = Files::read([file.clone()].iter()).unwrap();
    assert_eq!(files.judge(&names, &key, &Fake), Verdict::Known);
    assert_eq!(files.judge(&other, &key, &Fake), Verdict::Known);
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!((mode(&file) & 0o777, mode(file.parent().unwrap()) & 0o777), (0o600, 0o700));
}

#[test]
fn an_unreadable_file_is_an_error_and_a_missing_one_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    assert_eq!(Files::read([missing].iter()).unwrap().files.len(), 0);
    assert!(Files::read([dir.path().to_path_buf()].iter()).is_err());
}

#[test]
fn keys_and_fingerprints_are_written_as_ssh_does() {
    for (bytes, text) in
        [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd\xfc", "//79/A==")]
    {
        assert_eq!(base64(bytes), text);
    }
    assert_eq!(fingerprint(b"fo"), "SHA256:Zm8");
    let key = Key::of_blob(b"\0\0\0\x0bssh-ed25519rest").unwrap();
    assert_eq!((key.kind.as_str(), key.base64.get(..20)), ("ssh-ed25519", Some("AAAAC3NzaC1lZDI1NTE5")));
    assert_eq!(Key::of_blob(b"\0\0\0\xffshort"), None);
}
