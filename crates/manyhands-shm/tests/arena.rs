//! Arenas in one process: what each call says, and random lending against a model.
#![cfg(not(loom))]

mod common;

use common::{memory, payload};
use manyhands_shm::Malformed;
use manyhands_shm::arena::{Block, Borrower, Descriptor, Lender, Loan};
use proptest::prelude::*;
use std::ops::Range;

const MIB: usize = 1 << 20;

fn arena(len: usize) -> (Lender, Borrower) {
    let (here, there) = memory(len);
    (Lender::new(here), Borrower::new(there))
}

/// Marks both ends of a block, which is all that an overlap can spare.
fn fill(loan: &mut Loan, id: u64) {
    let len = loan.len();
    let mark = payload(id, len.min(64));
    loan.write(0, &mark);
    loan.write(len - mark.len(), &mark);
}

fn is_intact(bytes: &[u8], id: u64) -> bool {
    let mark = payload(id, bytes.len().min(64));
    bytes.ends_with(&mark) && (bytes.len() < 128 || bytes.starts_with(&mark))
}

#[test]
fn a_block_arrives_and_comes_back_warm() {
    let (mut lender, borrower) = arena(8 * MIB);
    let free = lender.free_bytes();
    let mut loan = lender.lend(100_000).unwrap();
    loan.as_mut_slice().copy_from_slice(&payload(1, 100_000));
    let sent = loan.descriptor();
    let received = Descriptor::from_bytes(sent.to_bytes());
    assert_eq!(sent, received);
    let block = borrower.open(received).unwrap();
    assert_eq!(&block[..], payload(1, 100_000));
    assert_eq!(block.as_mut_ptr().align_offset(64), 0);
    assert_eq!(lender.sweep(), 0);
    assert!(lender.lent_bytes() >= 100_000);
    drop(block);
    assert!(lender.sweep() >= 100_000);
    assert_eq!((lender.lent_bytes(), lender.free_bytes()), (0, free));
    let again = lender.lend(99_000).unwrap().descriptor();
    assert_eq!(
        again.offset, sent.offset,
        "a warm block of about this size was there"
    );
    assert_ne!(again.slot, sent.slot);
}

#[test]
fn big_blocks_begin_at_a_page() {
    let (mut lender, borrower) = arena(8 * MIB);
    lender.lend(100).unwrap().descriptor();
    let block = borrower
        .open(lender.lend(MIB).unwrap().descriptor())
        .unwrap();
    assert_eq!(block.as_mut_ptr().align_offset(4096), 0);
}

#[test]
fn a_block_is_opened_once() {
    let (mut lender, borrower) = arena(MIB);
    let sent = lender.lend(1000).unwrap().descriptor();
    let block = borrower.open(sent).unwrap();
    assert!(matches!(
        borrower.open(sent),
        Err(Malformed::NotLent { .. })
    ));
    drop(block);
    assert!(matches!(
        borrower.open(sent),
        Err(Malformed::NotLent { .. })
    ));
    lender.sweep();
    assert!(matches!(
        borrower.open(sent),
        Err(Malformed::NotLent { .. })
    ));
}

#[test]
fn what_nobody_opened_is_reclaimed_and_what_is_open_is_not() {
    let (mut lender, borrower) = arena(MIB);
    let sent = lender.lend(1000).unwrap().descriptor();
    assert!(lender.reclaim(sent));
    assert!(!lender.reclaim(sent));
    assert!(borrower.open(sent).is_err());
    let sent = lender.lend(1000).unwrap().descriptor();
    let _block = borrower.open(sent).unwrap();
    assert!(!lender.reclaim(sent));
    assert!(lender.lent_bytes() > 0);
    lender.reclaim_all();
    assert_eq!(lender.lent_bytes(), 0);
}

#[test]
fn a_recalled_block_can_be_read_and_comes_back_when_dropped() {
    let (mut lender, borrower) = arena(8 * MIB);
    let mut loan = lender.lend(100_000).unwrap();
    loan.write(0, &payload(7, 100_000));
    let descriptor = loan.descriptor();
    let recalled = lender.recall(descriptor).unwrap();
    assert!(borrower.open(descriptor).is_err());
    assert_eq!(&recalled[..], payload(7, 100_000));
    assert_eq!(lender.sweep(), 0);
    assert!(!lender.reclaim(descriptor));
    drop(recalled);
    assert!(lender.sweep() >= 100_000);
    assert!(lender.recall(descriptor).is_none());
}

#[test]
fn a_loan_that_is_dropped_comes_back() {
    let (mut lender, _borrower) = arena(MIB);
    let loan = lender.lend(1000).unwrap();
    lender.reclaim_all();
    assert_eq!(lender.sweep(), 0, "it is still being filled");
    drop(loan);
    assert!(lender.sweep() >= 1000);
    assert_eq!(lender.lent_bytes(), 0);
}

#[test]
fn a_full_arena_says_so_and_takes_the_last_byte() {
    let (mut lender, borrower) = arena(MIB);
    let all = lender.free_bytes() as usize;
    assert!(lender.lend(all + 1).is_none());
    assert!(lender.lend(usize::MAX).is_none());
    let block = borrower
        .open(lender.lend(all).unwrap().descriptor())
        .unwrap();
    assert!(lender.lend(1).is_none());
    assert_eq!(block.len(), all);
    drop(block);
    assert!(lender.lend(1).is_some(), "it swept by itself");
}

#[test]
fn an_arena_has_more_bytes_than_slots_and_recovers_from_running_out_of_them() {
    let (mut lender, borrower) = arena(MIB);
    let mut lent: Vec<Descriptor> = Vec::new();
    while let Some(loan) = lender.lend(64) {
        lent.push(loan.descriptor());
    }
    assert_eq!(lent.len(), 64);
    lent.into_iter()
        .for_each(|descriptor| drop(borrower.open(descriptor).unwrap()));
    assert!(lender.lend(64).is_some());
}

#[test]
fn only_free_pages_beyond_what_is_kept_may_be_punched() {
    let (mut lender, _borrower) = arena(8 * MIB);
    let kept = lender.lend(MIB).unwrap().descriptor();
    let idle = lender.lend(MIB).unwrap().descriptor();
    assert!(
        lender.take_cold(0).is_empty(),
        "nothing that was touched is free"
    );
    lender.reclaim(idle);
    assert!(lender.take_cold(MIB as u64).is_empty());
    let cold = lender.take_cold(0);
    assert_eq!(
        (cold.len(), &cold[0]),
        (1, &(idle.offset..idle.offset + MIB as u64))
    );
    assert!(
        cold.iter()
            .all(|range| range.end <= kept.offset || range.start > kept.offset)
    );
    assert!(lender.take_cold(0).is_empty(), "once");
}

#[test]
fn a_block_is_cold_until_it_was_lent_or_was_given_back_to_the_kernel() {
    let (mut lender, _borrower) = arena(8 * MIB);
    let first = lender.lend(MIB).unwrap();
    assert!(first.is_cold());
    let first = first.descriptor();
    lender.reclaim(first);
    let again = lender.lend(MIB).unwrap();
    assert_eq!((again.is_cold(), again.offset()), (false, first.offset));
    drop(again);
    lender.sweep();
    lender.take_cold(0);
    assert!(lender.lend(MIB).unwrap().is_cold());
}

#[test]
fn memory_too_small_for_a_block_lends_none() {
    let (mut lender, borrower) = arena(1);
    let room = lender.free_bytes() as usize;
    assert!(lender.lend(room + 1).is_none());
    assert!(
        borrower
            .open(Descriptor {
                slot: 0,
                offset: 0,
                len: 0
            })
            .is_err()
    );
}

#[derive(Clone, Debug)]
enum Step {
    Lend(usize),
    Abandon(usize),
    Open(prop::sample::Index),
    Drop(prop::sample::Index),
    Reclaim(prop::sample::Index),
    Sweep,
    Cool(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..200_000_usize, 1 => 0..3 * MIB];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => len().prop_map(Step::Lend),
        1 => len().prop_map(Step::Abandon),
        4 => index().prop_map(Step::Open),
        4 => index().prop_map(Step::Drop),
        1 => index().prop_map(Step::Reclaim),
        1 => Just(Step::Sweep),
        1 => (0..1_u64 << 22).prop_map(Step::Cool),
    ]
}

fn overlaps(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_is_in_two_blocks_and_none_is_lost(steps in prop::collection::vec(step(), 1..120)) {
        let (mut lender, borrower) = arena(6 * MIB);
        let all = lender.free_bytes();
        let mut sent: Vec<(u64, Descriptor)> = Vec::new();
        let mut open: Vec<(u64, Range<u64>, Block)> = Vec::new();
        let range = |descriptor: &Descriptor| descriptor.offset..descriptor.offset + descriptor.len;
        for (id, step) in steps.into_iter().enumerate() {
            let id = id as u64;
            match step {
                Step::Lend(len) => if let Some(mut loan) = lender.lend(len) {
                    prop_assert_eq!(loan.len(), len);
                    fill(&mut loan, id);
                    let descriptor = loan.descriptor();
                    prop_assert_eq!(descriptor.offset % if len >= MIB { 4096 } else { 64 }, 0);
                    let used = sent.iter().map(|(_, other)| range(other));
                    for other in used.chain(open.iter().map(|(_, range, _)| range.clone())) {
                        prop_assert!(!overlaps(&range(&descriptor), &other));
                    }
                    sent.push((id, descriptor));
                } else {
                    let held: u64 = sent.iter().map(|(_, sent)| sent.len).sum::<u64>()
                        + open.iter().map(|(_, range, _)| range.end - range.start).sum::<u64>();
                    prop_assert!(len as u64 > 4096 || held > 4096, "refused {len} with {held} lent");
                },
                Step::Abandon(len) => drop(lender.lend(len)),
                Step::Open(index) if !sent.is_empty() => {
                    let (id, descriptor) = sent.swap_remove(index.index(sent.len()));
                    let block = borrower.open(descriptor).unwrap();
                    prop_assert!(is_intact(&block, id));
                    open.push((id, range(&descriptor), block));
                }
                Step::Drop(index) if !open.is_empty() => {
                    let (id, _, block) = open.swap_remove(index.index(open.len()));
                    prop_assert!(is_intact(&block, id));
                }
                Step::Reclaim(index) if !sent.is_empty() => {
                    let (_, descriptor) = sent.swap_remove(index.index(sent.len()));
                    prop_assert!(lender.reclaim(descriptor));
                }
                Step::Sweep => { lender.sweep(); }
                Step::Cool(keep) => for cold in lender.take_cold(keep) {
                    prop_assert_eq!((cold.start % 4096, cold.end % 4096), (0, 0));
                    for (_, descriptor) in &sent {
                        prop_assert!(!overlaps(&cold, &range(descriptor)));
                    }
                    for (_, used, _) in &open {
                        prop_assert!(!overlaps(&cold, used));
                    }
                },
                Step::Open(_) | Step::Drop(_) | Step::Reclaim(_) => {}
            }
            prop_assert_eq!(lender.lent_bytes() + lender.free_bytes(), all);
        }
        for (id, _, block) in open {
            prop_assert!(is_intact(&block, id));
        }
        sent.into_iter().for_each(|(_, descriptor)| assert!(lender.reclaim(descriptor)));
        lender.sweep();
        prop_assert_eq!((lender.lent_bytes(), lender.free_bytes()), (0, all));
        prop_assert!(lender.lend(all as usize).is_some(), "all pieces were joined again");
    }
}
