//! The lenders of `po.toml`: one `[lender]`, which is what `init` writes, or several `[[lender]]` with a name each.

use super::source::{ConfigError, Source};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::PathBuf;
use toml::Spanned;

/// The name of the only lender when it has none.
const ONLY: &str = "lender";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LenderTable {
    name: Option<Spanned<String>>,
    url: Spanned<String>,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    #[serde(default = "erasure_key")]
    erasure_key: PathBuf,
}

fn erasure_key() -> PathBuf {
    PathBuf::from("lender/erasure.pub")
}

/// One table or several; read without a detour, so that a mistake is found in its line.
pub(super) struct LenderTables(Vec<LenderTable>);

impl<'de> Deserialize<'de> for LenderTables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = LenderTables;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[lender], or several [[lender]]")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LenderTables, A::Error> {
        let table = LenderTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(LenderTables(vec![table]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<LenderTables, A::Error> {
        let mut tables = Vec::new();
        while let Some(table) = sequence.next_element()? {
            tables.push(table);
        }
        match tables.is_empty() {
            true => Err(A::Error::custom(
                "lender is an empty list; there must be one to borrow from",
            )),
            false => Ok(LenderTables(tables)),
        }
    }
}

/// A lender's LM, and what proves who is who.
#[derive(Clone, Debug)]
pub struct LenderConfig {
    /// How policies and people name it.
    pub name: String,
    /// Its API, such as `https://10.10.0.1:8443`.
    pub url: String,
    /// The CA that signed its certificate, in PEM. No other is trusted.
    pub ca: PathBuf,
    /// Our certificate, in PEM.
    pub certificate: PathBuf,
    /// Our private key, in PEM.
    pub key: PathBuf,
    /// The public key of the lender's erasure records, in base64. It need not be there.
    pub erasure_key: PathBuf,
}

pub(super) fn read(source: &Source, tables: LenderTables) -> Result<Vec<LenderConfig>, ConfigError> {
    let several = tables.0.len() > 1;
    let mut lenders: Vec<LenderConfig> = Vec::new();
    for table in tables.0 {
        let span = table.name.as_ref().map_or(table.url.span(), Spanned::span);
        let name = match &table.name {
            None if several => {
                return Err(source.at(span, "a lender has no name; with several, each needs one"));
            }
            None => ONLY.to_owned(),
            Some(name) => name.get_ref().clone(),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) {
            let problem = format!("name {name:?} is not 1 to 63 letters, digits, '-' and '_'");
            return Err(source.at(span, problem));
        }
        if lenders.iter().any(|lender| lender.name == name) {
            return Err(source.at(
                span,
                format!("there is another lender {name:?}; give each its own name"),
            ));
        }
        lenders.push(lender(source, name, table)?);
    }
    Ok(lenders)
}

fn lender(source: &Source, name: String, table: LenderTable) -> Result<LenderConfig, ConfigError> {
    let folder = source.folder();
    let url = table.url.get_ref().trim_end_matches('/').to_owned();
    if !url.starts_with("https://") {
        let problem = format!("url {url:?} does not begin with https://; the lender speaks nothing else");
        return Err(source.at(table.url.span(), problem));
    }
    if reqwest::Url::parse(&url).is_err() {
        let problem = format!("url {url:?} has no host and port; write one like \"https://10.10.0.1:8443\"");
        return Err(source.at(table.url.span(), problem));
    }
    Ok(LenderConfig {
        name,
        url,
        ca: folder.join(table.ca),
        certificate: folder.join(table.certificate),
        key: folder.join(table.key),
        erasure_key: folder.join(table.erasure_key),
    })
}
