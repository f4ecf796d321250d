use std::path::Path;

use super::*;

fn local() -> Local {
    let variable = |name: &str| (name == "SSH_AUTH_SOCK").then(|| "/run/agent".to_owned());
    Local { user: "me".to_owned(), home: PathBuf::from("/home/me"), uid: 1000, variable }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|l| l.trim().split_once(' ')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn read(text: &str) -> Settings {
    settings("web", &pairs(text), &local()).unwrap()
}

fn refusal(text: &str) -> String {
    settings("web", &pairs(text), &local()).unwrap_err().to_string()
}

fn plain(host: &str, options: &Options) -> Settings {
    let lines = without_ssh(host, given(options).unwrap(), &local());
    settings(host, &lines, &local()).unwrap()
}

#[test]
fn without_an_ssh_the_plain_defaults_hold() {
    let found = plain("web", &Options::default());
    assert_eq!(
        (found.address.host.as_str(), found.address.port, found.address.user.as_str()),
        ("web", 22, "me")
    );
    assert_eq!(found.known.strict, Strict::Yes);
    assert_eq!(found.known.user_files[0], Path::new("/home/me/.ssh/known_hosts"));
    assert_eq!(found.known.global_files[0], Path::new("/etc/ssh/ssh_known_hosts"));
    let files = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| Path::new("/home/me/.ssh").join(name));
    assert_eq!(found.keys.files, files);
    assert_eq!(found.keys.agent.as_deref(), Some(Path::new("/run/agent")));
    assert_eq!((found.alive_interval, found.alive_limit.as_secs()), (15, 45));
}

#[test]
fn the_users_options_win_over_defaults() {
    let options = Options {
        port: Some(2222),
        identity_file: Some("/keys/mirror".into()),
        options: vec![
            ("StrictHostKeyChecking".into(), "accept-new".into()),
            ("UserKnownHostsFile".into(), "/keys/known".into()),
            ("ConnectTimeout".into(), "5".into()),
            ("User".into(), "ignored".into()),
        ],
        ..Options::default()
    };
    let found = plain("deploy@web", &options);
    assert_eq!((found.address.port, found.address.user.as_str()), (2222, "deploy"));
    assert_eq!(found.address.timeout, Duration::from_secs(5));
    assert_eq!(found.keys.files, [PathBuf::from("/keys/mirror")]);
    assert_eq!(found.known.user_files, [PathBuf::from("/keys/known")]);
    assert_eq!(found.known.strict, Strict::AcceptNew);
}

#[test]
fn what_ssh_prints_is_taken() {
    let found = read(
        "hostname 10.0.0.2\nuser deploy\nport 2200\naddressfamily inet6\nconnecttimeout 1m\nidentitiesonly yes
        identityfile ~/.ssh/%r_%h\nidentityfile none\nuserknownhostsfile /a /b\nglobalknownhostsfile none
        stricthostkeychecking ask\nserveraliveinterval 5\nserveralivecountmax 4\nidentityagent none
        hostkeyalias cluster\nciphers aes256-ctr\nproxyusefdpass no\npubkeyauthentication true\ncompression yes",
    );
    assert_eq!(found.address.host, "10.0.0.2");
    assert_eq!((found.address.only_v6, found.address.timeout.as_secs()), (Some(true), 60));
    assert_eq!(found.keys.files, [PathBuf::from("/home/me/.ssh/deploy_10.0.0.2")]);
    assert!(found.keys.only_files && found.keys.agent.is_none() && found.methods.compress);
    assert_eq!(found.known.user_files, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!((found.known.global_files.len(), found.known.strict), (0, Strict::Yes));
    assert_eq!(found.known.alias.as_deref(), Some("cluster"));
    assert_eq!((found.alive_interval, found.alive_limit.as_secs()), (5, 25));
    assert_eq!(found.methods.ciphers.as_deref(), Some("aes256-ctr"));
}

#[test]
fn unset_keepalive_becomes_the_same_as_for_ssh() {
    let found = read("serveraliveinterval 0\nserveralivecountmax 3");
    assert_eq!((found.alive_interval, found.alive_limit.as_secs()), (15, 45));
}

#[test]
fn a_way_through_another_host_is_refused_by_name() {
    for line in
        ["proxyjump bastion", "proxycommand nc %h %p", "revokedhostkeys /etc/revoked", "bindaddress ::1"]
    {
        let text = refusal(line);
        let key = line.split(' ').next().unwrap();
        assert!(text.contains(key) && text.contains("transport = \"ssh\""), "{text}");
    }
    assert!(refusal("pubkeyauthentication false").contains("pubkeyauthentication"));
    let _ = read("proxyjump none\nproxycommand none\npubkeyauthentication yes");
}

#[test]
fn what_only_the_command_has_is_refused_by_name() {
    let command = Options { command: Some(vec!["ssh".into()]), ..Options::default() };
    assert!(given(&command).unwrap_err().to_string().starts_with("ssh.command is not"));
    let extra = Options { extra: vec!["-4".into()], ..Options::default() };
    assert!(given(&extra).unwrap_err().to_string().starts_with("ssh.extra"));
    for (key, value) in [("ProxyJump", "b"), ("KnownHostsCommand", "/x"), ("RevokedHostKeys", "/x")] {
        let options = Options { options: vec![(key.into(), value.into())], ..Options::default() };
        assert!(given(&options).unwrap_err().to_string().contains(key));
    }
    let none = Options { options: vec![("ProxyJump".into(), "none".into())], ..Options::default() };
    assert_eq!(given(&none).unwrap(), [("proxyjump".to_owned(), "none".to_owned())]);
}

#[test]
fn file_names_are_expanded_or_refused() {
    let file = |text: &str| read(&format!("identityfile {text}")).keys.files[0].clone();
    assert_eq!(file("%d/k%%%u-%i-%p-%n"), Path::new("/home/me/k%me-1000-22-web"));
    assert_eq!(file("${SSH_AUTH_SOCK}.key"), Path::new("/run/agent.key"));
    assert_eq!(file("~/a$b"), Path::new("/home/me/a$b"));
    for wrong in ["~root/k", "%C", "%", "${NOT_SET}", "${X"] {
        assert!(refusal(&format!("identityfile {wrong}")).contains("cannot be read"), "{wrong}");
    }
}
