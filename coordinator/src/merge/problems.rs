//! What is in the way of a merge, gathered so that everything is told at once.

use leaseboot_protocol::leases::{Line, MergeProblem};

/// More than a person reads at once; a text with more is wrong as a whole.
const MOST: usize = 100;
/// A line is quoted up to here, in characters.
const LONGEST_QUOTE: usize = 400;

/// What is in the way so far.
pub(super) struct Problems<'a> {
    origin: &'a str,
    found: Vec<MergeProblem>,
    left_out: usize,
}

impl<'a> Problems<'a> {
    pub(super) fn new(origin: &'a str) -> Self {
        Self {
            origin,
            found: Vec::new(),
            left_out: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn finish(mut self) -> Vec<MergeProblem> {
        if self.left_out > 0 {
            self.found.push(MergeProblem {
                message: format!("and {} more", self.left_out),
                enterprise: None,
                lender: None,
            });
        }
        self.found
    }

    pub(super) fn general(&mut self, message: String) {
        self.push(message, None, None);
    }

    pub(super) fn line(&mut self, number: usize, text: &str, message: String) {
        self.push(message, Some((number, text)), None);
    }

    pub(super) fn clash(&mut self, number: usize, text: &str, lender: Line, message: String) {
        self.push(message, Some((number, text)), Some(lender));
    }

    fn push(&mut self, message: String, enterprise: Option<(usize, &str)>, lender: Option<Line>) {
        if self.found.len() == MOST {
            self.left_out += 1;
            return;
        }
        let enterprise = enterprise.map(|(number, text)| Line {
            origin: self.origin.to_owned(),
            number,
            text: text.chars().take(LONGEST_QUOTE).collect(),
        });
        self.found.push(MergeProblem {
            message,
            enterprise,
            lender,
        });
    }
}
