//! Arenas: a lender whose borrower spoils the slots, and a borrower that is told of blocks that never were.
//!
//! Always: no byte is lent twice at once, whatever the borrower does; until something was spoilt, a block holds what
//! was put there.

use manyhands_shm::arena::{Block, Borrower, Descriptor, Lender, Loan};

use crate::script::Script;
use crate::shared::{Shared, look_at};

const LEN: usize = 512 << 10;

thread_local! {
    static SHARED: Shared = Shared::new(LEN);
}

pub(crate) fn run(input: &[u8]) {
    SHARED.with(|shared| {
        // The slots, and what the last run touched: the marks say of the rest whether it was written.
        shared.write(0, &[0; 4096]);
        steps(shared, &mut Script::new(input));
    });
}

fn steps(shared: &Shared, script: &mut Script<'_>) -> Option<()> {
    let mut lender = Lender::new(shared.ours.clone());
    let borrower = Borrower::new(shared.theirs.clone());
    let mut filling: Vec<(u8, Loan)> = Vec::new();
    let mut sent: Vec<(u8, Descriptor)> = Vec::new();
    let mut open: Vec<(u8, Block)> = Vec::new();
    let (mut spoilt, mut mark) = (false, 0_u8);
    let mut steps = script.steps();
    while let Some(step) = steps(script) {
        match step % 12 {
            0 | 1 => {
                let len = match script.byte()? {
                    sort @ 0..16 => usize::from(script.short()?) << (sort % 4),
                    small => usize::from(small),
                };
                if let Some(mut loan) = lender.lend(len) {
                    assert_eq!(loan.len(), len);
                    mark = mark.wrapping_add(1);
                    loan.as_mut_slice().fill(mark);
                    filling.push((mark, loan));
                }
            }
            2 => {
                if !filling.is_empty() {
                    let at = usize::from(script.byte()?) % filling.len();
                    let (mark, loan) = filling.swap_remove(at);
                    sent.push((mark, loan.descriptor()));
                }
            }
            3 => {
                let at = usize::from(script.byte()?) % filling.len().max(1);
                if at < filling.len() {
                    drop(filling.swap_remove(at));
                }
            }
            4 | 5 => {
                let Some(&(mark, descriptor)) = sent.get(usize::from(script.byte()?) % 32) else {
                    continue;
                };
                if let Ok(block) = borrower.open(descriptor) {
                    look_at(&block);
                    assert!(spoilt || block.iter().all(|byte| *byte == mark));
                    open.push((mark, block));
                }
            }
            6 => {
                let at = usize::from(script.byte()?) % open.len().max(1);
                if at < open.len() {
                    drop(open.swap_remove(at));
                }
            }
            7 => {
                // One that is nearly right, and one that need not be.
                let (offset, len) = (script.number()?, script.number()?);
                let slot = script.number()? as u32;
                let near = sent.last().map_or(slot, |(_, sent)| sent.slot);
                for slot in [near, slot & 0x3_000f] {
                    let told = Descriptor { slot, offset, len };
                    assert_eq!(Descriptor::from_bytes(told.to_bytes()), told);
                    let (_, _) = (lender.reclaim(told), lender.recall(told).map(drop));
                    // It may be one that was sent: then two have it, which only a liar brings about.
                    spoilt = true;
                    if let Ok(block) = borrower.open(told) {
                        look_at(&block);
                    }
                }
            }
            8 => {
                let Some(&(mark, descriptor)) = sent.get(usize::from(script.byte()?) % 32) else {
                    continue;
                };
                if script.byte()? % 2 == 0 {
                    lender.reclaim(descriptor);
                } else if !open.iter().any(|(open, _)| *open == mark)
                    && let Some(loan) = lender.recall(descriptor)
                {
                    assert!(spoilt || loan.iter().all(|byte| *byte == mark));
                }
            }
            9 => {
                lender.sweep();
                let _ = lender.take_cold(u64::from(script.short()?));
            }
            10 => {
                let at = usize::from(script.byte()?) % 40 * 4;
                let (turn, state) = (u32::from(script.byte()?) % 16, u32::from(script.byte()?));
                spoilt = true;
                shared.write(at, &((turn << 16) | (state % 6)).to_le_bytes());
            }
            _ => {
                // Its borrower is dead.
                open.clear();
                sent.clear();
                lender.reclaim_all();
            }
        }
        for (mark, loan) in &filling {
            // Its ends, which is where another block would begin or end.
            let whole = [loan.first(), loan.last()]
                .into_iter()
                .flatten()
                .all(|byte| byte == mark);
            assert!(whole, "a block that is being filled was lent twice");
        }
        let (lent, free) = (lender.lent_bytes(), lender.free_bytes());
        assert!(lent + free <= LEN as u64, "{lent} lent and {free} free");
    }
    Some(())
}
