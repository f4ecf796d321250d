//! rsync's options: any words end in a command or one error, and an error is one line.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut words: Vec<OsString> = vec!["speil".into()];
    words.push(if bytes.first().is_some_and(|byte| byte & 1 == 1) { "mirror" } else { "sync" }.into());
    let given = bytes.get(1..).unwrap_or_default().split(|&byte| byte == 0).take(24);
    // Options that read files are left to other tests: a fuzzer must not open what it makes up.
    let words_given = given.filter(|word| !word.windows(4).any(|four| four == b"from" || four == b"-con"));
    words.extend(words_given.map(|word| OsString::from_vec(word.to_vec())));
    let _ = speil::cli::parse(words);
});
