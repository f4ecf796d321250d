//! The receiver's end of a bundle: further connections, and one stream of bytes out of all.
//!
//! **Purpose:** a channel of OpenSSH carries 2 MiB per round trip; a sender that has more to send opens
//! further connections. Each of those has an agent of its own on this host, which passes on what it hears
//! through a FIFO in the root: [`relay`]. **In → Out:** numbered pieces → [`Input`].
//! **Invariants:** nothing listens on the network; a FIFO is the agent's own user's alone, and its name is
//! gone before data comes; few pieces wait in memory; a piece that is missing ends the session.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::IdleReader;
use super::install::temp_name;
use crate::config::CONNECTIONS_MAX;
use crate::disk::{Root, read_entry, set_times};
use crate::protocol::{PIECE_HEADER_LEN, PIECE_LEN_MAX, parse_piece_header};
use crate::tree::{Mask, TEMP_PREFIX, check_name};

/// Pieces for each connection that wait for those before them.
const AHEAD: usize = 4;
/// Asked of the kernel for each FIFO, in bytes.
const FIFO_LEN: usize = 1 << 20;

/// Where further connections join: FIFOs in the root.
pub(super) struct Places {
    root: Arc<Root>,
    names: Vec<Vec<u8>>,
    fifos: Vec<OwnedFd>,
}

impl Places {
    /// Makes so many. The root's time stays as it was.
    ///
    /// # Errors
    /// A filesystem without FIFOs, a root that cannot be written.
    pub fn new(root: &Arc<Root>, tag: u32, count: u8) -> io::Result<Self> {
        let mut places = Self { root: Arc::clone(root), names: Vec::new(), fifos: Vec::new() };
        places.keep_time(|places| {
            for _ in 0..count.min(CONNECTIONS_MAX - 1) {
                let name = temp_name(tag);
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(&places.root, name.as_slice(), FileType::Fifo, mode, 0)?;
                places.names.push(name.clone());
                // With a reader from the start, so that whoever joins need not wait for one.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fifo = rustix::fs::openat(&places.root, name.as_slice(), flags, Mode::empty())?;
                let _ = rustix::pipe::fcntl_setpipe_size(&fifo, FIFO_LEN);
                places.fifos.push(fifo);
            }
            Ok(())
        })?;
        Ok(places)
    }

    pub fn names(&self) -> &[Vec<u8>] {
        &self.names
    }

    fn keep_time(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let before = read_entry(self.root.as_fd(), b"", &Mask::nothing())?;
        let done = act(self);
        if let Some(before) = before {
            let _ = set_times(self.root.as_fd(), before.attrs.meta.mtime);
        }
        done
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.names);
        let _ = self.keep_time(|places| {
            for name in names {
                let _ = rustix::fs::unlinkat(&places.root, name.as_slice(), AtFlags::empty());
            }
            Ok(())
        });
    }
}

/// Opens a place that another agent on this root has made. It must be a FIFO of this very user.
fn open_place(root: &Root, name: &[u8]) -> io::Result<File> {
    if !name.starts_with(TEMP_PREFIX) || check_name(name).is_err() {
        return Err(Errno::INVAL.into());
    }
    // Without waiting: where nobody reads any more, there is nobody to join.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fifo = rustix::fs::openat(root, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fifo)?;
    let is_fifo = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    if !is_fifo || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::INVAL.into());
    }
    rustix::fs::fcntl_setfl(&fifo, OFlags::empty())?;
    Ok(fifo.into())
}

/// What a further connection's agent does: it joins, says so, and passes on what it hears until either
/// end is gone.
///
/// # Errors
/// A place that is none, an end that breaks.
pub(super) fn relay(
    root: &Root,
    place: &[u8],
    input: &OwnedFd,
    joined: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mut to = open_place(root, place)?;
    joined()?;
    let mut bytes = vec![0; PIECE_LEN_MAX];
    loop {
        let mut ends = [PollFd::new(input, PollFlags::IN), PollFd::new(&to, PollFlags::empty())];
        match poll(&mut ends, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !ends[1].revents().is_empty() {
            return Ok(());
        }
        if ends[0].revents().is_empty() {
            continue;
        }
        match rustix::io::read(input, &mut bytes) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(&bytes[..len])?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a sender's bytes come by.
pub(super) enum Input {
    /// One connection.
    One(BufReader<IdleReader>),
    /// Several.
    Several(Bundle),
    /// None any more.
    Over,
}

impl Input {
    /// The one connection, until there are several.
    pub fn one(&mut self) -> Option<&mut BufReader<IdleReader>> {
        if let Self::One(one) = self { Some(one) } else { None }
    }

    /// From here on the bytes come in pieces, over this connection and those that have joined.
    ///
    /// # Errors
    /// A thread that does not start; a bundle within a bundle.
    pub fn bundle(&mut self, mut places: Places) -> io::Result<()> {
        let Self::One(mut one) = std::mem::replace(self, Self::Over) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        // One connection may be silent for as long as another is not.
        let limit = std::mem::replace(&mut one.get_mut().limit, super::IDLE_LIMIT);
        let mut ways: Vec<Box<dyn Read + Send>> = vec![Box::new(one)];
        for fifo in std::mem::take(&mut places.fifos) {
            rustix::fs::fcntl_setfl(&fifo, OFlags::empty())?;
            ways.push(Box::new(BufReader::with_capacity(PIECE_LEN_MAX, File::from(fifo))));
        }
        *self = Self::Several(Bundle::new(ways, limit)?);
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::One(one) => one.read(buffer),
            Self::Several(bundle) => bundle.read(buffer),
            Self::Over => Ok(0),
        }
    }
}

/// Several connections as one stream.
pub(super) struct Bundle {
    shared: Arc<Arriving>,
    piece: Vec<u8>,
    /// How much of it was read.
    at: usize,
    /// The longest silence on all of them together.
    limit: Duration,
}

/// What the connections' threads share with whoever reads.
struct Arriving {
    heap: Mutex<Heap>,
    arrived: Condvar,
    taken: Condvar,
}

struct Heap {
    pieces: BTreeMap<u64, Vec<u8>>,
    /// Number of the piece that comes next.
    next: u64,
    /// Connections that go on.
    open: usize,
    failed: Option<io::Error>,
    /// Nobody reads any more.
    over: bool,
}

impl Arriving {
    fn lock(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts pieces on the heap until the end of a connection.
    fn hear(&self, mut from: impl Read, most: usize) {
        let failed = loop {
            let (number, bytes) = match piece(&mut from) {
                Ok(Some(piece)) => piece,
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            let full = |heap: &mut Heap| !heap.over && heap.pieces.len() >= most && number != heap.next;
            let heap = self.taken.wait_while(self.lock(), full);
            let mut heap = heap.unwrap_or_else(PoisonError::into_inner);
            if heap.over {
                break None;
            }
            if number < heap.next || heap.pieces.insert(number, bytes).is_some() {
                break Some(io::ErrorKind::InvalidData.into());
            }
            if number == heap.next {
                self.arrived.notify_one();
            }
        };
        let mut heap = self.lock();
        heap.open -= 1;
        heap.failed = heap.failed.take().or(failed);
        self.arrived.notify_one();
    }
}

/// Returns the next piece of a connection; none at its end, which may be in the middle of one: then it is
/// missed by its number.
fn piece(from: &mut impl Read) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut header = [0; PIECE_HEADER_LEN];
    let read = from.read_exact(&mut header).and_then(|()| {
        let header = parse_piece_header(header);
        let (number, len) = header.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes)?;
        Ok((number, bytes))
    });
    match read {
        Ok(piece) => Ok(Some(piece)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

impl Bundle {
    /// Begins with connections of which nothing was read yet.
    fn new(ways: Vec<Box<dyn Read + Send>>, limit: Duration) -> io::Result<Self> {
        let most = AHEAD * ways.len();
        let heap = Heap { pieces: BTreeMap::new(), next: 0, open: ways.len(), failed: None, over: false };
        let shared = Arc::new(Arriving {
            heap: Mutex::new(heap),
            arrived: Condvar::default(),
            taken: Condvar::default(),
        });
        let bundle = Self { shared: Arc::clone(&shared), piece: Vec::new(), at: 0, limit };
        for way in ways {
            let shared = Arc::clone(&shared);
            let hear = move || shared.hear(way, most);
            std::thread::Builder::new().name("connection".to_owned()).spawn(hear)?;
        }
        Ok(bundle)
    }

    /// Takes the next piece from whichever connection it comes by; `false` at the end of all.
    fn advance(&mut self) -> io::Result<bool> {
        let waits =
            |heap: &mut Heap| !heap.pieces.contains_key(&heap.next) && heap.failed.is_none() && heap.open > 0;
        let heap = self.shared.arrived.wait_timeout_while(self.shared.lock(), self.limit, waits);
        let (mut heap, _) = heap.unwrap_or_else(PoisonError::into_inner);
        let next = heap.next;
        if let Some(piece) = heap.pieces.remove(&next) {
            heap.next += 1;
            drop(heap);
            self.shared.taken.notify_all();
            (self.piece, self.at) = (piece, 0);
            return Ok(true);
        }
        match heap.failed.take() {
            Some(error) => Err(error),
            None if heap.open > 0 => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            // Whoever has ended took it along.
            None if !heap.pieces.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Ok(false),
        }
    }
}

impl Read for Bundle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.advance()? {
            return Ok(0);
        }
        let left = &self.piece[self.at..];
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        self.at += len;
        Ok(len)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.taken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::piece_header;

    const LONG: Duration = Duration::from_secs(60);

    /// A connection over which these pieces come.
    fn lane(pieces: &[(u64, &[u8])]) -> Box<dyn Read + Send> {
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|(number, bytes)| [&piece_header(*number, bytes.len())[..], bytes].concat())
            .collect();
        Box::new(io::Cursor::new(bytes))
    }

    fn read(ways: Vec<Box<dyn Read + Send>>) -> (Vec<u8>, io::Result<usize>) {
        let mut bytes = Vec::new();
        let end = Bundle::new(ways, LONG).unwrap().read_to_end(&mut bytes);
        (bytes, end)
    }

    #[test]
    fn pieces_are_read_in_their_order_whichever_way_they_come() {
        let far: Vec<(u64, &[u8])> = (1..100).map(|number| (number, &b"x"[..])).collect();
        let (bytes, end) = read(vec![lane(&far), lane(&[(100, b"end")]), lane(&[(0, b"begin")]), lane(&[])]);
        assert_eq!((bytes.len(), end.unwrap()), (5 + 99 + 3, 5 + 99 + 3));
        assert!(bytes.starts_with(b"beginx") && bytes.ends_with(b"xend"));
    }

    #[test]
    fn a_piece_that_is_lost_twice_there_or_none_ends_the_stream_with_an_error() {
        let lost = read(vec![lane(&[(0, b"a"), (2, b"c")]), lane(&[(3, b"d")])]);
        assert_eq!(lost.0, b"a");
        assert_eq!(lost.1.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for ways in [vec![lane(&[(0, b"a"), (0, b"b")])], vec![lane(&[(0, b"")])]] {
            assert_eq!(read(ways).1.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        // Silence of all, with nobody gone.
        let (from, _to) = std::io::pipe().unwrap();
        let mut silent = Bundle::new(vec![Box::new(from)], Duration::from_millis(1)).unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
    }

    #[test]
    fn a_place_is_a_fifo_of_the_agents_own_below_its_temporary_names_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let time = || dir.path().metadata().unwrap().modified().unwrap();
        let before = time();
        let places = Places::new(&root, 7, 2).unwrap();
        std::fs::write(dir.path().join(".speil-file"), "").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for bad in [&b".speil-file"[..], b".speil-none", b"d", b"", b"..", b".speil-/x"] {
            assert!(open_place(&root, bad).is_err(), "{bad:?}");
        }
        assert!(places.names().iter().all(|name| open_place(&root, name).is_ok()));
        let (first, before_end) = (places.names()[0].clone(), time());
        drop(places);
        assert!(open_place(&root, &first).is_err(), "it is gone");
        assert!(time() == before_end && before <= before_end);
    }

    #[test]
    fn a_relay_passes_on_what_it_hears_and_ends_with_either_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        for reader_goes in [false, true] {
            let mut places = Places::new(&root, 7, 1).unwrap();
            let place = places.names()[0].clone();
            let fifo = places.fifos.pop().unwrap();
            rustix::fs::fcntl_setfl(&fifo, OFlags::empty()).unwrap();
            let (input, mut to) = std::io::pipe().unwrap();
            let its = Arc::clone(&root);
            let (told, joined) = crossbeam_channel::bounded(1);
            let tell = move || told.send(()).map_err(io::Error::other);
            let relay = std::thread::spawn(move || relay(&its, &place, &input.into(), tell));
            joined.recv().unwrap();
            to.write_all(b"passed on").unwrap();
            let (mut from, mut heard) = (File::from(fifo), [0; 9]);
            from.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"passed on");
            let left = if reader_goes { (drop(from), Some(to)).1 } else { (drop(to), None).1 };
            relay.join().unwrap().unwrap();
            drop(left);
        }
    }
}
