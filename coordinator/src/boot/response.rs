//! The answer to an HTTP request. Names of headers are written as GRUB 2.06 wants them: it compares them letter by letter.

use super::files::BootFile;
use bytes::Bytes;
use std::ops::Range;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// RFC 9110, section 5.6.7.
const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// The numbers of RFC 9110 that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    PartialContent,
    NotModified,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RangeNotSatisfiable,
    HeadTooLarge,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::PartialContent => "206 Partial Content",
            Status::NotModified => "304 Not Modified",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// What follows the head.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Nothing. Refusals are so: GRUB 2.06 takes the body of any answer for the script that it asked for, and would run the words.
    Empty,
    Bytes(Bytes),
    File(BootFile, Range<usize>),
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: Status,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

impl From<Status> for Response {
    fn from(status: Status) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Empty,
        }
    }
}

impl Response {
    /// The head as bytes.
    pub(super) fn head(&self, goes_on: bool) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.line());
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.status != Status::NotModified {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        if let Ok(date) = OffsetDateTime::now_utc().format(DATE) {
            let _ = write!(head, "Date: {date}\r\n");
        }
        head.push_str(if goes_on {
            "\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        head.into_bytes()
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len(),
            Body::File(_, part) => part.len(),
        }
    }
}
