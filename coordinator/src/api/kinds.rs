//! The kinds of problems: for each kind of [`Refusal`] its name on the wire, a title, the status that it has unless a handler says
//! otherwise, and an explanation for people, which the problem's type leads to.

use axum::http::StatusCode;
use leaseboot_protocol::leases::Refusal;

/// A kind of problem.
pub(super) struct Kind {
    /// As in the member `refusal`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) status: StatusCode,
    pub(super) explanation: &'static str,
}

const NOTHING_FITS: Kind = Kind {
    name: "nothing-fits",
    title: "No free server fits",
    status: StatusCode::CONFLICT,
    explanation: "No free server meets the requirements. The member `unmet` says for each requirement how many free servers failed it, \
        `nearest` what the nearest one lacks, `busy` how many would fit but are not free. Ask for less, or again later.\n",
};
const MERGE: Kind = Kind {
    name: "merge",
    title: "Settings and hardware do not go together",
    status: StatusCode::UNPROCESSABLE_ENTITY,
    explanation: "The install settings cannot work on the leased server. The member `problems` has every reason at once, with the lines of \
        both sides. Mend the settings and send them again; the lease stays.\n",
};
const INVALID: Kind = Kind {
    name: "invalid",
    title: "The request cannot be carried out",
    status: StatusCode::CONFLICT,
    explanation: "The order does not fit the state of what it is about (409), or the request is not well formed (400, 405, 413, 415, 422). \
        The member `message` says what is wrong and what to do. The same request will not do better later, except after a change of state.\n",
};
const NOT_FOUND: Kind = Kind {
    name: "not-found",
    title: "There is nothing here",
    status: StatusCode::NOT_FOUND,
    explanation: "There is no such thing, or it is another tenant's: the two are not told apart.\n",
};
const UNAUTHORIZED: Kind = Kind {
    name: "unauthorized",
    title: "Certificate or token needed",
    status: StatusCode::UNAUTHORIZED,
    explanation: "A tenant shows the client certificate that the lender made for it; an agent shows the token of its boot, from the address \
        of its server, once.\n",
};
const QUOTA: Kind = Kind {
    name: "quota",
    title: "The quota is used up",
    status: StatusCode::FORBIDDEN,
    explanation: "The lender granted a number of servers or cores, and this request would be more. Give a server back, or ask the lender \
        for more.\n",
};
const BUSY: Kind = Kind {
    name: "busy",
    title: "Too many requests",
    status: StatusCode::TOO_MANY_REQUESTS,
    explanation: "The tenant asks more often than the lender granted. The request was not looked at; the header Retry-After and the member \
        `retry_after_s` say when to send it again.\n",
};
const INTERNAL: Kind = Kind {
    name: "internal",
    title: "The lease manager failed",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    explanation: "The cause is for the lender only and stands in its log under the number in the member `incident`. The request may or may \
        not have been carried out; sent again with the same idempotency key or request_id it is carried out at most once.\n",
};
const KINDS: [Kind; 8] = [
    NOTHING_FITS,
    MERGE,
    INVALID,
    NOT_FOUND,
    UNAUTHORIZED,
    QUOTA,
    BUSY,
    INTERNAL,
];

impl Kind {
    pub(super) fn of(refusal: &Refusal) -> Kind {
        match refusal {
            Refusal::NothingFits { .. } => NOTHING_FITS,
            Refusal::Merge { .. } => MERGE,
            Refusal::Invalid { .. } => INVALID,
            Refusal::NotFound { .. } => NOT_FOUND,
            Refusal::Unauthorized { .. } => UNAUTHORIZED,
            Refusal::Quota { .. } => QUOTA,
            Refusal::Busy { .. } => BUSY,
            Refusal::Internal { .. } | Refusal::Unknown => INTERNAL,
        }
    }

    pub(super) fn named(name: &str) -> Option<Kind> {
        KINDS.into_iter().find(|kind| kind.name == name)
    }
}
