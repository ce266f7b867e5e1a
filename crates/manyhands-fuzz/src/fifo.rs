//! A queue's ring: two processes' ends, and a hand that writes anything anywhere between any two of their steps.
//!
//! Always: until something was spoilt, items come in order, each once.

use std::collections::VecDeque;

use manyhands_shm::fifo::{Fifo, Next, Past};

use crate::script::Script;
use crate::shared::{Shared, look_at, marked};

const CAPACITY: usize = 4096;
/// Bytes before the ring's own.
const DATA: usize = Fifo::region_len(0);

thread_local! {
    static SHARED: Shared = Shared::new(Fifo::region_len(CAPACITY));
}

pub(crate) fn run(input: &[u8]) {
    SHARED.with(|shared| {
        shared.clear();
        steps(shared, &mut Script::new(input));
    });
}

fn place(script: &mut Script<'_>) -> Option<usize> {
    let (sort, at) = (script.byte()?, usize::from(script.byte()?));
    Some(match sort % 4 {
        0 => [0, 8, 128, 132, 136, 140, 144, 256, 264][at % 9],
        1 | 2 => DATA + at % 64 * 64 + 8 * (usize::from(sort / 4) % 4),
        _ => (usize::from(sort) << 8 | at) * 4 % (DATA + CAPACITY),
    })
}

fn steps(shared: &Shared, script: &mut Script<'_>) -> Option<()> {
    let writers = Fifo::create(shared.ours.clone());
    let begun = script.byte()?;
    if begun & 1 != 0 {
        // Near the end of what positions can be, where both sides still agree.
        let position = (u64::MAX - u64::from(script.short()?) * 64) & !63;
        shared.poke(128, position);
        shared.poke(256, position);
    }
    if begun & 2 != 0 {
        shared.poke(place(script)?, script.number()?);
    }
    let mut spoilt = begun != 0;
    let readers = match Fifo::attach(shared.theirs.clone()) {
        Ok(readers) => readers,
        Err(_) => {
            assert!(spoilt, "a ring just made is refused");
            return None;
        }
    };
    let mut sent: VecDeque<Option<Vec<u8>>> = VecDeque::new();
    let mut steps = script.steps();
    let mut id = 0;
    while let Some(step) = steps(script) {
        id += 1;
        match step % 10 {
            0..=2 => {
                let (at, value) = (place(script)?, script.number()?);
                spoilt = true;
                shared.poke(at, value);
            }
            3 | 4 => {
                let item = marked(id, usize::from(script.short()?) % 2100);
                let fails = script.byte()? % 8 == 0;
                // SAFETY: one thread has both ends.
                let Ok(mut writer) = (unsafe { writers.writer() }) else {
                    assert!(spoilt);
                    continue;
                };
                if writer.push(&[&item]) {
                    let tell = || if fails { Err(()) } else { Ok(()) };
                    if writer.publish(|| Ok(Past::Something), tell).is_ok() {
                        sent.push_back(Some(item));
                    }
                }
            }
            5 => {
                // SAFETY: as above.
                let Ok(writer) = (unsafe { writers.writer() }) else {
                    continue;
                };
                // A mark is there only if a note was, which the reader takes first.
                let marked = writer.mark();
                assert!(marked || spoilt, "there is always room for a mark");
            }
            6 | 7 => {
                // SAFETY: as above.
                let Ok(mut reader) = (unsafe { readers.reader() }) else {
                    assert!(spoilt);
                    continue;
                };
                match reader.look() {
                    Ok(Next::Item(item)) => {
                        look_at(reader.payload(&item));
                        if !spoilt {
                            let first = sent.pop_front().flatten();
                            assert_eq!(first.as_deref(), Some(reader.payload(&item)));
                        }
                        let _ = reader.is_last(&item);
                        // SAFETY: as above.
                        let _ = unsafe { reader.is_drained(Some(&item)) };
                        let _ = reader.pass(item);
                        let _ = reader.is_stray();
                    }
                    Ok(Next::Mark) => {}
                    Ok(Next::Nothing) => assert!(spoilt || sent.is_empty(), "an item is lost"),
                    Err(why) => assert!(spoilt, "{why}"),
                }
            }
            8 => {
                let len = usize::from(script.short()?) % (writers.max_payload() + 1);
                let _ = (writers.await_room(len), writers.has_hope());
                writers.give_up();
                let _ = writers.progress();
            }
            _ => {
                // SAFETY: as above.
                let Ok(reader) = (unsafe { readers.reader() }) else {
                    continue;
                };
                // SAFETY: as above.
                let _ = (reader.is_stray(), unsafe { reader.is_drained(None) });
            }
        }
    }
    Some(())
}
