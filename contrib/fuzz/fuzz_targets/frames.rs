//! The frame decoder: whatever stands in a stream, it ends in messages or an error, in bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speil::protocol::{FrameReader, MAGIC, ToReceiver, ToSender, read_magic};

fuzz_target!(|bytes: &[u8]| {
    let Some((&side, stream)) = bytes.split_first() else { return };
    let _ = read_magic(&mut &stream[..]);
    let _ = read_magic(&mut [&MAGIC[..], stream].concat().as_slice());
    let mut frames = FrameReader::new(stream);
    if side & 1 == 0 {
        while frames.read::<ToReceiver<'_>>().is_ok() {}
    } else {
        while frames.read::<ToSender<'_>>().is_ok() {}
    }
});
