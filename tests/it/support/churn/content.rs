//! Edits of what files hold.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;

use rustix::fs::{FallocateFlags, Timespec};

use super::Churn;
use crate::support::rng::Rng;
use crate::support::tree::set_times;

/// Opens a regular file; never waits for the other end of a fifo and follows no symlink.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn writable(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true))
}

/// Returns up to 64 KiB, mostly less, sometimes nothing.
fn some_bytes(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(10) {
        0 => 0,
        1..=6 => rng.below(2_000),
        7 | 8 => rng.below(20_000),
        _ => rng.below(65_536),
    };
    if rng.one_in(3) { rng.text(len) } else { rng.bytes(len) }
}

/// Writes a file, following no symlink: what it points to lies outside the root.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    open(path, OpenOptions::new().write(true).create(true).truncate(true))?.write_all(bytes)
}

pub fn write_new(churn: &mut Churn) -> io::Result<()> {
    let (path, bytes) = (churn.some_place(), some_bytes(&mut churn.rng));
    write(&path, &bytes)
}

/// A file that travels in pieces, and whose signature is asked for first.
pub fn write_large(churn: &mut Churn) -> io::Result<()> {
    let (path, len) = (churn.some_place(), 300_000 + churn.rng.below(400_000));
    write(&path, &churn.rng.bytes(len))
}

pub fn rewrite(churn: &mut Churn) -> io::Result<()> {
    let (path, bytes) = (churn.some_file()?, some_bytes(&mut churn.rng));
    write(&path, &bytes)
}

pub fn append(churn: &mut Churn) -> io::Result<()> {
    let (path, bytes) = (churn.some_file()?, some_bytes(&mut churn.rng));
    // In two writes: between them the file is a beginning.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut file = open(&path, OpenOptions::new().append(true))?;
    file.write_all(first)?;
    file.write_all(second)
}

/// Returns a place inside a file and bytes that end inside it as well.
fn some_edit(churn: &mut Churn, len: u64) -> io::Result<(u64, Vec<u8>)> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let at = churn.rng.below(len);
    let n = 1 + churn.rng.below((len - at).min(4096));
    Ok((at as u64, churn.rng.bytes(n)))
}

pub fn edit_in_place(churn: &mut Churn) -> io::Result<()> {
    let file = writable(&churn.some_file()?)?;
    let (at, bytes) = some_edit(churn, file.metadata()?.len())?;
    file.write_all_at(&bytes, at)
}

/// Changes bytes and puts the time back: only the change time and the bytes tell.
pub fn edit_unseen(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some_file()?;
    let file = writable(&path)?;
    let meta = file.metadata()?;
    let (at, bytes) = some_edit(churn, meta.len())?;
    file.write_all_at(&bytes, at)?;
    drop(file);
    set_times(&path, Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ })
}

pub fn edit_mapped(churn: &mut Churn) -> io::Result<()> {
    let file = writable(&churn.some_file()?)?;
    let len = file.metadata()?.len();
    let (at, bytes) = some_edit(churn, len)?;
    let (len, at) = (usize::try_from(len).unwrap_or(0), usize::try_from(at).unwrap_or(0));
    // SAFETY: a new mapping of an open file, at an address of the kernel's choice.
    let map = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if map == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    drop(file);
    // SAFETY: `some_edit` keeps `at + bytes.len()` within `len`, which is mapped; only this thread
    // edits the tree, so the file is not cut short meanwhile; the mapping is used no more after.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), map.cast::<u8>().add(at), bytes.len());
        libc::munmap(map, len);
    }
    Ok(())
}

pub fn truncate(churn: &mut Churn) -> io::Result<()> {
    let file = writable(&churn.some_file()?)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    // To nothing, to less, or longer with a hole at its end.
    let len = if churn.rng.one_in(4) { 0 } else { churn.rng.below(len + len / 4 + 1) };
    file.set_len(len as u64)
}

pub fn make_hole(churn: &mut Churn) -> io::Result<()> {
    let mut file = writable(&churn.some_file()?)?;
    let len = file.metadata()?.len();
    if len > 8192 && churn.rng.one_in(2) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        return Ok(rustix::fs::fallocate(&file, flags, 4096, len - 8192)?);
    }
    let gap = churn.rng.below(200_000);
    let bytes = churn.rng.bytes(100);
    file.seek(SeekFrom::End(i64::try_from(gap).unwrap_or(0)))?;
    // Files do not grow for ever.
    if len > 1 << 20 { file.set_len(0) } else { file.write_all(&bytes) }
}

pub fn save_by_rename(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some_file()?;
    let bytes = some_bytes(&mut churn.rng);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".swp");
    // The longest names have no room for a suffix.
    let temporary = path.with_file_name(if name.len() > 255 { "4913".into() } else { name });
    write(&temporary, &bytes)?;
    let meta = path.symlink_metadata()?;
    if meta.is_file() && churn.rng.one_in(2) {
        fs::set_permissions(&temporary, meta.permissions())?;
    }
    fs::rename(&temporary, &path)
}

pub fn open_and_keep(churn: &mut Churn) -> io::Result<()> {
    let path = if churn.rng.one_in(2) { churn.some_place() } else { churn.some_file()? };
    let file = open(&path, OpenOptions::new().append(true).create(true))?;
    (&file).write_all(b"begun\n")?;
    churn.kept.push(file);
    if churn.kept.len() > 4 {
        churn.kept.remove(0);
    }
    Ok(())
}

/// Writes to a file that may have been renamed or removed since it was opened.
pub fn write_kept(churn: &mut Churn) -> io::Result<()> {
    if churn.kept.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let index = churn.rng.below(churn.kept.len());
    let bytes = some_bytes(&mut churn.rng);
    (&churn.kept[index]).write_all(&bytes)?;
    if churn.rng.one_in(3) {
        churn.kept.remove(index);
    }
    Ok(())
}

pub fn burst(churn: &mut Churn) -> io::Result<()> {
    let parent = churn.some_parent();
    let name = churn.dir_name();
    for number in 0..10 {
        let mut name = name.clone();
        name.push(format!(".{number}"));
        let path = parent.join(name);
        write(&path, b"short")?;
        File::open(&path)?.read_exact(&mut [0; 5])?;
        if number % 3 != 0 {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
