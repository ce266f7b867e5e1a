//! The orderly end of a process.
//!
//! Always: what is to be done then is done once, after everything that the program itself has to do.
//! Not here: ends without order (`death`).

/// Has `last` called when this process ends by `exit`, or by returning from its main function; not when it ends by
/// `_exit` or is killed. A forked child, too, calls it at its own end.
pub fn call(last: extern "C" fn()) {
    // SAFETY: a function of this program's, which stays loaded: nothing unloads what has it. If there is no room for
    // one more, it is not called, as after a kill.
    unsafe { libc::atexit(last) };
}
