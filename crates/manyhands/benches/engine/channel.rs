//! What a message takes: through a channel in one thread, and there and back between two processes.
//! Not here: tasks of a pool (`pool`).

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use criterion::Criterion;
use manyhands::{Pipe, Process, channel, pipe};

use crate::figure::exchange;

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    one_thread(criterion);
    two_processes(criterion);
}

/// A message that is there when it is asked for.
fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel, a number sent and received");
    exchange(
        &mut group,
        "floor: write and read of a socket",
        || UnixStream::pair().expect("sockets"),
        |(here, there)| {
            let mut number = [0; 8];
            here.write_all(&black_box(7_u64).to_ne_bytes())
                .expect("room");
            there.read_exact(&mut number).expect("a number");
            black_box(number);
        },
    );
    exchange(
        &mut group,
        "send, recv",
        || channel::<u64>(10).expect("a channel"),
        |(sender, receiver)| {
            sender.send(black_box(7)).expect("room");
            black_box(receiver.recv().expect("a number"));
        },
    );
    group.finish();
}

/// Sends back what comes.
fn echo(with: Pipe<u64, u64>) {
    while let Ok(number) = with.recv() {
        if with.send(number).is_err() {
            return;
        }
    }
}

/// A question and its answer, by two who sleep while they wait.
fn two_processes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipe, there and back");
    exchange(
        &mut group,
        "floor: a socket, between threads",
        || {
            let (here, mut there) = UnixStream::pair().expect("sockets");
            std::thread::spawn(move || {
                let mut number = [0; 8];
                while there.read_exact(&mut number).is_ok() && there.write_all(&number).is_ok() {}
            });
            here
        },
        |here| {
            let mut number = 7_u64.to_ne_bytes();
            here.write_all(&number).expect("room");
            here.read_exact(&mut number).expect("a number");
            black_box(number);
        },
    );
    exchange(
        &mut group,
        "send, recv",
        || {
            let (here, there) = pipe::<u64, u64>(10).expect("a pipe");
            let child = Process::spawn(echo, there).expect("a process");
            (here, child)
        },
        |(here, _)| {
            here.send(7).expect("room");
            black_box(here.recv().expect("a number"));
        },
    );
    group.finish();
}
