//! The route by which a tenant becomes known (`leaseboot_protocol::enrolment`), the only one of tenants without a client certificate.

use super::problem::{Body, Problem};
use super::{Lm, Routes};
use crate::lease::DriverError;
use crate::lease::driver::now;
use crate::tenants::EnrolError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use leaseboot_protocol::enrolment::{EnrolRequest, Enrolled};
use leaseboot_protocol::leases::Refusal;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new().routes(routes!(enrol))
}

/// Makes a client certificate for whoever was invited
#[utoipa::path(
    post, path = "/v1/enrol", tag = "tenants", security(()),
    request_body = EnrolRequest,
    responses((status = 201, description = "the certificate", body = Enrolled))
)]
async fn enrol(
    State(lm): Lm,
    Body(request): Body<EnrolRequest>,
) -> Result<(StatusCode, Json<Enrolled>), Problem> {
    let enrolled = lm.enrolment().enrol(lm.store(), &request, now()).await?;
    Ok((StatusCode::CREATED, Json(enrolled)))
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        let message = error.to_string();
        match error {
            EnrolError::Busy { wait } => Refusal::busy(wait).into(),
            EnrolError::Refused => Problem::unauthorized(message),
            EnrolError::Request { .. } => Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, message),
            EnrolError::NoKey => Problem::invalid(message),
            EnrolError::Store(error) => Problem::inside(DriverError::Store(error)),
        }
    }
}
