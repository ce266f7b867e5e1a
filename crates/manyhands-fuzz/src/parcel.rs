//! What brings descriptors along: channels, locks, shared memory, and a channel's messages.

use std::os::fd::{AsFd, OwnedFd};

use manyhands::{
    Barrier, Bytes, Condition, Event, Lock, Pipe, Receiver, Semaphore, Sender, SharedSlice,
    channel, fuzzing,
};
use manyhands_os::memory::Memfd;
use manyhands_os::{fd, frozen, packet};
use serde::de::DeserializeOwned;

use crate::script::Script;

/// Descriptors of every kind that one could send: those of an honest value first, `spoilt` with others in places.
fn descriptors(honest: Vec<OwnedFd>, script: &mut Script<'_>) -> Option<Vec<OwnedFd>> {
    let mut fds = honest;
    for _ in 0..script.byte()? % 4 {
        let other: OwnedFd = match script.byte()? % 6 {
            0 => Memfd::create("fuzz", 64).ok()?.into(),
            1 => frozen::seal("fuzz", &[7; 64]).ok()?,
            2 => packet::pair().ok()?.0,
            3 => fd::pipe().ok()?.0,
            4 => fds.first()?.try_clone().ok()?,
            _ => {
                fds.pop();
                continue;
            }
        };
        let at = usize::from(script.byte()?) % (fds.len() + 1);
        match at < fds.len() {
            true => fds[at] = other,
            false => fds.push(other),
        }
    }
    Some(fds)
}

/// Writes an honest value, spoils what was written, reads it, and does something with what was read.
fn spoil<T: DeserializeOwned>(
    (mut text, fds): (Vec<u8>, Vec<OwnedFd>),
    script: &mut Script<'_>,
    attempt: impl FnOnce(T),
) {
    let Some(fds) = descriptors(fds, script) else {
        return;
    };
    for _ in 0..script.byte().unwrap_or(0) % 4 {
        let (Some(at), Some(byte)) = (script.byte(), script.byte()) else {
            return;
        };
        let at = usize::from(at) % (text.len() + 1);
        match at < text.len() {
            true => text[at] = byte,
            false => text.push(byte),
        }
    }
    if let Ok(value) = fuzzing::value::<T>(&text, fds) {
        attempt(value);
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let Some(sort) = script.byte() else { return };
    if sort % 10 == 0 {
        message(&mut script);
        return;
    }
    // An error is a machine that has no memory or descriptors left.
    let _ = honest(sort, &mut script);
}

fn honest(sort: u8, script: &mut Script<'_>) -> Result<(), manyhands::Error> {
    match sort % 10 {
        1 => {
            let (sender, receiver) = channel::<u64>(2)?;
            spoil(fuzzing::written(&sender)?, script, |sender: Sender<u64>| {
                let _ = sender.try_send(7);
                let _ = (sender.len(), sender.capacity());
            });
            let _ = receiver.try_recv();
        }
        2 => {
            let (sender, receiver) = channel::<u64>(2)?;
            let _ = sender.try_send(7);
            spoil(
                fuzzing::written(&receiver)?,
                script,
                |receiver: Receiver<u64>| {
                    let _ = receiver.try_recv();
                },
            );
        }
        3 => {
            let (here, _there) = manyhands::pipe::<u64, u64>(2)?;
            spoil(fuzzing::written(&here)?, script, |pipe: Pipe<u64, u64>| {
                let _ = pipe.try_recv();
            });
        }
        4 => spoil(fuzzing::written(&Lock::new()?)?, script, |lock: Lock| {
            let _ = lock.try_lock().map(|guard| guard.is_some());
        }),
        5 => spoil(
            fuzzing::written(&Semaphore::new(3)?)?,
            script,
            |slots: Semaphore| {
                let _ = slots.try_acquire();
                let _ = slots.release();
            },
        ),
        6 => {
            let both = (Event::new()?, Condition::new()?);
            spoil(
                fuzzing::written(&both)?,
                script,
                |both: (Event, Condition)| {
                    both.0.set();
                    let _ = format!("{both:?}");
                },
            );
        }
        7 => spoil(
            fuzzing::written(&SharedSlice::<u32>::new(16)?)?,
            script,
            |slice: SharedSlice<u32>| {
                slice.fill(7);
                assert!(slice.to_vec().iter().all(|number| *number == 7));
            },
        ),
        8 => spoil(
            fuzzing::written(&Bytes::from(vec![7; 20_000]))?,
            script,
            |bytes: Bytes| assert!(bytes.iter().fold(0_usize, |sum, _| sum + 1) == bytes.len()),
        ),
        _ => spoil(
            fuzzing::written(&Barrier::new(2)?)?,
            script,
            |barrier: Barrier| {
                let _ = (barrier.parties(), barrier.waiting(), barrier.is_broken());
            },
        ),
    }
    Ok(())
}

/// A packet of any bytes, with descriptors of any kind.
fn message(script: &mut Script<'_>) {
    let Some(fds) = descriptors(Vec::new(), script) else {
        return;
    };
    let Ok((ours, theirs)) = packet::pair() else {
        return;
    };
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let packet = script.rest();
    if !packet.is_empty() && packet::send(theirs.as_fd(), &[packet], &borrowed).is_ok() {
        let text = fuzzing::message(ours.as_fd());
        assert!(text.is_none_or(|text| text.len() <= 1 << 20));
    }
}
