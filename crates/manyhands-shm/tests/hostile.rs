//! Peers that write anything anywhere at any time get `Malformed`, `None` or nonsense: never a
//! panic, never an access outside of the mapping, never an endless call.
#![cfg(not(loom))]

mod common;

use common::{SMALL, head, memory, payload, poke};
use manyhands_shm::arena::{Borrower, Descriptor, Lender, Loan};
use manyhands_shm::fifo::{Fifo, Next, Past};
use manyhands_shm::mailbox;
use proptest::prelude::*;

/// Numbers that come near to what the code compares with, and any others.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => any::<u64>(),
        2 => any::<u32>().prop_map(u64::from),
        3 => (0..200_u64).prop_map(|units| units * 64),
        2 => 0..5_u64,
        1 => Just(u64::MAX),
        1 => Just(u64::from(u32::MAX)),
        1 => (0..200_u64).prop_map(|units| u64::MAX - units),
        1 => (4000..4200_u64).prop_map(|len| len | 1 << 32),
    ]
}

/// A poke into the header's words or into a ring, at frame headers more often than not.
fn place() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => (0..8_usize).prop_map(|lane| lane * 128),
        3 => (4096 / 64..12288 / 64_usize).prop_map(|unit| unit * 64),
        1 => 0..12288 - 8_usize,
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Poke(usize, u64),
    Push(usize),
    Publish,
    Take,
    Report(usize),
    Collect,
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (place(), number()).prop_map(|(at, value)| Step::Poke(at, value)),
        2 => (0..2100_usize).prop_map(Step::Push),
        2 => Just(Step::Publish),
        2 => Just(Step::Take),
        2 => (0..2100_usize).prop_map(Step::Report),
        2 => Just(Step::Collect),
        1 => Just(Step::Ask),
    ]
}

/// What a frame or block holds may be nonsense; that it can be read to its last byte may not.
fn read(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum ^ byte));
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_mailbox_stands_any_bytes(steps in prop::collection::vec(step(), 1..100)) {
        let (here, there) = memory(SMALL.region_len());
        let mut parent = mailbox::create(here.clone(), SMALL);
        let mut worker = mailbox::attach(there).unwrap();
        let mut tickets = Vec::new();
        for step in steps {
            match step {
                Step::Poke(at, value) => poke(&here, at, value),
                Step::Push(len) => tickets.extend(parent.tasks.push(head(1), &[&payload(1, len)])),
                Step::Publish => {
                    let _ = (parent.tasks.publish(), worker.results.publish());
                }
                Step::Take => {
                    if let Ok(Some(task)) = worker.tasks.take() {
                        read(task.payload);
                    }
                }
                Step::Report(len) => drop(worker.results.push(head(2), &[&payload(2, len)])),
                Step::Collect => {
                    if let Ok(Some(result)) = parent.results.next() {
                        read(result.payload);
                    }
                }
                Step::Ask => {
                    let _ = (parent.tasks.is_drained(), parent.tasks.wake_needed());
                    let _ = (parent.results.has_next(), worker.tasks.has_next());
                    let _ = (worker.results.unseen(), worker.tasks.hint());
                    prop_assert!(parent.tasks.room() <= parent.tasks.max_payload());
                    prop_assert!(worker.results.room() <= worker.results.max_payload());
                    parent.results.arm(parent.results.received() + 1);
                    worker.tasks.prepare_sleep();
                    for &ticket in &tickets {
                        let _ = (parent.tasks.was_taken(ticket), parent.tasks.revoke(ticket));
                        let _ = parent.tasks.read_back(ticket);
                    }
                }
            }
        }
    }

    #[test]
    fn attaching_stands_any_header(words in prop::collection::vec((0..16_usize, number()), 0..6)) {
        let (here, there) = memory(SMALL.region_len());
        drop(mailbox::create(here.clone(), SMALL));
        for (word, value) in words {
            poke(&here, word * 4, value);
        }
        if let Ok(mut worker) = mailbox::attach(there) {
            let _ = worker.tasks.take();
            let _ = worker.results.push(head(1), &[&payload(1, 1000)]);
            let _ = worker.results.publish();
        }
    }

    #[test]
    fn opening_stands_any_descriptor_and_any_slot_table(
        words in prop::collection::vec((0..64_usize, number()), 0..20),
        descriptors in prop::collection::vec((any::<u32>(), number(), number()), 1..40),
        len in 1..20_000_usize,
    ) {
        let (here, there) = memory(1 << 16);
        let mut lender = Lender::new(here.clone());
        let borrower = Borrower::new(there);
        let sent = lender.lend(len).map(Loan::descriptor);
        for (word, value) in words {
            poke(&here, word * 4, value);
        }
        for (slot, offset, len) in descriptors {
            // One that is nearly right, and one that need not be.
            let near = sent.map_or(Descriptor { slot, offset, len }, |sent| Descriptor { offset, len, ..sent });
            for descriptor in [near, Descriptor { slot: slot & 0x1_000f, offset, len }] {
                if let Ok(block) = borrower.open(descriptor) {
                    read(&block);
                }
            }
        }
    }

    /// What the borrower writes into the slots must not bring the lender to lend a byte twice.
    #[test]
    fn lending_stands_any_slot_table(
        steps in prop::collection::vec((0..16_usize, 0..8_u64, 0..8_u64, 0..20_000_usize), 1..60),
    ) {
        let (here, there) = memory(1 << 16);
        let mut lender = Lender::new(there);
        let mut filling: Vec<Loan> = Vec::new();
        for (slot, turn, state, len) in steps {
            poke(&here, slot * 4, (turn << 16 | state) | (turn << 16 | state) << 32);
            if let Some(mut loan) = lender.lend(len) {
                loan.as_mut_slice().fill(filling.len() as u8);
                filling.push(loan);
            }
            for (mark, loan) in filling.iter_mut().enumerate() {
                prop_assert!(loan.as_mut_slice().iter().all(|&byte| byte == mark as u8));
            }
            if filling.len() > 4 {
                filling.clear();
                lender.reclaim_all();
            }
        }
    }

    #[test]
    fn a_shared_ring_stands_any_bytes(steps in prop::collection::vec(step(), 1..100)) {
        let (here, there) = memory(Fifo::region_len(4096));
        let writers = Fifo::create(here.clone());
        let readers = Fifo::attach(there).unwrap();
        for step in steps {
            match step {
                Step::Poke(at, value) => poke(&here, at % (Fifo::region_len(4096) - 8), value),
                Step::Push(len) | Step::Report(len) => {
                    // SAFETY: one thread has both ends.
                    if let Ok(mut writer) = unsafe { writers.writer() }
                        && writer.push(&[&payload(1, len)])
                    {
                        let _ = writer.publish(|| Ok::<_, ()>(Past::Nothing), || Ok(()));
                    }
                }
                Step::Publish => {
                    // SAFETY: as above.
                    let _ = unsafe { writers.writer() }.map(|writer| writer.mark());
                }
                Step::Take | Step::Collect => {
                    // SAFETY: as above.
                    if let Ok(mut reader) = unsafe { readers.reader() }
                        && let Ok(Next::Item(item)) = reader.look()
                    {
                        read(reader.payload(&item));
                        // SAFETY: as above.
                        let _ = unsafe { reader.is_drained(Some(&item)) };
                        let _ = reader.pass(item);
                    }
                }
                Step::Ask => {
                    let _ = (writers.await_room(100), writers.has_hope());
                    // SAFETY: as above.
                    let _ = unsafe { readers.reader() }.map(|reader| reader.is_stray());
                }
            }
        }
    }
}
