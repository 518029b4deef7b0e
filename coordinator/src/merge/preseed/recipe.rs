//! What a partman recipe needs at least.
//!
//! `name :: MIN PRIORITY MAX FILESYSTEM specifiers . MIN …`, sizes in MB (10^6 bytes) or in percent of the memory (partman-auto's
//! `partman-auto-recipe.txt`). A percentage is the installer's to find out, since it knows what memory it sees.

use crate::merge::disk::Need;
use crate::merge::problems::Problems;
use leaseboot_protocol::preseed::Answer;

const MB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

pub(super) fn need<'a>(answers: &[Answer<'a>], problems: &mut Problems<'_>) -> Need<'a> {
    let mut need = Need::default();
    let recipes = answers
        .iter()
        .filter(|answer| answer.question == "partman-auto/expert_recipe" && answer.kind != "seen");
    for answer in recipes {
        let line = *answer.lines.start();
        let Some((_, partitions)) = answer.value.split_once("::") else {
            let message = "an expert_recipe is `name :: min priority max filesystem … .`".to_owned();
            problems.line(line, answer.text, message);
            continue;
        };
        for partition in partitions.split(" . ") {
            let partition = partition.trim().trim_end_matches(" .");
            match minimum(partition) {
                Ok(mib) => need.add(mib, line, answer.text),
                Err(problem) => problems.line(line, answer.text, problem),
            }
        }
    }
    need
}

/// The minimum of one partition in MiB.
fn minimum(partition: &str) -> Result<u64, String> {
    let mut words = partition.split_whitespace();
    let Some(first) = words.next().filter(|word| *word != ".") else {
        return Ok(0);
    };
    // A logical volume takes its room from a physical one, which is counted.
    if partition.contains("$lvmok{") && partition.contains("in_vg{") {
        return Ok(0);
    }
    if first.ends_with('%') && first[..first.len() - 1].parse::<u64>().is_ok() {
        return Ok(0);
    }
    first
        .parse::<u64>()
        .map(|mb| mb.saturating_mul(MB) / MIB)
        .map_err(|_| {
            format!("{first:?} is not a number of megabytes, with which a partition of a recipe begins")
        })
}

#[cfg(test)]
mod tests {
    use super::minimum;

    #[test]
    fn minimums_are_in_megabytes() {
        assert_eq!(minimum("1000 50 -1 ext4 $primary{ }"), Ok(953));
        assert_eq!(minimum("100% 512 200% linux-swap"), Ok(0));
        assert_eq!(minimum(""), Ok(0));
        assert!(minimum("big 50 -1 ext4").is_err());
    }
}
