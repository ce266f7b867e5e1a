//! The page of figures, the log of events, and the look into a mailbox: what is written is what is read, and what makes no
//! sense harms nobody.
#![cfg(not(loom))]

use std::sync::Arc;

use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::Malformed;
use manyhands_shm::log::{self, Log, Worth};
use manyhands_shm::mailbox::{self, Head, Shape};
use manyhands_shm::stats::{
    self, Face, NAME_BYTES, Page, Phase, SLOTS, Snapshot, State, Tally, Why, name_of,
};

/// Memory as its maker has it, and as a reader has it.
fn memory(len: usize) -> (Arc<Mapping>, Arc<Mapping>) {
    let memory = Memfd::create("test", len as u64).expect("a memfd");
    (
        Arc::new(Mapping::shared(&memory).expect("a mapping")),
        Arc::new(Mapping::read_only(&memory).expect("a mapping")),
    )
}

fn tally(answered: u64) -> Tally {
    Tally {
        handed: answered + 2,
        answered,
        raised: 1,
        ran_ns: 7,
        bytes_out: 5,
        bytes_in: 3,
    }
}

#[test]
fn a_reader_sees_what_the_owner_wrote() {
    let (ours, theirs) = memory(stats::LEN);
    let page = Page::create(ours, 4711, 99, Face::Rust);
    page.set_face(Face::Executor);
    page.set_pool(Phase::Closing, 3, 12, 1, 2);
    let one = page.seat(0, 100, 1_000).expect("there is room");
    let other = page.seat(1, 101, 2_000).expect("there is room");
    one.set_state(State::Ready);
    one.set(&tally(10), 2);
    other.set(&tally(20), 0);
    page.note_death(101, -9, Why::OutOfMemory, 5_000);
    page.note_lost(1);
    drop(other);
    let seen = Snapshot::read(&theirs).expect("a page");
    assert_eq!(
        (seen.owner, seen.started_ns, seen.face),
        (4711, 99, Face::Executor)
    );
    assert_eq!(
        (seen.phase, seen.size, seen.waiting),
        (Phase::Closing, 3, 12)
    );
    assert_eq!((seen.sources, seen.launching, seen.started), (1, 2, 2));
    assert_eq!((seen.deaths, seen.lost), (1, 1));
    let death = seen.last_death.expect("one died");
    assert_eq!(
        (death.pid, death.exitcode, death.why, death.at_ns),
        (101, -9, Why::OutOfMemory, 5_000)
    );
    let [worker] = seen.workers[..] else {
        panic!("one worker is left: {seen:?}")
    };
    assert_eq!(
        (worker.number, worker.pid, worker.state, worker.load),
        (0, 100, State::Ready, 2)
    );
    assert_eq!(worker.tally, tally(10));
    // What those that are gone have done is not forgotten.
    assert_eq!(seen.gone, tally(20));
    assert_eq!(seen.gone.and(worker.tally).answered, 30);
}

#[test]
fn a_slot_is_used_again_and_workers_beyond_them_are_counted() {
    let (ours, theirs) = memory(stats::LEN);
    let page = Page::create(ours, 1, 1, Face::Pool);
    let mut slots: Vec<_> = (0..SLOTS as u64)
        .map(|number| page.seat(number, 1, 1).expect("there is room"))
        .collect();
    assert!(page.seat(5_000, 1, 1).is_none());
    let seen = Snapshot::read(&theirs).expect("a page");
    assert_eq!((seen.workers.len(), seen.crowd), (SLOTS, 1));
    page.leave_crowd();
    slots[3].set(&tally(4), 1);
    slots.remove(3);
    let again = page.seat(6_000, 77, 1).expect("one has left");
    let seen = Snapshot::read(&theirs).expect("a page");
    assert_eq!(seen.crowd, 0);
    let new = seen
        .workers
        .iter()
        .find(|worker| worker.pid == 77)
        .expect("it is there");
    assert_eq!((new.number, new.tally), (6_000, Tally::default()));
    drop(again);
}

#[test]
fn names_are_cut_at_letters_and_an_old_one_gives_way() {
    let (ours, theirs) = memory(stats::LEN);
    let page = Page::create(ours, 1, 1, Face::Pool);
    assert_eq!(name_of(&theirs, 1), None);
    page.name(1, "Klasse.größe");
    assert_eq!(name_of(&theirs, 1).as_deref(), Some("Klasse.größe"));
    let long = "ü".repeat(NAME_BYTES);
    page.name(2, &long);
    assert_eq!(name_of(&theirs, 2), Some("ü".repeat(NAME_BYTES / 2)));
    page.name(257, "younger");
    assert_eq!(name_of(&theirs, 1), None);
    assert_eq!(name_of(&theirs, 257).as_deref(), Some("younger"));
    assert_eq!(name_of(&theirs, 0), None);
}

#[test]
fn a_page_of_noise_is_refused_or_read_but_never_a_panic() {
    let (ours, theirs) = memory(stats::LEN);
    assert!(matches!(
        Snapshot::read(&theirs),
        Err(Malformed::Magic { .. })
    ));
    let (_, short) = memory(4096);
    assert!(matches!(
        Snapshot::read(&short),
        Err(Malformed::OutOfRange { .. })
    ));
    // Any words at all after a good beginning: a hundred pages of them.
    drop(Page::create(Arc::clone(&ours), 1, 1, Face::Pool));
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..100 {
        for at in (16..stats::LEN).step_by(8) {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // SAFETY: within the mapping, aligned; nobody else has this memory but for `theirs`, which reads by atomics.
            unsafe {
                ours.base()
                    .as_ptr()
                    .add(at)
                    .cast::<u64>()
                    .write_volatile(word)
            };
        }
        let seen = Snapshot::read(&theirs).expect("its beginning is a page's");
        assert!(seen.workers.len() <= SLOTS);
        for id in [1, 255, 256, u32::MAX] {
            let _ = name_of(&theirs, id);
        }
        let _ = seen
            .workers
            .iter()
            .fold(seen.gone, |sum, worker| sum.and(worker.tally));
    }
}

#[test]
fn a_log_that_fills_keeps_its_room_for_what_means_most_and_counts_the_rest() {
    let (ours, theirs) = memory(log::len_of(32));
    assert!(matches!(
        Log::open(Arc::clone(&theirs)),
        Err(Malformed::Magic { .. })
    ));
    let maker = Log::create(ours);
    drop(Log::open(Arc::clone(&theirs)).expect("a log"));
    let claimed = |worth| (0..40).filter(|_| maker.claim(worth).is_some()).count();
    assert_eq!(
        [Worth::Detail, Worth::Main, Worth::Vital].map(claimed),
        [16, 14, 2]
    );
    let word = |at: usize| {
        // SAFETY: within the mapping and aligned; nobody writes now.
        unsafe { theirs.base().as_ptr().add(at).cast::<u64>().read_volatile() }
    };
    assert_eq!((word(128), word(256)), (32, 24 + 26 + 38));
}

#[test]
fn a_record_is_where_the_command_looks_for_it() {
    let (ours, theirs) = memory(log::len_of(4));
    let log = Log::create(ours);
    let record = log.claim(Worth::Vital).expect("there is room");
    log.write(record, 7, 4711, [1, 2, 3, 4, 5, 6, 7]);
    log.set(record, 4, 44);
    // As `manyhands/_trace_log.py` reads it.
    let words: Vec<u64> = (0..8)
        // SAFETY: within the mapping and aligned; nobody writes now.
        .map(|at| unsafe {
            theirs
                .base()
                .as_ptr()
                .add(4096 + at * 8)
                .cast::<u64>()
                .read_volatile()
        })
        .collect();
    assert_eq!(words, [7 | 4711 << 32, 1, 2, 3, 44, 5, 6, 7]);
}

#[test]
fn a_log_that_says_it_is_longer_than_its_memory_is_refused() {
    let (ours, theirs) = memory(log::len_of(4));
    drop(Log::create(Arc::clone(&ours)));
    for records in [0, 5, u64::MAX] {
        // SAFETY: within the mapping and aligned; nobody else is there.
        unsafe {
            ours.base()
                .as_ptr()
                .add(16)
                .cast::<u64>()
                .write_volatile(records)
        };
        assert!(matches!(
            Log::open(Arc::clone(&theirs)),
            Err(Malformed::OutOfRange { .. })
        ));
    }
}

#[test]
fn a_glance_tells_what_a_worker_is_at() {
    let shape = Shape {
        task_bytes: 4096,
        result_bytes: 4096,
    };
    let (ours, theirs) = memory(shape.region_len());
    assert!(mailbox::glance(Arc::clone(&theirs)).is_err());
    let mut parent = mailbox::create(Arc::clone(&ours), shape);
    let seen = mailbox::glance(Arc::clone(&theirs)).expect("a mailbox");
    assert_eq!((seen.pid, seen.began_ns, seen.has_mail), (0, 0, false));
    let mut worker = mailbox::attach(ours).expect("nobody has it");
    let head = Head {
        id: 7,
        tag: 3,
        ..Head::default()
    };
    parent.tasks.push(head, &[b"x"]).expect("there is room");
    let _ = parent.tasks.publish();
    let seen = mailbox::glance(Arc::clone(&theirs)).expect("a mailbox");
    assert_eq!((seen.pid, seen.has_mail), (std::process::id() as i32, true));
    worker
        .tasks
        .take()
        .expect("it is well formed")
        .expect("a task");
    worker.results.begins(7, 3, 1_000);
    let seen = mailbox::glance(Arc::clone(&theirs)).expect("a mailbox");
    assert_eq!((seen.serial, seen.tag, seen.began_ns), (7, 3, 1_000));
    worker.results.ends();
    assert_eq!(mailbox::glance(theirs).expect("a mailbox").began_ns, 0);
}
