//! The names of extended attributes by descriptor and name, without a path through `/proc`.
//!
//! listxattrat(2) is there from Linux 6.13 on; where it is not, the caller goes another way.
//!
//! **Sources:** include/uapi/linux/xattr.h, arch/*/syscall*.tbl of Linux 6.13.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

/// The number of the call, where it is the common one.
const LISTXATTRAT: Option<libc::c_long> = if cfg!(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64",
    target_arch = "powerpc64",
    target_arch = "s390x",
)) && cfg!(target_os = "linux")
{
    Some(465)
} else {
    None
};

/// Whether the kernel lacks it, or forbids it.
static LACKS: AtomicBool = AtomicBool::new(false);

/// Runs `work` as on a kernel without the call. Others who read meanwhile go the other way as well, and
/// find the same.
#[cfg(test)]
pub(super) fn without<R>(work: impl FnOnce() -> R) -> R {
    let lacks = LACKS.swap(true, Ordering::Relaxed);
    let done = work();
    LACKS.store(lacks, Ordering::Relaxed);
    done
}

/// Fills `names` with the names of the extended attributes of `name` in `dir`, without following a
/// symlink, each ended by a NUL; returns how many bytes they are. `None` if there is no such call here.
/// `dir` may be a mere place (`O_PATH`); `name` must not be empty.
pub(super) fn list_at(
    dir: BorrowedFd<'_>,
    name: &CStr,
    names: &mut [u8],
) -> Option<rustix::io::Result<usize>> {
    let number = LISTXATTRAT.filter(|_| !LACKS.load(Ordering::Relaxed))?;
    // SAFETY: the kernel reads `name` up to its NUL and writes at most `names.len()` bytes to `names`;
    // both outlive the call.
    let done = unsafe {
        libc::syscall(
            number,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            names.as_mut_ptr(),
            names.len(),
        )
    };
    match usize::try_from(done) {
        Ok(len) => Some(Ok(len.min(names.len()))),
        Err(_) => match std::io::Error::last_os_error().raw_os_error() {
            // The kernel is older, or a filter of system calls that is older forbids it.
            Some(libc::ENOSYS | libc::EPERM) => {
                LACKS.store(true, Ordering::Relaxed);
                None
            }
            errno => Some(Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)))),
        },
    }
}
