//! The kernel, behind one fence: the only crate of manyhands that makes system calls.
//!
//! Always: a descriptor is an [`fd::OwnedFd`] or a borrow of one, never an integer that somebody has to
//! remember to close; a wait ends with `ErrorKind::Interrupted` when a signal came, so that a caller can
//! run its handlers; what an older kernel or a container's seccomp profile refuses (`ENOSYS`, and `EPERM`
//! where that means the same) is done another way, not reported; an error says what was being done.
//!
//! Not here: what lies in shared memory (`manyhands-shm`), who works for whom (`manyhands`), Python.

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("manyhands runs on Linux with glibc, on x86-64 and AArch64");

mod ancillary;
pub mod callable;
mod cgroup;
pub mod child;
pub mod clock;
pub mod cpu;
pub mod crash;
pub mod death;
pub mod error;
pub mod exit;
pub mod fd;
pub mod fork_state;
pub mod frame;
pub mod frozen;
pub mod futex;
pub mod identity;
pub mod image;
pub mod inherit;
pub mod limits;
pub mod memory;
pub mod named;
pub mod oom;
pub mod own_memory;
pub mod packet;
pub mod pipe;
pub mod poll;
pub mod signal;
pub mod socket;
pub mod timer;
