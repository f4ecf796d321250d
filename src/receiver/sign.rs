//! Signatures of bases, made beside the applying.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::partial::Told;
use super::reply::Reply;
use crate::delta::{BLOCK_LEN_MAX, Signer, WINDOW, block_len};
use crate::protocol::{FrameError, StreamId, ToSender};

/// Signatures that may wait to be made.
const WAITING_MAX: usize = 64;
/// Bytes of a basis that are read and summed at once: they stay in the cache between, where blocks are
/// short.
const WINDOW_MIN: usize = 512 * 1024;
/// Blocks in a window: what keeps the lanes of the sums busy.
const WINDOW_BLOCKS: usize = 16;
/// Bytes that one thread sums at a time: a multiple of every block length.
const LANE_LEN: u64 = BLOCK_LEN_MAX as u64;
/// Most threads that sum one basis.
const LANES_MAX: usize = 4;
/// Most signature bytes in one message.
const PIECE_LEN: usize = 512 * 1024;

/// What is to be done with an open file.
enum Order {
    Sign(ToSign),
    /// Tell the chunks of what has arrived before.
    Chunks(StreamId, Option<(OwnedFd, u64, Told)>),
}

struct ToSign {
    stream: StreamId,
    basis: OwnedFd,
    size: u64,
}

/// Makes signatures on a thread of its own, in the order in which they were asked for.
pub(super) struct Signing {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Signing {
    pub fn new(reply: Arc<Reply>) -> std::io::Result<Self> {
        let (orders, inbox) = bounded::<Order>(WAITING_MAX);
        let thread = std::thread::Builder::new().name("sign".to_owned()).spawn(move || {
            for order in inbox {
                let done = match &order {
                    Order::Sign(order) => sign(order, &reply),
                    Order::Chunks(stream, partial) => tell_chunks(*stream, partial.as_ref(), &reply),
                };
                if done.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Orders the signature of an open file of `size` bytes.
    pub fn order(&self, stream: StreamId, basis: OwnedFd, size: u64) {
        if let Some(orders) = &self.orders {
            // The signer ends early only when the connection is gone.
            let _ = orders.send(Order::Sign(ToSign { stream, basis, size }));
        }
    }

    /// Orders the chunks of what has arrived before.
    pub fn order_chunks(&self, stream: StreamId, partial: Option<(OwnedFd, u64, Told)>) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order::Chunks(stream, partial));
        }
    }

    /// Waits until every order is done.
    pub fn finish(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell_chunks(
    stream: StreamId,
    partial: Option<&(OwnedFd, u64, Told)>,
    reply: &Reply,
) -> Result<(), FrameError> {
    let told = partial.and_then(|(file, len, told)| super::partial::chunks(stream, file, *len, told).ok());
    let (chunk_len, hashes) = told.unwrap_or_default();
    reply.send(&ToSender::Partial { stream, chunk_len, hashes: Cow::Owned(hashes) })
}

fn sign(order: &ToSign, reply: &Reply) -> Result<(), FrameError> {
    let block_len = block_len(order.size);
    let mut out = Vec::new();
    let send = |data: &[u8], last| {
        reply.send(&ToSender::Signature {
            stream: order.stream,
            size: order.size,
            block_len,
            data: Cow::Borrowed(data),
            last,
        })
    };
    let lanes = lanes(order.size);
    let mut offset = 0;
    while offset < order.size {
        let end = order.size.min(offset.saturating_add(LANE_LEN * lanes as u64));
        // Shorter than it was when it was opened: somebody else is at it. The sender learns that there
        // is no basis.
        if !sign_range(order.basis.as_fd(), (offset, end), block_len, &mut out) {
            return reply.send(&ToSender::NoBasis { stream: order.stream });
        }
        offset = end;
        while out.len() > PIECE_LEN {
            let rest = out.split_off(PIECE_LEN);
            send(&out, false)?;
            out = rest;
        }
    }
    send(&out, true)
}

/// Returns how many threads sum a basis: the sender has nothing to do until it has the sums.
fn lanes(size: u64) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if size < 2 * LANE_LEN { 1 } else { cpus.min(LANES_MAX) }
}

/// Appends the sums of a range that begins with a block, in pieces of [`LANE_LEN`] side by side. `false`
/// if it cannot be read to its end.
fn sign_range(basis: BorrowedFd<'_>, range: (u64, u64), block_len: u32, out: &mut Vec<u8>) -> bool {
    let (mut at, end) = range;
    let mut lanes = Vec::new();
    while at < end {
        let next = end.min(at.saturating_add(LANE_LEN));
        lanes.push((at, next));
        at = next;
    }
    std::thread::scope(|scope| {
        let beside: Vec<_> = lanes
            .iter()
            .skip(1)
            .map(|&lane| {
                scope.spawn(move || {
                    let mut out = Vec::new();
                    sign_lane(basis, lane, block_len, &mut out).map(|()| out)
                })
            })
            .collect();
        let mut whole = lanes.first().is_none_or(|&lane| sign_lane(basis, lane, block_len, out).is_some());
        for lane in beside {
            match lane.join() {
                Ok(Some(sums)) => out.extend_from_slice(&sums),
                _ => whole = false,
            }
        }
        whole
    })
}

fn sign_lane(basis: BorrowedFd<'_>, lane: (u64, u64), block_len: u32, out: &mut Vec<u8>) -> Option<()> {
    let (mut offset, end) = lane;
    let mut signer = Signer::new(block_len).ok()?;
    let window = (WINDOW_BLOCKS * block_len as usize).clamp(WINDOW_MIN, WINDOW);
    let mut window = vec![0; window.min(usize::try_from(end - offset).unwrap_or(window).max(1))];
    while offset < end {
        let want = usize::try_from(end - offset).map_or(window.len(), |rest| rest.min(window.len()));
        let len = rustix::io::pread(basis, &mut window[..want], offset).ok().filter(|&len| len > 0)?;
        signer.push(&window[..len], out);
        offset += len as u64;
    }
    signer.finish(out);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn sums_made_side_by_side_are_those_made_in_one_go() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> =
            (0..(3 * LANE_LEN + 70_001) / 4).flat_map(|n| (n as u32 ^ 0x5bd1).to_le_bytes()).collect();
        file.write_all(&content).unwrap();
        let len = content.len() as u64;
        let mut expected = Vec::new();
        let mut signer = Signer::new(4096).unwrap();
        signer.push(&content, &mut expected);
        signer.finish(&mut expected);
        let mut sums = Vec::new();
        assert!(sign_range(file.as_fd(), (0, 2 * LANE_LEN), 4096, &mut sums));
        assert!(sign_range(file.as_fd(), (2 * LANE_LEN, len), 4096, &mut sums));
        assert!(sums == expected);
        assert!(!sign_range(file.as_fd(), (0, len + 1), 4096, &mut Vec::new()), "shorter than stated");
    }
}
