//! `POST /images/create`: pulling, which Berth cannot do yet.

use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;

/// Refuses with the way that does work. `docker run` of an unknown image ends here.
pub(super) async fn pull(params: Params) -> ApiResult<()> {
    let name = params.text("fromImage").unwrap_or_default();
    let tag = params.text("tag").unwrap_or("latest");
    let joint = if tag.contains(':') { '@' } else { ':' };
    Err(ApiError::not_supported(format!(
        "berth cannot pull {name}{joint}{tag} yet: load it from an archive with docker load"
    )))
}
