//! A container as it is kept in the database: one JSON record a row.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::EngineError;
use super::health::Health;
use super::identity::ContainerId;
use super::spec::ContainerSpec;
use super::state::{ContainerState, Step};
use super::timeline::Timeline;
use crate::database::Database;
use crate::image::ImageId;
use crate::logs::RunInLog;

/// Everything about a container that outlives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) created_at: Timestamp,
    pub(super) image_id: ImageId,
    pub(super) spec: Arc<ContainerSpec>,
    pub(super) state: ContainerState,
    /// How often its restart policy has started it since somebody did.
    #[serde(default)]
    pub(super) restart_count: u32,
    /// Somebody stopped the last run, and nobody has started one since.
    #[serde(default)]
    pub(super) manually_stopped: bool,
    /// The run is being ended because it is unhealthy, and another one is to follow.
    #[serde(default)]
    pub(super) restart_unhealthy: bool,
    /// Whoever reads its files wants it paused, and nobody else.
    #[serde(default)]
    pub(super) is_paused_for_readers: bool,
    /// As of its last change of status; nothing without a health check.
    #[serde(default)]
    pub(super) health: Option<Health>,
    /// The log's length when the current or last run began.
    pub(super) run_log_start: u64,
    /// What tells the current or last run from others in a log that rotates.
    #[serde(default)]
    pub(super) run_log_id: u64,
    pub(super) timeline: Option<Timeline>,
}

impl ContainerRecord {
    pub(super) fn run_in_log(&self) -> RunInLog {
        RunInLog { start: self.run_log_start, id: self.run_log_id }
    }

    pub(super) fn begin_run_in_log(&mut self, run: RunInLog) {
        self.run_log_start = run.start;
        self.run_log_id = run.id;
    }

    /// A container that has ended will be started again.
    pub(super) fn await_restart(&mut self) {
        if let Ok(restarting) = self.state.after(Step::AwaitRestart) {
            self.state = restarting;
        }
    }
}

/// The table of containers.
#[derive(Clone, Debug)]
pub(super) struct Records {
    database: Database,
}

impl Records {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Writes a record, new or changed, and waits until it is durable.
    pub(super) async fn put(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        let json = serde_json::to_string(record).expect("plain data is always JSON");
        let (id, name) = (record.id.to_string(), record.name.clone());
        self.write(move |database| {
            let statement = "INSERT INTO containers (id, name, record) VALUES (?1, ?2, ?3)
                ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record";
            database.with(|transaction| transaction.execute(statement, (id, name, json)).map(|_rows| ()))
        })
        .await
    }

    pub(super) async fn delete(&self, id: &ContainerId) -> Result<(), EngineError> {
        let id = id.to_string();
        self.write(move |database| {
            let statement = "DELETE FROM containers WHERE id = ?1";
            database.with(|transaction| transaction.execute(statement, [id]).map(|_rows| ()))
        })
        .await
    }

    async fn write(
        &self,
        write: impl FnOnce(&Database) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<(), EngineError> {
        let database = self.database.clone();
        let written = tokio::task::spawn_blocking(move || write(&database)).await;
        let failed =
            |error: &dyn std::error::Error| EngineError::internal("cannot write to the database", error);
        written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    /// All records. One that cannot be read is an error: guessing would lose a container.
    pub(super) fn all(&self) -> Result<Vec<ContainerRecord>, EngineError> {
        let rows = self.database.with(|transaction| {
            let mut statement = transaction.prepare("SELECT record FROM containers")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, rusqlite::Error>>()
        });
        let rows = rows.map_err(|error| EngineError::internal("cannot read the database", &error))?;
        let parse = |row: &String| serde_json::from_str(row);
        let records = rows.iter().map(parse).collect::<Result<_, _>>();
        records
            .map_err(|error| EngineError::internal("a container's record in the database is damaged", &error))
    }
}
