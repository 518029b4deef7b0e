//! `policies.toml`, beside po.toml. It may be absent, and it may change while the daemon runs: the last one that could be read is in force.

use super::{Drain, Matcher, Policy};
use crate::config::{ConfigError, Period, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// Resolved events are remembered for as long, so nothing may wait longer for their silence.
pub(super) const LONGEST_QUIET: Duration = Duration::from_secs(7 * 86_400);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    policy: Vec<PolicyTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    servers: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    name: Spanned<String>,
    event: Spanned<OneOrMore>,
    #[serde(default)]
    labels: BTreeMap<String, OneOrMore>,
    profile: Spanned<String>,
    #[serde(default)]
    lenders: Vec<Spanned<String>>,
    servers: Option<Spanned<u32>>,
    limit: Option<Spanned<u32>>,
    #[serde(rename = "for")]
    stands: Option<Spanned<String>>,
    quiet: Option<Spanned<String>>,
    cooldown: Option<Spanned<String>>,
    expire: Option<Spanned<String>>,
    drain: Option<DrainTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainTable {
    command: Spanned<Vec<String>>,
    deadline: Option<Spanned<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Vec<String> {
    fn from(values: OneOrMore) -> Self {
        match values {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        }
    }
}

/// All policies, in the order in which they may borrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// The policies.
    pub list: Vec<Policy>,
    /// How many servers may be borrowed in all, those that people borrowed counted too.
    pub limit: Option<u32>,
}

/// What the rest of the configuration knows, for names to be checked against.
pub(super) struct Surroundings<'a> {
    /// The folder of po.toml.
    pub folder: &'a Path,
    /// The lenders of po.toml.
    pub lenders: &'a [String],
}

impl Policies {
    /// Reads the file; none means no policies.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(super) fn load(path: &Path, around: &Surroundings<'_>) -> Result<Self, ConfigError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        Self::read(&Source::read(path, "it holds the policies")?, around)
    }

    pub(super) fn read(source: &Source, around: &Surroundings<'_>) -> Result<Self, ConfigError> {
        let file: PolicyFile = source.parse()?;
        let mut list: Vec<Policy> = Vec::new();
        for table in file.policy {
            if let Some(twice) = list.iter().find(|policy| policy.name == *table.name.get_ref()) {
                let problem = format!("there is another policy {:?}; give each its own name", twice.name);
                return Err(source.at(table.name.span(), problem));
            }
            list.push(policy(source, around, table)?);
        }
        Ok(Self {
            list,
            limit: file.limits.servers,
        })
    }

    /// The policy of this name.
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.list.iter().find(|policy| policy.name == name)
    }
}

fn policy(source: &Source, around: &Surroundings<'_>, table: PolicyTable) -> Result<Policy, ConfigError> {
    let name = table.name.get_ref().clone();
    if !is_name(&name) {
        let problem = format!("name {name:?} is not 1 to 63 letters, digits, '-' and '_'");
        return Err(source.at(table.name.span(), problem));
    }
    let names: Vec<String> = table.event.get_ref().clone().into();
    if names.is_empty() {
        return Err(source.at(table.event.span(), "event names nothing; write an alert's name"));
    }
    known_profile(source, around, &table.profile)?;
    known_lenders(source, around, &table.lenders)?;
    let (servers, limit) = numbers(source, &table)?;
    let period = |value: &Option<Spanned<String>>, usual: u64| duration(source, value.as_ref(), usual);
    let quiet = period(&table.quiet, 600)?;
    if let Some(written) = table.quiet.as_ref().filter(|_| quiet > LONGEST_QUIET) {
        return Err(source.at(
            written.span(),
            "quiet is longer than 7d, for which resolved events are remembered",
        ));
    }
    let expire = table
        .expire
        .as_ref()
        .map(|written| duration(source, Some(written), 0))
        .transpose()?;
    let labels = table.labels.into_iter();
    Ok(Policy {
        on: Matcher {
            names,
            labels: labels.map(|(name, values)| (name, values.into())).collect(),
        },
        profile: table.profile.into_inner(),
        lenders: table.lenders.into_iter().map(Spanned::into_inner).collect(),
        servers,
        limit,
        stands: period(&table.stands, 120)?,
        quiet,
        cooldown: period(&table.cooldown, 300)?,
        expire,
        drain: table.drain.map(|table| drain(source, table)).transpose()?,
        name,
    })
}

/// What may name a policy: it stands in tables and in paths.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

fn known_profile(
    source: &Source,
    around: &Surroundings<'_>,
    profile: &Spanned<String>,
) -> Result<(), ConfigError> {
    let name = profile.get_ref();
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    match is_name && around.folder.join("profiles").join(name).is_dir() {
        true => Ok(()),
        false => {
            let problem = format!(
                "profile {name:?} is not there; make the folder profiles/{name}, or correct the name"
            );
            Err(source.at(profile.span(), problem))
        }
    }
}

fn known_lenders(
    source: &Source,
    around: &Surroundings<'_>,
    lenders: &[Spanned<String>],
) -> Result<(), ConfigError> {
    match lenders
        .iter()
        .find(|lender| !around.lenders.contains(lender.get_ref()))
    {
        None => Ok(()),
        Some(lender) => {
            let problem = format!(
                "po.toml has no lender {:?}; it has: {}",
                lender.get_ref(),
                around.lenders.join(", ")
            );
            Err(source.at(lender.span(), problem))
        }
    }
}

fn numbers(source: &Source, table: &PolicyTable) -> Result<(u32, u32), ConfigError> {
    let servers = table.servers.as_ref().map_or(1, |servers| *servers.get_ref());
    let limit = table.limit.as_ref().map_or(servers, |limit| *limit.get_ref());
    if servers == 0 {
        let span = table.servers.as_ref().map_or(table.name.span(), Spanned::span);
        return Err(source.at(
            span,
            "servers is 0; a policy borrows at least one, or is taken out of the file",
        ));
    }
    if limit < servers {
        let span = table.limit.as_ref().map_or(table.name.span(), Spanned::span);
        let problem = format!("limit {limit} is less than the {servers} servers that are borrowed at a time");
        return Err(source.at(span, problem));
    }
    Ok((servers, limit))
}

fn duration(
    source: &Source,
    written: Option<&Spanned<String>>,
    usual_s: u64,
) -> Result<Duration, ConfigError> {
    let Some(written) = written else {
        return Ok(Duration::from_secs(usual_s));
    };
    let period = written.get_ref().parse::<Period>();
    let period = period.map_err(|error| source.at(written.span(), error.to_string()))?;
    Ok(Duration::from_secs(period.seconds))
}

fn drain(source: &Source, table: DrainTable) -> Result<Drain, ConfigError> {
    if table.command.get_ref().is_empty() {
        let problem = "command is empty; write program and arguments, or leave [policy.drain] out";
        return Err(source.at(table.command.span(), problem));
    }
    Ok(Drain {
        deadline: duration(source, table.deadline.as_ref(), 120)?,
        command: table.command.into_inner(),
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
