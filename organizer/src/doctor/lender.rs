//! The lender: whether it answers us, what it speaks, what its clock says, and until when the certificates are good.

use super::Finding;
use crate::config::LenderConfig;
use crate::error_chain;
use crate::lender::{Examined, Lender, LenderError};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

/// Clocks that are further apart than this, in seconds, are worth a word: HTTP's dates are whole seconds, and the answer took time.
const APART: u64 = 5;
/// Clocks that are further apart than this, in seconds, make certificates and terms doubtful.
const FAR_APART: u64 = 120;
/// A certificate that ends within so many days wants to be renewed.
const SOON_DAYS: i64 = 30;
const DAY_S: i64 = 86_400;
const OURS: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn examine(config: &LenderConfig) -> Vec<Finding> {
    let now = SystemTime::now();
    let mut findings = vec![
        judge_file("our certificate", &config.certificate, now),
        judge_file("lender's CA", &config.ca, now),
    ];
    let lender = match Lender::new(config) {
        Ok(lender) => lender,
        Err(error) => {
            let remedy =
                "ask the lender for an invitation and run `leaseboot-po enrol`, or copy its bundle anew";
            findings.push(Finding::problem("lender", error_chain(&error), remedy));
            return findings;
        }
    };
    match lender.examine().await {
        Err(error) => findings.push(judge_failure(&error)),
        Ok(examined) => {
            findings.push(judge_version(lender.url(), examined.version.as_deref()));
            findings.push(judge_clock(examined.date.as_deref(), SystemTime::now()));
            findings.extend(judge_served(&examined, now));
        }
    }
    findings
}

fn judge_failure(error: &LenderError) -> Finding {
    let remedy = match error {
        LenderError::Unreachable { .. } => {
            "check `url` in [lender] of po.toml, the route there, and that our CA file is the lender's (its certificate may be new)"
        }
        LenderError::Unknown { .. } => "put it back into po.toml",
        LenderError::Silent { .. } => "ask the lender whether its lease manager runs; try again",
        LenderError::Refused(_) => {
            "ask the lender whether our certificate is on record and not revoked (`leaseboot-lm tenant show`)"
        }
    };
    Finding::problem("lender", error_chain(error), remedy)
}

/// Versions before 1.0 speak with those of the same minor number.
fn judge_version(url: &str, theirs: Option<&str>) -> Finding {
    let line = |version: &str| version.rsplit_once('.').map(|(line, _)| line.to_owned());
    match theirs {
        Some(theirs) if line(theirs) == line(OURS) => {
            Finding::ok("lender", format!("{url} answers us, version {theirs}"))
        }
        Some(theirs) => {
            let remedy = "read the change log before the next borrowing; update the older side";
            Finding::warning(
                "lender",
                format!("{url} answers us with version {theirs}, and ours is {OURS}"),
                remedy,
            )
        }
        None => {
            let remedy = "is it a lease manager, and not of before versions were told?";
            Finding::warning(
                "lender",
                format!("{url} answers us and does not tell its version"),
                remedy,
            )
        }
    }
}

fn judge_clock(date: Option<&str>, now: SystemTime) -> Finding {
    let check = "clock";
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return Finding::ok(check, "the lender does not tell the time");
    };
    let apart = now
        .duration_since(theirs)
        .unwrap_or_else(|error| error.duration());
    let apart = apart.as_secs();
    let remedy = "let both sides keep their clocks by NTP: chronyc tracking, or timedatectl";
    let found = format!("{apart} s from the lender's");
    match apart {
        0..APART => Finding::ok(check, found),
        APART..FAR_APART => Finding::warning(check, found, remedy),
        _ => Finding::problem(check, found, remedy),
    }
}

fn judge_served(examined: &Examined, now: SystemTime) -> Option<Finding> {
    let der = examined.certificate.as_deref()?;
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(judge_validity("lender's cert", &certificate, now))
}

fn judge_file(check: &str, path: &Path, now: SystemTime) -> Finding {
    let remedy = "copy the lender's bundle anew, or run `leaseboot-po enrol` with a new invitation";
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Finding::problem(check, format!("cannot read {}: {error}", path.display()), remedy);
        }
    };
    let pem = Pem::iter_from_buffer(&bytes).next();
    let Some(Ok(pem)) = pem else {
        return Finding::problem(check, format!("{} is not in PEM", path.display()), remedy);
    };
    match pem.parse_x509() {
        Ok(certificate) => judge_validity(check, &certificate, now),
        Err(_) => Finding::problem(check, format!("{} holds no certificate", path.display()), remedy),
    }
}

fn judge_validity(check: &str, certificate: &X509Certificate<'_>, now: SystemTime) -> Finding {
    let validity = certificate.validity();
    judge_period(
        check,
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
        now,
    )
}

/// A certificate's period, in seconds since 1970.
fn judge_period(check: &str, from: i64, until: i64, now: SystemTime) -> Finding {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let days = until.saturating_sub(now).div_euclid(DAY_S);
    if now < from {
        let remedy = "check this machine's clock";
        return Finding::problem(check, "it is not good yet", remedy);
    }
    match days {
        ..0 => Finding::problem(
            check,
            format!("it ended {} days ago", -days),
            "get a new one from the lender: `leaseboot-po enrol`",
        ),
        0..SOON_DAYS => Finding::warning(
            check,
            format!("it ends in {days} days"),
            "get a new one from the lender: `leaseboot-po enrol`",
        ),
        _ => Finding::ok(check, format!("good for {days} days")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn clocks_are_compared_in_both_directions() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let theirs = 784_111_777;
        for (ours, verdict) in [
            (theirs, Verdict::Ok),
            (theirs + 4, Verdict::Ok),
            (theirs - 4, Verdict::Ok),
            (theirs + 5, Verdict::Warning),
            (theirs - 119, Verdict::Warning),
            (theirs + 120, Verdict::Problem),
            (theirs - 86_400, Verdict::Problem),
        ] {
            assert_eq!(judge_clock(date, at(ours)).verdict, verdict, "{ours}");
        }
        assert_eq!(judge_clock(Some("yesterday"), at(0)).verdict, Verdict::Ok);
    }

    #[test]
    fn a_certificate_has_days_left_or_not() {
        let day = 86_400;
        for (now, verdict) in [
            (0, Verdict::Problem),
            (day, Verdict::Ok),
            (70 * day, Verdict::Ok),
            (70 * day + 1, Verdict::Warning),
            (100 * day, Verdict::Warning),
            (100 * day + 1, Verdict::Problem),
        ] {
            assert_eq!(
                judge_period("c", 86_400, 100 * 86_400, at(now)).verdict,
                verdict,
                "{now}"
            );
        }
    }

    #[test]
    fn versions_of_one_line_go_together() {
        let (line, _) = OURS.rsplit_once('.').unwrap();
        let judged = |version: Option<&str>| judge_version("u", version).verdict;
        let patched = format!("{line}.99");
        assert_eq!(judged(Some(&patched)), Verdict::Ok);
        assert_eq!(judged(Some("9.9.9")), Verdict::Warning);
        assert_eq!(judged(None), Verdict::Warning);
    }
}
