//! Messages that bring descriptors along, on any socket between processes of this machine.
//!
//! Always: a descriptor that arrives is closed on exec; one that came and is not handed on is closed. A signal
//! ends neither a send nor a receive: both go on.
//! Not here: what a message is, bytes as they come (`socket`) or a packet (`packet`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::error;
use crate::fd::{BorrowedFd, OwnedFd};

/// The most descriptors that one message carries: the kernel's `SCM_MAX_FD`.
pub const MAX_FDS: usize = 253;

/// The room that [`MAX_FDS`] descriptors take in a message's ancillary data.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// Refuses more descriptors than one message carries.
pub(crate) fn check_count(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() <= MAX_FDS {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "could not send {} descriptors in one message: at most {MAX_FDS}",
            fds.len()
        ),
    ))
}

/// Sends what the socket takes of `parts`, and with it the descriptors, which were counted; how many bytes it took.
pub(crate) fn send(
    sock: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    retried(|| {
        let mut room = [MaybeUninit::uninit(); CONTROL];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::net::sendmsg(sock, parts, &mut control, flags)
    })
}

/// What was received.
pub(crate) struct Came {
    pub(crate) bytes: usize,
    pub(crate) fds: Vec<OwnedFd>,
    flags: ReturnFlags,
}

impl Came {
    /// Whether there were more bytes than room for them.
    pub(crate) fn is_cut(&self) -> bool {
        self.flags.contains(ReturnFlags::TRUNC)
    }

    /// An error if the kernel had descriptors for us, and this process no room for them.
    pub(crate) fn with_all_fds(self) -> io::Result<Self> {
        if !self.flags.contains(ReturnFlags::CTRUNC) {
            return Ok(self);
        }
        Err(error::advised(
            io::Error::from(Errno::MFILE),
            "descriptors were lost on arrival",
            "raise the limit of open files (`ulimit -n`)",
        ))
    }
}

/// Receives bytes and the descriptors that came with them.
pub(crate) fn recv(
    sock: BorrowedFd<'_>,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> Result<Came, Errno> {
    let mut room = [MaybeUninit::uninit(); CONTROL];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let message = retried(|| {
        let mut slices = [IoSliceMut::new(&mut *bytes)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(sock, &mut slices, &mut control, flags)
    })?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = part {
            fds.extend(arrived);
        }
    }
    Ok(Came {
        bytes: message.bytes,
        fds,
        flags: message.flags,
    })
}

/// Repeats a call that a signal cut short before it did anything.
pub(crate) fn retried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
}
