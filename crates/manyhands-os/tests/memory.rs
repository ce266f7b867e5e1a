//! Shared memory: sealed, private to the user, seen by those who have it and by no forked child by accident.

mod common;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use common::*;
use manyhands_os::death::{Child, ExitStatus};
use manyhands_os::error;
use manyhands_os::memory::{Mapping, Memfd};
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::io::Errno;

const LEN: u64 = 1 << 20;

fn write(mapping: &Mapping, at: usize, value: u8) {
    assert!(at < mapping.len());
    // SAFETY: inside the mapping, which is writable; these tests have no other access at the time.
    unsafe { mapping.base().add(at).write_volatile(value) };
}

fn read(mapping: &Mapping, at: usize) -> u8 {
    assert!(at < mapping.len());
    // SAFETY: inside the mapping; these tests have no other access at the time.
    unsafe { mapping.base().add(at).read_volatile() }
}

#[test]
fn its_length_cannot_be_changed_by_anybody() {
    let memory = Memfd::create("test", LEN).unwrap();
    assert_eq!(memory.len(), LEN);
    assert_eq!(ftruncate(memory.as_fd(), 0), Err(Errno::PERM));
    assert_eq!(ftruncate(memory.as_fd(), LEN * 2), Err(Errno::PERM));
    assert_eq!(
        rustix::fs::fcntl_add_seals(memory.as_fd(), rustix::fs::SealFlags::WRITE),
        Err(Errno::PERM)
    );
    assert_eq!(fstat(memory.as_fd()).unwrap().st_mode & 0o777, 0o600);
}

#[test]
fn what_is_not_sealed_is_refused() {
    let refused = |fd: OwnedFd, why: &str| {
        let failure = Memfd::from_fd(fd).unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::InvalidInput);
        assert!(failure.to_string().ends_with(why), "{failure}");
    };
    refused(
        std::fs::File::open("/dev/null").unwrap().into(),
        "it is not a memfd",
    );
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    refused(file.into(), "it is not a memfd");
    let plain = memfd_create("plain", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&plain, LEN).unwrap();
    refused(plain, "its length is not sealed");
    let empty = memfd_create("empty", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    use rustix::fs::SealFlags;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&empty, seals).unwrap();
    refused(empty, "it is empty");
    let memory = Memfd::create("test", LEN).unwrap();
    let passed_on = Memfd::from_fd(memory.try_clone().unwrap().into()).unwrap();
    assert_eq!(passed_on.len(), LEN);
}

#[test]
fn writes_are_seen_through_every_shared_mapping_and_by_private_ones_until_they_write() {
    let memory = Memfd::create("test", LEN).unwrap();
    let shared = Mapping::shared(&memory).unwrap();
    let same = Mapping::shared_with_children(&memory).unwrap();
    let seen = Mapping::read_only(&memory).unwrap();
    let private = Mapping::copy_on_write(&memory).unwrap();
    write(&shared, 5, 1);
    assert_eq!(
        [&same, &seen, &private].map(|mapping| read(mapping, 5)),
        [1, 1, 1]
    );
    write(&private, 5, 2);
    assert_eq!(
        [&shared, &same, &seen, &private].map(|mapping| read(mapping, 5)),
        [1, 1, 1, 2]
    );
    write(&same, LEN as usize - 1, 3);
    assert_eq!(read(&shared, LEN as usize - 1), 3);
    assert_eq!(shared.base().addr().get() % 4096, 0);
}

#[test]
fn populated_memory_is_there_and_zero_and_keeps_what_was_written() {
    let memfd = Memfd::create("test", LEN).unwrap();
    let mapping = Mapping::shared(&memfd).unwrap();
    write(&mapping, 5000, 7);
    mapping.populate(4000, 40_000).unwrap();
    let blocks = fstat(&memfd).unwrap().st_blocks * 512;
    assert!(blocks >= 40_000, "{blocks} bytes are there");
    assert!(blocks < 100_000, "{blocks} bytes are there");
    assert_eq!([4999, 5000, 43_999].map(|at| read(&mapping, at)), [0, 7, 0]);
}

#[test]
fn a_hole_is_zero_and_gives_the_memory_back() {
    let memory = Memfd::create("test", LEN).unwrap();
    let mapping = Mapping::shared(&memory).unwrap();
    (0..LEN as usize)
        .step_by(4096)
        .for_each(|at| write(&mapping, at, 1));
    let blocks = || fstat(memory.as_fd()).unwrap().st_blocks as u64 * 512;
    assert_eq!(blocks(), LEN);
    memory.punch_hole(LEN / 4..LEN / 2).unwrap();
    assert_eq!(blocks(), LEN - LEN / 4);
    assert_eq!(
        [LEN / 4 - 4096, LEN / 4, LEN / 2].map(|at| read(&mapping, at as usize)),
        [1, 0, 1]
    );
    #[expect(clippy::reversed_empty_ranges, reason = "nothing to do is no error")]
    memory.punch_hole(9..3).unwrap();
}

#[test]
fn a_forked_child_has_only_the_mappings_that_were_meant_for_it() {
    let _watchdog = watchdog();
    let memory = Memfd::create("test", LEN).unwrap();
    let (ours, both) = (
        Mapping::shared(&memory).unwrap(),
        Mapping::shared_with_children(&memory).unwrap(),
    );
    let end = |pid| Child::own(pid).unwrap().wait(None).unwrap().unwrap();
    let limit = || {
        let none = manyhands_os::limits::Bounds {
            soft: Some(0),
            hard: Some(0),
        };
        manyhands_os::limits::set(manyhands_os::limits::Limit::Core, none).unwrap();
    };
    let touching = forked(|| {
        limit();
        read(&ours, 0).into()
    });
    assert_eq!(end(touching), ExitStatus::Signaled(libc::SIGSEGV));
    let writing = forked(|| {
        write(&both, 0, 7);
        0
    });
    assert_eq!(end(writing), ExitStatus::Exited(0));
    assert_eq!(read(&ours, 0), 7);
}

#[test]
fn dropping_the_parents_mapping_in_a_child_unmaps_nothing_of_the_childs() {
    let _watchdog = watchdog();
    let memory = Memfd::create("test", LEN).unwrap();
    let ours = Mapping::shared(&memory).unwrap();
    let child = forked(|| {
        let (base, len) = (ours.base().as_ptr(), ours.len());
        // SAFETY: the range is free in the child, as the flag makes sure; the page is written and read while
        // it is mapped, if dropping `ours` does what it should.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let page = libc::mmap(base.cast(), len, rights, flags, -1, 0).cast::<u8>();
            if page != base {
                return 1;
            }
            page.write_volatile(9);
            drop(ours);
            i32::from(page.read_volatile() != 9)
        }
    });
    let child = Child::own(child).unwrap();
    assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Exited(0)));
}

#[test]
fn mappings_stay_out_of_core_dumps_and_a_dropped_one_is_unmapped() {
    let memory = Memfd::create("manyhands-flags", LEN).unwrap();
    let flags = || {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let after = smaps.split_once("memfd:manyhands-flags")?.1;
        let line = after.lines().find(|line| line.starts_with("VmFlags:"))?;
        Some(
            line.split_ascii_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    let shared = Mapping::shared(&memory).unwrap();
    let set = flags().unwrap();
    assert!(
        ["dd", "dc"]
            .iter()
            .all(|flag| set.iter().any(|f| f == flag)),
        "{set:?}"
    );
    drop(shared);
    assert_eq!(flags(), None);
    let inherited = Mapping::read_only(&memory).unwrap();
    let set = flags().unwrap();
    assert!(
        set.iter().any(|f| f == "dd") && !set.iter().any(|f| f == "dc"),
        "{set:?}"
    );
    drop(inherited);
}

#[test]
fn memory_that_cannot_be_had_is_an_error_in_words() {
    let none = Memfd::create("test", 0).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
    Memfd::create("test", u64::MAX).unwrap_err();
    let memory = Memfd::create("test", 1 << 60).unwrap();
    let failure = Mapping::shared(&memory).unwrap_err();
    assert_eq!(error::errno(&failure), Some(libc::ENOMEM));
    assert_eq!(
        failure.to_string(),
        "could not map 1048576 TiB of shared memory: Cannot allocate memory; ask for less, or raise the \
         limit of address space (`ulimit -v`)"
    );
}
