//! The running program's image: which build it is, and where its functions are.
//!
//! A program that starts itself again runs the same image at another address, so a function is named by
//! its offset, together with the build that the offset is true of.
//!
//! Always: an offset that is accepted lies in this program's image, that of a function in its executable
//! part. Functions of shared libraries have no offset here: a child may load others, or at other places.
//! Not here: whether there is a function at an offset, and of which type (`callable`).

use std::ffi::{CStr, c_int, c_void};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;

/// A place in the program's code, the same in every process that runs this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeOffset(u64);

impl CodeOffset {
    /// From another process's number, unchecked: [`entry`] checks it.
    pub fn new(offset: u64) -> CodeOffset {
        CodeOffset(offset)
    }

    /// As a number, to be sent to another process together with the [`build_id`].
    pub fn get(self) -> u64 {
        self.0
    }
}

/// An address or an offset that is not in this program's own image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideImage {
    what: String,
    /// The shared library that it is in.
    library: Option<String>,
}

impl fmt::Display for OutsideImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.library {
            Some(library) => write!(
                f,
                "{what} belongs to {library}, not to this program, so another process cannot be told \
                 where it is; wrap it in a function of the program"
            ),
            None => write!(f, "{what} is not in this program"),
        }
    }
}

impl std::error::Error for OutsideImage {}

impl From<OutsideImage> for io::Error {
    fn from(error: OutsideImage) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Which build the running program is: equal for equal code, so an offset means the same in both.
///
/// The linker's GNU build id, or a hash of the code where the linker wrote none.
pub fn build_id() -> io::Result<[u8; 20]> {
    let image = Image::running();
    if image.code.is_empty() {
        return Err(io::Error::other(
            "the loader does not tell where this program's code is",
        ));
    }
    Ok(image.noted_id().unwrap_or_else(|| image.hashed_id()))
}

/// Where in the program the function at `address` is.
pub fn offset_of(address: *const ()) -> Result<CodeOffset, OutsideImage> {
    let image = Image::running();
    let offset = image.offset(address);
    if image.code.iter().any(|part| part.contains(&offset)) {
        return Ok(CodeOffset(offset));
    }
    Err(OutsideImage {
        what: format!("the function at {address:p}"),
        library: library_of(address),
    })
}

/// The function at `offset` of the running program, whose build the caller has compared.
pub fn entry(offset: CodeOffset) -> Result<*const (), OutsideImage> {
    let image = Image::running();
    if !image.code.iter().any(|part| part.contains(&offset.0)) {
        return Err(OutsideImage {
            what: format!("code at offset {:#x}", offset.0),
            library: None,
        });
    }
    Ok(image.address(offset.0).cast())
}

/// Where in the program the constant at `address` is.
pub fn data_offset(address: *const ()) -> Result<u64, OutsideImage> {
    let image = Image::running();
    let offset = image.offset(address);
    if image.readable.iter().any(|part| part.contains(&offset)) {
        return Ok(offset);
    }
    Err(OutsideImage {
        what: format!("the constant at {address:p}"),
        library: library_of(address),
    })
}

/// The address of `len` bytes at `offset` of the running program; `None` unless all of them lie in one of its
/// readable segments, which are mapped as long as it runs.
pub fn data(offset: u64, len: usize) -> Option<NonNull<u8>> {
    let image = Image::running();
    let end = offset.checked_add(len as u64)?;
    let inside = |part: &&Range<u64>| part.start <= offset && end <= part.end;
    image.readable.iter().find(inside)?;
    NonNull::new(image.address(offset).cast_mut())
}

/// The main program as the dynamic loader describes it, which never changes while it runs.
///
/// Asked for each time: it takes microseconds, and a value kept behind a lock could be caught in the making
/// by a fork. Ranges are of addresses in the file.
#[derive(Default)]
struct Image {
    /// What is added to an address of the file to get one of the process.
    bias: u64,
    /// Segments that are executable, readable and not writable.
    code: Vec<Range<u64>>,
    readable: Vec<Range<u64>>,
    notes: Vec<Range<u64>>,
}

impl Image {
    fn running() -> Image {
        let mut image = Image::default();
        // SAFETY: `describe` gets exactly the pointer that we pass, to a value that outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(describe), (&raw mut image).cast()) };
        image
    }

    fn offset(&self, address: *const ()) -> u64 {
        (address as u64).wrapping_sub(self.bias)
    }

    fn address(&self, offset: u64) -> *const u8 {
        self.bias.wrapping_add(offset) as *const u8
    }

    /// The bytes of a part of the image: one of `code` or `notes`.
    fn bytes(&self, part: &Range<u64>) -> &'static [u8] {
        // SAFETY: the ranges come from the main program's headers, of segments that are loaded readable and
        // not writable; the main program is never unloaded.
        unsafe { slice::from_raw_parts(self.address(part.start), (part.end - part.start) as usize) }
    }

    fn noted_id(&self) -> Option<[u8; 20]> {
        self.notes
            .iter()
            .find_map(|part| build_id_note(self.bytes(part)))
    }

    fn hashed_id(&self) -> [u8; 20] {
        let mut id = [0; 20];
        for (salt, out) in id.chunks_mut(8).enumerate() {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            for part in &self.code {
                part.hash(&mut hasher);
                hasher.write(self.bytes(part));
            }
            out.copy_from_slice(&hasher.finish().to_ne_bytes()[..out.len()]);
        }
        id
    }
}

/// Takes down the first object, which is the main program, and ends the iteration.
unsafe extern "C" fn describe(
    info: *mut libc::dl_phdr_info,
    _: usize,
    image: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a valid description, and `Image::running` a valid image.
    let (info, image) = unsafe { (&*info, &mut *image.cast::<Image>()) };
    image.bias = info.dlpi_addr;
    // SAFETY: the loader's table has as many headers as it says.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        let part = header.p_vaddr..header.p_vaddr.saturating_add(header.p_memsz);
        match header.p_type {
            libc::PT_LOAD if header.p_flags & libc::PF_R != 0 => {
                if header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X {
                    image.code.push(part.clone());
                }
                image.readable.push(part);
            }
            // Some notes are not loaded, or may be written: those are not read.
            libc::PT_NOTE if header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R => {
                image.notes.push(part);
            }
            _ => {}
        }
    }
    // A note segment lies within a loaded one, unless the file was made by something odd.
    let Image {
        readable, notes, ..
    } = image;
    notes.retain(|note| {
        readable
            .iter()
            .any(|part| part.start <= note.start && note.end <= part.end)
    });
    1
}

/// The GNU build id in a note segment, cut or filled with zeros to 20 bytes (SHA-1, the usual one, has 20).
fn build_id_note(mut notes: &[u8]) -> Option<[u8; 20]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    loop {
        let (name_len, len) = (word(notes, 0)? as usize, word(notes, 4)? as usize);
        let kind = word(notes, 8)?;
        let name = notes.get(12..12 + name_len)?;
        let start = 12 + name_len.next_multiple_of(4);
        let id = notes.get(start..start.checked_add(len)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && len > 0 {
            let mut whole = [0; 20];
            let kept = len.min(20);
            whole[..kept].copy_from_slice(&id[..kept]);
            return Some(whole);
        }
        notes = notes.get(start + len.next_multiple_of(4)..)?;
    }
}

/// The file name of the object that `address` lies in.
fn library_of(address: *const ()) -> Option<String> {
    // SAFETY: all of its fields are plain pointers, for which null is a value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `dladdr` takes any address, and writes to `info`.
    let found = unsafe { libc::dladdr(address.cast(), &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a string of the loader's; the object holds a function that the caller has a pointer to, so it
    // is not being unloaded.
    let path = unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy();
    Some(path.rsplit('/').next().unwrap_or(&path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x: u64) -> u64 {
        x * x
    }

    #[test]
    fn a_function_of_the_program_is_found_again_by_its_offset() {
        let address = square as fn(u64) -> u64 as *const ();
        let offset = offset_of(address).unwrap();
        let there = CodeOffset::new(offset.get());
        assert_eq!(entry(there).unwrap(), address);
    }

    #[test]
    fn a_function_of_a_shared_library_is_refused_by_name() {
        let error = offset_of(libc::getpid as *const ()).unwrap_err();
        assert!(
            error.to_string().contains("belongs to libc.so.6"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_code_is_refused() {
        static DATA: u64 = 1;
        let local = 1u64;
        offset_of((&raw const DATA).cast()).unwrap_err();
        offset_of((&raw const local).cast()).unwrap_err();
        offset_of(std::ptr::null()).unwrap_err();
        for offset in [0, 1 << 40, u64::MAX] {
            let error = entry(CodeOffset::new(offset)).unwrap_err();
            assert!(
                error.to_string().ends_with("is not in this program"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_constant_of_the_program_is_found_again_by_its_offset() {
        static TABLE: [u64; 4] = [1, 2, 3, 4];
        let offset = data_offset(TABLE.as_ptr().cast()).unwrap();
        assert_eq!(
            data(offset, size_of_val(&TABLE))
                .unwrap()
                .as_ptr()
                .cast_const(),
            TABLE.as_ptr().cast()
        );
        assert!(data(offset, usize::MAX).is_none());
        assert!(data(offset, 1 << 40).is_none());
        assert!(data(u64::MAX - 4, 8).is_none());
        let boxed = Box::new(1u64);
        data_offset((&raw const *boxed).cast()).unwrap_err();
    }

    #[test]
    fn the_build_id_is_the_same_each_time_and_never_nothing() {
        let id = build_id().unwrap();
        assert_eq!(id, build_id().unwrap());
        assert_ne!(id, [0; 20]);
        let image = Image::running();
        assert_eq!(image.hashed_id(), image.hashed_id());
        assert_ne!(image.hashed_id(), [0; 20]);
    }

    #[test]
    fn notes_are_read_with_distrust() {
        let mut notes = Vec::new();
        for (kind, name, id) in [
            (1u32, &b"GNU\0"[..], &[9u8; 16][..]),
            (3, b"GNU\0", &[7; 8]),
        ] {
            notes.extend((name.len() as u32).to_ne_bytes());
            notes.extend((id.len() as u32).to_ne_bytes());
            notes.extend(kind.to_ne_bytes());
            notes.extend(name);
            notes.extend(id);
        }
        let id = build_id_note(&notes).unwrap();
        assert_eq!((&id[..8], &id[8..]), (&[7; 8][..], &[0; 12][..]));
        for len in 0..notes.len() {
            assert!(build_id_note(&notes[..len]).is_none(), "{len}");
        }
        assert!(build_id_note(&[0xff; 64]).is_none());
        assert!(build_id_note(&[]).is_none());
    }
}
