//! Framing: a length, a flag, one message.
//!
//! Header: four bytes, little-endian; bit 31 says that the payload is the next piece of the
//! connection's one zstd stream, bits 0 to 23 are the payload's length. A compressed payload is
//! preceded by the length that it unpacks to, likewise four bytes.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use zstd::stream::raw::{Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::error::{Consequence, Consequential, io_text};
use crate::tree::quote;

/// The first bytes in either direction.
pub const MAGIC: [u8; 8] = *b"\0speil\x01\n";

/// Longest message in bytes, unpacked.
pub const FRAME_LEN_MAX: usize = (1 << 20) + (1 << 16);

/// Most bytes of shell noise that are read while looking for [`MAGIC`].
const NOISE_LEN_MAX: usize = 16 * 1024;

const COMPRESSED: u32 = 1 << 31;
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
    #[error("expected a speil agent, got {}", quote(.0))]
    Noise(Vec<u8>),
}

impl Consequential for FrameError {
    fn consequence(&self) -> Consequence {
        Consequence::Again
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
    level: i32,
    sent_bytes: u64,
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
            level: 3,
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
        self.scratch.clear();
        let scratch = std::mem::take(&mut self.scratch);
        self.scratch = postcard::to_extend(message, scratch)?;
        let len = self.scratch.len();
        if len > FRAME_LEN_MAX {
            return Err(FrameError::TooLong(len));
        }
        if self.compress && len >= 64 {
            return self.send_packed();
        }
        let header = u32::try_from(len).map_err(|_| FrameError::TooLong(len))?;
        self.to.write_all(&header.to_le_bytes())?;
        self.to.write_all(&self.scratch)?;
        self.sent_bytes += len as u64 + 4;
        Ok(())
    }

    fn send_packed(&mut self) -> Result<(), FrameError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new(self.level)?),
        };
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.scratch.len()) + 1024);
        {
            let mut input = InBuffer::around(&self.scratch);
            let mut out = OutBuffer::around(&mut self.packed);
            while input.pos() < self.scratch.len() {
                encoder.run(&mut input, &mut out)?;
            }
            if encoder.flush(&mut out)? != 0 {
                return Err(FrameError::Unpack);
            }
        }
        let len = self.packed.len();
        let header = u32::try_from(len).map_err(|_| FrameError::TooLong(len))?;
        let raw = u32::try_from(self.scratch.len()).map_err(|_| FrameError::TooLong(len))?;
        self.to.write_all(&(header | COMPRESSED).to_le_bytes())?;
        self.to.write_all(&raw.to_le_bytes())?;
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

/// Reads messages from a byte stream.
pub struct FrameReader<R> {
    from: R,
    payload: Vec<u8>,
    unpacked: Vec<u8>,
    decoder: Option<Decoder<'static>>,
    received_bytes: u64,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `from`, which should be buffered.
    pub fn new(from: R) -> Self {
        Self { from, payload: Vec::new(), unpacked: Vec::new(), decoder: None, received_bytes: 0 }
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
        let compressed = header & COMPRESSED != 0;
        if len > FRAME_LEN_MAX || header & !(LEN_MASK | COMPRESSED) != 0 {
            return Err(FrameError::TooLong((header & !COMPRESSED) as usize));
        }
        let mut raw = [0; 4];
        if compressed {
            self.from.read_exact(&mut raw)?;
        }
        self.payload.resize(len, 0);
        self.from.read_exact(&mut self.payload)?;
        self.received_bytes += len as u64 + 4;
        if compressed {
            self.received_bytes += 4;
            self.unpack(u32::from_le_bytes(raw) as usize)?;
        }
        Ok(compressed)
    }

    fn unpack(&mut self, raw_len: usize) -> Result<(), FrameError> {
        if raw_len > FRAME_LEN_MAX {
            return Err(FrameError::TooLong(raw_len));
        }
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new()?),
        };
        self.unpacked.clear();
        // One byte more than stated, so that a longer result is noticed.
        self.unpacked.reserve(raw_len + 1);
        {
            let mut input = InBuffer::around(&self.payload);
            let mut out = OutBuffer::around(&mut self.unpacked);
            loop {
                let (before_in, before_out) = (input.pos(), out.pos());
                decoder.run(&mut input, &mut out)?;
                if out.pos() > raw_len {
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
    fn shell_noise_before_the_magic_is_reported_word_for_word() {
        let mut bytes = b"Welcome to web2\n".to_vec();
        bytes.extend_from_slice(&MAGIC);
        match read_magic(&mut bytes.as_slice()) {
            Err(FrameError::Noise(noise)) => assert_eq!(noise, b"Welcome to web2\n"),
            other => panic!("{other:?}"),
        }
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

    proptest! {
        #[test]
        fn messages_survive_framing_in_any_mix_of_compression(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..20)
        ) {
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(&mut bytes);
            for (message, compress) in &messages {
                writer.set_compress(*compress);
                writer.send(message).unwrap();
            }
            let sent = writer.sent_bytes();
            assert_eq!(sent, bytes.len() as u64);
            let mut reader = FrameReader::new(bytes.as_slice());
            for (message, _) in &messages {
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
