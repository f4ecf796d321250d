//! Micro-benchmarks of the single steps: delta, digest, walker, debounce, frame coding.
//!
//! **In → Out:** `cargo bench --bench micro -- [FILTER]` → times, and rates where bytes or items count.
//! **Not here:** what the steps come to together: `end_to_end`.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use speil::debounce::{Debounce, Options};
use speil::delta::{Differ, Index, Op, Signature, Signer, block_len};
use speil::disk::Root;
use speil::event::{Event, EventKind, Moment};
use speil::filter::Filter;
use speil::protocol::{FrameReader, FrameWriter, ToReceiver};
use speil::scan;
use speil::tree::{Attrs, DirDigest, Entry, FileId, Kind, Mask, Meta, RelPath, Time};

const CONTENT_BYTES: usize = 64 << 20;

fn main() {
    divan::main();
}

/// Bytes that do not repeat, the same for the same seed.
fn content(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..CONTENT_BYTES / 8).flat_map(|_| next()).collect()
}

fn signature_of(basis: &[u8]) -> Vec<u8> {
    let mut signer = Signer::new(block_len(basis.len() as u64)).expect("a block length");
    let mut entries = Vec::new();
    basis.chunks(512 << 10).for_each(|window| signer.push(window, &mut entries));
    signer.finish(&mut entries);
    entries
}

fn index_of(basis: &[u8]) -> Arc<Index> {
    let len = basis.len() as u64;
    let mut signature = Signature::new(len, block_len(len)).expect("a signature");
    signature.push(&signature_of(basis)).expect("its entries");
    Arc::new(signature.index().expect("an index"))
}

#[divan::bench]
fn delta_signature(bencher: Bencher<'_, '_>) {
    let basis = content(1);
    bencher.counter(BytesCount::new(basis.len())).bench_local(|| signature_of(&basis));
}

/// What becomes of the basis.
#[derive(Debug, Clone, Copy)]
enum New {
    Same,
    Edited,
    Shifted,
    Different,
}

#[divan::bench(args = [New::Same, New::Edited, New::Shifted, New::Different])]
fn delta_search(bencher: Bencher<'_, '_>, new: New) {
    let basis = content(1);
    let index = index_of(&basis);
    let mut changed = basis;
    match new {
        New::Same => {}
        New::Edited => changed.chunks_mut(4 << 20).for_each(|part| {
            let at = part.len() / 3;
            part.iter_mut().skip(at).take(40_000).for_each(|byte| *byte ^= 0x55);
        }),
        New::Shifted => {
            changed.splice(0..0, *b"15 bytes before");
        }
        New::Different => changed = content(2),
    }
    bencher.counter(BytesCount::new(changed.len())).bench_local(|| {
        let mut differ = Differ::new(Arc::clone(&index));
        let mut literal = 0;
        let mut emit = |op: Op<'_>| {
            if let Op::Literal(data) = op {
                literal += data.len();
            }
            Ok::<(), ()>(())
        };
        for piece in changed.chunks(256 << 10) {
            differ.push(piece, &mut emit).expect("nothing fails");
        }
        differ.finish(&mut emit).expect("nothing fails");
        literal
    });
}

#[divan::bench]
fn content_hash(bencher: Bencher<'_, '_>) {
    let data = content(1);
    bencher.counter(BytesCount::new(data.len())).bench_local(|| {
        let mut hasher = blake3::Hasher::new();
        for piece in data.chunks(256 << 10) {
            hasher.update(piece);
        }
        hasher.finalize()
    });
}

fn entry(number: usize) -> Entry {
    let meta = Meta {
        kind: Kind::File,
        mode: 0o644,
        uid: 33,
        gid: 33,
        size: number as u64,
        mtime: Time { secs: 1_700_000_000, nanos: 7 },
        rdev: 0,
    };
    Entry {
        name: format!("{number:06}-0badcafe.jpg").into_bytes(),
        attrs: Attrs { meta, symlink: Vec::new(), xattrs: Vec::new() },
        ctime: Time::default(),
        id: FileId { dev: 1, ino: number as u64 },
        nlink: 1,
        hash: None,
        digest: None,
    }
}

#[divan::bench]
fn directory_digest(bencher: Bencher<'_, '_>) {
    let entries: Vec<Entry> = (0..1_000).map(entry).collect();
    bencher.counter(ItemsCount::new(entries.len())).bench_local(|| {
        let mut digest = DirDigest::new(Mask::everything());
        entries.iter().for_each(|entry| digest.add(entry));
        digest.finish()
    });
}

#[divan::bench]
fn walk(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    for sub in 0..50 {
        let sub = dir.path().join(format!("{sub:02}"));
        fs::create_dir(&sub).expect("a directory");
        (0..200).for_each(|file| fs::write(sub.join(format!("{file:03}")), b"x").expect("a file"));
    }
    let root = Root::open(dir.path()).expect("the root");
    let options = scan::Options {
        mask: Mask::everything(),
        filter: Arc::new(Filter::default()),
        role: scan::Role::Source,
        one_file_system: false,
        recursive: true,
        checksum: false,
        links: speil::tree::LinkRules::default(),
        prune: false,
    };
    bencher
        .counter(ItemsCount::new(10_050_usize))
        .bench_local(|| scan::walk(&root, &RelPath::root(), &options, &scan::Plain));
}

#[divan::bench]
fn debounce_of_new_files(bencher: Bencher<'_, '_>) {
    let paths: Vec<RelPath> =
        (0..10_000).map(|n| RelPath::new(format!("{:02}/{n:05}.jpg", n % 100)).expect("a path")).collect();
    let options = Options {
        delay: Duration::from_millis(20),
        max_delay: Duration::from_secs(2),
        max_open: Duration::from_secs(60),
        delete_quiet: Duration::from_secs(1),
        delete_wait_max: Duration::from_secs(10),
        few_deletes: 10,
        paths_max: 100_000,
    };
    bencher.counter(ItemsCount::new(paths.len() * 3)).bench_local(|| {
        let mut debounce = Debounce::new(options.clone());
        let at = Instant::now();
        let mut items = 0;
        for path in &paths {
            debounce.event(Event {
                at,
                change: Moment::NEVER,
                kind: EventKind::Create { path: path.clone(), dir: false },
            });
            debounce.event(Event { at, change: Moment::NEVER, kind: EventKind::Modify(path.clone()) });
            debounce.event(Event { at, change: Moment::NEVER, kind: EventKind::CloseWrite(path.clone()) });
            items += debounce.due(at).len();
        }
        items
    });
}

#[divan::bench(args = [false, true])]
fn frames(bencher: Bencher<'_, '_>, compress: bool) {
    let data = content(1);
    let put = |data: &[u8]| {
        let Entry { attrs, .. } = entry(data.len());
        let mut writer = FrameWriter::new(Vec::with_capacity(CONTENT_BYTES * 2));
        writer.set_compress(compress);
        for (number, piece) in data.chunks(14_000).enumerate() {
            let path = RelPath::new(format!("2024/05/{number:06}.jpg")).expect("a path");
            let data = std::borrow::Cow::Borrowed(piece);
            let message =
                ToReceiver::Put { path, attrs: attrs.clone(), hash: [7; 32], provisional: false, data };
            writer.send(&message).expect("it fits");
        }
        std::mem::take(writer.get_mut())
    };
    bencher.counter(BytesCount::new(data.len())).bench_local(|| {
        let wire = put(&data);
        let mut reader = FrameReader::new(wire.as_slice());
        let mut read = 0;
        while let Ok(ToReceiver::Put { data, .. }) = reader.read::<ToReceiver<'_>>() {
            read += black_box(data.len());
        }
        read
    });
}
