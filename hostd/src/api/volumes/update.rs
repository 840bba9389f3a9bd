//! `PUT /volumes/{name}`: of volumes of a cluster, of which this host has none.

use crate::api::error::ApiError;

pub(in crate::api) async fn update() -> ApiError {
    ApiError::unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
}

/// What is answered to who would make one.
pub(super) fn no_manager() -> ApiError {
    ApiError::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
         to swarm and try again.",
    )
}
