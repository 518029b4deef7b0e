//! The daemon's side of the control socket.

use super::{BorrowRequest, Problem};
use crate::announce::Entry;
use crate::borrowing::BorrowingId;
use crate::borrowing::view::BorrowingView;
use crate::error_chain;
use crate::gateway::Peers;
use crate::lender::LenderError;
use crate::organizer::{BorrowError, LookupError, Organizer, Wish};
use crate::progress::estimate::Course;
use crate::progress::{Note, Progress};
use crate::store::{BootLogPiece, CreateError, StoreError};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use leaseboot_protocol::leases::RenewRequest;
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

const LONGEST_BODY: usize = 4096;

/// Serves until `stop` is cancelled.
///
/// # Errors
/// Those of the socket.
pub async fn run<P: Peers>(
    listener: UnixListener,
    organizer: Arc<Organizer<P>>,
    stop: CancellationToken,
) -> io::Result<()> {
    run_with(listener, organizer, Router::new(), stop).await
}

/// As [`run`], with `further` requests beside those of borrowings.
///
/// # Errors
/// Those of the socket.
pub async fn run_with<P: Peers>(
    listener: UnixListener,
    organizer: Arc<Organizer<P>>,
    further: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let served = axum::serve(listener, router(organizer).merge(further)).into_future();
    // Goal: serve until told to stop. Followers see the end of their stream and come back to the next daemon.
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        result = served => result,
    }
}

fn router<P: Peers>(organizer: Arc<Organizer<P>>) -> Router {
    Router::new()
        .route("/v1/borrowings", post(begin::<P>).get(list::<P>))
        .route("/v1/announced", get(announced::<P>))
        .route("/v1/borrowings/{name}", get(find::<P>))
        .route("/v1/borrowings/{name}/progress", get(progress::<P>))
        .route("/v1/borrowings/{name}/log", get(boot_log::<P>))
        .route("/v1/borrowings/{name}/release", post(release::<P>))
        .route("/v1/borrowings/{name}/renew", post(renew::<P>))
        .route("/v1/profiles/{name}/courses", get(courses::<P>))
        .merge(super::rescue::routes())
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(organizer)
}

pub(crate) struct Failure(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(Problem { error: self.1 })).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error_chain(&error))
    }
}

impl From<BorrowError> for Failure {
    fn from(error: BorrowError) -> Self {
        let status = match &error {
            BorrowError::Create(CreateError::Store(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            // The same request may be good once something else was given back.
            BorrowError::Create(_) => StatusCode::CONFLICT,
            BorrowError::Profile(_) | BorrowError::Lender { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self(status, error_chain(&error))
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        let status = match &error {
            LookupError::Unknown(_) => StatusCode::NOT_FOUND,
            LookupError::Over(_) | LookupError::Lender(LenderError::Refused(_)) => StatusCode::CONFLICT,
            LookupError::Lender(_) => StatusCode::BAD_GATEWAY,
            LookupError::Store(_) | LookupError::Denied => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error_chain(&error))
    }
}

async fn begin<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Json(request): Json<BorrowRequest>,
) -> Result<(StatusCode, Json<BorrowingView>), Failure> {
    let wish = Wish {
        profile: request.profile,
        hostname: request.hostname,
        lenders: request.lenders,
        want: None,
    };
    let view = organizer.borrow(wish).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn list<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
) -> Result<Json<Vec<BorrowingView>>, Failure> {
    Ok(Json(organizer.list().await?))
}

async fn announced<P: Peers>(State(organizer): State<Arc<Organizer<P>>>) -> Json<Vec<Entry>> {
    let entries = organizer.roster().borrow().entries.values().cloned().collect();
    Json(entries)
}

async fn find<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
) -> Result<Json<BorrowingView>, Failure> {
    Ok(Json(organizer.find(&name).await?))
}

async fn boot_log<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<BootLogPiece>>, Failure> {
    Ok(Json(organizer.boot_log(&name).await?))
}

#[derive(Deserialize)]
struct Haste {
    #[serde(default)]
    now: bool,
}

async fn release<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
    Query(Haste { now }): Query<Haste>,
) -> Result<(StatusCode, Json<BorrowingView>), Failure> {
    let view = match now {
        false => organizer.release(&name).await?,
        true => organizer.release_now(&name).await?,
    };
    Ok((StatusCode::ACCEPTED, Json(view)))
}

async fn renew<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
    Json(request): Json<RenewRequest>,
) -> Result<Json<BorrowingView>, Failure> {
    Ok(Json(organizer.renew(&name, request.term_s).await?))
}

async fn courses<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(profile): Path<String>,
) -> Result<Json<Vec<Course>>, Failure> {
    Ok(Json(organizer.courses(&profile).await?))
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    after: u64,
}

async fn progress<P: Peers>(
    State(organizer): State<Arc<Organizer<P>>>,
    Path(name): Path<String>,
    Query(Position { after }): Query<Position>,
) -> Result<Response, Failure> {
    let view = organizer.find(&name).await?;
    let lines = lines(organizer, view.id, after);
    let headers = [("content-type", "application/x-ndjson")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Notes as JSON lines; ends after the last note, or with an error when the store fails.
fn lines<P: Peers>(
    organizer: Arc<Organizer<P>>,
    id: BorrowingId,
    after: u64,
) -> impl Stream<Item = Result<String, StoreError>> {
    stream::try_unfold(Some(after), move |after| {
        let (organizer, id) = (Arc::clone(&organizer), id.clone());
        async move {
            let Some(after) = after else {
                return Ok(None);
            };
            let notes = organizer.next_progress(&id, after).await?;
            Ok(page(&notes))
        }
    })
}

/// One page of lines, and where the next begins.
fn page(notes: &[Progress]) -> Option<(String, Option<u64>)> {
    let last = notes.last()?;
    let lines: String = notes
        .iter()
        .map(|note| serde_json::to_string(note).expect("a note is JSON") + "\n")
        .collect();
    let ends = matches!(last.note, Note::Over { .. });
    Some((lines, (!ends).then_some(last.sequence)))
}
