//! System calls of a process and its descendants, held one by one until a judge has decided: the one
//! faulty layer. Nothing of it is in the product, and raw system calls do not escape it.
//!
//! **In → Out:** a command and the calls to hold → each call, before it is done → [`Verdict`].
//! **Invariants:** a call waits until its verdict is given, and calls are judged one after the other;
//! what is not asked for runs at full speed; when the last process has ended, so does the judge.
//! **Sources:** seccomp(2), seccomp_unotify(2).

use std::fs::File;
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// A call to hold: its number, and the descriptor in its first argument if only that one counts.
pub type Watched = (libc::c_long, Option<u32>);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Go,
    /// It is not done and fails with an errno.
    Fail(i32),
    /// It is not done and returns a number: the judge has done it.
    Done(i64),
}

/// A call that is held.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The thread.
    pub tid: u32,
    /// The number of the call.
    pub nr: libc::c_long,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Call {
    /// Returns an argument as a descriptor.
    pub fn fd(&self, argument: usize) -> i32 {
        // Descriptors are ints: what stands above is of no meaning.
        self.args[argument] as i32
    }

    /// Returns what a descriptor of the process is open on.
    pub fn opened(&self, fd: i32) -> Option<PathBuf> {
        let link = if fd == libc::AT_FDCWD { "cwd".to_owned() } else { format!("fd/{fd}") };
        std::fs::read_link(format!("/proc/{}/{link}", self.tid)).ok()
    }

    /// Returns the path that two arguments name, a directory's descriptor and a string, without looking
    /// whether anything is there.
    pub fn path(&self, dir: usize, name: usize) -> Option<PathBuf> {
        let name = self.string(name)?;
        let name = Path::new(std::ffi::OsStr::from_bytes(&name));
        if let Ok(magic) = name.strip_prefix("/proc/self/fd") {
            let mut names = magic.components();
            let opened = self.opened(names.next()?.as_os_str().to_str()?.parse().ok()?)?;
            return Some(opened.join(names.as_path()));
        }
        if name.is_absolute() {
            return Some(name.to_owned());
        }
        let dir = self.opened(self.fd(dir))?;
        Some(if name.as_os_str().is_empty() || name == Path::new(".") { dir } else { dir.join(name) })
    }

    /// Returns the string that an argument points to; `None` for a null pointer.
    pub fn string(&self, argument: usize) -> Option<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.tid)).ok()?;
        let mut found = Vec::new();
        let mut at = self.args[argument];
        loop {
            // Never across a page, of which the next may be missing.
            let mut piece = vec![0; 4096 - (at % 4096) as usize];
            let len = memory.read_at(&mut piece, at).ok().filter(|&len| len > 0)?;
            if let Some(end) = piece[..len].iter().position(|&byte| byte == 0) {
                found.extend_from_slice(&piece[..end]);
                return Some(found);
            }
            found.extend_from_slice(&piece[..len]);
            at += len as u64;
        }
    }

    /// Returns bytes of the process's memory.
    pub fn bytes(&self, pointer: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(format!("/proc/{}/mem", self.tid)).ok()?.read_exact_at(&mut bytes, pointer).ok()?;
        Some(bytes)
    }

    /// Writes into the process's memory.
    pub fn put_bytes(&self, pointer: u64, bytes: &[u8]) -> io::Result<()> {
        File::options().write(true).open(format!("/proc/{}/mem", self.tid))?.write_all_at(bytes, pointer)
    }

    /// Returns the process that the thread belongs to.
    pub fn pid(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.tid)).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
    }

    /// Returns the first argument on the process's command line: which of speil's commands it is.
    pub fn command(&self) -> Option<String> {
        let words = std::fs::read(format!("/proc/{}/cmdline", self.tid)).ok()?;
        let mut words = words.split(|&byte| byte == 0);
        let program = words.next()?;
        let first = words.next()?;
        program.ends_with(b"speil").then(|| String::from_utf8_lossy(first).into_owned())
    }

    /// Returns a descriptor of the process, for the judge to use.
    pub fn borrow_fd(&self, fd: i32) -> io::Result<OwnedFd> {
        let pid = i32::try_from(self.pid().ok_or(io::ErrorKind::NotFound)?).map_err(io::Error::other)?;
        let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        let flags = rustix::process::PidfdGetfdFlags::empty();
        Ok(rustix::process::pidfd_getfd(&process, fd, flags)?)
    }
}

/// Has every process that comes of `command` ask `judge` before each of the calls `watched`.
///
/// # Panics
/// If the system has no such thing; the command's start fails if the kernel refuses it.
pub fn hold(
    command: &mut Command,
    watched: &[Watched],
    mut judge: impl FnMut(&Call) -> Verdict + Send + 'static,
) {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .expect("a pair of sockets");
    let program = program(watched);
    // SAFETY: between fork and exec only system calls are made, on what was made before the fork.
    unsafe {
        command.pre_exec(move || {
            let listener = install(&program)?;
            send_fd(&theirs, &listener)
        });
    }
    std::thread::spawn(move || {
        let Some(listener) = receive_fd(&ours) else { return };
        drop(ours);
        judge_all(&listener, &mut judge);
    });
}

fn program(watched: &[Watched]) -> Vec<libc::sock_filter> {
    const ARCH: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |k, jt, jf| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let end = |k| op(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let mut program = vec![load(4), equal(ARCH, 1, 0), end(libc::SECCOMP_RET_ALLOW), load(0)];
    for &(nr, fd) in watched {
        let nr = u32::try_from(nr).expect("a call has a number");
        match fd {
            None => program.push(equal(nr, 0, 1)),
            Some(fd) => program.extend([equal(nr, 0, 3), load(16), equal(fd, 0, 1)]),
        }
        program.push(end(libc::SECCOMP_RET_USER_NOTIF));
        if fd.is_some() {
            program.push(load(0));
        }
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

fn install(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, which only reads it; no other memory is touched.
    unsafe {
        if libc::geteuid() != 0 && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let fd = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}

fn send_fd(socket: &OwnedFd, fd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive_fd(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

fn judge_all(listener: &OwnedFd, judge: &mut impl FnMut(&Call) -> Verdict) {
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    const ANSWER: libc::c_ulong = 0xc018_2101;
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !fds[0].revents().contains(PollFlags::IN) => return,
            Ok(_) => {}
        }
        // SAFETY: plain numbers, for which zeros are values; the kernel wants them to be zero.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure that this request fills in.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut asked) } != 0 {
            // Who asked was killed meanwhile.
            continue;
        }
        let call = Call { tid: asked.pid, nr: libc::c_long::from(asked.data.nr), args: asked.data.args };
        let verdict = judge(&call);
        let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error: 0, flags: 0 };
        match verdict {
            Verdict::Go => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Verdict::Fail(errno) => answer.error = -errno,
            Verdict::Done(value) => answer.val = value,
        }
        // SAFETY: the structure that this request reads; a failure means that who asked is gone.
        unsafe { libc::ioctl(listener.as_raw_fd(), ANSWER as _, &raw mut answer) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::support::command::{Background, Environment, eventually};

    #[test]
    fn a_call_is_seen_with_its_path_and_fails_as_told_while_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        for path in [&good, &bad] {
            std::fs::write(path, "x").unwrap();
        }
        let mut command = Environment::new().command("rm");
        command.args([&good, &bad]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (keep, refused) = (Arc::clone(&seen), bad.clone());
        hold(&mut command, &[(libc::SYS_unlinkat, None)], move |call| {
            let path = call.path(0, 1).unwrap();
            keep.lock().unwrap().push(path.clone());
            if path == refused { Verdict::Fail(libc::EDQUOT) } else { Verdict::Go }
        });
        let outcome = Background::spawn(command).wait();
        assert!(outcome.stderr.contains("quota"), "{}", outcome.stderr);
        assert!(bad.exists() && !good.exists());
        eventually("both are seen", || *seen.lock().unwrap() == [good.clone(), bad.clone()]);
    }
}
