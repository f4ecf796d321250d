//! A TCP proxy that counts, delays, limits and cuts: the network between source and target.
//!
//! **In → Out:** connections to [`Proxy::address`] → connections to the upstream address.
//! **Invariants:** a delay limits no throughput (up to 64 MiB are under way per direction); with a
//! rate, what waits in front of the link stays small, as in a real router's queue.
//! **Not here:** loss and reordering: TCP hides both from what runs above it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Largest piece that is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many pieces may be under way per direction.
const CHUNKS_MAX: usize = 1024;

/// What the link between the two sides is like; the default adds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Added to every round trip, half of it per direction.
    pub round_trip: Duration,
    /// Bytes per second in either direction; `None` for no limit.
    pub rate: Option<u64>,
}

/// What all threads of one proxy share.
#[derive(Default)]
struct Shared {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    stopping: AtomicBool,
    /// Whether nothing passes; the accepting thread does not look at it.
    frozen: Mutex<bool>,
    thawed: Condvar,
    /// Every connection since the last cut; one that ended is forgotten when the next one comes.
    open: Mutex<Vec<Weak<Connection>>>,
}

/// Both ends of one connection; its threads hold it, and it closes with the last of them.
struct Connection {
    near: TcpStream,
    far: TcpStream,
}

impl Connection {
    /// Ends both ways at once; returns whether there was anything to end.
    fn cut(&self) -> bool {
        let near = self.near.shutdown(Shutdown::Both).is_ok();
        self.far.shutdown(Shutdown::Both).is_ok() || near
    }
}

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Way {
    /// From the connecting side to upstream.
    Up,
    /// Back.
    Down,
}

impl Way {
    /// Returns where bytes of this way come from and where they go.
    fn ends(self, connection: &Connection) -> (&TcpStream, &TcpStream) {
        match self {
            Self::Up => (&connection.near, &connection.far),
            Self::Down => (&connection.far, &connection.near),
        }
    }

    fn counter(self, shared: &Shared) -> &AtomicU64 {
        match self {
            Self::Up => &shared.sent_bytes,
            Self::Down => &shared.received_bytes,
        }
    }
}

/// A running proxy; it ends with its guard.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1 in front of `upstream`.
    ///
    /// # Panics
    /// If no port can be bound.
    pub fn start(upstream: SocketAddr, link: Link) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("the address of a bound socket");
        if let Some(rate) = link.rate {
            // 50 ms of the link: accepted connections inherit it.
            let queue = usize::try_from(rate / 20).unwrap_or(usize::MAX).clamp(16 << 10, 4 << 20);
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&listener, queue);
        }
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(up) = TcpStream::connect(upstream) {
                    join(&accepting, link, stream, up);
                }
            }
        });
        Self { address, shared }
    }

    /// Returns where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the bytes that went from the connecting side to upstream so far.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::SeqCst)
    }

    /// Returns the bytes that came back so far.
    pub fn received_bytes(&self) -> u64 {
        self.shared.received_bytes.load(Ordering::SeqCst)
    }

    /// Closes every connection; new ones are accepted. Returns how many there were.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut *lock(&self.shared.open));
        open.iter().filter_map(Weak::upgrade).filter(|connection| connection.cut()).count()
    }

    /// Lets nothing pass, as a dead router does: connections stay open and silent.
    pub fn freeze(&self) {
        *lock(&self.shared.frozen) = true;
    }

    /// Lets everything pass again, first what waited.
    pub fn thaw(&self) {
        *lock(&self.shared.frozen) = false;
        self.shared.thawed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.thaw();
        self.cut();
        // Wakes the accepting thread, which then sees that it shall stop.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the four threads of one connection.
fn join(shared: &Arc<Shared>, link: Link, near: TcpStream, far: TcpStream) {
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let connection = Arc::new(Connection { near, far });
    let mut open = lock(&shared.open);
    open.retain(|connection| connection.strong_count() > 0);
    open.push(Arc::downgrade(&connection));
    drop(open);
    for way in [Way::Up, Way::Down] {
        carry(shared, link, &connection, way);
    }
}

/// Carries one direction: one thread reads at the link's rate, one writes after its delay.
fn carry(shared: &Arc<Shared>, link: Link, connection: &Arc<Connection>, way: Way) {
    let (queue, queued) = sync_channel(CHUNKS_MAX);
    let (reading, writing, shared) = (Arc::clone(connection), Arc::clone(connection), Arc::clone(shared));
    std::thread::spawn(move || read_at_rate(way.ends(&reading).0, link, &queue));
    std::thread::spawn(move || write_when_due(&shared, &queued, &writing, way));
}

fn read_at_rate(mut from: &TcpStream, link: Link, queue: &SyncSender<(Instant, Vec<u8>)>) {
    let chunk = match link.rate {
        // A piece takes 5 ms of the link, so that small ones find their turn.
        Some(rate) => usize::try_from(rate / 200).unwrap_or(usize::MAX).clamp(512, CHUNK_BYTES),
        None => CHUNK_BYTES,
    };
    let mut buffer = vec![0; chunk];
    let mut link_free = Instant::now();
    while let Ok(n) = from.read(&mut buffer) {
        if let Some(rate) = link.rate {
            link_free =
                link_free.max(Instant::now()) + Duration::from_secs_f64(n as f64 / rate.max(1) as f64);
            pause_until(link_free);
        }
        // An empty piece is the end of the stream; it is delayed like any other.
        let piece = buffer[..n].to_vec();
        if queue.send((Instant::now() + link.round_trip / 2, piece)).is_err() || n == 0 {
            return;
        }
    }
}

fn write_when_due(shared: &Shared, queued: &Receiver<(Instant, Vec<u8>)>, connection: &Connection, way: Way) {
    let (_, mut to) = way.ends(connection);
    for (due, piece) in queued {
        pause_until(due);
        let frozen = lock(&shared.frozen);
        drop(shared.thawed.wait_while(frozen, |frozen| *frozen));
        if piece.is_empty() {
            break;
        }
        if to.write_all(&piece).is_err() {
            // Nobody reads there any more: who still writes here must learn it.
            connection.cut();
            return;
        }
        way.counter(shared).fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn pause_until(due: Instant) {
    let rest = due.saturating_duration_since(Instant::now());
    if !rest.is_zero() {
        std::thread::sleep(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::command::eventually;

    /// Starts a server that sends back what it gets, doubled.
    fn doubling_server() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..n].repeat(2)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn ask(proxy: &Proxy, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(proxy.address()).expect("the proxy accepts");
        stream.write_all(request).expect("a request");
        stream.shutdown(Shutdown::Write).expect("an end");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn every_byte_is_carried_and_counted() {
        let proxy = Proxy::start(doubling_server(), Link::default());
        assert_eq!(ask(&proxy, &[7; 100_000]), vec![7; 200_000]);
        assert_eq!((proxy.sent_bytes(), proxy.received_bytes()), (100_000, 200_000));
    }

    #[test]
    fn answer_takes_at_least_the_round_trip() {
        let link = Link { round_trip: Duration::from_millis(40), rate: None };
        let proxy = Proxy::start(doubling_server(), link);
        let start = Instant::now();
        ask(&proxy, b"x");
        assert!(start.elapsed() >= link.round_trip);
    }

    #[test]
    fn rate_is_never_exceeded() {
        let link = Link { round_trip: Duration::ZERO, rate: Some(1_000_000) };
        let proxy = Proxy::start(doubling_server(), link);
        let start = Instant::now();
        ask(&proxy, &[1; 50_000]);
        assert!(start.elapsed() >= Duration::from_millis(100), "100,000 bytes back at 1 MB/s");
    }

    #[test]
    fn cut_ends_connections_and_accepts_new_ones() {
        let proxy = Proxy::start(doubling_server(), Link::default());
        let mut stream = TcpStream::connect(proxy.address()).expect("the proxy accepts");
        stream.write_all(b"x").expect("a request");
        stream.read_exact(&mut [0; 2]).expect("an answer");
        assert_eq!(proxy.cut(), 1);
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(ask(&proxy, b"y"), b"yy");
    }

    #[test]
    fn frozen_proxy_is_silent_until_it_thaws() {
        let proxy = Proxy::start(doubling_server(), Link::default());
        proxy.freeze();
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&proxy, b"x"));
            // The request is read by the proxy, yet none of it has left.
            eventually("a connection", || lock(&proxy.shared.open).len() == 1);
            assert_eq!(proxy.sent_bytes(), 0);
            proxy.thaw();
            asking.join().expect("an answer")
        });
        assert_eq!(asked, b"xx");
    }
}
