//! Bytes as a script: what to do next, and with which numbers.
//!
//! Always: bytes that have run out end the script; a number is as likely one that the code compares with as any other.

/// What is left of a script.
pub(crate) struct Script<'a>(&'a [u8]);

/// The most steps that a script has, so that none takes long.
const MOST_STEPS: usize = 200;

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Script<'a> {
        Script(bytes)
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// One number for each step that is left, at most so many as never take long.
    pub(crate) fn steps(&mut self) -> impl FnMut(&mut Script<'a>) -> Option<u8> + use<'a> {
        let mut left = MOST_STEPS;
        move |script| {
            left = left.checked_sub(1)?;
            script.byte()
        }
    }

    /// A number of two bytes.
    pub(crate) fn short(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    /// Any number, in few bytes where it is one that the code compares with.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let sort = self.byte()?;
        Some(match sort % 10 {
            0 => u64::from(self.byte()?),
            1 => u64::from(self.byte()?) * 64,
            2 => u64::MAX - u64::from(self.byte()?),
            3 => (u64::MAX - u64::from(self.short()?)) & !63,
            4 => u64::from(self.short()?),
            5 => u64::from(u32::MAX) - u64::from(self.byte()?),
            // Two words of four bytes, such as a frame's length and its claim.
            6 => u64::from(self.short()?) | u64::from(self.byte()?) << 32,
            7 => 1_u64.rotate_left(u32::from(self.byte()?)),
            8 => u64::from(self.short()?) * 64,
            _ => {
                let mut word = [0; 8];
                for byte in &mut word {
                    *byte = self.byte()?;
                }
                u64::from_le_bytes(word)
            }
        })
    }

    /// So many bytes, or what is left.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
