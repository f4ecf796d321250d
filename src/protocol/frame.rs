//! Framing: a length, a flag, one message.
//!
//! Header: four bytes, little-endian; bits 0 to 23 are the payload's length, the others say how it
//! is packed. A packed payload is preceded by the length that it unpacks to, likewise four bytes.
//! Bit 31: the payload is the next piece of the connection's own zstd stream. Bit 30: the payload is
//! the length of a head (four bytes), the head as it is, and a [`Block`] of a stream that several
//! connections share, with bit 29 where that stream begins anew.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::error::{Consequence, Consequential, io_text};
use crate::tree::quote;

/// The first bytes in either direction.
pub const MAGIC: [u8; 8] = *b"\0speil\x01\n";

/// Longest message in bytes, unpacked.
pub const FRAME_LEN_MAX: usize = (1 << 20) + (1 << 16);

/// Most bytes of shell noise that are read while looking for [`MAGIC`].
const NOISE_LEN_MAX: usize = 16 * 1024;
/// Bytes of it that a message shows.
const NOISE_SHOWN_LEN: usize = 200;

const COMPRESSED: u32 = 1 << 31;
const SHARED: u32 = 1 << 30;
const ANEW: u32 = 1 << 29;
/// How hard zstd tries.
const LEVEL: i32 = 3;
/// Largest window of a stream, as a power of two: 4 MiB. [`LEVEL`] uses 2 MiB.
const WINDOW_LOG_MAX: u32 = 22;
const LEN_MASK: u32 = (1 << 24) - 1;

/// Why a connection cannot go on. Consequence: the connection ends and is made again.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between two messages.
    #[error("connection closed by the other side")]
    Closed,
    /// Reading or writing failed.
    #[error("connection lost: {}", io_text(.0))]
    Io(#[from] io::Error),
    /// A frame states a length over the limit.
    #[error("frame of {0} bytes, at most {FRAME_LEN_MAX} are allowed")]
    TooLong(usize),
    /// A frame does not hold the message that it claims.
    #[error("frame does not decode: {0}")]
    Decode(#[from] postcard::Error),
    /// A compressed frame does not unpack to what it states.
    #[error("compressed frame does not unpack to the length it states")]
    Unpack,
    /// Something else than speil answered first.
    #[error("expected a speil agent, got {}", noise_text(.0))]
    Noise(Vec<u8>),
}

impl Consequential for FrameError {
    fn consequence(&self) -> Consequence {
        Consequence::Again
    }
}

/// Returns the beginning of what answered, quoted: enough to recognise it by, in one line of a log.
fn noise_text(noise: &[u8]) -> String {
    match noise.get(..NOISE_SHOWN_LEN) {
        Some(start) if start.len() < noise.len() => format!("{} and more", quote(start)),
        _ => quote(noise),
    }
}

/// Reads up to and including [`MAGIC`].
///
/// # Errors
/// [`FrameError::Noise`] with what stood there instead (a login shell's greeting, an error message),
/// [`FrameError::Closed`] if nothing came at all.
pub fn read_magic(from: &mut impl Read) -> Result<(), FrameError> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while seen.len() < NOISE_LEN_MAX {
        match from.read(&mut byte) {
            Ok(0) if seen.is_empty() => return Err(FrameError::Closed),
            Ok(0) => break,
            Ok(_) => seen.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        if seen.ends_with(&MAGIC) {
            return if seen.len() == MAGIC.len() {
                Ok(())
            } else {
                seen.truncate(seen.len() - MAGIC.len());
                Err(FrameError::Noise(seen))
            };
        }
    }
    Err(FrameError::Noise(seen))
}

/// Writes messages into a byte stream.
pub struct FrameWriter<W> {
    to: W,
    scratch: Vec<u8>,
    packed: Vec<u8>,
    encoder: Option<Encoder<'static>>,
    compress: bool,
    sent_bytes: u64,
}

/// Packs data once for several connections, which all must get each block in this order.
pub struct BlockPacker {
    encoder: Encoder<'static>,
    anew: bool,
}

/// A piece of a zstd stream that several connections share.
pub struct Block {
    anew: bool,
    raw_len: usize,
    packed: Vec<u8>,
}

impl BlockPacker {
    /// Begins a stream.
    ///
    /// # Errors
    /// Memory for the encoder.
    pub fn new() -> io::Result<Self> {
        Ok(Self { encoder: Encoder::new(LEVEL)?, anew: true })
    }

    /// Packs the next block.
    ///
    /// # Errors
    /// What the encoder says; the stream is of no use then.
    pub fn pack(&mut self, data: &[u8]) -> Result<Block, FrameError> {
        let mut packed = Vec::new();
        pack(&mut self.encoder, data, &mut packed)?;
        packed.shrink_to_fit();
        Ok(Block { anew: std::mem::take(&mut self.anew), raw_len: data.len(), packed })
    }
}

impl Block {
    /// Returns its length in bytes as it travels.
    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }
}

fn pack(encoder: &mut Encoder<'static>, data: &[u8], packed: &mut Vec<u8>) -> Result<(), FrameError> {
    packed.clear();
    packed.reserve(zstd::zstd_safe::compress_bound(data.len()) + 1024);
    let mut input = InBuffer::around(data);
    let mut out = OutBuffer::around(packed);
    while input.pos() < data.len() {
        encoder.run(&mut input, &mut out)?;
    }
    if encoder.flush(&mut out)? == 0 { Ok(()) } else { Err(FrameError::Unpack) }
}

impl<W: Write> FrameWriter<W> {
    /// Writes to `to`, uncompressed until [`FrameWriter::set_compress`].
    pub fn new(to: W) -> Self {
        Self {
            to,
            scratch: Vec::with_capacity(4096),
            packed: Vec::new(),
            encoder: None,
            compress: false,
            sent_bytes: 0,
        }
    }

    /// Switches compression of the following messages on or off. The stream's window lives on, so
    /// frames may be mixed.
    pub fn set_compress(&mut self, on: bool) {
        self.compress = on;
    }

    /// Writes one message; it may stay in the writer's buffers until [`FrameWriter::flush`].
    ///
    /// # Errors
    /// [`FrameError::TooLong`] for a message over [`FRAME_LEN_MAX`], [`FrameError::Io`].
    pub fn send<M: Serialize>(&mut self, message: &M) -> Result<(), FrameError> {
        self.encode(message)?;
        if self.compress && self.scratch.len() >= 64 {
            return self.send_packed();
        }
        self.send_plain(&[])
    }

    /// Writes a message that ends with `data`, of which `head` is all but that: it holds no data.
    /// Uncompressed, the data is not copied.
    ///
    /// # Errors
    /// As [`FrameWriter::send`].
    pub fn send_with<M: Serialize>(&mut self, head: &M, data: &[u8]) -> Result<(), FrameError> {
        self.encode_head(head, data.len())?;
        if self.compress {
            self.scratch.extend_from_slice(data);
            return self.send_packed();
        }
        self.send_plain(data)
    }

    /// Writes a message that ends with the data of `block`, of which `head` is all but that. Every
    /// block since the stream began anew must have been written here before.
    ///
    /// # Errors
    /// As [`FrameWriter::send`].
    pub fn send_block<M: Serialize>(&mut self, head: &M, block: &Block) -> Result<(), FrameError> {
        self.encode_head(head, block.raw_len)?;
        let raw_len = self.scratch.len() + block.raw_len;
        let len = 4 + self.scratch.len() + block.packed.len();
        let anew = if block.anew { ANEW } else { 0 };
        self.to.write_all(&(header(len.max(raw_len), len)? | SHARED | anew).to_le_bytes())?;
        self.to.write_all(&header(raw_len, raw_len)?.to_le_bytes())?;
        self.to.write_all(&header(self.scratch.len(), self.scratch.len())?.to_le_bytes())?;
        self.to.write_all(&self.scratch)?;
        self.to.write_all(&block.packed)?;
        self.sent_bytes += len as u64 + 8;
        Ok(())
    }

    fn encode<M: Serialize>(&mut self, message: &M) -> Result<(), FrameError> {
        self.scratch.clear();
        let scratch = std::mem::take(&mut self.scratch);
        self.scratch = postcard::to_extend(message, scratch)?;
        Ok(())
    }

    /// Encodes a message without data up to where `len` bytes of data follow.
    fn encode_head<M: Serialize>(&mut self, head: &M, len: usize) -> Result<(), FrameError> {
        self.encode(head)?;
        // The length of no data is one zero byte, the last of the message.
        if self.scratch.pop() != Some(0) {
            return Err(FrameError::TooLong(len));
        }
        let scratch = std::mem::take(&mut self.scratch);
        self.scratch = postcard::to_extend(&len, scratch)?;
        Ok(())
    }

    fn send_plain(&mut self, data: &[u8]) -> Result<(), FrameError> {
        let len = self.scratch.len() + data.len();
        self.to.write_all(&header(len, len)?.to_le_bytes())?;
        self.to.write_all(&self.scratch)?;
        if !data.is_empty() {
            self.to.write_all(data)?;
        }
        self.sent_bytes += len as u64 + 4;
        Ok(())
    }

    fn send_packed(&mut self) -> Result<(), FrameError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new(LEVEL)?),
        };
        pack(encoder, &self.scratch, &mut self.packed)?;
        let (raw, len) = (self.scratch.len(), self.packed.len());
        self.to.write_all(&(header(raw, len)? | COMPRESSED).to_le_bytes())?;
        self.to.write_all(&header(raw, raw)?.to_le_bytes())?;
        self.to.write_all(&self.packed)?;
        self.sent_bytes += len as u64 + 8;
        Ok(())
    }

    /// Writes bytes as they are: the magic, before the first message.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.sent_bytes += bytes.len() as u64;
        Ok(self.to.write_all(bytes)?)
    }

    /// Hands everything written so far to the connection.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub fn flush(&mut self) -> Result<(), FrameError> {
        Ok(self.to.flush()?)
    }

    /// Returns the stream that is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.to
    }

    /// Returns how many bytes went to the connection.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

/// Returns `len` for a header, of a frame that unpacks to `raw` bytes.
fn header(raw: usize, len: usize) -> Result<u32, FrameError> {
    if raw > FRAME_LEN_MAX {
        return Err(FrameError::TooLong(raw));
    }
    u32::try_from(len).ok().filter(|&len| len & !LEN_MASK == 0).ok_or(FrameError::TooLong(len))
}

/// Returns a decoder that takes no larger window than a sender of ours uses.
fn new_decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}

/// Reads messages from a byte stream.
pub struct FrameReader<R> {
    from: R,
    payload: Vec<u8>,
    unpacked: Vec<u8>,
    decoder: Option<Decoder<'static>>,
    shared: Option<Decoder<'static>>,
    received_bytes: u64,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `from`, which should be buffered.
    pub fn new(from: R) -> Self {
        Self {
            from,
            payload: Vec::new(),
            unpacked: Vec::new(),
            decoder: None,
            shared: None,
            received_bytes: 0,
        }
    }

    /// Reads one message, which borrows the reader's buffer.
    ///
    /// # Errors
    /// [`FrameError::Closed`] at a clean end, any other variant for a broken or hostile stream.
    pub fn read<'a, M: Deserialize<'a>>(&'a mut self) -> Result<M, FrameError> {
        let compressed = self.fill()?;
        let bytes = if compressed { &self.unpacked } else { &self.payload };
        Ok(postcard::from_bytes(bytes)?)
    }

    fn fill(&mut self) -> Result<bool, FrameError> {
        let mut header = [0; 4];
        match self.from.read(&mut header) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(4) => {}
            Ok(some) => self.from.read_exact(&mut header[some..])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.from.read_exact(&mut header)?,
            Err(error) => return Err(error.into()),
        }
        let header = u32::from_le_bytes(header);
        let len = (header & LEN_MASK) as usize;
        let packing = header & !LEN_MASK;
        if len > FRAME_LEN_MAX || !matches!(packing, 0 | COMPRESSED | SHARED) && packing != SHARED | ANEW {
            return Err(FrameError::TooLong((header & !COMPRESSED) as usize));
        }
        let mut raw = [0; 4];
        if packing != 0 {
            self.from.read_exact(&mut raw)?;
            self.received_bytes += 4;
        }
        self.payload.resize(len, 0);
        self.from.read_exact(&mut self.payload)?;
        self.received_bytes += len as u64 + 4;
        if packing == 0 {
            return Ok(false);
        }
        self.unpack(u32::from_le_bytes(raw) as usize, packing)?;
        Ok(true)
    }

    fn unpack(&mut self, raw_len: usize, packing: u32) -> Result<(), FrameError> {
        if raw_len > FRAME_LEN_MAX {
            return Err(FrameError::TooLong(raw_len));
        }
        self.unpacked.clear();
        // One byte more than stated, so that a longer result is noticed.
        self.unpacked.reserve(raw_len + 1);
        let mut packed = self.payload.as_slice();
        let decoder = if packing == COMPRESSED {
            &mut self.decoder
        } else {
            let head;
            (head, packed) = packed.split_first_chunk().ok_or(FrameError::Unpack)?;
            let head = u32::from_le_bytes(*head) as usize;
            let (head, block) = packed.split_at_checked(head).ok_or(FrameError::Unpack)?;
            if head.len() > raw_len {
                return Err(FrameError::Unpack);
            }
            self.unpacked.extend_from_slice(head);
            packed = block;
            &mut self.shared
        };
        if packing & ANEW != 0 {
            *decoder = None;
        }
        let decoder = match decoder {
            Some(decoder) => decoder,
            none => none.insert(new_decoder()?),
        };
        let rest = raw_len - self.unpacked.len();
        let start = self.unpacked.len();
        {
            let mut input = InBuffer::around(packed);
            let mut out = OutBuffer::around_pos(&mut self.unpacked, start);
            loop {
                let (before_in, before_out) = (input.pos(), out.pos());
                decoder.run(&mut input, &mut out)?;
                if out.pos() - start > rest {
                    return Err(FrameError::Unpack);
                }
                if input.pos() == before_in && out.pos() == before_out {
                    break;
                }
            }
        }
        if self.unpacked.len() == raw_len { Ok(()) } else { Err(FrameError::Unpack) }
    }

    /// Returns how many bytes came from the connection.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Returns the stream that is read from.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    #[test]
    fn a_bomb_and_a_window_that_nobody_needs_are_refused() {
        let framed = |raw: u32, packed: &[u8]| {
            let mut bytes = (u32::try_from(packed.len()).unwrap() | COMPRESSED).to_le_bytes().to_vec();
            bytes.extend_from_slice(&raw.to_le_bytes());
            bytes.extend_from_slice(packed);
            bytes
        };
        let mut bomb = Encoder::new(LEVEL).unwrap();
        let mut packed = Vec::new();
        pack(&mut bomb, &vec![0; 256 << 20], &mut packed).unwrap();
        assert!(packed.len() < FRAME_LEN_MAX, "a quarter of a gigabyte fits one frame");
        for raw in [0, 1, 1 << 10, u32::try_from(FRAME_LEN_MAX).unwrap()] {
            let bytes = framed(raw, &packed);
            let mut reader = FrameReader::new(bytes.as_slice());
            assert!(matches!(reader.read::<u8>(), Err(FrameError::Unpack)), "{raw}");
            assert!(reader.unpacked.capacity() <= FRAME_LEN_MAX + 1);
        }
        let mut wide = Encoder::new(3).unwrap();
        wide.set_parameter(zstd::stream::raw::CParameter::WindowLog(WINDOW_LOG_MAX + 1)).unwrap();
        let mut packed = Vec::new();
        pack(&mut wide, &[7; 1000], &mut packed).unwrap();
        let bytes = framed(1000, &packed);
        assert!(matches!(FrameReader::new(bytes.as_slice()).read::<u8>(), Err(FrameError::Io(_))));
    }

    #[test]
    fn shell_noise_before_the_magic_is_reported_word_for_word() {
        let mut bytes = b"Welcome to web2\n".to_vec();
        bytes.extend_from_slice(&MAGIC);
        match read_magic(&mut bytes.as_slice()) {
            Err(FrameError::Noise(noise)) => assert_eq!(noise, b"Welcome to web2\n"),
            other => panic!("{other:?}"),
        }
        let long = FrameError::Noise(vec![0x1b; NOISE_LEN_MAX]).to_string();
        assert_eq!(long.matches("1b").count(), NOISE_SHOWN_LEN);
        assert!(long.ends_with("and more"), "{long}");
        assert!(read_magic(&mut MAGIC.as_slice()).is_ok());
        assert!(matches!(read_magic(&mut [].as_slice()), Err(FrameError::Closed)));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_allocation() {
        for header in [u32::MAX, LEN_MASK, (FRAME_LEN_MAX as u32) + 1, 1 << 25] {
            let bytes = header.to_le_bytes();
            let mut reader = FrameReader::new(bytes.as_slice());
            assert!(matches!(reader.read::<u32>(), Err(FrameError::TooLong(_))), "{header:x}");
            assert!(reader.payload.capacity() == 0);
        }
    }

    #[test]
    fn a_compressed_frame_that_unpacks_to_more_than_it_states_is_refused() {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        writer.set_compress(true);
        writer.send(&vec![0u8; 900_000]).unwrap();
        let honest = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        for lie in [0, 1, honest - 1, honest + 1, u32::MAX] {
            bytes[4..8].copy_from_slice(&lie.to_le_bytes());
            assert!(FrameReader::new(bytes.as_slice()).read::<Vec<u8>>().is_err(), "{lie}");
        }
    }

    #[test]
    fn a_block_whose_head_or_length_lies_is_refused() {
        let mut bytes = Vec::new();
        let block = BlockPacker::new().unwrap().pack(&[7; 1000]).unwrap();
        FrameWriter::new(&mut bytes).send_block(&Vec::<u8>::new(), &block).unwrap();
        assert_eq!(FrameReader::new(bytes.as_slice()).read::<Vec<u8>>().unwrap(), [7; 1000]);
        for at in [4, 8] {
            for lie in [0, 1, 3, 1001, 1003, u32::MAX] {
                let mut bytes = bytes.clone();
                bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                assert!(FrameReader::new(bytes.as_slice()).read::<Vec<u8>>().is_err(), "{at} {lie}");
            }
        }
        for bits in [ANEW, COMPRESSED | SHARED, COMPRESSED | ANEW, 1 << 24] {
            let mut bytes = bytes.clone();
            let first = u32::from_le_bytes(bytes[..4].try_into().unwrap()) & LEN_MASK | bits;
            bytes[..4].copy_from_slice(&first.to_le_bytes());
            assert!(FrameReader::new(bytes.as_slice()).read::<Vec<u8>>().is_err(), "{bits:x}");
        }
    }

    proptest! {
        #[test]
        fn messages_survive_framing_in_any_mix_of_compression(
            messages in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..3000), any::<bool>(), 0..3u8, any::<bool>()), 0..20)
        ) {
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(&mut bytes);
            let mut packer = BlockPacker::new().unwrap();
            let none = Vec::<u8>::new();
            for (message, compress, way, anew) in &messages {
                writer.set_compress(*compress);
                if *anew {
                    packer = BlockPacker::new().unwrap();
                }
                match way {
                    0 => writer.send(message).unwrap(),
                    1 => writer.send_with(&none, message).unwrap(),
                    _ => writer.send_block(&none, &packer.pack(message).unwrap()).unwrap(),
                }
            }
            let sent = writer.sent_bytes();
            assert_eq!(sent, bytes.len() as u64);
            let mut reader = FrameReader::new(bytes.as_slice());
            for (message, ..) in &messages {
                assert_eq!(&reader.read::<Vec<u8>>().unwrap(), message);
            }
            assert!(matches!(reader.read::<Vec<u8>>(), Err(FrameError::Closed)));
            assert_eq!(reader.received_bytes(), sent);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut reader = FrameReader::new(bytes.as_slice());
            while reader.read::<crate::protocol::ToReceiver<'_>>().is_ok() {}
        }
    }
}
