//! How many CPUs this process may use.
//!
//! Always at least one; the least of what the affinity mask and the cgroups' quotas (versions 1 and 2, every
//! level) allow. Half a CPU of quota counts as a whole one: a worker less would leave it unused.
//! Nothing is cached: a container's quota may be changed under way.

use std::io;
use std::path::Path;

use crate::cgroup::{self, Place, Version};
use crate::error;

/// The CPUs that this thread may run on, as far as its quota reaches; the number of workers worth having.
pub fn available() -> usize {
    let allowed = allowed().unwrap_or_else(|_| online());
    match quota(Path::new("/proc/self"), Path::new("/")) {
        Some(quota) => allowed.min(quota.ceil() as usize).max(1),
        None => allowed,
    }
}

/// The CPUs of the machine that are switched on, whoever may use them.
pub fn online() -> usize {
    // SAFETY: no memory is involved.
    let n = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(n).unwrap_or(1).max(1)
}

/// The CPUs in this thread's affinity mask.
pub fn allowed() -> io::Result<usize> {
    // The kernel refuses a mask shorter than its own, however few CPUs are in it.
    let mut mask = vec![0u64; 16];
    loop {
        // SAFETY: the mask is valid for writes of the length given, and any bytes make a `u64`.
        let n = unsafe {
            libc::syscall(
                libc::SYS_sched_getaffinity,
                0,
                size_of_val(mask.as_slice()),
                mask.as_mut_ptr(),
            )
        };
        if n >= 0 {
            let cpus: u32 = mask.iter().map(|word| word.count_ones()).sum();
            return Ok(cpus.max(1) as usize);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) || mask.len() >= 1 << 14 {
            return Err(error::context(
                error,
                "could not ask which CPUs this thread may use",
            ));
        }
        mask = vec![0; mask.len() * 2];
    }
}

/// The least CPU quota of this process's cgroups, in CPUs; `None` without one. `proc` is `/proc/self`, and
/// `root` is put before the mount points that are named there: tests bring their own of both.
fn quota(proc: &Path, root: &Path) -> Option<f64> {
    cgroup::places("cpu", proc, root)
        .iter()
        .filter_map(least)
        .reduce(f64::min)
}

/// The least quota from the process's own group up to the mount point.
fn least(place: &Place) -> Option<f64> {
    place
        .groups()
        .filter_map(|group| match place.version {
            Version::One => quota_v1(&group),
            Version::Two => quota_v2(&group),
        })
        .reduce(f64::min)
}

/// Version 2: "max 100000" or "150000 100000".
fn quota_v2(group: &Path) -> Option<f64> {
    let text = cgroup::read(&group.join("cpu.max"))?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// Version 1: two files; a quota of -1 is none.
fn quota_v1(group: &Path) -> Option<f64> {
    let quota = cgroup::read(&group.join("cpu.cfs_quota_us"))?;
    let period = cgroup::read(&group.join("cpu.cfs_period_us"))?;
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::made_up::{Machine, V2};

    impl Machine {
        fn quota(&self) -> Option<f64> {
            quota(&self.proc(), self.root())
        }
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!((1..=online()).contains(&available()));
        assert!(allowed().unwrap() >= available());
    }

    #[test]
    fn a_quota_of_version_2_is_read() {
        let files = [("sys/fs/cgroup/app/cpu.max", "150000 100000\n")];
        assert_eq!(
            Machine::new("v2", V2, "0::/app\n", &files).quota(),
            Some(1.5)
        );
    }

    #[test]
    fn the_least_quota_of_all_levels_counts() {
        let files = [
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/cpu.max", "200000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "800000 100000\n"),
        ];
        assert_eq!(
            Machine::new("levels", V2, "0::/a/b\n", &files).quota(),
            Some(2.0)
        );
    }

    #[test]
    fn no_quota_is_none() {
        let files = [("sys/fs/cgroup/cpu.max", "max 100000\n")];
        assert_eq!(Machine::new("max", V2, "0::/\n", &files).quota(), None);
        assert_eq!(Machine::new("no-file", V2, "0::/\n", &[]).quota(), None);
        assert_eq!(Machine::new("no-cgroups", "", "", &[]).quota(), None);
    }

    #[test]
    fn a_quota_of_version_1_is_read_through_a_containers_mount() {
        let mountinfo = "31 23 0:28 /docker/12 /cg\\040roups/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                         32 23 0:29 /docker/12 /cg\\040roups/memory rw - cgroup cgroup rw,memory\n";
        let cgroup = "5:memory:/docker/12\n4:cpuacct,cpu:/docker/12\n0::/\n";
        let files = [
            ("cg roups/cpu/cpu.cfs_quota_us", "50000\n"),
            ("cg roups/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(
            Machine::new("v1", mountinfo, cgroup, &files).quota(),
            Some(0.5)
        );
        let unlimited = [
            ("cg roups/cpu/cpu.cfs_quota_us", "-1\n"),
            ("cg roups/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(
            Machine::new("v1-none", mountinfo, cgroup, &unlimited).quota(),
            None
        );
    }

    #[test]
    fn nonsense_in_the_files_is_no_quota() {
        for text in ["", "max", "x 100000", "1 0", "-5 100000", "1 2 3"] {
            let files = [("sys/fs/cgroup/cpu.max", text)];
            assert_eq!(
                Machine::new("nonsense", V2, "0::/\n", &files).quota(),
                None,
                "{text:?}"
            );
        }
        assert_eq!(
            Machine::new("mounts", "a b - c\n - cgroup2\n", "x\n0:\n", &[]).quota(),
            None
        );
    }

    #[test]
    fn a_group_outside_of_the_mount_is_asked_at_the_mount_point() {
        let mountinfo = "30 23 0:26 /pods/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let files = [("sys/fs/cgroup/cpu.max", "300000 100000\n")];
        assert_eq!(
            Machine::new("outside", mountinfo, "0::/pods/b\n", &files).quota(),
            Some(3.0)
        );
    }
}
