//! Every target on every file of its corpus, on thousands of variations of each, and on nothing at all: the same
//! functions that libFuzzer drives, without it. The variations are the same each time.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use manyhands_fuzz::{TARGETS, Target, target};

/// Variations of a corpus in all.
const VARIATIONS: usize = 3000;

/// Marsaglia's xorshift: numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    /// Some bytes of another file, or a byte changed, added, left out.
    fn vary(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.throw(6) {
            let at = self.throw(bytes.len() + 1);
            match self.throw(6) {
                0 | 1 if at < bytes.len() => bytes[at] = self.throw(256) as u8,
                2 if at < bytes.len() => bytes[at] ^= 1 << self.throw(8),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                4 => {
                    let from = self.throw(other.len());
                    let len = self.throw(other.len() - from + 1);
                    bytes.splice(at..at, other[from..from + len].iter().copied());
                }
                _ => bytes.insert(at, self.throw(256) as u8),
            }
        }
        bytes.truncate(4096);
    }
}

fn corpus(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target.name);
    let listed = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    files.into_iter().map(read).collect()
}

fn try_all(name: &str) {
    let target = target(name);
    let files = corpus(target);
    assert!(!files.is_empty(), "{name} has no corpus");
    let attempt = |bytes: &[u8], what: &dyn Fn() -> String| {
        if catch_unwind(|| (target.run)(bytes)).is_err() {
            panic!("{name} fails on {}: {bytes:?}", what());
        }
    };
    attempt(&[], &|| "nothing".to_owned());
    for (path, bytes) in &files {
        attempt(bytes, &|| path.display().to_string());
    }
    let mut dice = Dice(0x6d61_6e79_6861_6e64);
    for number in 0..VARIATIONS {
        let (path, bytes) = &files[number % files.len()];
        let other = dice.throw(files.len());
        let mut bytes = bytes.clone();
        dice.vary(&mut bytes, &files[other].1);
        attempt(&bytes, &|| {
            format!("variation {number}, of {}", path.display())
        });
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            try_all(stringify!($name));
        })*

        #[test]
        fn all_targets_are_tried() {
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

targets! { frames letter mailbox attach arena fifo board calls parcel desk listen }
