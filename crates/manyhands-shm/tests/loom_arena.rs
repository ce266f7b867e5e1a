//! Models of lending: the bytes of a released block are written again.
#![cfg(loom)]

use loom::sync::mpsc;
use loom::thread;
use manyhands_shm::arena::Descriptor;
use manyhands_shm::model;

const TABLE: usize = 4096;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn a_block_is_lent_again_only_after_its_last_reader_is_done() {
    explore(3, || {
        // One block's worth of bytes, so that the second loan takes the first one's place.
        let (mut lender, borrower) = model::arena(TABLE + 64, 2);
        let (send, receive) = mpsc::channel();
        let reader = thread::spawn(move || {
            let block = borrower.open(receive.recv().unwrap()).unwrap();
            assert_eq!(&block[..], [1; 64]);
            drop(block);
        });
        let mut loan = lender.lend(64).unwrap();
        loan.write(0, &[1; 64]);
        send.send(loan.descriptor()).unwrap();
        loop {
            if let Some(mut loan) = lender.lend(64) {
                loan.write(0, &[2; 64]);
                break;
            }
            thread::yield_now();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_block_is_either_reclaimed_or_opened() {
    explore(3, || {
        let (mut lender, borrower) = model::arena(TABLE + 64, 2);
        let mut loan = lender.lend(64).unwrap();
        loan.write(0, &[1; 64]);
        let descriptor = loan.descriptor();
        let opener = thread::spawn(move || match borrower.open(descriptor) {
            Ok(block) => {
                assert_eq!(&block[..], [1; 64]);
                true
            }
            Err(_) => false,
        });
        let reclaimed = lender.reclaim(descriptor);
        if reclaimed {
            lender.lend(64).unwrap().write(0, &[2; 64]);
        }
        assert_eq!(opener.join().unwrap(), !reclaimed);
    });
}

#[test]
fn a_block_is_filled_before_it_can_be_opened() {
    explore(3, || {
        let (mut lender, borrower) = model::arena(TABLE + 64, 2);
        let mut loan = lender.lend(64).unwrap();
        // Guessed, not received: nothing but the slot's word orders the bytes.
        let guess = Descriptor {
            slot: 1 << 16,
            offset: TABLE as u64,
            len: 64,
        };
        let reader = thread::spawn(move || {
            if let Ok(block) = borrower.open(guess) {
                assert_eq!(&block[..], [1; 64]);
            }
        });
        loan.write(0, &[1; 64]);
        assert_eq!(loan.descriptor(), guess);
        reader.join().unwrap();
    });
}
