//! Errors on their way to people: the chain of causes, outermost first.

use std::error::Error;

/// An error of any step.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// The error and its causes, one text each.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts
}
