//! Control groups: where the files of this process's groups are.
//!
//! Always: both versions and every mount, also where a container shows only a part of the hierarchy.
//! Not here: what the files say (`cpu`, `oom`).

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::fd::read_all;

/// Where a controller's files for this process begin, and how far up they go.
pub(crate) struct Place {
    mount: PathBuf,
    below: PathBuf,
    pub(crate) version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Place {
    /// The folders of the process's own group and of those around it, up to the mount point.
    pub(crate) fn groups(&self) -> impl Iterator<Item = PathBuf> {
        self.below.ancestors().map(|group| self.mount.join(group))
    }
}

/// The places of `controller`'s files. `proc` is `/proc/self`, and `root` is put before the mount points that are named
/// there: tests bring their own of both.
pub(crate) fn places(controller: &str, proc: &Path, root: &Path) -> Vec<Place> {
    let read = |file| read(&proc.join(file)).unwrap_or_default();
    listed(controller, &read("mountinfo"), &read("cgroup"), root)
}

/// The text of a small file, if it can be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    String::from_utf8(read_all(File::open(path).ok()?).ok()?).ok()
}

/// Each mount of a hierarchy that has the controller or is of version 2.
fn listed(controller: &str, mounts: &str, groups: &str, root: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for line in mounts.lines() {
        // "31 23 0:28 /root /mount/point options [tags...] - type source super-options"
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut left = left.split(' ').skip(3);
        let (Some(top), Some(mount)) = (left.next(), left.next()) else {
            continue;
        };
        let mut right = right.split(' ');
        let version = match right.next() {
            Some("cgroup2") => Version::Two,
            Some("cgroup") if right.next_back().is_some_and(|all| has(all, controller)) => {
                Version::One
            }
            _ => continue,
        };
        let Some(group) = group_of(controller, groups, version) else {
            continue;
        };
        // Where the mount shows only a part of the hierarchy, names are relative to that part. A group
        // outside of it cannot be seen; the mount point itself is then the best that can be asked.
        let below = Path::new(group).strip_prefix(top).unwrap_or(Path::new(""));
        let below = below.strip_prefix("/").unwrap_or(below).to_owned();
        let mount = root.join(unescaped(mount).trim_start_matches('/'));
        places.push(Place {
            mount,
            below,
            version,
        });
    }
    places
}

/// This process's group: of version 2 "0::/user.slice", of version 1 "4:cpu,cpuacct:/docker/1234".
fn group_of<'a>(controller: &str, groups: &'a str, version: Version) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            Version::One => has(controllers, controller),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        ours.then_some(group)
    })
}

fn has(controllers: &str, controller: &str) -> bool {
    controllers.split(',').any(|other| other == controller)
}

/// mountinfo writes a space as `\040`.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
pub(crate) mod made_up {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// A made-up machine: `/proc/self` and the files under its mount points.
    pub(crate) struct Machine(PathBuf);

    impl Machine {
        pub(crate) fn new(
            name: &str,
            mountinfo: &str,
            cgroup: &str,
            files: &[(&str, &str)],
        ) -> Machine {
            let root = std::env::temp_dir()
                .join(format!("manyhands-cgroup-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let machine = Machine(root);
            machine.write("proc/mountinfo", mountinfo);
            machine.write("proc/cgroup", cgroup);
            for (path, text) in files {
                machine.write(path, text);
            }
            machine
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        pub(crate) fn proc(&self) -> PathBuf {
            self.0.join("proc")
        }

        pub(crate) fn root(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The mount of version 2.
    pub(crate) const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
}
