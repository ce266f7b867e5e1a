//! Shared memory with a name: files in `/dev/shm`, and notes left there for other processes to find.
//!
//! Always: a name is one file directly in that folder, never a path out of it, never a link followed; what
//! is made is for the same user alone unless the caller says otherwise; an error keeps its number.
//! Not here: memory without a name (`memory`), who removes a name at last (Python's `resource_tracker`).

use std::io::{self, Read};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use crate::{death, error};

const FOLDER: &str = "/dev/shm";
/// Notes are a line; what is longer is none of ours.
const NOTE_LEN: u64 = 256;

/// The file behind a name such as `/psm_1a2b`, as the C library's `shm_open` finds it.
fn path(name: &str) -> Result<PathBuf, Errno> {
    let file = name.trim_start_matches('/');
    if file.is_empty() || file == "." || file == ".." || file.contains(['/', '\0']) {
        return Err(Errno::INVAL);
    }
    if file.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    Ok(PathBuf::from(FOLDER).join(file))
}

/// The error for a file that is not there, or cannot be made because the folder is missing.
fn told(e: Errno) -> io::Error {
    if e == Errno::NOENT && !PathBuf::from(FOLDER).is_dir() {
        let what = "there is no /dev/shm, where named shared memory lies; mount a tmpfs there";
        return error::context(e, what);
    }
    e.into()
}

/// Opens or makes the segment called `name`; `flags` are `open`'s (`O_CREAT`, `O_EXCL`, `O_RDWR`).
pub fn open(name: &str, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(mode);
    let path = path(name)?;
    loop {
        match rustix::fs::open(&path, flags, mode) {
            Err(Errno::INTR) => {}
            answer => return answer.map_err(told),
        }
    }
}

/// Removes the name; who has the segment mapped keeps it.
pub fn unlink(name: &str) -> io::Result<()> {
    rustix::fs::unlink(path(name)?).map_err(told)
}

/// Gets memory for the first `len` bytes now: a folder that is full is an error here, and not a bus error
/// at the first touch.
pub fn reserve(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            // A file system that cannot say so in advance.
            Ok(()) | Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(e) => return Err(full(e, len, room(fd))),
        }
    }
}

/// Whether `len` bytes are an eighth or more of what is free where the file lies: what is taken like that without being
/// reserved may be gone when it is touched. An error if they have no room at all.
pub fn is_much(fd: BorrowedFd<'_>, len: u64) -> io::Result<bool> {
    match room(fd) {
        Some(room) if room < len => Err(full(Errno::NOSPC, len, Some(room))),
        Some(room) => Ok(len >= room / 8),
        None => Ok(false),
    }
}

/// Bytes that are free where the file lies; `None` if there is no limit, or none is told.
fn room(fd: BorrowedFd<'_>) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(fd).ok()?;
    (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn full(e: Errno, len: u64, room: Option<u64>) -> io::Error {
    let free = room.map_or(String::new(), |room| {
        format!(" of which {} are free", error::bytes(room))
    });
    let what = format!("could not reserve {} in {FOLDER}{free}", error::bytes(len));
    error::advised(
        e,
        what,
        "ask for less, or make it larger (docker run --shm-size, or remount it with size=)",
    )
}

/// Leaves a note under `name`, whole or not at all; an error of the kind `AlreadyExists` if there is one.
pub fn leave_note(name: &str, text: &str) -> io::Result<()> {
    let path = path(name)?;
    let mode = Mode::RUSR | Mode::WUSR;
    // Written before it has a name, so that nobody reads half of it.
    let hidden = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(FOLDER, hidden, mode).map_err(told)?;
    write_all(&file, text.as_bytes())?;
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, opened, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(told)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The note left under `name` by a process of the same user.
pub fn read_note(name: &str) -> io::Result<String> {
    let file = open(name, 0, 0)?;
    let stat = rustix::fs::fstat(&file)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(error::context(Errno::PERM, "it is another user's"));
    }
    let mut text = String::new();
    std::fs::File::from(file)
        .take(NOTE_LEN)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// A second descriptor of what another process of the same user has open as `fd`.
///
/// `started` is the process's start time: an error of the kind `NotFound` if that process has ended.
pub fn open_of_other(pid: i32, started: u64, fd: i32) -> io::Result<OwnedFd> {
    let file = rustix::fs::open(
        format!("/proc/{pid}/fd/{fd}"),
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    );
    // Looked up afterwards: what was opened was that process's.
    if death::start_time(pid)? != started {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file?)
}

/// Which file a descriptor has open: equal for two descriptors of one file, for as long as it is open.
pub fn file_identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(what: &str) -> String {
        format!("/manyhands-os-{what}-{}", std::process::id())
    }

    #[test]
    fn a_name_is_never_a_path_out_of_the_folder() {
        for bad in ["", "/", "a/b", "..", "/../etc/passwd", "a\0b"] {
            let refused = open(bad, 0, 0).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{bad:?}");
        }
    }

    #[test]
    fn a_segment_is_made_once_and_removed_once() {
        let name = name("once");
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        let made = open(&name, flags, 0o600).unwrap();
        assert_eq!(
            open(&name, flags, 0o600).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let again = open(&name, libc::O_RDWR, 0).unwrap();
        assert_eq!(
            file_identity(&made).unwrap(),
            file_identity(&again).unwrap()
        );
        unlink(&name).unwrap();
        assert_eq!(unlink(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn more_than_there_is_is_refused_and_says_how_much_there_is() {
        let name = name("full");
        let made = open(&name, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, 0o600).unwrap();
        unlink(&name).unwrap();
        let refused = is_much(made.as_fd(), 1 << 60).unwrap_err();
        assert_eq!(error::errno(&refused), Some(libc::ENOSPC));
        assert!(refused.to_string().contains("are free"), "{refused}");
        let free = room(made.as_fd()).unwrap();
        assert!(is_much(made.as_fd(), free / 2).unwrap());
        assert!(!is_much(made.as_fd(), free / 16).unwrap());
        reserve(made.as_fd(), 8192).unwrap();
    }

    #[test]
    fn a_note_is_left_whole_and_once() {
        let name = name("note");
        leave_note(&name, "here").unwrap();
        assert_eq!(
            leave_note(&name, "there").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(read_note(&name).unwrap(), "here");
        unlink(&name).unwrap();
        assert_eq!(
            read_note(&name).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn what_a_process_has_open_can_be_opened_again_while_it_lives() {
        let memory = crate::memory::Memfd::create("manyhands-os test", 4096).unwrap();
        let (pid, fd) = (std::process::id() as i32, memory.as_fd().as_raw_fd());
        let started = death::start_time(pid).unwrap();
        let other = open_of_other(pid, started, fd).unwrap();
        assert_eq!(
            file_identity(&memory).unwrap(),
            file_identity(&other).unwrap()
        );
        assert!(open_of_other(pid, started + 1, fd).is_err());
    }
}
