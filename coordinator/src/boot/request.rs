//! The head of an HTTP request (RFC 9110, 9112), as far as it matters to files that can only be read.

use std::borrow::Cow;

/// Longer heads are not read: boot loaders send a few hundred bytes.
pub(super) const LONGEST_HEAD: usize = 8192;
const MOST_HEADERS: usize = 64;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    /// Anything else; nothing can be changed here.
    Other,
}

/// A request without its body, for which there is no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Decoded, without a query.
    pub(super) path: String,
    pub(super) range: Option<String>,
    pub(super) if_range: Option<String>,
    pub(super) if_none_match: Option<String>,
    /// Whether another request may follow on the connection.
    pub(super) goes_on: bool,
}

/// The bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an HTTP request that this server understands")]
pub(super) struct Malformed;

impl Request {
    /// Reads a head from the beginning of `bytes`: the request and the head's length, or `None` when it is not yet complete.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let length = match head.parse(bytes).map_err(|_| Malformed)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let header = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found
                .and_then(|header| std::str::from_utf8(header.value).ok())
                .map(str::trim)
        };
        let method = match head.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            _ => Method::Other,
        };
        let connection = header("connection").unwrap_or_default().to_ascii_lowercase();
        let says = |word| connection.split(',').any(|said| said.trim() == word);
        // A body is not read, so what follows it could not be found.
        let has_body = header("transfer-encoding").is_some()
            || header("content-length").is_some_and(|length| length != "0");
        let goes_on = !has_body
            && match head.version {
                Some(1) => !says("close"),
                _ => says("keep-alive"),
            };
        let request = Self {
            method,
            path: path(head.path.unwrap_or_default()).ok_or(Malformed)?,
            range: header("range").map(str::to_owned),
            if_range: header("if-range").map(str::to_owned),
            if_none_match: header("if-none-match").map(str::to_owned),
            goes_on,
        };
        Ok(Some((request, length)))
    }
}

/// The path of a request's target, which a client of a proxy sends with scheme and host in front.
fn path(target: &str) -> Option<String> {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    decoded(path).map(Cow::into_owned)
}

/// Without percent-encoding (RFC 3986, section 2.1).
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Request {
        let (request, length) = Request::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        request
    }

    #[test]
    fn reads_what_boot_loaders_send() {
        let grub =
            parse("GET /boot/grub/02:00:00:00:00:01.cfg HTTP/1.1\r\nHost: lm\r\nUser-Agent: x\r\n\r\n");
        assert_eq!((grub.method, grub.goes_on), (Method::Get, true));
        assert_eq!(grub.path, "/boot/grub/02:00:00:00:00:01.cfg");
        let ranged = parse("HEAD http://lm/a%3Ab?c HTTP/1.0\r\nrange: bytes=1-2\r\n\r\n");
        assert_eq!(
            (ranged.method, ranged.path.as_str(), ranged.goes_on),
            (Method::Head, "/a:b", false)
        );
        assert_eq!(ranged.range.as_deref(), Some("bytes=1-2"));
        assert!(!parse("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n").goes_on);
        assert!(!parse("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").goes_on);
        assert!(!parse("GET / HTTP/1.1\r\nConnection: TE, close\r\n\r\n").goes_on);
        assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").goes_on);
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "\x16\x03\x01\x02\0\x01\0",
            "GET /%zz HTTP/1.1\r\n\r\n",
            "GET /%ff HTTP/1.1\r\n\r\n",
            "GET / HTTP/9\r\n\r\n",
        ] {
            assert_eq!(Request::parse(text.as_bytes()), Err(Malformed), "{text:?}");
        }
        assert_eq!(Request::parse(b"GET / HTTP/1.1\r\nHost: l"), Ok(None));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), path in "[%/a-f0-9]{0,20}") {
            let _ = Request::parse(&bytes);
            let _ = Request::parse(format!("GET /{path} HTTP/1.1\r\n\r\n").as_bytes());
        }
    }
}
