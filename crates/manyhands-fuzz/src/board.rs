//! A board of locks: every step of every kind, on cells that somebody writes anything to.
//!
//! Always: each step ends; where nothing was spoilt, a lock has one holder and a semaphore's number keeps its bound.

use manyhands_shm::sync::{Board, Holder, Kind, Wait};

use crate::script::Script;
use crate::shared::Shared;

thread_local! {
    static SHARED: Shared = Shared::new(Board::LEN);
}

pub(crate) fn run(input: &[u8]) {
    SHARED.with(|shared| {
        // The cells, and as many seats as a run uses.
        shared.write(0, &[0; 1024 * 64 + 256 * 16]);
        steps(shared, &mut Script::new(input));
    });
}

const KINDS: [Kind; 5] = [
    Kind::Lock,
    Kind::Recursive,
    Kind::Semaphore,
    Kind::Event,
    Kind::Condition,
];

fn steps(shared: &Shared, script: &mut Script<'_>) -> Option<()> {
    let ours = Board::create(shared.ours.clone());
    let theirs = Board::attach(shared.theirs.clone()).expect("a board just made");
    let mut seated = Vec::new();
    let mut spoilt = false;
    let mut steps = script.steps();
    while let Some(step) = steps(script) {
        match step % 4 {
            0 => {
                // A word of one of the first cells, of the board's own, or of a seat.
                let (sort, at) = (script.byte()?, usize::from(script.byte()?));
                let at = match sort % 3 {
                    0 => at % 8 * 4,
                    1 => 64 + at % 64 * 4,
                    _ => 1024 * 64 + at % 64 * 4,
                };
                spoilt = true;
                shared.write(at, &(script.number()? as u32).to_le_bytes());
            }
            1 => {
                let (kind, word) = (script.byte()?, u32::from(script.byte()?));
                if let Some(cell) = ours.take() {
                    ours.begin(cell, KINDS[usize::from(kind) % 5], 0, word.max(1));
                }
            }
            2 => {
                let _ = (theirs.held(), theirs.has_one_view());
                theirs.leave(u32::from(script.byte()?));
                theirs.seen_from(u64::from(script.byte()?));
                let _ = Board::attach(shared.theirs.clone());
            }
            _ => {
                let (cell, doing) = (script.number()? as u32, script.byte()?);
                let who = Holder {
                    process: 1 + u32::from(doing / 64),
                    thread: 1 + u32::from(doing / 32 % 2),
                };
                // Nearly all of a script is to be about cells that are there.
                let cell = if doing % 2 == 0 { cell % 6 } else { cell };
                let Ok((kind, bound)) = theirs.open(cell) else {
                    continue;
                };
                match kind {
                    Kind::Lock | Kind::Recursive => {
                        let lock = theirs.lock(cell);
                        let held = lock.holder();
                        match doing % 8 {
                            0 | 1 => {
                                let taken = lock.try_acquire(who);
                                assert!(spoilt || !(taken && held != 0), "two have it");
                            }
                            2 => {
                                let _ = lock.wait(who).step();
                                let _ = lock.wait(who).give_up();
                            }
                            3 => {
                                let released = lock.release();
                                assert!(spoilt || released.is_ok() == (held != 0));
                            }
                            4 => {
                                let _ = (lock.deepen(), lock.rise(), lock.is_ruined());
                            }
                            5 => drop((lock.free_of(who.process), lock.is_mine(who))),
                            6 => lock.expect_sleepers(),
                            _ => lock.leave(who.process),
                        }
                    }
                    Kind::Semaphore => {
                        let semaphore = theirs.semaphore(cell);
                        match doing % 4 {
                            0 => drop(semaphore.try_acquire()),
                            1 => {
                                let _ = semaphore.wait().step();
                                let _ = semaphore.wait().give_up();
                            }
                            2 => {
                                if let Ok(Some(made)) = semaphore.release(bound) {
                                    semaphore.nobody_slept(made);
                                }
                                assert!(spoilt || semaphore.value() <= bound);
                            }
                            _ => semaphore.raise_to(bound),
                        }
                    }
                    Kind::Event => {
                        let event = theirs.event(cell);
                        let _ = (event.set(), event.wait().is_none());
                        event.clear();
                        if let Some(wait) = event.wait() {
                            let _ = (wait.step(), wait.is_near());
                        }
                    }
                    Kind::Condition => {
                        let condition = ours.condition(cell);
                        match doing % 4 {
                            0 => {
                                if seated.len() < 200
                                    && let Some(seat) = condition.enter(who.process)
                                {
                                    let _ = (seat.step(), seat.is_near());
                                    seated.push((cell, who.process));
                                    if doing & 16 != 0 {
                                        let called = seat.leave();
                                        assert!(spoilt || !called, "nobody has called");
                                    }
                                }
                            }
                            1 => {
                                for found in condition.oldest() {
                                    let _ = (condition.sitter(found), condition.call(found));
                                }
                                assert!(spoilt || condition.waiting() == 0);
                            }
                            2 => drop(condition.clear_away(9, |process| process == who.process)),
                            _ => assert!(condition.waiting() <= 4096),
                        }
                    }
                }
            }
        }
    }
    Some(())
}
