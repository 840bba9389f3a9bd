//! `DELETE /images/{name}`.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use axum::http::StatusCode;
use serde::Serialize;

use super::{State, with_store};
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::ContainerView;
use crate::image::{Image, Removed};

#[derive(Debug, Serialize)]
pub(in crate::api) enum Deletion {
    Untagged(String),
    Deleted(String),
}

/// Removing an image's last name removes the image; that is refused while a container needs it.
pub(in crate::api) async fn remove(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<Json<Vec<Deletion>>> {
    let force = params.flag("force");
    if params.text("platforms").is_some() {
        return Err(ApiError::not_supported(
            "platforms of DELETE /images/{name} is not supported by berth yet",
        ));
    }
    let users = daemon.engine.containers();
    let removed = with_store(&daemon, move |store| {
        let image = store.resolve(&name)?;
        check_unused(&image, &name, force, &users)?;
        Ok::<_, ApiError>(store.remove(&name, force)?)
    });
    Ok(Json(removed.await?.into_iter().map(Deletion::from).collect()))
}

/// Docker's rules: a name among several always goes, a running container holds its image whatever is asked, a
/// stopped one until it is forced. Berth's containers need their image disk to start again, so force does not help
/// there either.
fn check_unused(image: &Image, name: &str, force: bool, users: &[ContainerView]) -> ApiResult<()> {
    let by_id =
        image.id.to_string().trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"));
    if image.names.len() > 1 && !by_id {
        return Ok(());
    }
    let Some(user) = users.iter().find(|container| container.image_id == image.id) else { return Ok(()) };
    let (container, id) = (user.id.short(), image.id.0.short());
    let message = if user.state.is_running() {
        format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {container}"
        )
    } else if by_id || force {
        let must = if force { "cannot be forced" } else { "must be forced" };
        format!(
            "conflict: unable to delete {id} ({must}) - image is being used by stopped container {container}"
        )
    } else {
        format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is \
             using its referenced image {id}"
        )
    };
    Err(ApiError { status: StatusCode::CONFLICT, message })
}

impl From<Removed> for Deletion {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Untagged(name) => Self::Untagged(name),
            Removed::Deleted(digest) => Self::Deleted(digest.to_string()),
        }
    }
}
