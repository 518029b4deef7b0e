//! What the lender granted a tenant. Absent means: no limit.

use super::Rate;
use leaseboot_protocol::labels::LabelExpression;
use serde::{Deserialize, Serialize};

/// The grant, as it is kept and shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// Servers at once.
    pub servers: Option<u32>,
    /// Cores of all its servers together.
    pub cores: Option<u32>,
    /// Only servers whose labels match.
    pub labels: Option<LabelExpression>,
    /// Requests to the API.
    pub rate: Option<Rate>,
    /// Whether the merge refuses secrets that are not sealed.
    pub sealed_secrets: bool,
}

/// What a tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Servers that it holds.
    pub servers: u32,
    /// Their cores.
    pub cores: u32,
}

/// One more server would be more than was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the quota of {granted} {what} does not allow it: {used} in use, {wanted} asked for; give a server back, or ask the lender for more"
)]
pub struct OverQuota {
    what: &'static str,
    granted: u32,
    used: u32,
    wanted: u32,
}

impl Terms {
    /// Whether a tenant that has `used` may have `wanted` besides.
    ///
    /// # Errors
    /// [`OverQuota`] names the first limit that would be passed.
    pub fn check(&self, used: Usage, wanted: Usage) -> Result<(), OverQuota> {
        let limits = [
            ("servers", self.servers, used.servers, wanted.servers),
            ("cores", self.cores, used.cores, wanted.cores),
        ];
        for (what, granted, used, wanted) in limits {
            if let Some(granted) = granted
                && used.saturating_add(wanted) > granted
            {
                return Err(OverQuota {
                    what,
                    granted,
                    used,
                    wanted,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_count_what_is_in_use_and_what_is_asked_for() {
        let terms = Terms {
            servers: Some(2),
            cores: Some(100),
            ..Terms::default()
        };
        let usage = |servers, cores| Usage { servers, cores };
        assert_eq!(terms.check(usage(1, 36), usage(1, 64)), Ok(()));
        let error = terms.check(usage(2, 0), usage(1, 1)).unwrap_err().to_string();
        assert!(
            error.contains("2 servers") && error.contains("2 in use"),
            "{error}"
        );
        let error = terms.check(usage(1, 37), usage(1, 64)).unwrap_err().to_string();
        assert!(error.contains("100 cores"), "{error}");
        assert_eq!(
            Terms::default().check(usage(u32::MAX, u32::MAX), usage(1, 1)),
            Ok(())
        );
    }
}
