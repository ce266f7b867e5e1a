//! Which processor this thread runs on, where that decides what is measured or how long a test takes.
//! Always: a failure costs time or precision, nothing else, and is not reported.

/// Keeps this thread, and the children it forks, on one processor until it is dropped.
pub(crate) struct OneProcessor {
    before: libc::cpu_set_t,
    here: usize,
}

impl OneProcessor {
    /// The one that it runs on now. For stepping: a step is two changes from one process to the other, and waking
    /// another processor for each takes ten times as long.
    pub(crate) fn new() -> OneProcessor {
        let mut before = none();
        // SAFETY: the set outlives the call.
        unsafe { libc::sched_getaffinity(0, size_of_val(&before), &raw mut before) };
        // SAFETY: no pointers.
        let here = usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0);
        stay_on(here);
        OneProcessor { before, here }
    }

    /// Another one that this thread might run on. For two processes that wait awake for each other: on one
    /// processor each would wait until the other's time is up, and the kernel may leave them there for long.
    pub(crate) fn other(&self) -> Option<usize> {
        // SAFETY: the numbers are within the set.
        let may = |number: &usize| unsafe { libc::CPU_ISSET(*number, &self.before) };
        (0..libc::CPU_SETSIZE as usize).find(|number| *number != self.here && may(number))
    }
}

/// Keeps this thread on a processor for good.
pub(crate) fn stay_on(processor: usize) {
    let mut one = none();
    if processor < libc::CPU_SETSIZE as usize {
        // SAFETY: the number is within the set, and the set outlives the call.
        unsafe {
            libc::CPU_SET(processor, &mut one);
            libc::sched_setaffinity(0, size_of_val(&one), &raw const one);
        }
    }
}

fn none() -> libc::cpu_set_t {
    // SAFETY: a `cpu_set_t` is an array of bits, and zeros are an empty one.
    unsafe { core::mem::zeroed() }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // SAFETY: the set outlives the call.
        unsafe { libc::sched_setaffinity(0, size_of_val(&self.before), &raw const self.before) };
    }
}
