//! One disk's way through wipe mode, apart from the disk: each method in turn until one was carried out *and* what is read back shows it.
//!
//! ```text
//! look at the samples ─► erase by the strongest method ─► read back ─► erased: by this method
//!                           ▲        │ failed                │ something is left
//!                           └────────┴── the next method ◄───┘          no method is left: failed, with every error
//! ```

use super::EraseError;
use super::buffer::Buffer;
use super::samples::{Before, END, Expected, Source, expected};
use super::time::Limit;
use crate::console::say;
use crate::errors::chain;
use leaseboot_protocol::erasure::{DiskOutcome, EraseMethod};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A disk as far as an erasure needs it.
pub(super) trait Medium: Source {
    /// What the log calls it.
    fn name(&self) -> &str;
    /// Capacity in bytes.
    fn size(&self) -> u64;
    /// What it offers, strongest first.
    fn methods(&self) -> Vec<EraseMethod>;
    /// Carries a method out, telling the bytes that are done.
    fn erase(&mut self, method: EraseMethod, told: &Told) -> Result<(), EraseError>;
    /// Writes zeros over a range of whole sectors.
    fn zero(&mut self, range: Range<u64>) -> Result<(), EraseError>;
}

/// How many bytes of a disk are erased by the present method. Whoever reports progress reads it from another thread.
#[derive(Default)]
pub(super) struct Told(AtomicU64);

impl Told {
    /// So many are erased.
    pub(super) fn erased(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// What was told last.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Erases a disk and checks it; `seed` chooses the samples.
pub(super) fn erase(disk: &mut impl Medium, seed: u64, told: &Told) -> DiskOutcome {
    let begun = Instant::now();
    // One buffer for each disk is all the memory that its erasure takes.
    let mut buffer = Buffer::new();
    let before = Before::look(disk, disk.size(), seed, buffer.bytes_mut());
    let mut errors = Vec::new();
    for method in disk.methods() {
        say!("erase {}: {method}", disk.name());
        told.erased(0);
        match attempt(disk, method, &before, buffer.bytes_mut(), told) {
            Ok(checked_bytes) => {
                let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                say!(
                    "erase {}: {method}: done, {checked_bytes} bytes read back",
                    disk.name()
                );
                return DiskOutcome::Erased {
                    method,
                    checked_bytes,
                    took_ms,
                };
            }
            Err(error) => {
                let error = format!("{method}: {}", chain(&error).join(": "));
                say!("erase {}: FAILED: {error}", disk.name());
                errors.push(error);
            }
        }
    }
    DiskOutcome::Failed { errors }
}

fn attempt(
    disk: &mut impl Medium,
    method: EraseMethod,
    before: &Before,
    buffer: &mut [u8],
    told: &Told,
) -> Result<u64, EraseError> {
    disk.erase(method, told)?;
    let size = disk.size();
    told.erased(size);
    let expected = expected(method);
    let limit = Limit::for_bytes("read back", size);
    let checked = before.check(disk, size, expected, buffer, || limit.holds())?;
    if expected == Expected::Gone {
        // Noise is no data, but no firmware should look for a partition table in it.
        disk.zero(0..END.min(size))?;
        disk.zero(size.saturating_sub(END)..size)?;
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use EraseMethod::{AtaSecureErase, Discard, NvmeSanitizeCrypto, Overwrite};
    use std::io;

    const SIZE: usize = 1 << 20;

    /// A disk that does to its content what each method's entry says.
    struct Fake {
        content: Vec<u8>,
        effects: Vec<(EraseMethod, Effect)>,
    }

    #[derive(Clone, Copy)]
    enum Effect {
        Zeros,
        ZerosButOneSector,
        OtherNoise,
        Nothing,
        Refuses,
    }

    impl Fake {
        fn with(effects: &[(EraseMethod, Effect)]) -> Self {
            let content = (0..SIZE).map(|at| (at * 7 + at / 512) as u8 | 1).collect();
            Self {
                content,
                effects: effects.to_vec(),
            }
        }
    }

    impl Source for Fake {
        fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            into.copy_from_slice(&self.content[at..at + into.len()]);
            Ok(())
        }
    }

    impl Medium for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn size(&self) -> u64 {
            SIZE as u64
        }
        fn methods(&self) -> Vec<EraseMethod> {
            self.effects.iter().map(|(method, _)| *method).collect()
        }
        fn erase(&mut self, method: EraseMethod, _: &Told) -> Result<(), EraseError> {
            let (_, effect) = self.effects.iter().find(|(known, _)| *known == method).unwrap();
            match effect {
                Effect::Zeros => self.content.fill(0),
                Effect::ZerosButOneSector => self.content[512..].fill(0),
                Effect::OtherNoise => self
                    .content
                    .iter_mut()
                    .for_each(|byte| *byte = byte.wrapping_mul(3) ^ 5),
                Effect::Nothing => {}
                Effect::Refuses => return Err(EraseError::Frozen),
            }
            Ok(())
        }
        fn zero(&mut self, range: Range<u64>) -> Result<(), EraseError> {
            let at = |at| usize::try_from(at).unwrap();
            self.content[at(range.start)..at(range.end)].fill(0);
            Ok(())
        }
    }

    fn run(effects: &[(EraseMethod, Effect)]) -> (DiskOutcome, Fake) {
        let mut disk = Fake::with(effects);
        (erase(&mut disk, 1, &Told::default()), disk)
    }

    fn method(outcome: &DiskOutcome) -> Option<EraseMethod> {
        match outcome {
            DiskOutcome::Erased { method, .. } => Some(*method),
            _ => None,
        }
    }

    #[test]
    fn the_first_method_that_works_is_the_one_that_is_reported() {
        let (outcome, disk) = run(&[
            (AtaSecureErase, Effect::Refuses),
            (Discard, Effect::Zeros),
            (Overwrite, Effect::Refuses),
        ]);
        assert_eq!(method(&outcome), Some(Discard));
        assert!(disk.content.iter().all(|byte| *byte == 0));
        assert!(matches!(outcome, DiskOutcome::Erased { checked_bytes, .. } if checked_bytes == SIZE as u64));
    }

    #[test]
    fn a_method_that_only_claims_to_have_erased_is_found_out() {
        let (outcome, _) = run(&[
            (NvmeSanitizeCrypto, Effect::Nothing),
            (Discard, Effect::ZerosButOneSector),
            (Overwrite, Effect::Zeros),
        ]);
        assert_eq!(method(&outcome), Some(Overwrite));
    }

    #[test]
    fn without_any_method_left_every_error_is_told() {
        let (outcome, _) = run(&[(AtaSecureErase, Effect::Refuses), (Overwrite, Effect::Nothing)]);
        let DiskOutcome::Failed { errors } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(errors.len(), 2);
        assert!(errors[0].contains("frozen"), "{errors:?}");
        assert!(errors[1].contains("still holds data"), "{errors:?}");
    }

    #[test]
    fn noise_of_a_forgotten_key_is_taken_and_leaves_no_partition_table() {
        let (outcome, disk) = run(&[
            (NvmeSanitizeCrypto, Effect::OtherNoise),
            (Overwrite, Effect::Refuses),
        ]);
        assert_eq!(method(&outcome), Some(NvmeSanitizeCrypto));
        assert!(disk.content[..512].iter().all(|byte| *byte == 0));
    }
}
