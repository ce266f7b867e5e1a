//! A peer: a forked process that serves this one.
//! Always: it is killed and reaped when the [`Peer`] is dropped, and by the kernel if this process
//! dies first; until then it and the thread that forked it stay on two processors, if there are two;
//! who waits for it notices when it is gone.
//! Not here: what it serves (`floor`, the benchmarks).

use crate::processor::{OneProcessor, stay_on};
use manyhands_os::child::{self, Forked};
use manyhands_os::death::Child;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// So many looks at memory lie between two at whether the peer lives.
const LOOKS: u32 = 1 << 20;

/// A process forked off this one.
pub struct Peer {
    child: Child,
    _here: OneProcessor,
}

impl Peer {
    /// Forks one that runs `serve` and ends. Memory that it shares with this process it maps anew: ours
    /// is not passed on by a fork.
    ///
    /// # Panics
    /// If it cannot be forked.
    pub fn fork(serve: impl FnOnce()) -> Peer {
        let here = OneProcessor::new();
        let other = here.other();
        // SAFETY: the child runs the closure and `_exit`s. It may allocate: glibc keeps its allocator
        // usable in a forked child. It takes no lock that another thread may hold.
        match unsafe { child::fork() }.expect("a peer can be forked") {
            Forked::Child => {
                // SAFETY: no pointers.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                other.into_iter().for_each(stay_on);
                let code = catch_unwind(AssertUnwindSafe(serve)).map_or(101, |()| 0);
                // SAFETY: ends the child, running nothing of the parent's.
                unsafe { libc::_exit(code) };
            }
            Forked::Parent(pid) => Peer {
                child: Child::own(pid).expect("a child just forked can be watched"),
                _here: here,
            },
        }
    }

    /// Looks until `found` says yes, without the pause that a virtual machine may take for idling.
    ///
    /// # Panics
    /// If the peer ends instead.
    #[inline]
    pub fn spin_until(&self, mut found: impl FnMut() -> bool) {
        loop {
            for _ in 0..LOOKS {
                if found() {
                    return;
                }
            }
            self.must_live();
        }
    }

    #[cold]
    fn must_live(&self) {
        if let Some(status) = self.child.try_wait().expect("a child of ours") {
            panic!("the peer is gone: {status}");
        }
    }

    /// The peer as a descriptor that becomes readable when it ends.
    ///
    /// # Panics
    /// In a process that was forked off the one that has the peer.
    pub fn sentinel(&self) -> manyhands_os::fd::BorrowedFd<'_> {
        self.child.sentinel().expect("a child of ours")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.signal(libc::SIGKILL);
        let _ = self.child.wait(None);
    }
}
