//! The sender's end of a bundle: one stream of bytes over several connections.
//!
//! **Purpose:** a channel of OpenSSH carries 2 MiB per round trip; a link that could carry more takes as
//! many channels. **In → Out:** bytes → numbered pieces, each on the connection that has room.
//! **Invariants:** a connection that breaks breaks them all; what waits here is bounded.
//! **Not here:** putting them together (`receiver::bundle`).

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::protocol::{PIECE_HEADER_LEN, PIECE_LEN_MAX, piece_header};

/// What leads to the agent over one connection.
pub(super) type ConnectionWriter = Box<dyn Write + Send>;

/// Writes over several connections.
pub(super) struct Bundle {
    pieces: Sender<Vec<u8>>,
    /// The piece that is being filled, behind room for its header.
    piece: Vec<u8>,
    number: u64,
    broken: Arc<AtomicBool>,
}

impl Bundle {
    /// Takes connections over. Each has a thread until this is dropped and what was written is gone.
    ///
    /// # Errors
    /// A thread that does not start; all connections are closed then.
    pub fn new(ways: Vec<ConnectionWriter>) -> io::Result<Self> {
        // What has left this for a connection counts as sent, so little may wait in between.
        let (pieces, waiting) = bounded(1);
        let broken = Arc::new(AtomicBool::new(false));
        for way in ways {
            let (waiting, broken) = (waiting.clone(), Arc::clone(&broken));
            let carry = move || {
                if carry(way, &waiting, &broken).is_err() {
                    broken.store(true, Ordering::Release);
                }
            };
            std::thread::Builder::new().name("connection".to_owned()).spawn(carry)?;
        }
        Ok(Self { pieces, piece: vec![0; PIECE_HEADER_LEN], number: 0, broken })
    }

    fn dispatch(&mut self) -> io::Result<()> {
        let len = self.piece.len() - PIECE_HEADER_LEN;
        if len == 0 {
            return Ok(());
        }
        let mut next = Vec::with_capacity(PIECE_HEADER_LEN + PIECE_LEN_MAX);
        next.resize(PIECE_HEADER_LEN, 0);
        let mut piece = std::mem::replace(&mut self.piece, next);
        piece[..PIECE_HEADER_LEN].copy_from_slice(&piece_header(self.number, len));
        self.number += 1;
        let sent = self.pieces.send(piece);
        let lost = sent.is_err() || self.broken.load(Ordering::Acquire);
        if lost { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// Writes pieces as long as there are any; the first that fails is the last for all.
fn carry(mut way: ConnectionWriter, pieces: &Receiver<Vec<u8>>, broken: &AtomicBool) -> io::Result<()> {
    for piece in pieces {
        if broken.load(Ordering::Acquire) {
            break;
        }
        way.write_all(&piece)?;
        way.flush()?;
    }
    Ok(())
}

impl Write for Bundle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_HEADER_LEN + PIECE_LEN_MAX - self.piece.len();
        let taken = bytes.len().min(room);
        self.piece.extend_from_slice(&bytes[..taken]);
        if taken == room {
            self.dispatch()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.dispatch()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::protocol::parse_piece_header;

    fn pieces_of(mut from: impl Read) -> Vec<(u64, Vec<u8>)> {
        let mut pieces = Vec::new();
        let mut header = [0; PIECE_HEADER_LEN];
        while from.read_exact(&mut header).is_ok() {
            let (number, len) = parse_piece_header(header).unwrap();
            let mut bytes = vec![0; len];
            from.read_exact(&mut bytes).unwrap();
            pieces.push((number, bytes));
        }
        pieces
    }

    #[test]
    fn what_is_written_is_what_the_connections_carry_between_them() {
        let sent: Vec<u8> = (0..500_000_u32).map(|number| (number % 251) as u8).collect();
        let pipes: Vec<_> = (0..3).map(|_| std::io::pipe().unwrap()).collect();
        let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let heard: Vec<_> =
            readers.into_iter().map(|from| std::thread::spawn(move || pieces_of(from))).collect();
        let mut bundle =
            Bundle::new(writers.into_iter().map(|way| Box::new(way) as ConnectionWriter).collect()).unwrap();
        for (at, part) in sent.chunks(70_001).enumerate() {
            bundle.write_all(part).unwrap();
            if at % 2 == 0 {
                bundle.flush().unwrap();
            }
        }
        bundle.flush().unwrap();
        drop(bundle);
        let lanes: Vec<_> = heard.into_iter().map(|lane| lane.join().unwrap()).collect();
        assert!(lanes.iter().all(|lane| lane.is_sorted_by(|a, b| a.0 < b.0)));
        let mut all: Vec<_> = lanes.into_iter().flatten().collect();
        all.sort();
        assert!(all.iter().enumerate().all(|(at, (number, _))| at as u64 == *number));
        assert!(all.into_iter().flat_map(|(_, bytes)| bytes).eq(sent));
    }

    #[test]
    fn a_connection_that_breaks_breaks_them_all() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (_open, other) = std::io::pipe().unwrap();
        drop(reader);
        let mut bundle = Bundle::new(vec![Box::new(writer), Box::new(other)]).unwrap();
        let failed = (0..100_000).any(|_| bundle.write_all(b"piece").and_then(|()| bundle.flush()).is_err());
        assert!(failed);
    }
}
