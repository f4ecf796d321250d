//! The message decoder: what decodes is the same after another round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speil::protocol::{ToReceiver, ToSender};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = postcard::from_bytes::<ToReceiver<'_>>(bytes) {
        let again = postcard::to_stdvec(&message).expect("what was decoded can be encoded");
        assert_eq!(postcard::from_bytes::<ToReceiver<'_>>(&again).as_ref(), Ok(&message));
    }
    if let Ok(message) = postcard::from_bytes::<ToSender<'_>>(bytes) {
        let again = postcard::to_stdvec(&message).expect("what was decoded can be encoded");
        assert_eq!(postcard::from_bytes::<ToSender<'_>>(&again).as_ref(), Ok(&message));
    }
});
