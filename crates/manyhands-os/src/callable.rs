//! Functions of this program, named so that another process of the same program finds them.
//!
//! A name is two places in the program's image and a seal; [`Name::of`] makes one from a typed
//! function, [`find`] turns it back into something that can be called on bytes. What is always
//! true: no address that came from outside is called, or even read, before it passed every
//! check that there is:
//! - the seal, a keyed hash of the name: only [`Name::of`], in a process that shares this
//!   process's key (a parent hands it to the children it starts), makes a valid one;
//! - the *door*, a constant of the program that knows one signature, lies aligned in the image
//!   and begins with the magic of doors; the code to jump to is read from there, not from the name;
//! - the function lies in the executable part of the image (`image`);
//! - the door's own stamp, a hash of the names of its types, is the one that the name carries.
//!
//! That both processes run the same build is checked where the key is handed over (the build
//! id, see `image`), once a process. Not here: what the bytes mean (`manyhands::typed`).

use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::sync::OnceLock;

use crate::image;

/// How functions of one signature are called on bytes.
pub trait Convention {
    /// What the function takes.
    type Argument;
    /// What it returns.
    type Return;

    /// Decodes the argument from `input`, calls `function`, and encodes what became of it.
    fn call(function: fn(Self::Argument) -> Self::Return, input: &[u8]) -> Vec<u8>;
}

/// Opens every door; an arbitrary constant that does not occur by chance.
const MAGIC: [u64; 2] = [0x7961_6d20_796e_616d, 0x9e1c_55d0_b1d4_3a6f];

/// The only way from a name to code: one a signature, in the program's read-only data.
#[repr(C)]
struct Door {
    magic: [u64; 2],
    /// Calls the function at an address.
    ///
    /// # Safety
    /// The address is that of a `fn(C::Argument) -> C::Return` for the door's `C`.
    open: unsafe fn(*const (), &[u8]) -> Vec<u8>,
    stamp: fn() -> u64,
}

/// Makes the door of a convention a constant, which the compiler keeps in the image.
struct DoorOf<C>(PhantomData<C>);

impl<C: Convention> DoorOf<C> {
    const DOOR: &'static Door = &Door {
        magic: MAGIC,
        open: open::<C>,
        stamp: stamp::<C>,
    };
}

/// # Safety
/// `function` is the address of a `fn(C::Argument) -> C::Return`.
unsafe fn open<C: Convention>(function: *const (), input: &[u8]) -> Vec<u8> {
    // SAFETY: the caller vouches for the address and its type; a function pointer and a thin
    // pointer have the same size on the platforms of this crate, and the address is not null.
    let function: fn(C::Argument) -> C::Return = unsafe { std::mem::transmute(function) };
    C::call(function, input)
}

/// A hash of the names of a convention's types: a guard against a door of another signature.
fn stamp<C: Convention>() -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(std::any::type_name::<C::Argument>().as_bytes());
    hasher.write_u8(0xff);
    hasher.write(std::any::type_name::<C::Return>().as_bytes());
    hasher.finish()
}

/// Shared by a process and the children that it started: proves that a name was made by one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u64; 2]);

static KEY: OnceLock<Key> = OnceLock::new();

impl Key {
    /// Bytes in [`Key::to_bytes`].
    pub const LEN: usize = 16;

    /// The key of this process, random unless it was handed one.
    pub fn mine() -> Self {
        *KEY.get_or_init(|| {
            let random = || RandomState::new().build_hasher().finish();
            Self([random(), random()])
        })
    }

    /// Takes over the key of the parent. `false`: this process has another one already.
    pub fn adopt(bytes: [u8; Self::LEN]) -> bool {
        let (words, _) = bytes.as_chunks::<8>();
        let key = Self([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]);
        *KEY.get_or_init(|| key) == key
    }

    /// The key, to be handed to a child.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        pack(self.0)
    }

    fn seal(self, words: [u64; 3]) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0
            .iter()
            .chain(&words)
            .for_each(|&word| hasher.write_u64(word));
        hasher.finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)") // it is a secret, if a small one
    }
}

/// A function of this program, in a form that can be sent to another process of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Offset of the door in the image.
    door: u64,
    /// Offset of the function in the image.
    function: u64,
    /// The stamp of the function's types.
    stamp: u64,
    /// The keyed hash of the rest.
    seal: u64,
}

impl Name {
    /// Bytes in [`Name::to_bytes`].
    pub const LEN: usize = 32;

    /// The name of `function`, to be called as `C` says.
    ///
    /// # Errors
    /// A function outside of the program's own image, that is, in a shared library.
    pub fn of<C: Convention>(
        function: fn(C::Argument) -> C::Return,
    ) -> Result<Self, image::OutsideImage> {
        let door = image::data_offset(std::ptr::from_ref(DoorOf::<C>::DOOR).cast())?;
        let function = image::offset_of(function as *const ())?.get();
        let stamp = stamp::<C>();
        let seal = Key::mine().seal([door, function, stamp]);
        Ok(Self {
            door,
            function,
            stamp,
            seal,
        })
    }

    /// The name as bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        pack([self.door, self.function, self.stamp, self.seal])
    }

    /// The name that these bytes say, unchecked: [`find`] checks it.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let [door, function, stamp, seal] =
            [words[0], words[1], words[2], words[3]].map(u64::from_le_bytes);
        Self {
            door,
            function,
            stamp,
            seal,
        }
    }
}

fn pack<const WORDS: usize, const BYTES: usize>(words: [u64; WORDS]) -> [u8; BYTES] {
    const { assert!(WORDS * 8 == BYTES) };
    let mut bytes = [0; BYTES];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Why a name is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// The seal is wrong: the name was damaged, or made by a process that is no relative.
    Seal,
    /// There is no door at the place that the name says.
    Door,
    /// The function does not lie in the executable part of the image.
    Function,
    /// The door is one of another signature.
    Stamp,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seal => "the function's name is damaged or was made by an unrelated process",
            Self::Door => "the function's name points to no known signature of this program",
            Self::Function => "the function's name does not point into this program's code",
            Self::Stamp => "the function's name is one of a function with another signature",
        })
    }
}

impl std::error::Error for Stranger {}

/// A function that was found again, with what is needed to call it on bytes.
#[derive(Clone, Copy)]
pub struct Callable {
    door: &'static Door,
    function: *const (),
}

// SAFETY: the address of a function of this program means the same in every thread, and code is
// never written to; `Door` is constant.
unsafe impl Send for Callable {}
// SAFETY: as for `Send`.
unsafe impl Sync for Callable {}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callable({:p})", self.function)
    }
}

/// Finds the function that a name names, after the checks that the module's text lists.
pub fn find(name: Name) -> Result<Callable, Stranger> {
    if Key::mine().seal([name.door, name.function, name.stamp]) != name.seal {
        return Err(Stranger::Seal);
    }
    let door = image::data(name.door, size_of::<Door>())
        .ok_or(Stranger::Door)?
        .cast::<Door>();
    if door.addr().get() % align_of::<Door>() != 0 {
        return Err(Stranger::Door);
    }
    // SAFETY: `image::data` found these bytes inside a readable segment of this program, which
    // is never unmapped, and they are aligned for a u64. The two words are plain numbers.
    if unsafe { door.cast::<[u64; 2]>().read() } != MAGIC {
        return Err(Stranger::Door);
    }
    // SAFETY: a valid seal says that `Name::of` made this name in a process that runs the same
    // build, from a `&'static Door`; the bytes there begin with the magic of every door. A door
    // is constant, so a shared reference to it never sees it change.
    let door: &'static Door = unsafe { door.as_ref() };
    if (door.stamp)() != name.stamp {
        return Err(Stranger::Stamp);
    }
    let function =
        image::entry(image::CodeOffset::new(name.function)).map_err(|_| Stranger::Function)?;
    Ok(Callable { door, function })
}

impl Callable {
    /// Calls the function on an encoded argument.
    pub fn call(&self, input: &[u8]) -> Vec<u8> {
        // SAFETY: a `Callable` exists only through `find`: the name was made by `Name::of::<C>`
        // for a `fn(C::Argument) -> C::Return` of this build together with the door of the same
        // `C`, so the function has the type that this door's `open` wants.
        unsafe { (self.door.open)(self.function, input) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Add;
    impl Convention for Add {
        type Argument = u8;
        type Return = u8;
        fn call(function: fn(u8) -> u8, input: &[u8]) -> Vec<u8> {
            vec![function(input[0])]
        }
    }
    struct Negate;
    impl Convention for Negate {
        type Argument = i8;
        type Return = i8;
        fn call(function: fn(i8) -> i8, input: &[u8]) -> Vec<u8> {
            vec![function(input[0] as i8) as u8]
        }
    }
    fn increment(x: u8) -> u8 {
        x + 1
    }
    fn negate(x: i8) -> i8 {
        -x
    }

    #[test]
    fn a_named_function_is_found_and_called() {
        let name = Name::of::<Add>(increment).unwrap();
        assert_eq!(
            find(Name::from_bytes(&name.to_bytes()))
                .unwrap()
                .call(&[41]),
            [42]
        );
        let name = Name::of::<Negate>(negate).unwrap();
        assert_eq!(find(name).unwrap().call(&[1]), [255]);
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let bytes = Name::of::<Add>(increment).unwrap().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                find(Name::from_bytes(&damaged)).unwrap_err(),
                Stranger::Seal,
                "bit {bit}"
            );
        }
    }

    /// Seals a name as only [`Name::of`] should, to reach the checks behind the seal.
    fn sealed(door: u64, function: u64, stamp: u64) -> Name {
        Name {
            door,
            function,
            stamp,
            seal: Key::mine().seal([door, function, stamp]),
        }
    }

    #[test]
    fn a_name_with_a_seal_is_still_checked() {
        let good = Name::of::<Add>(increment).unwrap();
        let cases = [
            (
                sealed(good.function, good.function, good.stamp),
                Stranger::Door,
            ),
            (
                sealed(good.door + 1, good.function, good.stamp),
                Stranger::Door,
            ),
            (sealed(u64::MAX, good.function, good.stamp), Stranger::Door),
            (
                sealed(u64::MAX - 8, good.function, good.stamp),
                Stranger::Door,
            ),
            (sealed(good.door, good.door, good.stamp), Stranger::Function),
            (sealed(good.door, u64::MAX, good.stamp), Stranger::Function),
            (
                sealed(good.door, good.function, !good.stamp),
                Stranger::Stamp,
            ),
            (
                sealed(
                    Name::of::<Negate>(negate).unwrap().door,
                    good.function,
                    good.stamp,
                ),
                Stranger::Stamp,
            ),
        ];
        for (name, why) in cases {
            assert_eq!(find(name).unwrap_err(), why, "{name:?}");
        }
    }

    #[test]
    fn another_key_is_not_adopted_over_an_existing_one() {
        let mine = Key::mine();
        assert!(Key::adopt(mine.to_bytes()));
        let mut other = mine.to_bytes();
        other[0] ^= 1;
        assert!(!Key::adopt(other));
    }
}
