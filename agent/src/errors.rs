//! Errors on their way to people: the chain of causes, outermost first.

use std::error::Error;

/// An error of any step.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// The error and its causes, one text each.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}
