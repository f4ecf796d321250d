//! The way to the receiver, shared by a session and its passes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bottleneck::Bottleneck;
use super::bundle::{Bundle, ConnectionWriter};
use super::shared_compression::Position;
use super::source::{Source, SourceFile};
use super::status::TargetStatus;
use crate::config::{Compress, Hours, Sync, rate_at};
use crate::disk::local_minute;
use crate::monitor::Counters;
use crate::protocol::{FrameError, FrameWriter, Hello, MAGIC, ToReceiver};

/// A debt to the bandwidth limit that is not worth a wait.
const DEBT_MAX: Duration = Duration::from_millis(10);
/// Where hours have limits of their own, the clock is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Bytes of data that are tried for whether they shrink.
const SAMPLE_LEN: usize = 4096;

/// Writes messages, within the bandwidth limit.
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    compress: Compress,
    status: Arc<TargetStatus>,
}

struct Inner {
    writer: FrameWriter<Pipe>,
    limit: Option<Limit>,
    bottleneck: Bottleneck,
    /// Tries whether data shrinks; made anew, it would cost more than the trial.
    sampler: Option<zstd::bulk::Compressor<'static>>,
    /// Where this connection stands in the stream that it shares with others.
    place: Position,
}

/// Bytes of a file of the source.
pub(super) struct Content<'a> {
    pub source: &'a Source,
    pub file: &'a SourceFile,
    /// Where in the file they stand.
    pub offset: u64,
    pub data: &'a [u8],
}

/// A stream that can be closed while others hold it.
struct Pipe(Option<ConnectionWriter>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Err(io::ErrorKind::BrokenPipe.into()), |pipe| pipe.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Err(io::ErrorKind::BrokenPipe.into()), Write::flush)
    }
}

/// A bandwidth limit as a debt that the session waits off.
struct Limit {
    /// Where no hours say otherwise.
    rate: Option<u64>,
    hours: Vec<Hours>,
    /// What holds now, and when the clock was looked at.
    bytes_per_s: Option<u64>,
    looked: Option<Instant>,
    paid: Instant,
    counted: u64,
}

impl Limit {
    /// Returns the limit of a sync; `None` if nothing limits it at any time.
    fn of(sync: &Sync) -> Option<Self> {
        let rate = sync.bwlimit.filter(|&rate| rate > 0);
        if rate.is_none() && sync.bwlimit_hours.is_empty() {
            return None;
        }
        let hours = sync.bwlimit_hours.clone();
        Some(Self { rate, hours, bytes_per_s: rate, looked: None, paid: Instant::now(), counted: 0 })
    }

    /// Takes in that so many bytes were sent in all.
    fn owe(&mut self, sent: u64) {
        let (new, now) = (sent - self.counted, Instant::now());
        self.counted = sent;
        if !self.hours.is_empty() && self.looked.is_none_or(|at| now.duration_since(at) > LOOK_EVERY) {
            let (weekday, minute) = local_minute();
            self.bytes_per_s = rate_at(self.rate, &self.hours, weekday, minute);
            self.looked = Some(now);
        }
        // The past does not save up: a pause is no licence for a burst.
        self.paid = match self.bytes_per_s {
            Some(rate) => self.paid.max(now) + Duration::from_secs_f64(new as f64 / rate as f64),
            None => now,
        };
    }
}

impl Outbox {
    pub fn new(writer: ConnectionWriter, sync: &Sync, status: Arc<TargetStatus>) -> Self {
        let inner = Inner {
            writer: FrameWriter::new(Pipe(Some(writer))),
            limit: Limit::of(sync),
            bottleneck: Bottleneck::default(),
            sampler: None,
            place: Position::default(),
        };
        Self { inner: Mutex::new(inner), compress: sync.compress, status }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the first message, as it is: who hands a session on looks into it.
    pub fn greet(&self, hello: Hello) -> Result<(), FrameError> {
        let mut inner = self.lock();
        inner.writer.raw(&MAGIC)?;
        inner.writer.set_compress(false);
        self.write(&mut inner, 0, |inner| inner.writer.send(&ToReceiver::Hello(Box::new(hello))))?;
        inner.writer.flush()
    }

    /// Writes a message; it leaves with the next flush at the latest.
    pub fn send(&self, message: &ToReceiver<'_>) -> Result<(), FrameError> {
        let mut inner = self.lock();
        let on = self.compresses(&inner);
        let compress = match message {
            ToReceiver::Data { data, .. } => self.packs(&mut inner, data),
            _ => on,
        };
        inner.writer.set_compress(compress);
        let content = if let ToReceiver::Data { data, .. } = message { data.len() as u64 } else { 0 };
        self.write(&mut inner, content, |inner| inner.writer.send(message))
    }

    /// Writes a message that ends with content of the source: `head` is the message without data.
    /// Targets in step share the compression.
    pub fn send_content(&self, head: &ToReceiver<'_>, content: &Content<'_>) -> Result<(), FrameError> {
        let mut inner = self.lock();
        let compress = self.packs(&mut inner, content.data);
        inner.writer.set_compress(compress);
        self.write(&mut inner, content.data.len() as u64, |inner| {
            let shared = content.source.packer().filter(|_| compress).and_then(|packer| {
                packer.block(&mut inner.place, content.file.number(), content.offset, content.data)
            });
            match shared {
                Some(block) => inner.writer.send_block(head, &block),
                None => inner.writer.send_with(head, content.data),
            }
        })
    }

    fn compresses(&self, inner: &Inner) -> bool {
        match self.compress {
            Compress::Never => false,
            Compress::Always => true,
            Compress::Auto => inner.bottleneck.is_link(),
        }
    }

    /// Whether some data is compressed: what shrinks, where compressing pays. Zeros always are: that
    /// costs less than to carry them anywhere.
    fn packs(&self, inner: &mut Inner, data: &[u8]) -> bool {
        if self.compresses(inner) {
            return inner.shrinks(data);
        }
        self.compress == Compress::Auto && data.len() >= SAMPLE_LEN && is_zeros(data)
    }

    /// Whether the connection takes in less than a search of new content gives.
    pub fn is_slow(&self) -> bool {
        self.lock().bottleneck.is_slow()
    }

    fn write(
        &self,
        inner: &mut Inner,
        content: u64,
        write: impl FnOnce(&mut Inner) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let began = Instant::now();
        let before = inner.writer.sent_bytes();
        write(inner)?;
        let sent = inner.writer.sent_bytes() - before;
        Counters::add(&self.status.counters.sent_bytes, sent);
        // What was packed counts with what it holds.
        inner.bottleneck.note(content.max(sent), began.elapsed());
        inner.owe();
        Ok(())
    }

    /// Returns when what was sent so far is within the bandwidth limit; `None` if it is now.
    pub fn due(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.limit.as_ref().map(|limit| limit.paid).filter(|paid| *paid > Instant::now() + DEBT_MAX)
    }

    /// Returns how many bytes were written in all.
    pub fn sent(&self) -> u64 {
        self.lock().writer.sent_bytes()
    }

    /// Takes in that nothing was written for a time because the link was full.
    pub fn waited(&self, took: Duration) {
        self.lock().bottleneck.note(0, took);
    }

    pub fn flush(&self) -> Result<(), FrameError> {
        self.lock().writer.flush()
    }

    /// Tells the receiver that more connections have come, and takes them into use.
    pub fn widen(&self, further: Vec<ConnectionWriter>) -> Result<(), FrameError> {
        let mut inner = self.lock();
        inner.writer.send(&ToReceiver::Bundled)?;
        inner.writer.flush()?;
        let pipe = inner.writer.get_mut();
        let ways = pipe.0.take().into_iter().chain(further).collect();
        pipe.0 = Some(Box::new(Bundle::new(ways)?));
        Ok(())
    }

    /// Closes the connection in this direction; later messages fail.
    pub fn close(&self) {
        self.lock().writer.get_mut().0 = None;
    }
}

/// Whether bytes are all zero: a quarter of all that zeros cost, if asked byte by byte.
fn is_zeros(data: &[u8]) -> bool {
    let (words, rest) = data.as_chunks::<64>();
    let is_zero = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    words.iter().all(|word| is_zero(word)) && is_zero(rest)
}

impl Inner {
    /// Whether a sample of the data shrinks by a tenth or more.
    fn shrinks(&mut self, data: &[u8]) -> bool {
        if data.len() < 256 {
            return true;
        }
        let sample = &data[..data.len().min(SAMPLE_LEN)];
        let sampler = match &mut self.sampler {
            Some(sampler) => sampler,
            none => match zstd::bulk::Compressor::new(1) {
                Ok(sampler) => none.insert(sampler),
                Err(_) => return false,
            },
        };
        sampler.compress(sample).is_ok_and(|packed| packed.len() * 10 < sample.len() * 9)
    }

    fn owe(&mut self) {
        let sent = self.writer.sent_bytes();
        if let Some(limit) = &mut self.limit {
            limit.owe(sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_hours_holds_in_them_alone() {
        let mut sync = Sync::new("s", "/s", Vec::new());
        assert!(Limit::of(&sync).is_none());
        let always = Hours { days: [true; 7], from: 0, to: 24 * 60, rate: Some(1) };
        let owes = |sync: &Sync| {
            let mut limit = Limit::of(sync).unwrap();
            limit.owe(1_000_000);
            limit.paid > Instant::now() + Duration::from_secs(3600)
        };
        sync.bwlimit_hours = vec![always.clone()];
        assert!(owes(&sync));
        sync.bwlimit = Some(1);
        sync.bwlimit_hours = vec![Hours { rate: None, ..always.clone() }];
        assert!(!owes(&sync));
        sync.bwlimit_hours = vec![Hours { days: [false; 7], ..always }];
        assert!(owes(&sync));
    }

    #[test]
    fn one_bit_anywhere_is_no_zeros() {
        for len in [0, 1, 63, 64, 65, 200] {
            let mut data = vec![0; len];
            assert!(is_zeros(&data));
            for at in 0..len {
                data[at] = 0x10;
                assert!(!is_zeros(&data), "{at} of {len}");
                data[at] = 0;
            }
        }
    }
}
