//! Where a run takes place: in a machine of the container's own, or in that of a container whose namespace it shares.

use super::Driver;
use crate::engine::container::StartError;
use crate::engine::lodging::{Company, Lodging};
use crate::engine::run::ActiveRun;
use crate::engine::timeline::Timeline;

impl Driver {
    pub(super) async fn start_run(&mut self) -> Result<(ActiveRun, Timeline), StartError> {
        let company = Company::find(&self.shared, &self.container).map_err(StartError::Engine)?;
        let Some(company) = company else {
            return ActiveRun::start(&self.shared, &self.container).await;
        };
        let lodging = Lodging::take(company).await.map_err(StartError::Engine)?;
        // Durable before anything is there: the next daemon finds out what became of it.
        self.record.place = Some(lodging.place());
        if let Err(error) = self.shared.records.put(&self.record).await {
            lodging.give_up();
            return Err(StartError::Engine(error));
        }
        ActiveRun::start_in(lodging, &self.shared, &self.container).await
    }
}
