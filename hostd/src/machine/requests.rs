//! What is asked of a running machine over its control socket: each answered within a deadline, a refusal an error.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_vmm::control::{Reply, Request};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::control::ControlClient;
use super::jail::Cell;
use super::spare_disk::SpareDisk;
use super::{Machine, MachineError, deadline};

/// Answering a control request needs no guest.
const CONTROL_DEADLINE: Duration = Duration::from_secs(30);

impl Machine {
    pub(super) async fn request(&self, wanted: Request) -> Result<Reply, MachineError> {
        request(&self.control, &self.id, &self.directory, wanted).await
    }

    /// What further containers' disks are put on while it runs, if it has that.
    pub(crate) fn spare_disk(&self) -> Option<SpareDisk> {
        let index = self.spare_disk?;
        let (control, directory) = (Arc::clone(&self.control), self.directory.clone());
        Some(SpareDisk { machine_id: self.id.clone(), directory, control, index })
    }

    /// Hands over open files, which later requests mean by these paths. Only to a machine that is jailed: others open files
    /// by themselves.
    pub(super) async fn hand_over(&self, files: &[(&Path, BorrowedFd<'_>)]) -> Result<(), MachineError> {
        hand_over(&self.control, &self.id, &self.directory, files).await
    }

    pub(super) fn is_jailed(&self) -> bool {
        Cell::is_there(&self.directory)
    }
}

pub(super) async fn request(
    control: &ControlClient,
    id: &str,
    directory: &Path,
    request: Request,
) -> Result<Reply, MachineError> {
    replied(id, directory, timeout(CONTROL_DEADLINE, control.request(request)).await)
}

pub(super) async fn hand_over(
    control: &ControlClient,
    id: &str,
    directory: &Path,
    files: &[(&Path, BorrowedFd<'_>)],
) -> Result<(), MachineError> {
    let handing = timeout(CONTROL_DEADLINE, control.hand_over(files)).await;
    replied(id, directory, handing).map(|_done| ())
}

fn replied(id: &str, directory: &Path, reply: Result<Option<Reply>, Elapsed>) -> Result<Reply, MachineError> {
    match reply {
        Ok(Some(Reply::Error { message })) => Err(MachineError::Refused { id: id.into(), message }),
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => {
            let reason = "it does not answer any more".into();
            Err(MachineError::Ended { id: id.into(), reason })
        }
        Err(_elapsed) => Err(deadline(id, "berth-vmm's answer", CONTROL_DEADLINE, directory)),
    }
}
