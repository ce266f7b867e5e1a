//! What a block costs: lent, filled, opened on the other side and given back.
//! Always: warm memory, as a pool has it after its first tasks.
//! Not here: getting the descriptor across (`ring`).

use crate::figure::figure;
use crate::memory::{map, memfd};
use criterion::{Criterion, Throughput};
use manyhands_os::memory::Mapping;
use manyhands_shm::arena::{Borrower, Lender};
use manyhands_testkit::floor::Copy;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

const SIZES: [(usize, &str); 4] = [
    (4 << 10, "4 KiB"),
    (64 << 10, "64 KiB"),
    (1 << 20, "1 MiB"),
    (16 << 20, "16 MiB"),
];

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    copied(criterion);
    empty_handed(criterion);
}

/// Both sides of an arena, the borrower's memory mapped as a pool does it.
fn arena() -> (Lender, Borrower) {
    let memfd = memfd(64 << 20);
    let there = Mapping::parted_by_fork(&memfd).expect("a mapping");
    (Lender::new(map(&memfd)), Borrower::new(Arc::new(there)))
}

/// A payload goes across: one copy, and the receiver looks at it in place.
fn copied(criterion: &mut Criterion) {
    for (len, size) in SIZES {
        let mut group = criterion.benchmark_group(format!("arena, a payload of {size}"));
        group.throughput(Throughput::Bytes(len as u64));
        figure(&mut group, "floor: memcpy", || Copy::new(len), Copy::copy);
        let both = || (arena(), vec![1u8; len]);
        figure(
            &mut group,
            "lend, write, open, drop",
            both,
            |((lender, borrower), payload)| {
                let mut loan = lender.lend(len).expect("room");
                loan.write(0, black_box(payload));
                let block = borrower.open(loan.descriptor()).expect("a block");
                black_box(&block[..]);
            },
        );
        group.finish();
    }
}

/// The books alone: nothing is copied.
fn empty_handed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arena, the books");
    // The way of a slot: handed over, opened, given back.
    figure(
        &mut group,
        "floor: three exchanges",
        || AtomicU32::new(0),
        |word| {
            for state in 0..3 {
                let _ = black_box(word.compare_exchange(state, (state + 1) % 3, AcqRel, Relaxed));
            }
        },
    );
    for (len, size) in [SIZES[0], SIZES[2]] {
        let name = format!("lend, open, drop: {size}");
        figure(&mut group, &name, arena, |(lender, borrower)| {
            let loan = lender.lend(len).expect("room");
            black_box(borrower.open(loan.descriptor()).expect("a block"));
        });
    }
    group.finish();
}
