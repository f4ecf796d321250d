use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::differ::Tuning;
use super::ops::Limits;
use super::*;

mod oracle;
mod speed;

/// An op that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Copy(u64, u64),
    Literal(Vec<u8>),
}

impl From<Op<'_>> for Step {
    fn from(op: Op<'_>) -> Self {
        match op {
            Op::Copy { offset, len } => Self::Copy(offset, len),
            Op::Literal(bytes) => Self::Literal(bytes.to_vec()),
        }
    }
}

/// What a delta came to.
#[derive(Debug, PartialEq, Eq)]
struct Delta {
    steps: Vec<Step>,
    totals: Totals,
}

/// Borders so near that small content crosses all of them.
const SMALL: Tuning =
    Tuning { ops: Limits { literal: 50, copy: 200 }, batch: 400, piece: 70, doubtful: 1000 };

/// Bytes that are nowhere repeated.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x5851_f42d_4c95_7f2d;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

/// Cuts `data` into chunks of lengths taken in turn from `cuts`.
fn chunks<'a>(data: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = data;
    let mut cuts = cuts.iter().copied().cycle();
    std::iter::from_fn(move || {
        let len = cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len().max(1)).min(rest.len());
        let (head, tail) = rest.split_at(len);
        rest = tail;
        (!head.is_empty()).then_some(head)
    })
}

fn signature(basis: &[u8], block_len: u32, cuts: &[usize]) -> Vec<u8> {
    let mut signer = Signer::new(block_len).unwrap();
    let mut wire = Vec::new();
    chunks(basis, cuts).for_each(|chunk| signer.push(chunk, &mut wire));
    signer.finish(&mut wire);
    wire
}

fn index(basis: &[u8], block_len: u32, cuts: &[usize]) -> Arc<Index> {
    let mut collected = Signature::new(basis.len() as u64, block_len).unwrap();
    let wire = signature(basis, block_len, cuts);
    chunks(&wire, cuts).for_each(|chunk| collected.push(chunk).unwrap());
    Arc::new(collected.index().unwrap())
}

fn diff(index: Arc<Index>, new: &[u8], cuts: &[usize], tuning: Tuning) -> Delta {
    let mut differ = Differ::with_tuning(index, tuning);
    let mut steps = Vec::new();
    let mut emit = |op: Op<'_>| {
        steps.push(Step::from(op));
        Ok::<(), Infallible>(())
    };
    for chunk in chunks(new, cuts) {
        let Ok(()) = differ.push(chunk, &mut emit);
    }
    let Ok(totals) = differ.finish(&mut emit);
    Delta { steps, totals }
}

/// The delta with the product's own tuning, in one push.
fn plain(basis: &[u8], new: &[u8], block_len: u32) -> Delta {
    let delta = diff(index(basis, block_len, &[]), new, &[], Tuning::default());
    assert_eq!(apply(basis, &delta), new);
    delta
}

/// Makes the new content, and holds what [`Op`] and [`Totals`] promise against the delta.
fn apply(basis: &[u8], delta: &Delta) -> Vec<u8> {
    let mut new = Vec::new();
    let mut totals = Totals::default();
    for step in &delta.steps {
        match step {
            Step::Copy(offset, len) => {
                assert!(*len > 0);
                new.extend_from_slice(&basis[*offset as usize..][..*len as usize]);
                totals.copied_bytes += len;
            }
            Step::Literal(bytes) => {
                assert!(!bytes.is_empty());
                new.extend_from_slice(bytes);
                totals.literal_bytes += bytes.len() as u64;
            }
        }
    }
    assert_eq!(totals, delta.totals);
    new
}

/// Where a stretch of the new content comes from.
#[derive(Debug, Clone)]
enum Piece {
    Basis(std::ops::Range<usize>),
    Random(u64, usize),
    Zeros(usize),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Basis(range) => range.len(),
            Self::Random(_, len) | Self::Zeros(len) => *len,
        }
    }

    fn bytes(&self, basis: &[u8]) -> Vec<u8> {
        match self {
            Self::Basis(range) => basis[range.clone()].to_vec(),
            Self::Random(seed, len) => random(*seed, *len),
            Self::Zeros(len) => vec![0; *len],
        }
    }

    fn split(self, at: usize) -> (Self, Self) {
        let at = at.min(self.len());
        match self {
            Self::Basis(range) => {
                (Self::Basis(range.start..range.start + at), Self::Basis(range.start + at..range.end))
            }
            // The halves differ from the whole, which does not matter.
            Self::Random(seed, len) => (Self::Random(seed, at), Self::Random(seed ^ 1, len - at)),
            Self::Zeros(len) => (Self::Zeros(at), Self::Zeros(len - at)),
        }
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(usize, u64, usize),
    InsertZeros(usize, usize),
    Delete(usize, usize),
    Overwrite(usize, u64, usize),
    Move(usize, usize, usize),
    Duplicate(usize, usize, usize),
    Append(u64, usize),
    Truncate(usize),
}

/// Takes the pieces from `at` for `len` bytes out.
fn cut(pieces: &mut Vec<Piece>, at: usize, len: usize) -> Vec<Piece> {
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let mut place = 0;
    for piece in pieces.drain(..) {
        let (before, rest) = piece.split(at.saturating_sub(place));
        place += before.len();
        let (inside, after) = rest.split((at + len).saturating_sub(place));
        place += inside.len() + after.len();
        for (part, piece) in parts.iter_mut().zip([before, inside, after]) {
            part.extend((piece.len() > 0).then_some(piece));
        }
    }
    let [before, inside, after] = parts;
    *pieces = before;
    pieces.extend(after);
    inside
}

fn put(pieces: &mut Vec<Piece>, at: usize, added: Vec<Piece>) {
    let tail = cut(pieces, at, usize::MAX / 2);
    pieces.extend(added);
    pieces.extend(tail);
}

fn edit(pieces: &mut Vec<Piece>, edit: &Edit) {
    let len = pieces.iter().map(Piece::len).sum::<usize>();
    let place = |at: usize| at % (len + 1);
    match *edit {
        Edit::Insert(at, seed, count) => put(pieces, place(at), vec![Piece::Random(seed, count)]),
        Edit::InsertZeros(at, count) => put(pieces, place(at), vec![Piece::Zeros(count)]),
        Edit::Delete(at, count) => drop(cut(pieces, place(at), count)),
        Edit::Overwrite(at, seed, count) => {
            cut(pieces, place(at), count);
            put(pieces, place(at), vec![Piece::Random(seed, count)]);
        }
        Edit::Move(at, count, to) => {
            let moved = cut(pieces, place(at), count);
            put(pieces, place(to), moved);
        }
        Edit::Duplicate(at, count, to) => {
            let copied = cut(pieces, place(at), count);
            put(pieces, place(at), copied.clone());
            put(pieces, place(to), copied);
        }
        Edit::Append(seed, count) => put(pieces, len, vec![Piece::Random(seed, count)]),
        Edit::Truncate(at) => drop(cut(pieces, place(at), usize::MAX / 2)),
    }
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let at = any::<usize>;
    let len = || 1_usize..600;
    prop_oneof![
        (at(), any::<u64>(), len()).prop_map(|(at, seed, len)| Edit::Insert(at, seed, len)),
        (at(), len()).prop_map(|(at, len)| Edit::InsertZeros(at, len)),
        (at(), len()).prop_map(|(at, len)| Edit::Delete(at, len)),
        (at(), any::<u64>(), len()).prop_map(|(at, seed, len)| Edit::Overwrite(at, seed, len)),
        (at(), len(), at()).prop_map(|(at, len, to)| Edit::Move(at, len, to)),
        (at(), len(), at()).prop_map(|(at, len, to)| Edit::Duplicate(at, len, to)),
        (any::<u64>(), len()).prop_map(|(seed, len)| Edit::Append(seed, len)),
        at().prop_map(Edit::Truncate),
    ]
}

fn any_cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..20, 1_usize..3000], 0..6)
}

/// A basis without repetition, its size now and then a multiple of the block, and edits of it.
fn any_case() -> impl Strategy<Value = (Vec<u8>, u32, Vec<Piece>)> {
    let size = prop_oneof![4 => 0_usize..6000, 1 => (0_usize..60).prop_map(|blocks| blocks * 64)];
    let block_len = prop_oneof![Just(16), Just(64), 16_u32..300];
    (any::<u64>(), size, block_len, prop::collection::vec(any_edit(), 0..6)).prop_map(
        |(seed, size, block_len, edits)| {
            let mut pieces = vec![Piece::Basis(0..size)];
            edits.iter().for_each(|one| edit(&mut pieces, one));
            (random(seed, size), block_len, pieces)
        },
    )
}

/// Content with much repetition: few different bytes, in runs.
fn any_runs() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((0_u8..3, prop_oneof![1_usize..40, 1_usize..700]), 0..12)
        .prop_map(|runs| runs.iter().flat_map(|(byte, len)| vec![*byte; *len]).collect())
}

fn join(pieces: &[Piece], basis: &[u8]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.bytes(basis)).collect()
}

proptest! {
    #[test]
    fn delta_of_edits_gives_the_new_content_with_few_literals(
        (basis, block_len, pieces) in any_case(),
        (old_cuts, new_cuts) in (any_cuts(), any_cuts()),
    ) {
        let new = join(&pieces, &basis);
        let delta = diff(index(&basis, block_len, &old_cuts), &new, &new_cuts, SMALL);
        prop_assert_eq!(apply(&basis, &delta), new);
        // A stretch of the basis holds all but the block that it begins in and the one it ends in.
        let lost = 2 * (block_len as usize - 1);
        let most = pieces.iter().map(|piece| match piece {
            Piece::Basis(range) => range.len().min(lost),
            other => other.len(),
        });
        prop_assert!(delta.totals.literal_bytes <= most.sum::<usize>() as u64);
    }

    #[test]
    fn delta_of_runs_gives_the_new_content(
        (basis, new) in (any_runs(), any_runs()),
        block_len in 16_u32..100,
        cuts in any_cuts(),
    ) {
        let delta = diff(index(&basis, block_len, &cuts), &new, &cuts, SMALL);
        prop_assert_eq!(apply(&basis, &delta), new);
    }

    #[test]
    fn cuts_change_neither_signature_nor_delta(
        (basis, block_len, pieces) in any_case(),
        (old_cuts, new_cuts) in (any_cuts(), any_cuts()),
    ) {
        let whole = signature(&basis, block_len, &[]);
        prop_assert_eq!(&signature(&basis, block_len, &old_cuts), &whole);
        prop_assert_eq!(whole.len() as u64, block_count(basis.len() as u64, block_len) * ENTRY_LEN as u64);
        let new = join(&pieces, &basis);
        let index = index(&basis, block_len, &[]);
        let at_once = Tuning { piece: usize::MAX, ..SMALL };
        prop_assert_eq!(diff(index.clone(), &new, &new_cuts, SMALL), diff(index, &new, &[], at_once));
    }

    #[test]
    fn unchanged_content_has_no_literal(basis in any_runs(), block_len in 16_u32..100) {
        prop_assert_eq!(plain(&basis, &basis, block_len).totals.literal_bytes, 0);
    }

    #[test]
    fn ops_keep_their_bounds((basis, block_len, pieces) in any_case(), cuts in any_cuts()) {
        let new = join(&pieces, &basis);
        let delta = diff(index(&basis, block_len, &[]), &new, &cuts, SMALL);
        let most = SMALL.ops.copy.max(u64::from(block_len));
        for pair in delta.steps.windows(2) {
            match pair {
                [Step::Copy(offset, len), Step::Copy(next, _)] if offset + len == *next => {
                    prop_assert!(len + u64::from(block_len) > most);
                }
                [Step::Literal(first), Step::Literal(_)] => prop_assert_eq!(first.len(), SMALL.ops.literal),
                _ => {}
            }
        }
        for step in &delta.steps {
            match step {
                Step::Copy(_, len) => prop_assert!(*len <= most),
                Step::Literal(bytes) => prop_assert!(bytes.len() <= SMALL.ops.literal),
            }
        }
    }

    #[test]
    fn hostile_signature_never_panics_nor_copies_beyond_the_basis_it_stated(
        (size, block_len) in (any::<u64>(), any::<u32>()),
        (small_size, small_block) in (0_u64..3000, 0_u32..200),
        wire in prop::collection::vec(any::<u8>(), 0..4000),
        (new, cuts) in (any_runs(), any_cuts()),
    ) {
        for (size, block_len) in [(size, block_len), (small_size, small_block), (size, small_block)] {
            let Ok(mut signature) = Signature::new(size, block_len) else { continue };
            let expected = (block_count(size, block_len) as usize) * ENTRY_LEN;
            let _ = signature.push(&wire);
            let _ = signature.push(wire.get(..expected.min(wire.len())).unwrap_or_default());
            let Ok(index) = signature.index() else { continue };
            let delta = diff(Arc::new(index), &new, &cuts, SMALL);
            for step in delta.steps {
                if let Step::Copy(offset, len) = step {
                    prop_assert!(offset + len <= size);
                }
            }
        }
    }

    /// A signature whose sums are those of the content, in a wrong order and at a wrong place.
    #[test]
    fn signature_with_true_sums_of_a_false_basis_never_panics(
        (new, order) in (any_runs(), prop::collection::vec(any::<prop::sample::Index>(), 0..60)),
        (short, cuts) in (0_u64..16, any_cuts()),
    ) {
        let sums = signature(&new, 16, &[]);
        let sums: Vec<_> = sums.chunks(ENTRY_LEN).collect();
        let order = if sums.is_empty() { Vec::new() } else { order };
        let wire = order.iter().map(|at| sums[at.index(sums.len())]).collect::<Vec<_>>().concat();
        let size = (order.len() as u64 * 16).saturating_sub(short);
        let mut signature = Signature::new(size, 16).unwrap();
        signature.push(&wire).unwrap();
        let delta = diff(Arc::new(signature.index().unwrap()), &new, &cuts, SMALL);
        prop_assert_eq!(delta.totals.copied_bytes + delta.totals.literal_bytes, new.len() as u64);
        for step in delta.steps {
            if let Step::Copy(offset, len) = step {
                prop_assert!(offset + len <= size);
            }
        }
    }

    #[test]
    fn block_length_never_makes_too_many_blocks_below_8_tib(size in 0_u64..=8 << 40) {
        let len = block_len(size);
        prop_assert!(len.is_power_of_two() && (1024..=BLOCK_LEN_MAX).contains(&len));
        prop_assert!(Signature::new(size, len).is_ok());
    }
}

#[test]
fn block_lengths_are_as_documented() {
    let chosen = [0, 16 << 20, (16 << 20) + 1, 1 << 30, 16 << 30, 100_000_000_000, u64::MAX].map(block_len);
    assert_eq!(
        chosen,
        [1 << 10, 1 << 10, 2 << 10, 8 << 10, 32 << 10, 256 << 10, BLOCK_LEN_MAX],
        "{chosen:?}"
    );
}

#[test]
fn empty_basis_makes_one_literal_and_empty_content_makes_nothing() {
    assert_eq!(plain(b"", b"new", 16).steps, [Step::Literal(b"new".to_vec())]);
    assert_eq!(plain(b"old", b"", 16).steps, []);
    assert_eq!(plain(b"", b"", 16).steps, []);
}

#[test]
fn unchanged_content_is_one_copy_whether_or_not_its_last_block_is_short() {
    for len in [1, 15, 16, 17, 1600, 1605] {
        let basis = random(1, len);
        assert_eq!(plain(&basis, &basis, 16).steps, [Step::Copy(0, len as u64)]);
    }
}

#[test]
fn basis_of_one_short_block_is_found_at_the_end() {
    let basis = random(1, 10);
    let new = [random(2, 100), basis.clone()].concat();
    assert_eq!(plain(&basis, &new, 16).totals, Totals { copied_bytes: 10, literal_bytes: 100 });
}

#[test]
fn short_last_block_is_found_after_an_insertion_before_it() {
    let basis = random(1, 1605);
    let new = [&basis[..1600], b"inserted", &basis[1600..]].concat();
    assert_eq!(plain(&basis, &new, 16).totals.literal_bytes, 8);
}

#[test]
fn append_costs_what_was_appended_alone() {
    let basis = random(1, 1605);
    let new = [basis.clone(), random(2, 700)].concat();
    assert_eq!(plain(&basis, &new, 16).steps, [Step::Copy(0, 1605), Step::Literal(random(2, 700))]);
}

#[test]
fn insertion_in_front_is_found_once() {
    let basis = random(1, 1 << 16);
    let new = [random(2, 15), basis.clone()].concat();
    assert_eq!(plain(&basis, &new, 64).steps, [Step::Literal(random(2, 15)), Step::Copy(0, 1 << 16)]);
}

#[test]
fn overwritten_bytes_cost_their_block() {
    let basis = random(1, 1 << 16);
    let mut new = basis.clone();
    new[10_000] ^= 1;
    new[30_000] ^= 1;
    assert_eq!(plain(&basis, &new, 64).totals.literal_bytes, 128);
}

#[test]
fn moved_blocks_are_found_in_a_gap_that_closes() {
    let basis = random(1, 1 << 16);
    let mut new = basis.clone();
    // Two blocks from elsewhere, at no block's border.
    new.copy_within(64 * 500..64 * 502, 64 * 100 + 7);
    let delta = plain(&basis, &new, 64);
    assert!(delta.steps.contains(&Step::Copy(64 * 500, 128)), "{:?}", delta.steps);
    assert_eq!(delta.totals.literal_bytes, 64);
}

#[test]
fn zeros_make_contiguous_copies() {
    let basis = [random(1, 6400), vec![0; 64_000], random(2, 6400)].concat();
    let mut new = basis.clone();
    new[0] ^= 1;
    new.drain(20_000..26_400);
    let delta = plain(&basis, &new, 64);
    let offsets = delta.steps.iter().filter_map(|step| match step {
        Step::Copy(offset, _) => Some(*offset),
        Step::Literal(_) => None,
    });
    assert!(offsets.is_sorted(), "{:?}", delta.steps);
    assert!(delta.steps.len() < 6, "{:?}", delta.steps);
}

#[test]
fn content_is_doubtful_only_while_nothing_of_it_matched() {
    let basis = random(1, 4000);
    let mut emit = |_: Op<'_>| Ok::<(), Infallible>(());
    let mut differ = Differ::with_tuning(index(&basis, 64, &[]), SMALL);
    assert!(!differ.is_doubtful());
    let Ok(()) = differ.push(&random(2, 999), &mut emit);
    assert!(!differ.is_doubtful());
    let Ok(()) = differ.push(&random(3, 1), &mut emit);
    assert!(differ.is_doubtful());
    let Ok(()) = differ.push(&basis, &mut emit);
    assert!(!differ.is_doubtful());
}

#[test]
fn two_blocks_of_the_basis_occur_wherever_they_begin() {
    let basis = random(1, 4000);
    let index = index(&basis, 64, &[]);
    for start in [0, 1, 63, 64, 1000, 3800] {
        assert!(occur(&index, &basis[start..start + 127]), "{start}");
    }
    assert!(!occur(&index, &random(2, 4000)));
    assert!(!occur(&index, &basis[..63]), "no block");
}

#[test]
fn empty_basis_is_doubtful_at_once() {
    let mut differ = Differ::new(index(b"", 64, &[]));
    assert!(!differ.is_doubtful());
    let Ok(()) = differ.push(b"x", &mut |_| Ok::<(), Infallible>(()));
    assert!(differ.is_doubtful());
}

#[test]
fn failure_to_tell_ends_the_push() {
    let mut differ = Differ::with_tuning(index(b"", 64, &[]), SMALL);
    let result = differ.push(&random(1, 1000), &mut |_| Err("full"));
    assert_eq!(result, Err("full"));
}

#[test]
fn unusable_block_lengths_are_refused() {
    for len in [0, 15, BLOCK_LEN_MAX + 1, u32::MAX] {
        assert_eq!(Signature::new(100, len).unwrap_err(), SignatureError::BlockLen(len));
        assert_eq!(Signer::new(len).unwrap_err(), SignatureError::BlockLen(len));
    }
}

#[test]
fn signature_of_more_blocks_than_allowed_is_refused() {
    let most = MAX_BLOCKS * 16;
    assert!(Signature::new(most, 16).is_ok());
    let refused = Signature::new(most + 1, 16).unwrap_err();
    assert_eq!(refused, SignatureError::TooManyBlocks { size: most + 1, block_len: 16 });
    assert!(Signature::new(u64::MAX, BLOCK_LEN_MAX).is_err());
}

#[test]
fn signature_of_a_wrong_length_is_refused() {
    let wire = signature(&random(1, 100), 16, &[]);
    let mut signature = Signature::new(100, 16).unwrap();
    assert!(!signature.is_complete());
    signature.push(&wire[..139]).unwrap();
    assert_eq!(signature.push(&wire[..2]).unwrap_err(), SignatureError::TooLong { expected: 140 });
    assert_eq!(signature.index().unwrap_err(), SignatureError::Incomplete { expected: 140, got: 139 });
}

#[test]
fn held_content_is_bounded_whatever_the_length() {
    let basis = random(1, 20_000);
    let index = index(&basis, 64, &[]);
    let mut differ = Differ::with_tuning(index, SMALL);
    let mut most = 0;
    for part in [&basis, &random(2, 50_000), &basis, &vec![0; 50_000], &basis] {
        for window in part.chunks(3000) {
            let Ok(()) = differ.push(window, &mut |_| Ok::<(), Infallible>(()));
            most = most.max(differ.held());
        }
    }
    assert!((64..64 * 32 + 3 * 400).contains(&most), "{most}");
}

/// Every window of `new` has the weak sum and the sample of a block of the basis, but is none.
#[test]
fn made_collisions_cost_literals() {
    let new = vec![7; 20_000];
    let mut entry = signature(&new[..64], 64, &[]);
    entry[19] ^= 1;
    let mut collected = Signature::new(64, 64).unwrap();
    collected.push(&entry).unwrap();
    let delta = diff(Arc::new(collected.index().unwrap()), &new, &[], Tuning::default());
    assert_eq!(delta.totals, Totals { copied_bytes: 0, literal_bytes: 20_000 });
}
