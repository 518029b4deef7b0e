//! Lengths of time as people write them: `45m`, `12h`, `30d`.

use std::str::FromStr;

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// In seconds.
    pub seconds: u64,
}

/// It is not a number with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time; write one like \"45m\", \"12h\" or \"30d\"")]
pub struct PeriodError(String);

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let wrong = || PeriodError(text.to_owned());
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        let seconds = count.checked_mul(factor).filter(|seconds| *seconds > 0);
        Ok(Self {
            seconds: seconds.ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_a_unit_and_a_length() {
        assert_eq!("12h".parse(), Ok(Period { seconds: 43_200 }));
        for text in [
            "",
            "h",
            "12",
            "0d",
            "-1d",
            "1w",
            "99999999999999999999d",
            "9999999999999999999d",
            "1\u{e9}",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text:?}");
        }
    }
}
