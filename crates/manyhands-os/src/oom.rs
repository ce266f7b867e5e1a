//! Whether the kernel ended processes because memory ran out.
//!
//! The kernel counts them: for the control group (`memory.events`, since Linux 4.13, or `memory.oom_control`), and for the
//! whole machine (`/proc/vmstat`). A process that was killed while the group's count grew counts as one of them; where
//! the group's file cannot be read, the machine's count has to do.
//! Not here: who was killed, which the kernel tells nobody but its log.

use std::path::{Path, PathBuf};

use crate::cgroup::{self, Version};

/// The counts as they were when somebody looked last.
#[derive(Debug)]
pub struct Watch {
    counts: Vec<(PathBuf, Option<u64>)>,
    /// Processes that were counted and not told of yet.
    untold: u64,
}

impl Watch {
    /// Begins to count now.
    #[expect(clippy::new_without_default, reason = "an act, not a value")]
    pub fn new() -> Watch {
        Watch::of(Path::new("/proc"), Path::new("/"))
    }

    /// `proc` is `/proc`, and `root` is put before the mount points that are named there.
    fn of(proc: &Path, root: &Path) -> Watch {
        let group = |place: &cgroup::Place| {
            let file = match place.version {
                Version::One => "memory.oom_control",
                Version::Two => "memory.events",
            };
            place.groups().next().map(|group| group.join(file))
        };
        let places = cgroup::places("memory", &proc.join("self"), root);
        let groups = places.iter().filter_map(group);
        let mut counts: Vec<_> = groups
            .map(|file| (count(&file), file))
            .filter(|(count, _)| count.is_some())
            .map(|(count, file)| (file, count))
            .collect();
        if counts.is_empty() {
            let file = proc.join("vmstat");
            counts.push((file.clone(), count(&file)));
        }
        Watch { counts, untold: 0 }
    }

    /// Whether a process was ended for want of memory that was not told of yet: each of them is told of once.
    pub fn any(&mut self) -> bool {
        let mut most = 0;
        for (file, last) in &mut self.counts {
            let now = count(file);
            if let (Some(last), Some(now)) = (*last, now) {
                most = most.max(now.saturating_sub(last)); // those of both versions are the same ones
            }
            *last = now;
        }
        self.untold += most;
        let any = self.untold > 0;
        self.untold = self.untold.saturating_sub(1);
        any
    }
}

/// The number in the line "oom_kill 3".
fn count(file: &Path) -> Option<u64> {
    let text = cgroup::read(file)?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::made_up::{Machine, V2};

    fn watch(machine: &Machine) -> Watch {
        Watch::of(&machine.proc(), machine.root())
    }

    /// The files that processes read about themselves.
    fn own(machine: &Machine, mounts: &str, groups: &str) {
        machine.write("proc/self/mountinfo", mounts);
        machine.write("proc/self/cgroup", groups);
    }

    #[test]
    fn what_the_group_counts_is_seen_once() {
        let machine = Machine::new("oom-v2", "", "", &[]);
        own(&machine, V2, "0::/app\n");
        let file = "sys/fs/cgroup/app/memory.events";
        machine.write(file, "low 0\noom 4\noom_kill 2\noom_group_kill 0\n");
        machine.write("proc/vmstat", "oom_kill 9\n");
        let mut watch = watch(&machine);
        assert!(!watch.any());
        machine.write(file, "low 0\noom 5\noom_kill 3\noom_group_kill 0\n");
        assert!(watch.any());
        assert!(!watch.any());
        machine.write(file, "low 0\noom 7\noom_kill 5\noom_group_kill 0\n");
        assert_eq!([(); 3].map(|()| watch.any()), [true, true, false]);
        // That of another group is none of ours.
        machine.write("proc/vmstat", "oom_kill 10\n");
        assert!(!watch.any());
    }

    #[test]
    fn without_a_group_the_machine_is_asked() {
        let machine = Machine::new("oom-machine", "", "", &[]);
        machine.write("proc/vmstat", "pgfault 7\noom_kill 1\n");
        let mut watch = watch(&machine);
        assert!(!watch.any());
        machine.write("proc/vmstat", "pgfault 9\noom_kill 2\n");
        assert!(watch.any());
    }

    #[test]
    fn version_1_has_its_count_elsewhere() {
        let machine = Machine::new("oom-v1", "", "", &[]);
        own(
            &machine,
            "32 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "5:memory:/app\n",
        );
        let file = "sys/fs/cgroup/memory/app/memory.oom_control";
        machine.write(file, "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        let mut watch = watch(&machine);
        machine.write(file, "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        assert!(watch.any());
    }

    #[test]
    fn where_nothing_counts_nothing_is_said() {
        let machine = Machine::new("oom-none", "", "", &[]);
        let mut watch = watch(&machine);
        assert!(!watch.any());
        machine.write("proc/vmstat", "oom_kill nonsense\n");
        assert!(!watch.any());
    }
}
