//! The pool, the process and the channel, without Python, each beside the least that the hardware or the kernel takes for it.
//! Always: what is named "floor" is measured first in its group, and `tools/floors.py` compares the rest with it.
//! Not here: the floors (`manyhands-testkit`), the structures in shared memory on their own (`manyhands-shm`).

mod channel;
#[path = "../../../manyhands-shm/benches/shm/figure.rs"]
mod figure;
mod pool;
mod process;

use criterion::Criterion;

fn main() {
    if process::is_to_leave() {
        return;
    }
    manyhands::init(); // before criterion, which knows nothing of the children's arguments
    let mut criterion = Criterion::default().configure_from_args();
    pool::measure(&mut criterion);
    process::measure(&mut criterion);
    channel::measure(&mut criterion);
    criterion.final_summary();
}

/// A task that takes no time.
fn square(x: u64) -> u64 {
    x.wrapping_mul(x)
}
