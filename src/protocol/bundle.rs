//! One stream of bytes over several connections, in numbered pieces.
//!
//! From [`ToReceiver::Bundled`](super::ToReceiver::Bundled) on, what goes to a receiver is cut into pieces,
//! and each takes whichever connection has room: a header (the number, eight bytes, and the length, four
//! bytes, both little-endian), then the bytes. On one connection numbers only rise; over all of them they
//! are without a gap, from 0 on. What comes back takes the first connection alone, as before.

use super::frame::FrameError;

/// Bytes of a piece at most.
pub const PIECE_LEN_MAX: usize = 64 << 10;
/// Bytes before each piece.
pub const PIECE_HEADER_LEN: usize = 12;

/// Returns what stands before a piece of so many bytes.
pub fn piece_header(number: u64, len: usize) -> [u8; PIECE_HEADER_LEN] {
    let mut header = [0; PIECE_HEADER_LEN];
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    header[..8].copy_from_slice(&number.to_le_bytes());
    header[8..].copy_from_slice(&len.to_le_bytes());
    header
}

/// Returns number and length of the piece behind a header.
///
/// # Errors
/// [`FrameError::TooLong`] for a length of zero or over [`PIECE_LEN_MAX`].
pub fn parse_piece_header(header: [u8; PIECE_HEADER_LEN]) -> Result<(u64, usize), FrameError> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = header;
    let len = u32::from_le_bytes([i, j, k, l]) as usize;
    if len == 0 || len > PIECE_LEN_MAX {
        return Err(FrameError::TooLong(len));
    }
    Ok((u64::from_le_bytes([a, b, c, d, e, f, g, h]), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_written_and_no_other_length_is_taken() {
        for (number, len) in [(0, 1), (u64::MAX, PIECE_LEN_MAX)] {
            assert_eq!(parse_piece_header(piece_header(number, len)).unwrap(), (number, len));
        }
        for len in [0, PIECE_LEN_MAX + 1, usize::MAX] {
            assert!(parse_piece_header(piece_header(7, len)).is_err(), "{len}");
        }
    }
}
