//! What the integration tests share: a watchdog, scenes in a process of their own, waiting.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(unreachable_pub, reason = "a module of tests is no crate")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The variable that tells a test program to play a scene instead of running its tests.
const SCENE: &str = "MANYHANDS_TEST_SCENE";

/// Ends the test program if it hangs; no test measures time.
pub fn watchdog() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(240));
        eprintln!("watchdog: a test hangs");
        std::process::abort();
    });
}

/// The scene that this process is to play.
pub fn scene() -> Option<String> {
    std::env::var(SCENE).ok()
}

/// This test program, about to play a scene.
pub fn stage(scene: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(SCENE, scene)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    command
}

/// Plays a scene to its end; what it printed, if it ended well.
pub fn play(scene: &str) -> Output {
    let output = stage(scene).output().unwrap();
    assert!(output.status.success(), "scene {scene}: {output:?}");
    output
}

/// Waits for a fact.
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process runs: neither gone nor a zombie.
pub fn runs(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which may hold anything but ends with the last ')'.
        Ok(stat) => !stat
            .rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => false,
    }
}

/// Open descriptors of this process.
pub fn open_fds() -> usize {
    // The directory that is being read is open as well.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Children of this process, zombies included.
pub fn children() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")))
        .map(|children| children.unwrap_or_default().split_whitespace().count())
        .sum()
}

/// A directory for one test, removed with everything in it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("manyhands-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A trial of a harness of our own: `#[test]` without the harness that owns `main`.
#[macro_export]
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
    };
}
