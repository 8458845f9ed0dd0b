//! Reading little-endian fields one after another, never beyond the end.

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::cache) struct Reader<'a>(pub(in crate::cache) &'a [u8]);

impl<'a> Reader<'a> {
    pub(in crate::cache) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(in crate::cache) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(in crate::cache) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(in crate::cache) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(in crate::cache) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::cache) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(in crate::cache) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// Some when everything was read.
    pub(in crate::cache) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
