//! What a re-executed child finds of its parent: a socket whose number is in the environment.
//!
//! The parent opens the socket pair, puts everything into its own end, and starts the child
//! with [`marker`] added to the environment; the child calls [`take`] first in `main`. Always:
//! a marker is believed only if the descriptor that it names is a socket whose other end was
//! made by the process that the marker names; and where that process is not our parent any
//! more, the parent is dead. Not here: what is said on the socket (`manyhands::entry`).

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The variable of the environment.
const VARIABLE: &str = "MANYHANDS_CHILD";

/// What [`take`] found.
#[derive(Debug)]
pub enum Inherited {
    /// Nobody started this process for a purpose of ours.
    Nothing,
    /// The parent's socket, which is close-on-exec from now on.
    Socket(OwnedFd),
    /// There is a request, but the process that made it is gone already.
    Orphaned,
}

/// The entry `NAME=value` that tells a child of this process about `socket`.
pub fn marker(socket: BorrowedFd<'_>) -> CString {
    let entry = format!("{VARIABLE}={}:{}", socket.as_raw_fd(), std::process::id());
    CString::new(entry).expect("a name and two numbers have no NUL")
}

/// Whether this entry of an environment is a marker, perhaps an old one.
pub fn is_marker(name: &std::ffi::OsStr) -> bool {
    name == VARIABLE
}

/// Takes what the parent left for this process, once: the marker is removed.
///
/// In a program that gained privileges when it was executed (set-user-id, capabilities), the
/// environment is another user's say and nothing is believed.
pub fn take() -> Inherited {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let Some(value) = std::env::var_os(VARIABLE) else {
        return Inherited::Nothing;
    };
    // Relaxed: the swap alone decides who is first, nothing else is published by it.
    if TAKEN.swap(true, Relaxed) {
        return Inherited::Nothing;
    }
    // SAFETY: getauxval only reads the auxiliary vector.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Inherited::Nothing;
    }
    remove_marker();
    let Some((fd, parent)) = parse(&value) else {
        return Inherited::Nothing;
    };
    // A number that is not open, no socket, or another process's: left over from an older child.
    if peer(fd) != Some(parent) {
        return Inherited::Nothing;
    }
    // SAFETY: `peer` found `fd` open. It is ours: the parent left it open for this purpose and
    // nothing else in this process knows of it; `TAKEN` lets one caller alone come here.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: F_SETFD on an open descriptor that we own.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if std::os::unix::process::parent_id() as i32 == parent {
        Inherited::Socket(socket)
    } else {
        Inherited::Orphaned
    }
}

fn parse(value: &OsString) -> Option<(RawFd, i32)> {
    let (fd, parent) = value.to_str()?.split_once(':')?;
    let (fd, parent) = (fd.parse().ok()?, parent.parse().ok()?);
    (fd > 2 && parent > 0).then_some((fd, parent))
}

/// Which process made the socket pair that `fd` is one end of.
fn peer(fd: RawFd) -> Option<i32> {
    let mut who = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `who` and `len` are valid for the call, and `len` is the size of `who`; on a
    // number that is not a socket the call fails.
    let answer = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut len,
        )
    };
    (answer == 0).then_some(who.pid)
}

/// Removes the marker, so that the programs this process starts do not see it.
///
/// With other threads (a library's constructor started one) it stays: they could be reading
/// the environment. It does no harm, since [`take`] believes no marker of an older process.
fn remove_marker() {
    if matches!(threads(), Ok(1)) {
        // SAFETY: this is the only thread, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(VARIABLE) };
    }
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// What this process is called in `ps` and `top`; empty where there is no `/proc`.
pub fn title() -> String {
    let title = std::fs::read(format!("/proc/self/task/{}/comm", std::process::id()));
    String::from_utf8_lossy(title.unwrap_or_default().trim_ascii_end()).into_owned()
}

/// Calls this process something else: the first 15 bytes count. Called on the main thread.
pub fn set_title(title: &str) {
    let title: Vec<u8> = title
        .bytes()
        .take_while(|&byte| byte != 0)
        .take(15)
        .collect();
    if let Ok(title) = CString::new(title) {
        // SAFETY: PR_SET_NAME reads a string that ends with NUL; `title` lives until then.
        unsafe { libc::prctl(libc::PR_SET_NAME, title.as_ptr()) };
    }
}

/// Ends this process at once: no destructors, no handlers, nothing flushed.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit has no requirements.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_marker_names_the_descriptor_and_this_process() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let entry = marker(socket.as_fd()).into_string().unwrap();
        let (name, value) = entry.split_once('=').unwrap();
        assert!(is_marker(name.as_ref()));
        let (fd, parent) = parse(&value.into()).unwrap();
        assert_eq!(fd, socket.as_raw_fd());
        assert_eq!(peer(fd), Some(parent));
    }

    #[test]
    fn what_is_no_marker_is_not_believed() {
        for value in [
            "", ":", "7", "7:", ":7", "-1:4", "1:4", "9:0", "9:-4", "a:b", "9:4:4",
        ] {
            assert_eq!(parse(&value.into()), None, "{value:?}");
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer(file.as_raw_fd()), None);
    }
}
