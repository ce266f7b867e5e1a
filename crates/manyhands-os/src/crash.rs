//! Named crash points: places in the engine at which a process kills itself, when it is told to.
//!
//! `MANYHANDS_CRASH_AT="ring.published:3"` has each process die by SIGKILL the third time that it gets there. A process
//! reads the variable when it first reaches any point, and again after a fork: so a program that sets it while it runs is
//! spared, and its children are not. With `MANYHANDS_CRASH_TICKETS=folder` a death takes one of the files `ticket-*` there
//! and calls it `died-PID-NAME`; without a ticket nobody dies.
//!
//! Always: without the feature `crash-points` the macro expands to nothing, and of this module only [`POINTS`] is
//! left, which costs no release anything. A point that the table does not name does not compile.
//! Not here: who is told to die, and what is checked then (`benches/stress_points.py`).

/// Every point, and what a death there leaves to others. `docs/design/killing.md` has the same table.
#[rustfmt::skip]
pub const POINTS: &[(&str, &str)] = &[
    ("worker.seated", "no task: the pool starts another worker"),
    ("worker.before-ready", "no task: its tasks go to other workers"),
    ("worker.ready", "no task: what it was handed goes to other workers"),
    ("worker.task-taken", "one task, which raises WorkerDied"),
    ("worker.task-done", "one task, whose answer nobody has: it raises WorkerDied"),
    ("worker.function-defined", "no task: the function is sent to the next worker too"),
    ("worker.before-sleep", "no task, though the parent thinks it awake"),
    ("worker.full", "one task, whose answer waits for room"),
    ("worker.part-sent", "one task, and parts of an answer that are thrown away"),
    ("mailbox.task.before-publish", "parent: the family ends"),
    ("mailbox.task.published", "parent: the family ends, rung or not"),
    ("mailbox.task.before-claim", "no task: nobody has begun it"),
    ("mailbox.task.claimed", "one task, which raises WorkerDied"),
    ("mailbox.answer.before-publish", "one task: the frame is not there"),
    ("mailbox.answer.published", "no task: the answer counts, though nobody was rung"),
    ("ring.written", "nothing: what is not published is not there"),
    ("ring.published", "a frame that is whole"),
    ("ring.read", "bytes that were not given back, in a ring that is thrown away"),
    ("ring.given-back", "nothing"),
    ("arena.lent", "a block of a dead worker, which goes with its arena"),
    ("arena.handed-over", "the same: the frame that names it is not there"),
    ("arena.opened", "a block that is taken back when its borrower is known to be dead"),
    ("arena.before-release", "the same"),
    ("arena.released", "a block that the next sweep takes back"),
    ("fifo.written", "nothing: the item is not there"),
    ("fifo.telling", "a word that says a note may be there; the item is not"),
    ("fifo.shown", "the item, whole; the next writer leaves the note"),
    ("fifo.noted", "the item, and perhaps a note too many, which is taken when the ring is drained"),
    ("fifo.told", "the item and its note"),
    ("fifo.marking", "no mark, and nothing that it would tell of"),
    ("fifo.marked", "a mark; what comes past the ring is the next writer's"),
    ("fifo.found", "the item, for the next reader"),
    ("fifo.passed", "nothing: the item went with its reader; who waits for room looks again"),
    ("fifo.drained", "the last item, and a note that is taken or told of anew"),
    ("queue.note-taken", "a lock whose holder was half-way: the queue says to use a new one"),
    ("queue.length-read", "the same"),
    ("lock.taken", "OwnerDied: the word says who holds it"),
    ("lock.recorded", "OwnerDied"),
    ("lock.before-release", "OwnerDied, though the thread's number is gone from it"),
    ("lock.released", "a free lock; who sleeps looks after 100 ms"),
    ("lock.freed-of-the-dead", "a free lock: who sleeps looks after 100 ms"),
    ("semaphore.taken", "one less for ever, as with the standard library"),
    ("semaphore.given", "one more; who sleeps looks again"),
    ("condition.seated", "a seat that the next one clears away"),
    ("condition.called", "a waiter that was called and is perhaps not woken: it looks again"),
    ("condition.left", "a seat that the next one clears away"),
    ("event.set", "an event that is set; who sleeps looks again"),
    ("connection.before-message", "nothing: the other end sees the end of the stream"),
    ("connection.mid-message", "a part: the other end sees that the stream ended inside"),
    ("connection.sent", "a message that is whole"),
    ("connection.mid-receive", "a sender that sees a broken pipe"),
    ("connection.received", "a message that went with its reader"),
    ("descriptors.before-send", "asker: nothing. Fork server: a child that reads nothing and ends, and a new server"),
    ("descriptors.sent", "asker: a child that reads nothing and ends. Fork server: a child that lives, and a new server"),
    ("descriptors.received", "fork server: a request that is made again to a new server"),
    ("manager.request-taken", "clients that get an error at once, and may start another manager"),
    ("manager.called", "the same, though the call has happened"),
    ("manager.answered", "an answer that is whole; the next call is an error"),
    ("proxy.before-request", "nothing; what it referred to stays in the server, as with the standard library"),
    ("proxy.answered", "an answer that went with its client; the recursive locks that it held are released"),
];

/// The number of a point in [`POINTS`].
///
/// # Panics
/// If there is none of that name; at compile time, where the macro asks.
pub const fn number_of(name: &str) -> usize {
    let name = name.as_bytes();
    let mut number = 0;
    while number < POINTS.len() {
        let other = POINTS[number].0.as_bytes();
        let mut at = 0;
        while at < name.len() && at < other.len() && name[at] == other[at] {
            at += 1;
        }
        if at == name.len() && at == other.len() {
            return number;
        }
        number += 1;
    }
    panic!("no crash point of that name in manyhands_os::crash::POINTS")
}

/// Kills this process if it was told to die here. Nothing at all without the feature `crash-points`.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{
        const NUMBER: usize = $crate::crash::number_of($name);
        $crate::crash::reach(NUMBER);
    }};
}

/// Kills this process if it was told to die here. Nothing at all without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {};
}

#[cfg(feature = "crash-points")]
mod armed {
    use super::{POINTS, number_of};
    use std::ffi::OsStr;
    use std::path::Path;
    use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::Relaxed};

    const NOWHERE: usize = usize::MAX;
    /// The process that the two others are about.
    static PROCESS: AtomicI32 = AtomicI32::new(0);
    static WHERE: AtomicUsize = AtomicUsize::new(NOWHERE);
    /// How often it may still get there.
    static LEFT: AtomicU32 = AtomicU32::new(0);

    fn myself() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    /// Has this process die the `nth` time that it gets to a point.
    ///
    /// # Errors
    /// What is wrong with the order, which is `NAME` or `NAME:NTH`.
    pub fn arm(order: &str) -> Result<(), String> {
        let (name, nth) = order.split_once(':').unwrap_or((order, "1"));
        let nth: u32 = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(|| {
            format!("{order:?} does not say how often, as in \"ring.published:3\"")
        })?;
        if !POINTS.iter().any(|(other, _)| *other == name) {
            return Err(format!("there is no crash point {name:?}"));
        }
        LEFT.store(nth, Relaxed);
        WHERE.store(number_of(name), Relaxed);
        PROCESS.store(myself(), Relaxed);
        Ok(())
    }

    /// Nobody has told this process to die any more.
    pub fn disarm() {
        WHERE.store(NOWHERE, Relaxed);
        PROCESS.store(myself(), Relaxed);
    }

    /// What `crash_point!` does.
    pub fn reach(number: usize) {
        if PROCESS.load(Relaxed) != myself() {
            disarm();
            if let Ok(order) = std::env::var("MANYHANDS_CRASH_AT")
                && let Err(wrong) = arm(&order)
            {
                eprintln!("MANYHANDS_CRASH_AT: {wrong}");
            }
        }
        if WHERE.load(Relaxed) != number {
            return;
        }
        // Several threads may come at once; the one that counts to zero dies for all.
        let before = LEFT.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if before == Ok(1) && has_ticket(number) {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            loop {
                std::thread::park();
            }
        }
    }

    fn has_ticket(number: usize) -> bool {
        let Some(folder) = std::env::var_os("MANYHANDS_CRASH_TICKETS") else {
            return true;
        };
        take_ticket(&folder, number)
    }

    /// Renaming is what only one of several succeeds in.
    fn take_ticket(folder: &OsStr, number: usize) -> bool {
        let folder = Path::new(folder);
        let Ok(entries) = folder.read_dir() else {
            return false;
        };
        let died = folder.join(format!("died-{}-{}", myself(), POINTS[number].0));
        entries.flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with("ticket-")
                && std::fs::rename(entry.path(), &died).is_ok()
        })
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{arm, disarm, reach};

#[cfg(test)]
mod tests {
    use super::POINTS;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// How often each point stands in the crates' sources.
    fn used() -> BTreeMap<String, u32> {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut used = BTreeMap::new();
        let mut folders = vec![crates.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for after in text.split("crash_point!(\"").skip(1) {
                        let name = after.split('"').next().unwrap();
                        *used.entry(name.to_owned()).or_default() += 1;
                    }
                }
            }
        }
        used
    }

    #[test]
    fn every_point_of_the_table_is_somewhere_in_the_engine() {
        let mut used = used();
        used.remove(").skip(1) {\n"); // this test's own text
        let listed: Vec<_> = POINTS.iter().map(|(name, _)| *name).collect();
        let missing: Vec<_> = listed
            .iter()
            .filter(|name| !used.contains_key(**name))
            .collect();
        assert!(missing.is_empty(), "named, and nowhere: {missing:?}");
    }

    #[test]
    fn the_page_about_killing_names_every_point_and_what_it_leaves() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/design/killing.md");
        let page = std::fs::read_to_string(page).unwrap();
        for (name, leaves) in POINTS {
            let row = format!("| `{name}` | {leaves} |");
            assert!(
                page.contains(&row),
                "docs/design/killing.md has no row {row}"
            );
        }
    }

    #[test]
    fn every_point_has_one_name() {
        for (number, (name, _)) in POINTS.iter().enumerate() {
            assert_eq!(super::number_of(name), number);
        }
    }
}
