//! Tasks and channels awaited: woken at once, cancelled where that was asked for, and no thread a call.

mod common;

use std::process::ExitCode;
use std::time::Duration;

use common::until;
use manyhands::{Error, Event, Pool};

fn main() -> ExitCode {
    manyhands::init();
    common::watchdog();
    #[cfg_attr(not(feature = "tokio"), allow(unused_mut))]
    let mut trials = trials![
        tasks_are_awaited_side_by_side,
        a_task_that_died_or_panicked_is_an_error_to_its_awaiter,
        a_task_of_a_terminated_pool_is_an_error_to_its_awaiter,
        a_future_that_is_dropped_lets_its_call_run_on,
        a_future_that_is_dropped_takes_its_call_along_if_asked,
        a_task_that_is_done_is_not_cancelled_by_drop,
        a_task_moves_from_one_waker_to_another,
    ];
    #[cfg(feature = "tokio")]
    trials.extend(tokio_trials::all());
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn square(n: u64) -> u64 {
    n * n
}

fn begin_and_sleep(begun: Event) {
    begun.set();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn tasks_are_awaited_side_by_side() {
    let pool = pool(2);
    run(async {
        let mut tasks = Vec::new();
        for n in 0..500 {
            tasks.push(pool.submit(square, n).unwrap());
        }
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), (n * n) as u64);
        }
        let (one, other) = tokio::join!(
            pool.submit(square, 3).unwrap(),
            pool.submit(square, 4).unwrap()
        );
        assert_eq!(one.unwrap() + other.unwrap(), 25);
    });
}

fn a_task_that_died_or_panicked_is_an_error_to_its_awaiter() {
    let pool = pool(1);
    run(async {
        let died = pool.submit(|()| std::process::abort(), ()).unwrap().await;
        assert!(matches!(died, Err::<(), _>(Error::Died(_))));
        let panicked = pool.submit(|()| panic!("no luck"), ()).unwrap().await;
        assert!(matches!(panicked, Err::<(), _>(Error::Panicked(_))));
        assert_eq!(pool.submit(square, 5).unwrap().await.unwrap(), 25);
    });
}

fn a_task_of_a_terminated_pool_is_an_error_to_its_awaiter() {
    let begun = Event::new().unwrap();
    let pool = pool(1);
    let task = pool.submit(begin_and_sleep, begun.clone()).unwrap();
    run(async {
        let end = std::thread::spawn(move || {
            begun.wait();
            drop(pool);
        });
        assert!(matches!(task.await, Err(Error::Terminated)));
        end.join().unwrap();
    });
}

fn a_future_that_is_dropped_lets_its_call_run_on() {
    fn set_later((begun, done): (Event, Event)) {
        begun.set();
        std::thread::sleep(Duration::from_millis(50));
        done.set();
    }
    let (begun, done) = (Event::new().unwrap(), Event::new().unwrap());
    let pool = pool(1);
    let task = pool
        .submit(set_later, (begun.clone(), done.clone()))
        .unwrap();
    begun.wait();
    run(async { tokio::time::timeout(Duration::from_millis(1), task).await }).unwrap_err();
    done.wait();
}

fn a_future_that_is_dropped_takes_its_call_along_if_asked() {
    let begun = Event::new().unwrap();
    let pool = pool(1);
    let before = pool.pids();
    let task = pool.submit(begin_and_sleep, begun.clone()).unwrap();
    begun.wait();
    let queued = Event::new().unwrap();
    let waiting = pool.submit(begin_and_sleep, queued.clone()).unwrap();
    drop(waiting.cancel_on_drop(false));
    let task = task.cancel_on_drop(true);
    run(async { tokio::time::timeout(Duration::from_millis(1), task).await }).unwrap_err();
    assert_eq!(pool.submit(square, 6).unwrap().wait().unwrap(), 36);
    until("another worker is there", || pool.pids() != before);
    assert!(!queued.is_set());
}

fn a_task_that_is_done_is_not_cancelled_by_drop() {
    let pool = pool(1);
    let pids = pool.pids();
    let task = pool.submit(square, 2).unwrap().cancel_on_drop(true);
    until("it is done", || task.is_done());
    drop(task);
    let task = pool.submit(square, 3).unwrap().cancel_on_drop(true);
    assert_eq!(task.wait().unwrap(), 9);
    assert_eq!(pool.pids(), pids);
}

fn a_task_moves_from_one_waker_to_another() {
    let begun = Event::new().unwrap();
    let pool = pool(1);
    let mut task = pool
        .submit(|begun: Event| begun.wait(), begun.clone())
        .unwrap();
    run(async { tokio::time::timeout(Duration::from_millis(1), &mut task).await }).unwrap_err();
    begun.set();
    run(task).unwrap();
}

#[cfg(feature = "tokio")]
mod tokio_trials {
    use super::*;
    use manyhands::{Process, Receiver, Sender, channel};

    pub(super) fn all() -> Vec<libtest_mimic::Trial> {
        trials![
            messages_are_awaited,
            several_await_one_channel,
            an_await_ends_when_the_last_sender_is_killed,
            a_receive_that_is_dropped_loses_nothing,
            outside_of_a_runtime_is_an_error,
            sends_wait_for_room_while_other_tasks_run,
            several_send_on_one_channel,
            a_send_that_is_dropped_sends_nothing_or_all,
            a_send_wakes_when_a_slow_receiver_takes_one,
            a_send_ends_when_the_last_receiver_is_killed,
            large_messages_are_sent_when_the_kernel_takes_them,
            a_send_may_move_from_thread_to_thread,
            a_runtime_without_a_timer_is_refused_at_once,
        ]
    }

    fn count((to, n): (Sender<u64>, u64)) {
        (0..n).for_each(|i| to.send(i).unwrap());
    }

    fn messages_are_awaited() {
        let (to, from) = channel(3).unwrap();
        let child = Process::spawn(count, (to, 2000)).unwrap();
        run(async {
            let from = from.into_async().unwrap();
            let mut n = 0;
            while let Some(came) = from.next().await {
                assert_eq!(came.unwrap(), n);
                n += 1;
            }
            assert_eq!(n, 2000);
        });
        child.join().unwrap();
    }

    fn several_await_one_channel() {
        let (to, from) = channel(3).unwrap();
        let child = Process::spawn(count, (to, 3000)).unwrap();
        async fn sum(from: Receiver<u64>) -> u64 {
            let from = from.into_async().unwrap();
            let mut sum = 0;
            while let Some(n) = from.next().await {
                sum += n.unwrap();
            }
            sum
        }
        let other = from.clone();
        let total = run(async {
            let (one, other) = tokio::join!(sum(from), sum(other));
            one + other
        });
        assert_eq!(total, (0..3000).sum());
        child.join().unwrap();
    }

    fn an_await_ends_when_the_last_sender_is_killed() {
        fn stay((_to, begun): (Sender<u8>, Event)) {
            begin_and_sleep(begun);
        }
        let (to, from) = channel(3).unwrap();
        let begun = Event::new().unwrap();
        let child = Process::spawn(stay, (to, begun.clone())).unwrap();
        begun.wait();
        run(async {
            let from = from.into_async().unwrap();
            let (came, ()) = tokio::join!(from.recv(), async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                child.kill().unwrap();
            });
            assert!(matches!(came, Err(Error::Disconnected { .. })));
        });
    }

    fn a_receive_that_is_dropped_loses_nothing() {
        let (to, from) = channel(1000).unwrap();
        let child = Process::spawn(count, (to, 500)).unwrap();
        run(async {
            let from = from.into_async().unwrap();
            let mut expected = 0;
            while expected < 500 {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(Duration::from_micros(1)) => {}
                    came = from.recv() => {
                        assert_eq!(came.unwrap(), expected);
                        expected += 1;
                    }
                }
            }
        });
        child.join().unwrap();
    }

    fn sum(from: Receiver<u64>) -> u64 {
        from.iter().map(Result::unwrap).sum()
    }

    fn sends_wait_for_room_while_other_tasks_run() {
        let (to, from) = channel(3).unwrap();
        let child = Process::spawn(sum, from).unwrap();
        run(async {
            let to = to.into_async().unwrap();
            for n in 0..5000 {
                to.send(n).await.unwrap();
            }
        });
        assert_eq!(child.join().unwrap(), (0..5000).sum());
        // With one thread for both ends.
        let (to, from) = channel(1).unwrap();
        run(async {
            let (to, from) = (to.into_async().unwrap(), from.into_async().unwrap());
            let send = async {
                for n in 0..2000_u64 {
                    to.send(n).await.unwrap();
                }
            };
            let receive = async {
                for n in 0..2000 {
                    assert_eq!(from.recv().await.unwrap(), n);
                }
            };
            tokio::join!(send, receive);
        });
    }

    fn several_send_on_one_channel() {
        let (to, from) = channel(2).unwrap();
        let child = Process::spawn(sum, from).unwrap();
        run(async {
            let other = to.clone().into_async().unwrap();
            let to = to.into_async().unwrap();
            let send = async |to: &manyhands::AsyncSender<u64>| {
                for n in 0..700 {
                    to.send(n).await.unwrap();
                }
            };
            tokio::join!(send(&to), send(&to), send(&other));
        });
        assert_eq!(child.join().unwrap(), 3 * (0..700).sum::<u64>());
    }

    fn a_send_that_is_dropped_sends_nothing_or_all() {
        let (to, from) = channel::<u64>(2).unwrap();
        let child = Process::spawn(|from: Receiver<u64>| from.iter().count(), from).unwrap();
        let mut sent = 0;
        run(async {
            let to = to.into_async().unwrap();
            for n in 0..2000 {
                tokio::select! {
                    biased;
                    done = to.send(n) => {
                        done.unwrap();
                        sent += 1;
                    }
                    () = tokio::task::yield_now() => {}
                }
            }
        });
        assert_eq!(child.join().unwrap(), sent);
    }

    fn a_send_wakes_when_a_slow_receiver_takes_one() {
        fn take_one((from, go, stay): (Receiver<Vec<u8>>, Event, Event)) {
            go.wait();
            from.recv().unwrap();
            stay.wait();
        }
        // With more bytes on their way than let the kernel tell of room, too.
        for len in [1, 10_000] {
            let (to, from) = channel(10).unwrap();
            let (go, stay) = (Event::new().unwrap(), Event::new().unwrap());
            let child = Process::spawn(take_one, (from, go.clone(), stay.clone())).unwrap();
            run(async {
                let to = to.into_async().unwrap();
                for _ in 0..10 {
                    to.send(vec![7; len]).await.unwrap();
                }
                assert!(matches!(
                    to.try_send(vec![]).unwrap_err().error,
                    Error::Full
                ));
                let sending = to.send(vec![8]);
                tokio::pin!(sending);
                let wait = tokio::time::timeout(Duration::from_millis(20), &mut sending);
                wait.await.unwrap_err();
                go.set();
                sending.await.unwrap(); // and nobody takes another one
            });
            stay.set();
            child.join().unwrap();
        }
    }

    fn a_send_ends_when_the_last_receiver_is_killed() {
        fn stay((_from, begun): (Receiver<u8>, Event)) {
            begin_and_sleep(begun);
        }
        let (to, from) = channel(1).unwrap();
        let begun = Event::new().unwrap();
        let child = Process::spawn(stay, (from, begun.clone())).unwrap();
        begun.wait();
        run(async {
            let to = to.into_async().unwrap();
            to.send(1).await.unwrap();
            let (sent, ()) = tokio::join!(to.send(2), async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                child.kill().unwrap();
            });
            let refused = sent.unwrap_err();
            assert!(matches!(refused.error, Error::Disconnected { .. }));
            assert_eq!(refused.value, 2);
        });
    }

    fn large_messages_are_sent_when_the_kernel_takes_them() {
        fn lengths(from: Receiver<Vec<u8>>) -> usize {
            from.iter().map(|bytes| bytes.unwrap().len()).sum()
        }
        let (to, from) = channel(1000).unwrap();
        let child = Process::spawn(lengths, from).unwrap();
        run(async {
            let to = to.into_async().unwrap();
            for n in 0..300 {
                to.send(vec![0; [15_000, 100_000][n % 2]]).await.unwrap();
            }
        });
        assert_eq!(child.join().unwrap(), 150 * 115_000);
    }

    fn a_send_may_move_from_thread_to_thread() {
        fn is_send<F: Future + Send>(future: F) -> F {
            future
        }
        let (to, from) = channel(1).unwrap();
        run(is_send(async move {
            to.into_async().unwrap().send(vec![1_u8]).await.unwrap();
        }));
        assert_eq!(from.recv().unwrap(), [1]);
    }

    fn a_runtime_without_a_timer_is_refused_at_once() {
        let (to, _from) = channel::<u8>(1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let make = || runtime.block_on(async { to.into_async() });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).is_err());
    }

    fn outside_of_a_runtime_is_an_error() {
        let (to, from) = channel::<u8>(1).unwrap();
        let error = to.into_async().unwrap_err();
        assert!(error.to_string().contains("in a tokio runtime"), "{error}");
        let error = from.into_async().unwrap_err();
        assert!(error.to_string().contains("in a tokio runtime"), "{error}");
    }
}
