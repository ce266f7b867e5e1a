//! The kill sweep: a child killed after every instruction that changed what it shares.
//!
//! A first child is stepped to its end, and the shared memory compared after each instruction.
//! What a survivor can find depends on that memory alone, so the instructions after which it
//! differs from before are all the moments there are; a new child is killed after each of them,
//! and after some others in between.
//!
//! Always: each child begins with a scene of its own.
//! Not here: what has to be true afterwards (each [`Scene`] says).

use crate::processor::OneProcessor;
use crate::traced::{Step, Traced};
use manyhands_os::memory::Mapping;
use std::io;

/// Something a child does with shared memory, and what must be true wherever it was killed.
pub trait Scene {
    /// What the child has before the first instruction that counts.
    type Child;
    /// In the child: maps the memory and whatever else may be taken for granted.
    fn prepare(&self) -> Self::Child;
    /// In the child: what is single-stepped.
    fn act(child: Self::Child);
    /// In the survivor: the shared memory, through a mapping of its own.
    fn memory(&self) -> &Mapping;
    /// In the survivor, after the child's death: panics if anything is lost, doubled or torn.
    fn check(self, ended: Ended);
}

/// How far the child came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Killed after this many instructions.
    Killed(usize),
    /// To its end.
    Done,
}

/// What a sweep went through.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// Instructions from beginning to end.
    pub instructions: usize,
    /// Of these, how many changed the shared memory.
    pub changes: usize,
    /// Children killed.
    pub kills: usize,
}

/// A copy of shared memory as it is now.
pub fn snapshot(memory: &Mapping) -> Vec<u8> {
    let mut copy = vec![0; memory.len()];
    // SAFETY: the mapping is that long; whoever else maps it is stopped or dead.
    unsafe {
        memory
            .base()
            .as_ptr()
            .copy_to_nonoverlapping(copy.as_mut_ptr(), copy.len())
    };
    copy
}

fn is_as_in(memory: &Mapping, copy: &[u8]) -> bool {
    // SAFETY: the mapping is that long, and the child that writes there is stopped.
    unsafe { std::slice::from_raw_parts(memory.base().as_ptr(), memory.len()) == copy }
}

/// Kills a child of `make`'s scene after every instruction that changed the memory, and after
/// `more` others, evenly spread.
///
/// # Panics
/// If a scene's check does, or if the child cannot be traced.
pub fn kill_sweep<S: Scene>(make: impl Fn() -> S, more: usize) -> Swept {
    let _one_processor = OneProcessor::new();
    let (instructions, mut moments) = moments(make()).expect("a child that can be stepped");
    let changes = moments.len();
    moments.extend((1..=more).map(|nth| nth * instructions / (more + 1)));
    moments.sort_unstable();
    moments.dedup();
    for &moment in &moments {
        kill_at(make(), moment).expect("a child that can be stepped and killed");
    }
    Swept {
        instructions,
        changes,
        kills: moments.len(),
    }
}

/// How many instructions there are, and after which the memory had changed.
fn moments<S: Scene>(scene: S) -> io::Result<(usize, Vec<usize>)> {
    let mut child = Traced::fork(|| scene.prepare(), S::act)?;
    let mut seen = snapshot(scene.memory());
    let mut moments = Vec::new();
    for executed in 1.. {
        if let Step::Exited(code) = child.step()? {
            assert_eq!(code, 0, "the child failed on its own");
            scene.check(Ended::Done);
            return Ok((executed - 1, moments));
        }
        if !is_as_in(scene.memory(), &seen) {
            seen = snapshot(scene.memory());
            moments.push(executed);
        }
    }
    unreachable!("a child has an end");
}

fn kill_at<S: Scene>(scene: S, moment: usize) -> io::Result<()> {
    let mut child = Traced::fork(|| scene.prepare(), S::act)?;
    for _ in 0..moment {
        if let Step::Exited(_) = child.step()? {
            scene.check(Ended::Done); // shorter than the first one's way
            return Ok(());
        }
    }
    child.kill();
    scene.check(Ended::Killed(moment));
    Ok(())
}
