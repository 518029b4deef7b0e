//! Memory for direct reading and writing.

/// Zeros at an address that O_DIRECT takes for every size of sector (open(2)): one MiB, all the memory that reading or writing needs.
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Bytes in it.
    pub(super) const LENGTH: usize = 1 << 20;
    const ALIGNMENT: usize = 4096;

    /// A new one, all zeros.
    pub(super) fn new() -> Self {
        let memory = vec![0; Self::LENGTH + Self::ALIGNMENT];
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT).min(Self::ALIGNMENT);
        Self { memory, start }
    }

    /// To read.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + Self::LENGTH]
    }

    /// To read and write.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + Self::LENGTH]
    }
}
