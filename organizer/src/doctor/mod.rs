//! `leaseboot-po doctor`: looks at everything that a borrowing needs, and says what to do about what is not as it should be.
//!
//! Each check is two functions: one that looks (at a file, at `/proc`, at the lender) and knows nothing, and one that judges what was
//! seen and touches nothing. The same checks run with the daemon and without it: what is to be there depends on whether it serves.
//!
//! | module | looks at |
//! |---|---|
//! | [`configuration`] | `po.toml`, profiles, images, keys |
//! | [`gateway`] | device, UDP port, forwarding, routes, MTU |
//! | [`lender`] | reachability, version, clock, certificates |
//! | `packages` | nft, install servers, the cache's upstreams |
//! | `plane` | who carries the tunnel's packets |
//! | [`local`] | the store's folder, the control socket |

pub mod configuration;
pub mod gateway;
pub mod lender;
pub mod local;
mod packages;
mod plane;

use crate::config::PoConfig;
use crate::error_chain;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works today.
    Warning,
    /// A borrowing fails because of it.
    Problem,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        })
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check, in a word or two.
    pub check: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn warning(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(check, found)
        }
    }

    fn problem(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::warning(check, found, remedy)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<16} {}", self.verdict, self.check, self.found)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n{:25} → {remedy}", ""),
            None => Ok(()),
        }
    }
}

/// Every check, with the configuration at `path`. Without a configuration there is nothing else to look at.
pub async fn examine(path: &Path) -> Vec<Finding> {
    let config = match PoConfig::load(path) {
        Ok(config) => config,
        Err(error) => {
            let remedy = "correct the file, or make one with `leaseboot-po init`";
            return vec![Finding::problem("configuration", error_chain(&error), remedy)];
        }
    };
    let mut findings = vec![Finding::ok("configuration", path.display().to_string())];
    let (serves, control) = local::control(&config.control_socket(), path).await;
    findings.push(control);
    findings.push(local::store(&config.folder));
    findings.extend(configuration::examine(&config));
    findings.extend(gateway::examine(&config, serves));
    findings.push(plane::examine(&config.gateway, serves));
    findings.extend(packages::examine(&config).await);
    for lender in &config.lenders {
        let of_this = |mut finding: Finding| {
            if config.lenders.len() > 1 {
                finding.check = format!("{} ({})", finding.check, lender.name);
            }
            finding
        };
        findings.extend(lender::examine(lender).await.into_iter().map(of_this));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_remedy_another() {
        let fine = Finding::ok("store", "there is room");
        assert_eq!(fine.to_string(), "ok       store            there is room");
        let bad = Finding::problem("store", "read-only", "mount it");
        assert_eq!(
            bad.to_string(),
            "problem  store            read-only\n                          → mount it"
        );
        assert!(Verdict::Problem > Verdict::Warning && Verdict::Warning > Verdict::Ok);
    }
}
