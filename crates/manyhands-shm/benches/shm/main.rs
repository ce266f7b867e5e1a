//! The structures in shared memory, each beside the least that the hardware or the kernel takes for it.
//! Always: what is named "floor" is measured first in its group, and `tools/floors.py` compares the rest with it.
//! Not here: the floors (`manyhands-testkit`), what a pool makes of the structures (`manyhands`).

mod arena;
mod doorbell;
mod figure;
mod lock;
mod memory;
mod ring;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    ring::measure(&mut criterion);
    doorbell::measure(&mut criterion);
    arena::measure(&mut criterion);
    lock::measure(&mut criterion);
    criterion.final_summary();
}
