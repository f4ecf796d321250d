//! Signatures of bases, made beside the applying.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::reply::Reply;
use crate::delta::{Signer, WINDOW, block_len};
use crate::protocol::{FrameError, StreamId, ToSender};

/// Signatures that may wait to be made.
const WAITING_MAX: usize = 64;
/// Most signature bytes in one message.
const PIECE_LEN: usize = 512 * 1024;

struct Order {
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
                if sign(&order, &reply).is_err() {
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
            let _ = orders.send(Order { stream, basis, size });
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

fn sign(order: &Order, reply: &Reply) -> Result<(), FrameError> {
    let block_len = block_len(order.size);
    let Ok(mut signer) = Signer::new(block_len) else {
        return reply.send(&ToSender::NoBasis { stream: order.stream });
    };
    let mut window = vec![0; WINDOW.min(usize::try_from(order.size).unwrap_or(WINDOW).max(1))];
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
    let mut offset = 0;
    while offset < order.size {
        let want = usize::try_from(order.size - offset).map_or(window.len(), |rest| rest.min(window.len()));
        let len = match rustix::io::pread(order.basis.as_fd(), &mut window[..want], offset) {
            // Shorter than it was when it was opened: somebody else is at it. The sender learns that
            // there is no basis from a signature that does not fit its size.
            Ok(0) | Err(_) => return reply.send(&ToSender::NoBasis { stream: order.stream }),
            Ok(len) => len,
        };
        signer.push(&window[..len], &mut out);
        offset += len as u64;
        while out.len() > PIECE_LEN {
            let rest = out.split_off(PIECE_LEN);
            send(&out, false)?;
            out = rest;
        }
    }
    signer.finish(&mut out);
    while out.len() > PIECE_LEN {
        let rest = out.split_off(PIECE_LEN);
        send(&out, false)?;
        out = rest;
    }
    send(&out, true)
}
