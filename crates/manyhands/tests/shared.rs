//! Shared memory: the same numbers everywhere, and bytes that are copied once at most.

mod common;

use std::marker::PhantomData;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

use common::{open_fds, play, scene};
use manyhands::{
    Bytes, Error, Event, Lock, LockedSlice, Pool, Process, Sender, SharedSlice, channel,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn main() -> ExitCode {
    manyhands::init();
    common::watchdog();
    if let Some(scene) = scene() {
        assert_eq!(scene, "leak");
        scene_leak();
        return ExitCode::SUCCESS;
    }
    let trials = trials![
        children_and_parent_see_each_others_numbers,
        every_kind_of_number_is_kept_as_it_is,
        atomics_count_right_across_processes,
        a_slice_outlives_who_made_it,
        places_that_are_not_there_panic,
        an_empty_slice_is_one,
        a_slice_too_long_for_any_memory_is_an_error,
        a_slice_of_other_numbers_is_refused,
        bytes_of_every_size_go_through_a_pool_and_back,
        bytes_of_every_size_go_to_a_process_and_back,
        bytes_go_through_a_channel_without_a_copy,
        a_sealed_memory_is_one_for_all,
        bytes_come_from_many_things_and_compare,
        bytes_go_by_other_formats_as_bytes,
        a_pool_keeps_its_memory_when_answers_are_kept,
        nothing_is_left_open,
        a_locked_slice_is_one_processes_at_a_time,
        a_locked_slice_is_one_threads_at_a_time,
        a_locked_slice_whose_owner_was_killed_says_so_once,
        a_locked_slice_of_a_killed_owner_wakes_its_waiter,
        a_locked_slice_is_no_other_memory_and_no_other_numbers,
        a_locked_slice_goes_through_channels_and_survives_its_maker,
        a_panic_gives_a_locked_slice_back,
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

/// Adds one to the first number, and writes it everywhere, one after the other.
fn count_up((numbers, times): (LockedSlice<u64>, usize)) {
    for _ in 0..times {
        let mut numbers = numbers.lock().unwrap();
        let next = numbers[0] + 1;
        assert!(numbers.iter().all(|number| *number == next - 1));
        numbers.iter_mut().for_each(|number| *number = next);
    }
}

fn a_locked_slice_is_one_processes_at_a_time() {
    let numbers = LockedSlice::<u64>::new(100).unwrap();
    let pool = Pool::builder().workers(3).build().unwrap();
    pool.map(count_up, (0..12).map(|_| (numbers.clone(), 500)))
        .unwrap();
    assert!(numbers.lock().unwrap().iter().all(|n| *n == 6000));
    assert_eq!(numbers.owner(), None);
}

fn a_locked_slice_is_one_threads_at_a_time() {
    let numbers = LockedSlice::<u64>::new(100).unwrap();
    // Another mapping of the same memory, too.
    let (to, from) = channel(1).unwrap();
    to.send(numbers.clone()).unwrap();
    let again = from.recv().unwrap();
    std::thread::scope(|scope| {
        for numbers in [&numbers, &again, &again] {
            scope.spawn(|| count_up((numbers.clone(), 1000)));
        }
    });
    let guard = numbers.lock().unwrap();
    assert_eq!(guard[99], 3000);
    assert!(matches!(again.lock(), Err(Error::Deadlock)));
    assert!(matches!(again.try_lock(), Err(Error::Deadlock)));
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            assert!(again.try_lock().unwrap().is_none());
            let soon = std::time::Duration::from_millis(5);
            assert!(again.lock_timeout(soon).unwrap().is_none());
        });
        elsewhere.join().unwrap();
    });
    drop(guard);
    assert!(again.try_lock().unwrap().is_some());
}

fn die_holding((numbers, begun): (LockedSlice<u64>, Event)) {
    let mut numbers = numbers.lock().unwrap();
    numbers[0] = 7;
    begun.set();
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

fn a_locked_slice_whose_owner_was_killed_says_so_once() {
    let numbers = LockedSlice::<u64>::new(2).unwrap();
    let begun = Event::new().unwrap();
    let child = Process::spawn(die_holding, (numbers.clone(), begun.clone())).unwrap();
    begun.wait();
    assert_eq!(numbers.owner(), Some(child.pid()));
    assert!(numbers.try_lock().unwrap().is_none());
    let pid = child.pid();
    child.kill().unwrap();
    child.join().unwrap_err();
    let error = numbers.lock().map(drop).unwrap_err();
    assert!(matches!(error, Error::OwnerDied { pid: dead } if dead == pid));
    assert_eq!(*numbers.lock().unwrap(), [7, 0]); // as it was left
}

fn a_locked_slice_of_a_killed_owner_wakes_its_waiter() {
    let numbers = LockedSlice::<u64>::new(2).unwrap();
    let begun = Event::new().unwrap();
    let child = Process::spawn(die_holding, (numbers.clone(), begun.clone())).unwrap();
    begun.wait();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let numbers = numbers.clone();
            std::thread::spawn(move || matches!(numbers.lock(), Err(Error::OwnerDied { .. })))
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(20));
    child.kill().unwrap();
    let told: Vec<_> = waiters
        .into_iter()
        .map(|waiter| waiter.join().unwrap())
        .collect();
    assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
}

/// One thing on its way out and another one on its way in, as a program may say that has written both by hand.
struct Swapped<A, B>(Option<A>, PhantomData<B>);

impl<A: Serialize, B> Serialize for Swapped<A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().unwrap().serialize(serializer)
    }
}

impl<'de, A, B: Deserialize<'de>> Deserialize<'de> for Swapped<A, B> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        B::deserialize(input).map(|_| Self(None, PhantomData))
    }
}

fn swapped<A: Serialize, B: DeserializeOwned>(value: A) -> String {
    let (to, from) = channel::<Swapped<A, B>>(1).unwrap();
    to.send(Swapped(Some(value), PhantomData)).unwrap();
    from.recv().map(drop).unwrap_err().to_string()
}

fn a_locked_slice_is_no_other_memory_and_no_other_numbers() {
    let locked = || LockedSlice::<u32>::new(12).unwrap();
    // What could be looked at without the lock.
    let error = swapped::<_, (SharedSlice<u8>,)>((locked(), 112_u64, 1_u8));
    assert!(error.contains("memory of another kind"), "{error}");
    let error = swapped::<_, (Lock,)>((locked(), 1_u32));
    assert!(error.contains("memory of another kind"), "{error}");
    // A lock and numbers that somebody made up.
    let forged = SharedSlice::<u64>::new(14).unwrap();
    forged.set(0, u64::from_le_bytes(*b"mh-guard"));
    forged.set(2, 4);
    struct First<T>(T);
    impl<T: Serialize> Serialize for First<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_newtype_struct("First", &self.0)
        }
    }
    impl<'de> Deserialize<'de> for First<LockedSlice<u32>> {
        fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            let (slice, _, _) = <(LockedSlice<u32>, u64, u8)>::deserialize(input)?;
            Ok(Self(slice))
        }
    }
    let error = swapped::<_, First<LockedSlice<u32>>>(First(forged));
    assert!(error.contains("memory of another kind"), "{error}");
    // Numbers of another width, and of the same.
    let error = swapped::<_, LockedSlice<u64>>(locked());
    assert!(error.contains("its numbers are others"), "{error}");
    let error = swapped::<_, LockedSlice<u32>>(7_u32);
    assert!(error.contains("did not come"), "{error}");
    let too_long = LockedSlice::<u64>::new(usize::MAX);
    assert!(matches!(too_long, Err(Error::System { .. })));
}

fn a_locked_slice_goes_through_channels_and_survives_its_maker() {
    fn make(to: Sender<LockedSlice<i16>>) {
        to.send(LockedSlice::from_slice(&[3, 1, 2]).unwrap())
            .unwrap();
    }
    let (to, from) = channel(1).unwrap();
    let child = Process::spawn(make, to).unwrap();
    let numbers = from.recv().unwrap();
    child.join().unwrap();
    numbers.lock().unwrap().sort();
    assert_eq!(*numbers.lock().unwrap(), [1, 2, 3]);
    let back = Process::spawn(|numbers: LockedSlice<i16>| numbers, numbers.clone());
    let back = back.unwrap().join().unwrap();
    back.lock().unwrap()[0] = 9;
    assert_eq!(numbers.lock().unwrap()[0], 9);
    assert!(
        LockedSlice::<f64>::new(0)
            .unwrap()
            .lock()
            .unwrap()
            .is_empty()
    );
}

fn a_panic_gives_a_locked_slice_back() {
    let numbers = LockedSlice::<u8>::new(1).unwrap();
    let pool = Pool::builder().workers(1).build().unwrap();
    let index = |numbers: LockedSlice<u8>| numbers.lock().unwrap()[1];
    let error = pool.submit(index, numbers.clone()).unwrap().wait();
    assert!(matches!(error, Err(Error::Panicked(_))));
    assert_eq!(*numbers.lock().unwrap(), [0]);
}

fn children_and_parent_see_each_others_numbers() {
    fn double(numbers: SharedSlice<i64>) {
        for at in 0..numbers.len() {
            numbers.set(at, numbers.get(at) * 2);
        }
    }
    let numbers = SharedSlice::from_slice(&[1, -2, 1 << 40]).unwrap();
    Process::spawn(double, numbers.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(numbers.to_vec(), [2, -4, 1 << 41]);
    let pool = Pool::builder().workers(2).build().unwrap();
    pool.submit(double, numbers.clone())
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(numbers.to_vec(), [4, -8, 1 << 42]);
}

fn every_kind_of_number_is_kept_as_it_is() {
    macro_rules! kept {
        ($($numbers:expr),* $(,)?) => {$(
            let numbers = $numbers;
            let slice = SharedSlice::from_slice(&numbers).unwrap();
            let back = Process::spawn(|slice: SharedSlice<_>| slice.to_vec(), slice.clone());
            assert_eq!(back.unwrap().join().unwrap(), numbers);
            assert_eq!(slice.read(1..2), [numbers[1]]);
        )*};
    }
    kept![
        [u8::MAX, 1],
        [i8::MIN, 1],
        [u16::MAX, 1],
        [i16::MIN, 1],
        [u32::MAX, 1],
        [i32::MIN, 1],
        [u64::MAX, 1],
        [i64::MIN, 1],
        [usize::MAX, 1],
        [isize::MIN, 1],
        [f32::MIN_POSITIVE, -0.0],
        [f64::INFINITY, 1e-300],
    ];
    let nan = f64::from_bits(0x7ff8_dead_beef_0001);
    let slice = SharedSlice::from_slice(&[nan]).unwrap();
    assert_eq!(slice.get(0).to_bits(), nan.to_bits());
}

fn atomics_count_right_across_processes() {
    fn add(count: SharedSlice<u32>) {
        for _ in 0..10_000 {
            count.atomics()[0].fetch_add(1, Relaxed);
        }
    }
    let count = SharedSlice::new(1).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| Process::spawn(add, count.clone()).unwrap())
        .collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(count.get(0), 40_000);
}

fn a_slice_outlives_who_made_it() {
    fn make((): ()) -> SharedSlice<u8> {
        SharedSlice::from_slice(b"hands").unwrap()
    }
    let slice = Process::spawn(make, ()).unwrap().join().unwrap();
    assert_eq!(slice.to_vec(), b"hands");
}

fn places_that_are_not_there_panic() {
    let slice = SharedSlice::<u8>::new(3).unwrap();
    // Memory comes in pages, and what is behind the last number is not to be reached.
    for call in [
        (|slice: &SharedSlice<u8>| assert_eq!(slice.get(3), 0)) as fn(&SharedSlice<u8>),
        |slice| slice.set(3, 1),
        |slice| drop(slice.read(2..4)),
        |slice| slice.write(2, &[1, 2]),
        |slice| slice.write(4, &[]),
    ] {
        let slice = slice.clone();
        assert!(std::panic::catch_unwind(move || call(&slice)).is_err());
    }
    assert_eq!(slice.to_vec(), [0; 3]);
}

fn an_empty_slice_is_one() {
    let slice = SharedSlice::<u64>::new(0).unwrap();
    let back = Process::spawn(|slice: SharedSlice<u64>| slice.len(), slice.clone());
    assert_eq!(back.unwrap().join().unwrap(), 0);
    assert!(slice.is_empty() && slice.iter().next().is_none());
}

fn a_slice_too_long_for_any_memory_is_an_error() {
    let error = SharedSlice::<u64>::new(usize::MAX).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("could not make a shared slice: "),
        "{text}"
    );
}

fn a_slice_of_other_numbers_is_refused() {
    struct Wrong(SharedSlice<u64>);
    impl serde::Serialize for Wrong {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }
    impl<'de> serde::Deserialize<'de> for Wrong {
        fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            SharedSlice::<u32>::deserialize(input)?;
            unreachable!("eight bytes came as four");
        }
    }
    let wrong = Wrong(SharedSlice::new(2).unwrap());
    let error = Process::spawn(|_: Wrong| (), wrong)
        .unwrap()
        .join()
        .unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    assert!(
        error.to_string().contains("are others than it says"),
        "{error}"
    );
}

const SIZES: [usize; 6] = [0, 1, (16 << 10) - 1, 16 << 10, 1 << 20, 40 << 20];

fn same(bytes: Bytes) -> (Bytes, u64) {
    let sum = bytes.iter().map(|byte| u64::from(*byte)).sum();
    (bytes, sum)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn bytes_of_every_size_go_through_a_pool_and_back() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let inputs: Vec<Bytes> = SIZES.map(|len| pattern(len).into()).into();
    let results = pool.map(same, inputs.clone()).unwrap();
    for (input, (back, total)) in inputs.iter().zip(results) {
        assert!(*input == back && total == sum(input), "{input:?}");
    }
    let sealed = Bytes::sealed(&pattern(1 << 20)).unwrap();
    let back = pool.submit(same, sealed.clone()).unwrap().wait().unwrap();
    assert_eq!(back.0, sealed);
}

fn bytes_of_every_size_go_to_a_process_and_back() {
    for len in SIZES {
        let input = Bytes::from(pattern(len));
        let (back, total) = Process::spawn(same, input.clone()).unwrap().join().unwrap();
        assert!(back == input && total == sum(&input), "{len}");
        assert_eq!(back.is_sealed(), len >= 16 << 10);
    }
}

fn bytes_go_through_a_channel_without_a_copy() {
    let (to, from) = channel(10).unwrap();
    for bytes in [
        Bytes::from(pattern(1 << 20)),
        Bytes::sealed(b"short").unwrap(),
    ] {
        to.send(bytes.clone()).unwrap();
        assert_eq!(from.recv().unwrap(), bytes);
    }
}

/// The memory behind sealed bytes, as the kernel knows it.
fn inode_of(bytes: &Bytes) -> String {
    let address = bytes.as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps
        .lines()
        .find(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (begin, end) = range.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(begin)..number(end)).contains(&address)
        })
        .unwrap();
    let mut fields = line.split_whitespace();
    fields.nth(4).unwrap().to_owned()
}

fn a_sealed_memory_is_one_for_all() {
    let bytes = Bytes::sealed(&pattern(1 << 20)).unwrap();
    let here = inode_of(&bytes);
    for _ in 0..2 {
        let there = Process::spawn(|bytes: Bytes| inode_of(&bytes), bytes.clone());
        assert_eq!(there.unwrap().join().unwrap(), here);
    }
    let (to, from) = channel(1).unwrap();
    to.send(bytes).unwrap();
    assert_eq!(inode_of(&from.recv().unwrap()), here);
}

fn bytes_come_from_many_things_and_compare() {
    let all = [
        Bytes::from("hands"),
        Bytes::from("hands".to_owned()),
        Bytes::from(&b"hands"[..]),
        Bytes::from(b"hands".to_vec()),
        Bytes::sealed(b"hands").unwrap(),
    ];
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(Bytes::default().len(), 0);
    assert_eq!(Bytes::sealed(b"").unwrap(), Bytes::new());
}

fn bytes_go_by_other_formats_as_bytes() {
    let bytes = Bytes::from(pattern(100_000));
    let text = postcard_of(&bytes);
    assert!(text.len() > 100_000);
    assert_eq!(postcard::from_bytes::<Bytes>(&text).unwrap(), bytes);
}

fn postcard_of(bytes: &Bytes) -> Vec<u8> {
    postcard::to_allocvec(bytes).unwrap()
}

fn a_pool_keeps_its_memory_when_answers_are_kept() {
    // What is kept of answers lies where the worker put it; others find their room all the same.
    let pool = Pool::builder().workers(1).build().unwrap();
    let make = |n: u64| Bytes::from(vec![n as u8; 1 << 20]);
    let kept: Vec<Bytes> = pool.map(make, 0..200).unwrap();
    drop(pool);
    for (n, bytes) in kept.iter().enumerate() {
        assert!(bytes.iter().all(|byte| *byte == n as u8));
    }
}

fn nothing_is_left_open() {
    let output = play("leak");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n");
}

fn scene_leak() {
    let round = || {
        let slice = SharedSlice::<u8>::new(100).unwrap();
        let bytes = Bytes::sealed(&[1; 20_000]).unwrap();
        let both = Process::spawn(|both: (SharedSlice<u8>, Bytes)| both, (slice, bytes));
        let both = both.unwrap().join().unwrap();
        assert_eq!(both.1.len(), 20_000);
    };
    let maps = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("/memfd:")).count()
    };
    round();
    let before = (open_fds(), maps());
    (0..10).for_each(|_| round());
    assert_eq!((open_fds(), maps()), before);
    println!("fine");
}
