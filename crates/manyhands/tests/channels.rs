//! Channels and pipes: every value once, in order, and no end to wait for when nobody is left.

mod common;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use common::{children, open_fds, play, scene, until};
use manyhands::{
    Bytes, Error, Event, Lock, LockedSlice, Pipe, Pool, Process, Receiver, Sender, SharedSlice,
    channel, pipe,
};

fn main() -> ExitCode {
    manyhands::init();
    common::watchdog();
    if let Some(scene) = scene() {
        return scenes(&scene);
    }
    let trials = trials![
        values_arrive_in_order_from_a_child,
        values_of_every_size_arrive_whole,
        many_senders_and_many_receivers_lose_nothing,
        a_channel_is_bounded,
        a_sender_that_waits_for_room_goes_on_when_there_is_some,
        short_messages_stop_at_the_kernels_bound,
        try_recv_and_timeouts_do_not_wait,
        a_value_that_was_not_sent_comes_back,
        receivers_end_when_the_last_sender_is_dropped,
        what_a_killed_sender_has_sent_is_received,
        receivers_end_when_the_last_sender_is_killed,
        senders_end_when_the_last_receiver_is_killed,
        a_sender_waiting_for_room_ends_when_the_last_receiver_is_killed,
        senders_and_receivers_killed_at_random_stop_nobody,
        a_killed_receiver_leaves_no_room_taken,
        ends_travel_through_channels,
        a_reply_comes_by_a_channel_that_was_sent_along,
        handles_of_all_kinds_travel_together,
        pool_tasks_get_ends_and_may_be_retried,
        map_and_imap_take_ends,
        an_initializer_gets_an_end,
        pool_tasks_return_ends_and_other_handles,
        handles_of_a_worker_that_has_left_are_whole,
        handles_that_nobody_fetches_are_closed,
        workers_killed_while_they_hand_in_leave_nothing_to_wait_for,
        more_handles_than_can_be_handed_in_are_an_error,
        a_process_returns_an_end,
        too_many_descriptors_are_an_error,
        serde_alone_carries_no_end,
        another_kind_of_handle_is_refused,
        a_message_of_another_type_is_an_error_and_gone,
        pipes_go_both_ways,
        a_pipe_ends_when_the_other_end_is_killed,
        capacities_out_of_range_are_refused,
        nothing_is_left_open,
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

fn scenes(scene: &str) -> ExitCode {
    match scene {
        "leak" => scene_leak(),
        "unfetched" => scene_unfetched(),
        other => panic!("no such scene: {other}"),
    }
    ExitCode::SUCCESS
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn disconnected<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Disconnected { .. }))
}

fn count_to((to, n): (Sender<u64>, u64)) {
    for i in 0..n {
        to.send(i).unwrap();
    }
}

fn values_arrive_in_order_from_a_child() {
    for capacity in [1, 2, 1000] {
        let (sender, receiver) = channel(capacity).unwrap();
        let child = Process::spawn(count_to, (sender, 5000)).unwrap();
        let all: Vec<u64> = receiver.iter().collect::<Result<_, _>>().unwrap();
        assert!(all.into_iter().eq(0..5000), "capacity {capacity}");
        child.join().unwrap();
    }
}

fn values_of_every_size_arrive_whole() {
    fn send(to: Sender<String>) {
        for len in [0, 1, 16 << 10, (16 << 10) + 1, 3 << 20, 5] {
            to.send("x".repeat(len)).unwrap();
        }
    }
    let (sender, receiver) = channel(10).unwrap();
    let child = Process::spawn(send, sender).unwrap();
    let lengths: Vec<_> = receiver.iter().map(|text| text.unwrap().len()).collect();
    assert_eq!(lengths, [0, 1, 16 << 10, (16 << 10) + 1, 3 << 20, 5]);
    child.join().unwrap();
}

fn many_senders_and_many_receivers_lose_nothing() {
    fn send((to, from): (Sender<u64>, u64)) {
        (from..from + 2000).for_each(|n| to.send(n).unwrap());
    }
    fn receive(from: Receiver<u64>) -> Vec<u64> {
        from.iter().collect::<Result<_, _>>().unwrap()
    }
    let (sender, receiver) = channel(7).unwrap();
    let senders: Vec<_> = (0..4)
        .map(|n| Process::spawn(send, (sender.clone(), n * 2000)).unwrap())
        .collect();
    let receivers: Vec<_> = (0..3)
        .map(|_| Process::spawn(receive, receiver.clone()).unwrap())
        .collect();
    drop((sender, receiver));
    let mut all = Vec::new();
    for child in receivers {
        let some = child.join().unwrap();
        // Of each sender, every receiver has its part in order.
        for from in (0..4).map(|n| n * 2000) {
            let of_one = some.iter().filter(|n| (from..from + 2000).contains(*n));
            assert!(of_one.is_sorted());
        }
        all.extend(some);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..8000));
    senders.into_iter().for_each(|child| child.join().unwrap());
}

fn a_channel_is_bounded() {
    let (sender, receiver) = channel(3).unwrap();
    for n in 0..3 {
        sender.try_send(n).unwrap();
    }
    assert_eq!((sender.len(), receiver.len(), sender.capacity()), (3, 3, 3));
    let refused = sender.try_send(3).unwrap_err();
    assert!(matches!(refused.error, Error::Full));
    let refused = sender
        .send_timeout(3, Duration::from_millis(20))
        .unwrap_err();
    assert_eq!(refused.value, 3);
    assert_eq!(receiver.recv().unwrap(), 0);
    sender.try_send(3).unwrap();
    assert!(sender.try_send(4).is_err());
}

fn a_sender_that_waits_for_room_goes_on_when_there_is_some() {
    let (sender, receiver) = channel(1).unwrap();
    sender.send(0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (1..200).for_each(|n| sender.send(n).unwrap()));
        for n in 0..200 {
            assert_eq!(receiver.recv().unwrap(), n);
        }
    });
}

fn short_messages_stop_at_the_kernels_bound() {
    let (sender, receiver) = channel::<[u64; 4]>(1_000_000).unwrap();
    let mut sent = 0;
    let refused = loop {
        match sender.try_send([sent; 4]) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused.error, Error::Full), "{refused}");
    assert!(sent >= 100, "{sent}");
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send([sent; 4]).unwrap());
        for n in 0..=sent {
            assert_eq!(receiver.recv().unwrap(), [n; 4]);
        }
    });
}

fn try_recv_and_timeouts_do_not_wait() {
    let (sender, receiver) = channel::<u8>(1).unwrap();
    assert_eq!(receiver.try_recv().unwrap(), None);
    assert_eq!(
        receiver.recv_timeout(Duration::from_millis(5)).unwrap(),
        None
    );
    sender.send(1).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::ZERO).unwrap(), Some(1));
}

fn a_value_that_was_not_sent_comes_back() {
    let (sender, receiver) = channel(1).unwrap();
    drop(receiver);
    let refused = sender.send("kept".to_owned()).unwrap_err();
    assert_eq!(refused.value, "kept");
    assert!(
        refused.to_string().contains("all its receivers"),
        "{refused}"
    );
    assert!(disconnected(Err::<(), _>(refused.into())));
}

fn receivers_end_when_the_last_sender_is_dropped() {
    let (sender, receiver) = channel(10).unwrap();
    let other = sender.clone();
    sender.send(1).unwrap();
    drop(sender);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert_eq!(receiver.try_recv().unwrap(), None);
    drop(other);
    assert!(disconnected(receiver.recv()));
    assert!(disconnected(receiver.try_recv()));
}

fn send_and_stay((to, n): (Sender<u64>, u64)) {
    count_to((to.clone(), n));
    sleep_for_ever();
}

fn what_a_killed_sender_has_sent_is_received() {
    let (sender, receiver) = channel(100).unwrap();
    let child = Process::spawn(send_and_stay, (sender, 50)).unwrap();
    until("all were sent", || receiver.len() == 50);
    child.kill().unwrap();
    until("the child is gone", || !child.is_alive());
    let all: Vec<u64> = receiver.iter().collect::<Result<_, _>>().unwrap();
    assert!(all.into_iter().eq(0..50));
}

fn receivers_end_when_the_last_sender_is_killed() {
    fn receive((from, begun): (Receiver<u64>, Event)) -> u64 {
        begun.set();
        from.iter().map(|n| n.unwrap()).sum()
    }
    let (sender, receiver) = channel(100).unwrap();
    let begun = Event::new().unwrap();
    let waiting = Process::spawn(receive, (receiver, begun.clone())).unwrap();
    begun.wait();
    let child = Process::spawn(send_and_stay, (sender, 5)).unwrap();
    until("all were sent and taken", || child.is_alive());
    std::thread::sleep(Duration::from_millis(20));
    child.kill().unwrap();
    // Ends at all: that is what is asked. What was sent before depends on when the signal came.
    assert!(waiting.join().unwrap() <= 10);
}

fn stay<T>((_end, begun): (T, Event)) {
    begun.set();
    sleep_for_ever();
}

fn senders_end_when_the_last_receiver_is_killed() {
    let (sender, receiver) = channel(1_000_000).unwrap();
    let begun = Event::new().unwrap();
    let child = Process::spawn(stay, (receiver, begun.clone())).unwrap();
    begun.wait();
    child.kill().unwrap();
    let refused = loop {
        if let Err(refused) = sender.send(1u8) {
            break refused;
        }
    };
    assert!(disconnected(Err::<(), _>(refused.error)));
}

fn a_sender_waiting_for_room_ends_when_the_last_receiver_is_killed() {
    // Bounded by number, and by the kernel.
    for (capacity, len) in [(1, 1), (1_000_000, 8000)] {
        let (sender, receiver) = channel(capacity).unwrap();
        let begun = Event::new().unwrap();
        let child = Process::spawn(stay, (receiver, begun.clone())).unwrap();
        begun.wait();
        while sender.try_send(vec![0u8; len]).is_ok() {}
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sender.send(vec![0u8; len]));
            std::thread::sleep(Duration::from_millis(20));
            child.kill().unwrap();
            let refused = waiting.join().unwrap().unwrap_err();
            assert!(disconnected(Err::<(), _>(refused.error)));
        });
    }
}

fn senders_and_receivers_killed_at_random_stop_nobody() {
    fn send_for_ever((to, begun): (Sender<Vec<u8>>, Event)) {
        begun.set();
        for len in (0..).map(|n: usize| n * 997 % 40_000) {
            let _ = to.send(vec![len as u8; len]);
        }
    }
    fn receive_for_ever((from, begun): (Receiver<Vec<u8>>, Event)) {
        begun.set();
        from.iter().for_each(|message| check(&message.unwrap()));
    }
    fn check(message: &[u8]) {
        assert!(message.iter().all(|byte| *byte == message.len() as u8));
    }
    let (sender, receiver) = channel(4).unwrap();
    let mut pause = 1;
    for round in 0..40 {
        let begun = [Event::new().unwrap(), Event::new().unwrap()];
        let ends = (sender.clone(), receiver.clone());
        let one = Process::spawn(send_for_ever, (ends.0, begun[0].clone())).unwrap();
        let other = Process::spawn(receive_for_ever, (ends.1, begun[1].clone())).unwrap();
        begun.iter().for_each(Event::wait);
        pause = pause * 48271 % 0x7fff_ffff_u64; // another moment each time
        std::thread::sleep(Duration::from_micros(pause % 3000));
        let (first, second) = if round % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        first.kill().unwrap();
        second.kill().unwrap();
        until("both are gone", || !one.is_alive() && !other.is_alive());
        // What they left is whole, and the channel is as good as new: bounded, and not stuck.
        while let Some(message) = receiver.try_recv().unwrap() {
            check(&message);
        }
        for _ in 0..4 {
            sender
                .send_timeout(vec![3; 3], Duration::from_secs(60))
                .unwrap();
        }
        assert!(sender.try_send(vec![3; 3]).is_err(), "round {round}");
        for _ in 0..4 {
            check(&receiver.recv().unwrap());
        }
        assert!(receiver.is_empty());
    }
}

fn a_killed_receiver_leaves_no_room_taken() {
    fn receive_some((from, begun): (Receiver<u64>, Event)) {
        for _ in 0..10 {
            from.recv().unwrap();
        }
        begun.set();
        sleep_for_ever();
    }
    let (sender, receiver) = channel(10).unwrap();
    let begun = Event::new().unwrap();
    let child = Process::spawn(receive_some, (receiver.clone(), begun.clone())).unwrap();
    (0..10).for_each(|n| sender.send(n).unwrap());
    begun.wait();
    child.kill().unwrap();
    (0..10).for_each(|n| sender.try_send(n).unwrap());
    assert!(sender.try_send(10).is_err());
    assert_eq!(receiver.recv().unwrap(), 0);
}

fn ends_travel_through_channels() {
    let (out, inn) = channel::<(Sender<u64>, Receiver<u64>)>(1).unwrap();
    fn echo(requests: Receiver<(Sender<u64>, Receiver<u64>)>) {
        for request in requests.iter() {
            let (to, from) = request.unwrap();
            from.iter().for_each(|n| to.send(n.unwrap() * 2).unwrap());
        }
    }
    let child = Process::spawn(echo, inn).unwrap();
    for round in 0..20 {
        let (to_child, from_us) = channel(1).unwrap();
        let (to_us, from_child) = channel(1).unwrap();
        out.send((to_us, from_us)).unwrap();
        to_child.send(round).unwrap();
        assert_eq!(from_child.recv().unwrap(), round * 2);
        drop(to_child);
        assert!(disconnected(from_child.recv()));
    }
    drop(out);
    child.join().unwrap();
}

fn a_reply_comes_by_a_channel_that_was_sent_along() {
    fn serve(requests: Receiver<(u64, Sender<u64>)>) {
        for request in requests.iter() {
            let (n, reply) = request.unwrap();
            reply.send(n + 1).unwrap();
        }
    }
    let (requests, served) = channel(4).unwrap();
    let child = Process::spawn(serve, served).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let requests = &requests;
            scope.spawn(move || {
                for n in (0..50).map(|n| thread * 50 + n) {
                    let (reply, answer) = channel(1).unwrap();
                    requests.send((n, reply)).unwrap();
                    assert_eq!(answer.recv().unwrap(), n + 1);
                }
            });
        }
    });
    drop(requests);
    child.join().unwrap();
}

type Everything = (Lock, Event, SharedSlice<u64>, Sender<Bytes>, Bytes);

fn use_everything((lock, event, slice, to, bytes): Everything) {
    let _guard = lock.lock().unwrap();
    slice.set(0, bytes.len() as u64);
    to.send(bytes).unwrap();
    event.set();
}

fn handles_of_all_kinds_travel_together() {
    let pool = Pool::builder().workers(2).build().unwrap();
    for by_pool in [false, true] {
        for len in [5, 100_000] {
            let lock = Lock::new().unwrap();
            let event = Event::new().unwrap();
            let slice = SharedSlice::new(3).unwrap();
            let (to, from) = channel(1).unwrap();
            let bytes = Bytes::from(vec![9; len]);
            let all = (
                lock.clone(),
                event.clone(),
                slice.clone(),
                to,
                bytes.clone(),
            );
            match by_pool {
                true => pool.submit(use_everything, all).unwrap().wait().unwrap(),
                false => Process::spawn(use_everything, all).unwrap().join().unwrap(),
            }
            assert!(event.is_set());
            assert_eq!(slice.get(0), len as u64);
            assert_eq!(from.recv().unwrap(), bytes);
            assert!(disconnected(from.recv()));
            drop(lock.lock().unwrap());
        }
    }
}

fn pool_tasks_get_ends_and_may_be_retried() {
    fn die_once((to, flag): (Sender<u32>, Event)) -> u32 {
        to.send(std::process::id()).unwrap();
        if !flag.is_set() {
            flag.set();
            std::process::abort();
        }
        7
    }
    let pool = Pool::builder().workers(1).retries(1).build().unwrap();
    let (to, from) = channel(10).unwrap();
    let flag = Event::new().unwrap();
    let task = pool.submit(die_once, (to, flag)).unwrap();
    assert_eq!(task.wait().unwrap(), 7);
    let pids: HashSet<u32> = from.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(pids.len(), 2, "two workers, and nobody has a sender left");
}

fn map_and_imap_take_ends() {
    fn report((to, n): (Sender<u64>, u64)) -> u64 {
        to.send(n).unwrap();
        n * n
    }
    let pool = Pool::builder().workers(2).build().unwrap();
    let squares: Vec<u64> = (0..300).map(|n| n * n).collect();
    for lazily in [false, true] {
        let (to, from) = channel(1000).unwrap();
        std::thread::scope(|scope| {
            let heard = scope.spawn(move || from.iter().map(|n| n.unwrap()).sum::<u64>());
            let inputs = (0..300).map(move |n| (to.clone(), n));
            let found = match lazily {
                false => pool.map(report, inputs).unwrap(),
                true => pool
                    .imap(report, inputs)
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap(),
            };
            assert_eq!(found, squares);
            assert_eq!(heard.join().unwrap(), (0..300).sum());
        });
    }
}

fn an_initializer_gets_an_end() {
    fn report(to: Sender<u32>) {
        to.send(std::process::id()).unwrap();
    }
    let (to, from) = channel(10).unwrap();
    let pool = Pool::builder()
        .workers(2)
        .initializer(report, to)
        .build()
        .unwrap();
    let began: HashSet<u32> = (0..2).map(|_| from.recv().unwrap()).collect();
    let pids: HashSet<u32> = pool.pids().into_iter().map(|pid| pid as u32).collect();
    assert_eq!(began, pids);
    drop(pool);
    assert!(disconnected(from.recv()));
}

fn pool_tasks_return_ends_and_other_handles() {
    fn make(
        n: u64,
    ) -> (
        Receiver<u64>,
        Lock,
        SharedSlice<u64>,
        LockedSlice<u64>,
        Bytes,
    ) {
        let (sender, receiver) = channel(1).unwrap();
        sender.send(n).unwrap();
        let slice = SharedSlice::from_slice(&[n]).unwrap();
        let locked = LockedSlice::from_slice(&[n]).unwrap();
        let bytes = Bytes::from(vec![n as u8; 100_000]);
        (receiver, Lock::new().unwrap(), slice, locked, bytes)
    }
    type Made = (
        Receiver<u64>,
        Lock,
        SharedSlice<u64>,
        LockedSlice<u64>,
        Bytes,
    );
    fn check(n: u64, (receiver, lock, slice, locked, bytes): Made) {
        assert_eq!(receiver.recv().unwrap(), n);
        assert!(disconnected(receiver.recv()));
        drop(lock.lock().unwrap());
        assert_eq!((slice.get(0), locked.lock().unwrap()[0]), (n, n));
        assert_eq!(bytes[..], vec![n as u8; 100_000]);
    }
    let pool = Pool::builder().workers(2).build().unwrap();
    check(7, pool.submit(make, 7).unwrap().wait().unwrap());
    for (n, made) in (0..).zip(pool.map(make, 0..40).unwrap()) {
        check(n, made);
    }
    for (n, made) in (0..).zip(pool.imap(make, 0..40).unwrap()) {
        check(n, made.unwrap());
    }
    // What a worker made goes to another one, and comes back, as any does.
    let lock = pool.submit(make, 1).unwrap().wait().unwrap().1;
    let again = pool.submit(|lock: Lock| lock, lock.clone());
    let again = again.unwrap().wait().unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(again.lock(), Err(Error::Deadlock)));
    drop(guard);
}

fn handles_of_a_worker_that_has_left_are_whole() {
    fn make(n: u32) -> Receiver<u32> {
        let (sender, receiver) = channel(1).unwrap();
        sender.send(n).unwrap();
        receiver
    }
    let builder = Pool::builder().workers(1).max_tasks_per_worker(1);
    let pool = builder.build().unwrap();
    let tasks: Vec<_> = (0..20).map(|n| pool.submit(make, n).unwrap()).collect();
    pool.join().unwrap();
    for (n, task) in (0..).zip(tasks) {
        assert_eq!(task.wait().unwrap().recv().unwrap(), n);
    }
}

fn handles_that_nobody_fetches_are_closed() {
    play("unfetched");
}

fn scene_unfetched() {
    fn make(to: Sender<u8>) -> Vec<Sender<u8>> {
        vec![to, channel(1).unwrap().0, channel(1).unwrap().0]
    }
    let (to, from) = channel(1).unwrap();
    let pool = Pool::builder().workers(2).build().unwrap();
    drop(pool.submit(make, to.clone()).unwrap().wait().unwrap());
    let before = open_fds();
    for _ in 0..3 {
        let tasks = (0..300).map(|_| pool.submit(make, to.clone()).unwrap());
        let tasks: Vec<_> = tasks.collect();
        for task in &tasks {
            until("it is done", || task.is_done());
        }
        drop(tasks);
        // Nor does it hold anything up that results are not taken while there are others.
        let ends = pool.imap(make, (0..300).map(|_| to.clone())).unwrap();
        ends.take(10).for_each(|end| drop(end.unwrap()));
    }
    until("all are closed", || open_fds() == before);
    drop((to, pool));
    assert!(disconnected(from.recv()));
}

fn workers_killed_while_they_hand_in_leave_nothing_to_wait_for() {
    fn make(n: u64) -> Result<Receiver<u64>, u64> {
        let (sender, receiver) = channel(1).unwrap();
        sender.send(n).unwrap();
        Ok(receiver)
    }
    let pool = Pool::builder().workers(3).retries(100).build().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(3));
                let pids = pool.pids();
                if let Some(pid) = pids.get(at % pids.len().max(1)) {
                    let mut kill = std::process::Command::new("kill");
                    kill.args(["-9", &pid.to_string()]);
                    kill.stderr(std::process::Stdio::null()).status().unwrap();
                }
                at += 1;
            }
        });
        for (n, made) in (0..).zip(pool.imap(make, 0..3000).unwrap()) {
            assert_eq!(made.unwrap().unwrap().recv().unwrap(), n);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn more_handles_than_can_be_handed_in_are_an_error() {
    fn make(n: usize) -> Vec<SharedSlice<u8>> {
        (0..n).map(|_| SharedSlice::new(1).unwrap()).collect()
    }
    let pool = Pool::builder().workers(1).build().unwrap();
    let made = pool.submit(make, 240).unwrap().wait().unwrap();
    assert_eq!(made.len(), 240);
    let error = pool.submit(make, 241).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("more than 240"), "{error}");
}

fn a_process_returns_an_end() {
    fn make(n: u64) -> Receiver<u64> {
        let (sender, receiver) = channel(1).unwrap();
        sender.send(n).unwrap();
        receiver
    }
    let receiver = Process::spawn(make, 7).unwrap().join().unwrap();
    assert_eq!(receiver.recv().unwrap(), 7);
    assert!(disconnected(receiver.recv()));
}

fn too_many_descriptors_are_an_error() {
    fn ignore(_: Vec<Bytes>) {}
    let many: Vec<Bytes> = (0..300).map(|_| Bytes::from(vec![0; 20_000])).collect();
    let error = Process::spawn(ignore, many.clone()).unwrap_err();
    assert!(matches!(error, Error::Encode { .. }), "{error}");
    assert!(error.to_string().contains("more than 240"), "{error}");
    // To a pool they go without a descriptor each.
    let pool = Pool::builder().workers(1).build().unwrap();
    pool.submit(ignore, many).unwrap().wait().unwrap();
}

fn serde_alone_carries_no_end() {
    let (sender, _receiver) = channel::<u8>(1).unwrap();
    assert!(postcard::to_allocvec(&sender).is_err());
    assert!(postcard::from_bytes::<Sender<u8>>(&[0, 0, 1, 0, 2]).is_err());
}

fn another_kind_of_handle_is_refused() {
    #[derive(serde::Serialize)]
    struct Wrong(Event);
    #[derive(serde::Deserialize)]
    struct Right(#[allow(dead_code, reason = "decoding is what is tested")] Lock);
    impl<'de> serde::Deserialize<'de> for Wrong {
        fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            Right::deserialize(input)?;
            unreachable!("an event came as a lock");
        }
    }
    fn take(_: Wrong) {}
    let child = Process::spawn(take, Wrong(Event::new().unwrap())).unwrap();
    let error = child.join().unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    assert!(error.to_string().contains("of another kind"), "{error}");
}

fn a_message_of_another_type_is_an_error_and_gone() {
    #[derive(serde::Serialize)]
    struct Liar(u8);
    impl<'de> serde::Deserialize<'de> for Liar {
        fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            String::deserialize(input).map(|_| Self(0))
        }
    }
    let (sender, receiver) = channel(10).unwrap();
    sender.send(Liar(200)).unwrap();
    sender.send(Liar(0)).unwrap();
    let Err(error) = receiver.recv() else {
        panic!("a number was read as a string");
    };
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    assert_eq!(receiver.recv().unwrap().0, 0);
}

fn pipes_go_both_ways() {
    fn double(with: Pipe<u64, u64>) {
        while let Ok(n) = with.recv() {
            with.send(n * 2).unwrap();
        }
    }
    let (here, there) = pipe(1).unwrap();
    let child = Process::spawn(double, there).unwrap();
    for n in 0..1000 {
        here.send(n).unwrap();
        assert_eq!(here.recv().unwrap(), n * 2);
    }
    assert_eq!(here.try_recv().unwrap(), None);
    drop(here);
    child.join().unwrap();
}

fn a_pipe_ends_when_the_other_end_is_killed() {
    let (here, there) = pipe::<u8, u8>(1).unwrap();
    let begun = Event::new().unwrap();
    let child = Process::spawn(stay, (there, begun.clone())).unwrap();
    begun.wait();
    assert_eq!(here.recv_timeout(Duration::from_millis(5)).unwrap(), None);
    child.kill().unwrap();
    assert!(disconnected(here.recv()));
    assert!(here.send(1).is_err());
}

fn capacities_out_of_range_are_refused() {
    for capacity in [0, 1 << 31, usize::MAX] {
        let error = channel::<u8>(capacity).unwrap_err();
        assert!(error.to_string().contains("1 to 2147483647"), "{error}");
    }
}

fn nothing_is_left_open() {
    let output = play("leak");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n");
}

fn scene_leak() {
    let round = || {
        let (to, from) = channel(10).unwrap();
        let (other, kept) = channel::<Sender<u64>>(1).unwrap();
        let child = Process::spawn(count_to, (to.clone(), 5)).unwrap();
        assert_eq!(from.recv().unwrap(), 0);
        child.join().unwrap();
        other.send(to).unwrap(); // and never received
        let pool = Pool::builder().workers(1).build().unwrap();
        let (to, _) = channel(10).unwrap();
        let _ = pool.submit(count_to, (to, 5)).unwrap().wait();
        drop((other, kept));
    };
    round();
    let before = open_fds();
    (0..5).for_each(|_| round());
    until("descriptors on their way to nobody are collected", || {
        open_fds() <= before
    });
    assert_eq!(children(), 0);
    println!("fine");
}
