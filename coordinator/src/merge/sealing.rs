//! Secrets that stand in the open where the tenant's policy demands a seal.

use super::problems::Problems;

/// Whether a value is one sealed mark and nothing else, so that the lender learns nothing of it.
pub(super) fn is_sealed(value: &str) -> bool {
    let name = value
        .strip_prefix("@sealed:")
        .and_then(|rest| rest.strip_suffix('@'));
    name.is_some_and(|name| !name.is_empty() && !name.contains('@'))
}

/// A problem when the secret in this line is not sealed. The line is not quoted: its secret would go to the logs of both sides.
pub(super) fn demand(value: &str, what: &str, number: usize, problems: &mut Problems<'_>) {
    if !value.is_empty() && !is_sealed(value) {
        let message = format!(
            "{what} stands in the open, and the tenant's policy demands a seal: write @sealed:name@ and name its file in [sealed] of the profile"
        );
        problems.line(number, &format!("({what}, not shown)"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::is_sealed;

    #[test]
    fn only_a_whole_mark_is_a_seal() {
        assert!(is_sealed("@sealed:root_password@"));
        for open in [
            "",
            "x",
            "@sealed:@",
            "x@sealed:a@",
            "@sealed:a@x",
            "@sealed:a@@sealed:b@",
        ] {
            assert!(!is_sealed(open), "{open}");
        }
    }
}
