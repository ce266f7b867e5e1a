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

    fn outside_of_a_runtime_is_an_error() {
        let (_to, from) = channel::<u8>(1).unwrap();
        let error = from.into_async().unwrap_err();
        assert!(error.to_string().contains("in a tokio runtime"), "{error}");
    }
}
