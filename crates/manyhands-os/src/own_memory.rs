//! How much memory this process has to itself, for a look so cheap that it can be taken often.
//!
//! Always: what is shared with other processes (arrays in segments, mapped files) does not count; what a fork left
//! unchanged from its parent does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::memory;

/// Where the kernel keeps the account of this process.
#[derive(Debug)]
pub struct OwnMemory {
    account: File,
    page: u64,
}

impl OwnMemory {
    /// Opens the account of the calling process; a fork of it goes on reading its parent's.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            account: File::open("/proc/self/statm")?,
            page: memory::page_size() as u64,
        })
    }

    /// Bytes of anonymous memory that are there, give or take what the kernel has not added up yet: some 100 kB a processor that
    /// the process has run on.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let len = self.account.read_at(&mut text, 0)?;
        let pages = parse(&text[..len]).ok_or(io::ErrorKind::InvalidData)?;
        Ok(pages.saturating_mul(self.page))
    }
}

/// Gives back to the system what the allocator of C keeps for later, where there is one that can be told to.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and frees nothing that anybody has.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Pages that are there less those that are shared: the second number less the third.
fn parse(statm: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(statm).ok()?;
    let mut numbers = text.split_ascii_whitespace().skip(1);
    let resident: u64 = numbers.next()?.parse().ok()?;
    let shared: u64 = numbers.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Mapping, Memfd};

    #[test]
    fn the_account_is_read() {
        assert_eq!(parse(b"3000 700 200 1 0 400 0\n"), Some(500));
        assert_eq!(parse(b"3000 100 200 1 0 400 0\n"), Some(0));
        assert_eq!(parse(b"3000 700"), None);
        assert_eq!(parse(b"a b c"), None);
        assert_eq!(parse(b"\xff 1 2"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn what_is_touched_counts_and_what_is_shared_does_not() {
        const LEN: usize = 64 << 20;
        let own = OwnMemory::open().unwrap();
        let before = own.bytes().unwrap();
        let touched = vec![1_u8; LEN];
        let after = own.bytes().unwrap();
        assert!(
            after - before > LEN as u64 / 2,
            "{before} bytes, then {after}"
        );
        drop(touched);
        let memory = Memfd::create("own-memory", LEN as u64).unwrap();
        let mapping = Mapping::shared(&memory).unwrap();
        mapping.populate(0, LEN).unwrap();
        assert!(own.bytes().unwrap() - before < LEN as u64 / 2);
    }
}
