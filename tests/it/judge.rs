//! rsync as the judge: after real trees were mirrored, `rsync -aHAXn --delete --checksum` finds nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::churn::Churn;
use crate::support::command::{Background, agent_command};
use crate::support::rng::Rng;
use crate::support::stand::{Stand, judged};
use crate::support::tree::Upload;

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success(), "{}", from.display());
}

/// Waits until everything is on the target, as a script would.
fn wait(stand: &Stand, mirror: &Background) {
    let control = format!("--control={}", stand.control().display());
    let waited = stand.environment.run(["wait", "--timeout=300s", &control]);
    assert_eq!(waited.code(), 0, "{} {:?}", waited.stderr, mirror.stderr());
}

/// A folder of mail, as a Maildir server keeps it.
fn mail(root: &Path) {
    let mut rng = Rng::new(5);
    for folder in ["", ".Sent", ".Archive.2025", ".Entw&APw-rfe"] {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(root.join(folder).join(part)).unwrap();
        }
        for at in 0..150 {
            let len = 500 + rng.below(30_000);
            let name = format!("cur/17{at:08}.M{}P4711.mail,S={len},W={}:2,RS", rng.below(999_999), len + 40);
            let path = root.join(folder).join(name);
            fs::write(&path, rng.bytes(len)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(root.join(folder).join("dovecot-uidlist"), "3 V1700000000 N151\n").unwrap();
    }
}

/// A web root, with five backups whose unchanged files are links to those of the day before.
fn backups(root: &Path) {
    let day = |number: usize| root.join(format!("backup.{number}"));
    fs::create_dir_all(day(0)).unwrap();
    Upload::of(400, 9).grow(&day(0)).unwrap();
    symlink("backup.4", root.join("latest")).unwrap();
    for number in 1..5 {
        let status = Command::new("cp").arg("-al").args([day(number - 1), day(number)]).status().unwrap();
        assert!(status.success());
        for at in 0..3 {
            let path = day(number).join(format!("index {at}.html"));
            let _ = fs::remove_file(&path);
            fs::write(&path, format!("day {number}")).unwrap();
        }
    }
}

fn churned(root: &Path) {
    let mut churn = Churn::new(4711, root);
    churn.run(2000);
    churn.close();
}

/// Mirrors a tree twice: live while it is written, and in one pass.
fn judge(name: &str, plant: &dyn Fn(&Path)) {
    let stand = Stand::new();
    let (source, live, once) = (stand.source(), stand.target("live"), stand.target("once"));
    let mirror = stand.mirror(&["live"], &["--reconcile-interval=never"]);
    plant(&source);
    wait(&stand, &mirror);
    assert_eq!(judged(&source, &live, &[]), "", "{name}, live");
    let pass = || {
        let mut arguments =
            vec!["sync".to_owned(), "-aHAXS".to_owned(), "--delete".to_owned(), "-i".to_owned()];
        arguments.extend([
            "-e".to_owned(),
            stand.ssh_command.clone(),
            format!("--agent={}", agent_command()),
        ]);
        arguments.push(format!("{}/", source.display()));
        arguments.push(stand.sshd.target(&once));
        stand.environment.run(arguments).succeeded().stdout
    };
    pass();
    assert_eq!(judged(&source, &once, &[]), "", "{name}, in one pass");
    assert_eq!(pass(), "", "{name}: a second pass changes nothing");
    mirror.terminate();
    println!("{name}: {} entries", walkdir::WalkDir::new(&source).into_iter().count());
}

#[test]
fn rsync_finds_nothing_to_do_after_mail_and_hard_linked_backups() {
    judge("mail", &mail);
    judge("backups", &backups);
}

/// Trees of this host, whatever it has, and some made as people have them; at least ten.
#[test]
#[ignore = "copies gigabytes"]
fn rsync_finds_nothing_to_do_after_ten_real_trees() {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut real: Vec<PathBuf> =
        ["/usr/share", "/usr/include", "/usr/bin", "/usr/sbin", "/etc", "/var/lib/dpkg"]
            .map(PathBuf::from)
            .to_vec();
    real.extend([
        "/var/log".into(),
        "/usr/lib/x86_64-linux-gnu".into(),
        "/usr/lib/gcc".into(),
        home.join(".cargo/registry/src"),
        project.join(".git"),
    ]);
    real.retain(|path| path.is_dir());
    for path in &real {
        judge(&path.display().to_string(), &|root| copy(path, root));
    }
    judge("mail", &mail);
    judge("backups", &backups);
    judge("churned", &churned);
    assert!(real.len() + 3 >= 10, "only {} trees", real.len() + 3);
}
