//! `/containers/{id}/archive`: copies of files between a container and a client.

mod path_stat;

mod head;

mod get;

mod put;

use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::ContainerPath;

pub(in crate::api) use self::get::get;
pub(in crate::api) use self::head::head;
pub(in crate::api) use self::put::put;

/// The path that all of them need.
fn path(params: &Params) -> ApiResult<ContainerPath> {
    let path = params.text("path").ok_or_else(|| ApiError::invalid("bad parameter: path cannot be empty"))?;
    if path.contains('\0') {
        return Err(ApiError::invalid("bad parameter: path cannot contain a NUL"));
    }
    Ok(ContainerPath::new(path.as_bytes()))
}
