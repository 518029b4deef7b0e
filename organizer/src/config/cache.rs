//! `[[cache]]` of `po.toml`: package servers whose files are kept on the gateway.

use super::source::{ConfigError, Source};
use crate::cache::Upstream;
use bytesize::ByteSize;
use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

/// Less is no cache: a kernel's package alone has 70 MB.
const SMALLEST: ByteSize = ByteSize::mib(256);

/// One of them, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheTable {
    name: Spanned<String>,
    upstream: Spanned<String>,
    max_bytes: Spanned<String>,
    ca: Option<Spanned<PathBuf>>,
}

/// Looks at all of them.
pub(super) fn caches(source: &Source, tables: Vec<CacheTable>) -> Result<Vec<Upstream>, ConfigError> {
    let mut caches: Vec<Upstream> = Vec::new();
    for table in tables {
        let name = table.name.get_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let taken = caches.iter().any(|cache| cache.name == *name);
        if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) || taken {
            let problem = format!(
                "cache has the name {name:?}, which is given twice or is not 1 to 32 letters, digits, - and _: it is part of an address, /cache/{name}/…"
            );
            return Err(source.at(table.name.span(), problem));
        }
        let url = table.upstream.get_ref().trim_end_matches('/');
        let is_tls = url.starts_with("https://");
        let host = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .and_then(|rest| rest.split('/').next());
        let parsed =
            reqwest::Url::parse(url).is_ok_and(|url| url.query().is_none() && url.fragment().is_none());
        if !parsed || host.is_none_or(str::is_empty) {
            let problem = format!(
                "upstream {url:?} is not an address such as \"http://172.20.0.5/debian\" or \"https://mirror.example/debian\""
            );
            return Err(source.at(table.upstream.span(), problem));
        }
        let ca = table.ca.map(|ca| {
            let path = source.folder().join(ca.get_ref());
            let problem = match (is_tls, path.is_file()) {
                (true, true) => return Ok(path),
                (false, _) => format!("ca is for an upstream that begins with https://, and {url} does not"),
                (true, false) => format!("ca {} is not there", path.display()),
            };
            Err(source.at(ca.span(), problem))
        });
        let size = table.max_bytes.get_ref();
        let max_bytes = size.parse::<ByteSize>().ok().filter(|size| *size >= SMALLEST);
        let max_bytes = max_bytes.ok_or_else(|| {
            let problem =
                format!("max_bytes {size:?} is not a size of {SMALLEST} or more, such as \"20 GiB\"");
            source.at(table.max_bytes.span(), problem)
        })?;
        caches.push(Upstream {
            name: name.clone(),
            url: url.to_owned(),
            max_bytes: max_bytes.as_u64(),
            ca: ca.transpose()?,
        });
    }
    Ok(caches)
}
