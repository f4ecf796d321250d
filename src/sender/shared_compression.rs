//! Compressing content once for all targets that are in step.
//!
//! One zstd stream per source, cut into epochs. A session that takes the blocks of an epoch in their
//! order, from its first, has the window that the next block needs. One that needs something else
//! next is out of step, compresses for itself, and may join again at the next epoch.

use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::{Block, BlockPacker};

/// Unpacked bytes, and what they cost, after which the stream begins anew: what a session that fell behind may miss, and
/// what is kept for those behind.
const EPOCH_LEN: usize = 8 << 20;

/// What a block costs besides, in bytes: many are tiny.
const OVERHEAD: usize = 256;

/// What a block holds: which reading of a file, and where in it.
type Piece = (u64, u64);

/// Where a session stands in the shared stream.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Position {
    epoch: u64,
    next: usize,
}

/// The shared stream.
#[derive(Default)]
pub(super) struct SharedCompression {
    epoch: Mutex<Epoch>,
}

#[derive(Default)]
struct Epoch {
    number: u64,
    packer: Option<BlockPacker>,
    blocks: Vec<(Piece, Arc<Block>)>,
    len: usize,
}

impl SharedCompression {
    /// Returns the block with `data`, which is at `offset` in the reading of a file that `file`
    /// numbers, and moves `place` behind it. `None` if the session at `place` is out of step.
    pub fn block(&self, place: &mut Position, file: u64, offset: u64, data: &[u8]) -> Option<Arc<Block>> {
        let mut epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if place.epoch != epoch.number {
            *place = Position { epoch: epoch.number, next: 0 };
        }
        if place.next == epoch.blocks.len() {
            if epoch.len >= EPOCH_LEN || epoch.packer.is_none() {
                *epoch = Epoch { number: epoch.number + 1, ..Epoch::default() };
                epoch.packer = Some(BlockPacker::new().ok()?);
                *place = Position { epoch: epoch.number, next: 0 };
            }
            let packed = epoch.packer.as_mut()?.pack(data);
            let Ok(block) = packed else {
                epoch.packer = None;
                return None;
            };
            epoch.blocks.push(((file, offset), Arc::new(block)));
            epoch.len += data.len() + OVERHEAD;
        }
        let (piece, block) = epoch.blocks.get(place.next)?;
        if *piece != (file, offset) {
            return None;
        }
        place.next += 1;
        Some(Arc::clone(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{FrameReader, FrameWriter};

    fn piece(number: u64) -> Vec<u8> {
        (0..60_000u32).flat_map(|at| (at / 7 + number as u32).to_le_bytes()).collect()
    }

    /// What a session writes for pieces in its own order, and how many came from the shared stream.
    fn write(
        packer: &SharedCompression,
        place: &mut Position,
        order: &[u64],
        to: &mut FrameWriter<Vec<u8>>,
    ) -> usize {
        let mut shared = 0;
        to.set_compress(true);
        for &number in order {
            let data = piece(number);
            match packer.block(place, number, 0, &data) {
                Some(block) => {
                    to.send_block(&Vec::<u8>::new(), &block).unwrap();
                    shared += 1;
                }
                None => to.send_with(&Vec::<u8>::new(), &data).unwrap(),
            }
        }
        shared
    }

    fn assert_reads(bytes: &[u8], order: &[u64]) {
        let mut reader = FrameReader::new(bytes);
        for &number in order {
            assert!(reader.read::<Vec<u8>>().unwrap() == piece(number), "piece {number}");
        }
    }

    #[test]
    fn sessions_in_step_share_every_block_and_one_out_of_step_joins_at_the_next_epoch() {
        let packer = SharedCompression::default();
        let all: Vec<u64> = (0..200).collect();
        // The second began late, and lacks a piece that the first has.
        let late: Vec<u64> = (0..200).filter(|number| *number != 10).collect();
        let mut writers = [FrameWriter::new(Vec::new()), FrameWriter::new(Vec::new())];
        let mut places = [Position::default(), Position::default()];
        let mut shared = [0, 0];
        for at in 0..20 {
            shared[0] += write(&packer, &mut places[0], &all[at * 10..at * 10 + 10], &mut writers[0]);
            let late: Vec<u64> =
                late.iter().copied().filter(|number| (*number as usize) / 10 == at).collect();
            shared[1] += write(&packer, &mut places[1], &late, &mut writers[1]);
        }
        assert_eq!(shared[0], 200);
        assert!((100..199).contains(&shared[1]), "{}", shared[1]);
        assert_reads(writers[0].get_mut(), &all);
        assert_reads(writers[1].get_mut(), &late);
    }

    #[test]
    fn a_session_far_behind_gets_right_data_for_itself() {
        let packer = SharedCompression::default();
        let order: Vec<u64> = (0..100).collect();
        let (mut ahead, mut behind) = (FrameWriter::new(Vec::new()), FrameWriter::new(Vec::new()));
        assert_eq!(write(&packer, &mut Position::default(), &order, &mut ahead), 100);
        write(&packer, &mut Position::default(), &order, &mut behind);
        assert_reads(ahead.get_mut(), &order);
        assert_reads(behind.get_mut(), &order);
    }

    #[test]
    fn a_stream_is_kept_for_no_more_than_an_epoch() {
        let packer = SharedCompression::default();
        let order: Vec<u64> = (0..300).collect();
        write(&packer, &mut Position::default(), &order, &mut FrameWriter::new(Vec::new()));
        let epoch = packer.epoch.lock().unwrap();
        assert!(epoch.len < EPOCH_LEN + 240_001 && epoch.number > 5);
    }
}
