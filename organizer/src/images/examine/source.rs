//! The initrd's file as its readers see it: they look ahead, know where they are, and none reads further than it uses.

use std::io::{self, BufRead, Read};

const BUFFER: usize = 64 << 10;

/// A reader with a view of what comes.
pub(super) struct Source<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    at: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            at: 0,
        }
    }

    /// How many bytes were used so far.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next `length` bytes, or as many as there are. They stay.
    pub(super) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        let length = length.min(BUFFER);
        if self.end - self.start < length {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < length && self.fill()? > 0 {}
        }
        let end = self.end.min(self.start + length);
        Ok(&self.buffer[self.start..end])
    }

    /// Uses up zero bytes, which stand between archives.
    pub(super) fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let ahead = self.fill_buf()?;
            let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
            let ends = zeros < ahead.len() || ahead.is_empty();
            self.consume(zeros);
            if ends {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(length) => {
                    self.end += length;
                    return Ok(length);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.end - self.start);
        self.start += amount;
        self.at += amount as u64;
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ahead = self.fill_buf()?;
        let length = ahead.len().min(into.len());
        into[..length].copy_from_slice(&ahead[..length]);
        self.consume(length);
        Ok(length)
    }
}
