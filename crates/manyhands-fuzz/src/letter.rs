//! A letter between a process and the child that it starts: whatever bytes and descriptors come.
//!
//! Always: no more descriptors are kept than a letter can carry, none is left open, and no more memory is taken than
//! the sender has filled.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use manyhands::fuzzing;
use manyhands_os::memory::Memfd;
use manyhands_os::socket;

use crate::script::Script;

/// "A letter" and its kind, as `letter::send` begins one.
const MAGIC: [u8; 4] = 0x4c68_6d01_u32.to_le_bytes();

thread_local! {
    /// Memory of several lengths, some of it filled, and what is no memory at all.
    static ENCLOSED: (Vec<Memfd>, UnixStream) = {
        let memory = [1, 100, 20_000, 1 << 40]
            .map(|len| Memfd::create("manyhands-fuzz", len).expect("a memfd"));
        for (memory, filled) in memory.iter().zip([1, 50, 20_000, 0]) {
            let file = std::fs::File::from(memory.as_fd().try_clone_to_owned().expect("a file"));
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; filled], 0).expect("room");
        }
        (memory.into(), UnixStream::pair().expect("a socket pair").0)
    };
}

pub(crate) fn run(input: &[u8]) {
    ENCLOSED.with(|(memory, socket)| {
        let mut all: Vec<BorrowedFd<'_>> = memory.iter().map(AsFd::as_fd).collect();
        all.push(socket.as_fd());
        sent(&mut Script::new(input), &all);
    });
}

fn sent(script: &mut Script<'_>, all: &[BorrowedFd<'_>]) -> Option<()> {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let parts = script.byte()? % 6;
    for number in 0..parts {
        let mut part = Vec::new();
        let sort = script.byte()?;
        if number == 0 && sort & 1 == 0 {
            part.extend_from_slice(&MAGIC);
            part.extend_from_slice(&u32::from(script.byte()?).to_le_bytes());
            part.extend_from_slice(&script.number()?.to_le_bytes());
        }
        let (few, many) = (usize::from(script.byte()?), usize::from(script.byte()?));
        let len = if sort & 2 == 0 { few } else { few * many };
        part.extend_from_slice(script.bytes(len));
        // Long texts of nothing in particular need not be in the corpus.
        part.resize(part.len() + if sort & 4 == 0 { 0 } else { 20 * many }, 9);
        let enclosed: Vec<_> = (0..usize::from(sort >> 4))
            .map(|fd| all[(fd + few) % all.len()])
            .collect();
        if part.is_empty() {
            continue;
        }
        socket::send_fds(theirs.as_fd(), &part, &enclosed).expect("room in a socket");
    }
    if script.byte().is_some_and(|last| last & 1 == 0) {
        drop(theirs);
    }
    if let Ok(Some(letter)) = fuzzing::letter(ours.as_fd()) {
        assert!(letter.fds.len() <= 250, "{} descriptors", letter.fds.len());
        assert!(letter.text.len() <= 100_000, "{} bytes", letter.text.len());
    }
    Some(())
}
