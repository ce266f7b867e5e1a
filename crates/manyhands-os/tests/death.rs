//! The end of children and parents, with pidfds; `old_kernel.rs` does the same without.

mod common;
mod ends;

use std::io;

use common::*;
use manyhands_os::child::Exec;
use manyhands_os::death::{Child, ExitStatus, Hold, Lifeline, ParentWatch, start_time};
use manyhands_os::fd::{AsFd, AsRawFd, pipe};
use manyhands_os::poll;

#[test]
fn an_own_childs_end_is_noticed_and_its_status_kept() {
    let _watchdog = watchdog();
    ends::own();
}

#[test]
fn a_fork_servers_child_is_followed_by_its_report() {
    let _watchdog = watchdog();
    ends::remote(true);
}

#[test]
fn a_fork_servers_child_without_a_pidfd_is_followed_too() {
    let _watchdog = watchdog();
    ends::remote(false);
}

#[test]
fn a_worker_notices_that_its_parent_was_killed() {
    let _watchdog = watchdog();
    ends::parent();
}

/// Forks processes on lifelines of one hold, taut or slack, lets go, and says how they ended.
fn let_go_of(taut: &[bool]) -> Vec<ExitStatus> {
    let hold = Hold::new().unwrap();
    let (ready, say) = pipe().unwrap();
    let (heard, tell) = pipe().unwrap();
    let children: Vec<_> = taut
        .iter()
        .map(|&taut| {
            let (fd, own) = hold.line().unwrap();
            assert!(own.is_none());
            let (say, heard) = (&say, &heard);
            let child = forked(move || {
                let mut line = Lifeline::new(fd);
                let began = line.tauten();
                if !taut {
                    line.slacken();
                }
                let _ = rustix::io::write(say, b"!");
                let _ = read_byte(heard);
                i32::from(!began || line.tauten())
            });
            Child::own(child).unwrap()
        })
        .collect();
    for child in &children {
        assert_eq!(read_byte(&ready), Some(b'!'));
        assert_eq!(child.try_wait().unwrap(), None);
    }
    drop(hold);
    for (child, _) in children.iter().zip(taut).filter(|(_, taut)| **taut) {
        child.wait(None).unwrap();
    }
    for _ in taut.iter().filter(|taut| !**taut) {
        rustix::io::write(&tell, b"!").unwrap();
    }
    let ended = |child: &Child| child.wait(None).unwrap().unwrap();
    children.iter().map(ended).collect()
}

#[test]
fn a_process_on_a_taut_lifeline_ends_when_it_is_let_go() {
    let _watchdog = watchdog();
    assert_eq!(let_go_of(&[true]), [ExitStatus::Signaled(libc::SIGKILL)]);
}

#[test]
fn one_hold_ends_all_whose_lines_are_taut() {
    let _watchdog = watchdog();
    let (killed, left) = (ExitStatus::Signaled(libc::SIGKILL), ExitStatus::Exited(0));
    assert_eq!(let_go_of(&[true, false, true]), [killed, left, killed]);
}

#[test]
fn a_process_on_a_slack_lifeline_lives_on_and_is_told_when_it_tautens() {
    let _watchdog = watchdog();
    assert_eq!(let_go_of(&[false]), [ExitStatus::Exited(0)]);
}

#[test]
fn a_child_is_a_zombie_until_it_is_asked_for_and_not_longer() {
    let _watchdog = watchdog();
    let child = Child::own(shell("exit 0", &[])).unwrap();
    poll::readable(&[child.sentinel().unwrap()], None).unwrap();
    assert!(start_time(child.pid()).is_ok());
    assert_eq!(child.try_wait().unwrap(), Some(ExitStatus::Exited(0)));
    assert_eq!(
        start_time(child.pid()).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn all_who_wait_get_the_same_answer() {
    let _watchdog = watchdog();
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| child.wait(None).unwrap()))
            .collect();
        child.signal(libc::SIGKILL).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Some(ExitStatus::Signaled(9)));
        }
    });
    drop(hold);
}

#[test]
fn a_signal_ends_a_wait_as_interrupted() {
    let _watchdog = watchdog();
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    let answer = interrupted(|| child.wait(None));
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::Interrupted);
    drop(hold);
    // The end of a pipe that `read` sees is its failure.
    assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Exited(1)));
}

#[test]
fn a_status_that_somebody_else_took_is_unknown() {
    let _watchdog = watchdog();
    let pid = shell("exit 5", &[]);
    let child = Child::own(pid).unwrap();
    poll::readable(&[child.sentinel().unwrap()], None).unwrap();
    rustix::process::waitpid(
        rustix::process::Pid::from_raw(pid),
        rustix::process::WaitOptions::empty(),
    )
    .unwrap();
    assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Unknown));
    // It is known to be gone even if nobody watched it in time.
    let late = Child::own(pid).unwrap();
    assert!(poll::is_readable(late.sentinel().unwrap()).unwrap());
    assert_eq!(late.try_wait().unwrap(), Some(ExitStatus::Unknown));
}

#[test]
fn what_is_not_our_child_is_refused() {
    for pid in [0, -1] {
        assert_eq!(
            Child::own(pid).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            ParentWatch::of(pid).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
    let parent = Child::own(std::os::unix::process::parent_id() as i32).unwrap();
    assert_eq!(
        parent.try_wait().unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn a_forked_child_cannot_wait_for_its_siblings() {
    let _watchdog = watchdog();
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    let sibling = forked(|| {
        let refused = child.try_wait().is_err()
            && child.wait(None).is_err()
            && child.signal(libc::SIGKILL).is_err()
            && child.sentinel().is_err();
        drop(child);
        i32::from(!refused)
    });
    let sibling = Child::own(sibling).unwrap();
    assert_eq!(sibling.wait(None).unwrap(), Some(ExitStatus::Exited(0)));
    let child = Child::own(pid).unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    drop(hold);
    child.wait(None).unwrap();
}

#[test]
fn a_real_time_signal_arrives() {
    let _watchdog = watchdog();
    let (pid, _hold) = sleeper();
    let child = Child::own(pid).unwrap();
    let signal = libc::SIGRTMIN() + 1;
    child.signal(0).unwrap();
    child.signal(signal).unwrap();
    assert_eq!(
        child.wait(None).unwrap(),
        Some(ExitStatus::Signaled(signal))
    );
    let text = child.signal(1000).map_err(|e| e.to_string());
    assert_eq!(text, Ok(()), "one that has ended is left in peace");
}

#[test]
fn a_signal_that_does_not_exist_is_an_error_in_words() {
    let _watchdog = watchdog();
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    assert_eq!(
        child.signal(1000).unwrap_err().to_string(),
        format!("could not send signal 1000 to process {pid}: Invalid argument")
    );
    drop(hold);
    child.wait(None).unwrap();
}

#[test]
fn a_fork_server_that_is_silent_about_a_dead_child_is_given_up() {
    let _watchdog = watchdog();
    let (pid, _hold) = sleeper();
    let own = Child::own(pid).unwrap();
    let (report, silent) = pipe().unwrap();
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::PidfdFlags::empty(),
    );
    let remote = Child::remote(pid, pidfd.ok(), report).unwrap();
    own.signal(libc::SIGKILL).unwrap();
    assert_eq!(remote.wait(None).unwrap(), Some(ExitStatus::Unknown));
    own.wait(None).unwrap();
    drop(silent);
}

#[test]
fn a_spawned_program_does_not_hold_our_pidfds() {
    let _watchdog = watchdog();
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    let number = child.sentinel().unwrap().as_raw_fd();
    let argv = strings(&[c"test", c"!", c"-e"]);
    let mut argv = argv;
    argv.push(std::ffi::CString::new(format!("/proc/self/fd/{number}")).unwrap());
    let test = manyhands_os::child::spawn(&Exec::new(c"/usr/bin/test", &argv)).unwrap();
    assert_eq!(
        Child::own(test).unwrap().wait(None).unwrap(),
        Some(ExitStatus::Exited(0))
    );
    drop(hold);
    child.wait(None).unwrap();
    assert!(child.sentinel().unwrap().as_fd().as_raw_fd() == number);
}
