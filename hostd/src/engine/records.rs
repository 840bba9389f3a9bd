//! Tables of the database whose rows are whole records: one JSON document each, with the id and the name beside it.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::EngineError;
use crate::database::Database;

/// What is kept as one row.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// Has the columns id, name and record.
    const TABLE: &'static str;
    /// For messages: "container".
    const NOUN: &'static str;

    fn id(&self) -> &str;
    fn name(&self) -> &str;
}

/// The table of one kind of record.
#[derive(Debug)]
pub(super) struct Records<R> {
    database: Database,
    kind: PhantomData<fn() -> R>,
}

impl<R: Record> Records<R> {
    pub(super) fn new(database: Database) -> Self {
        Self { database, kind: PhantomData }
    }

    /// Writes a record, new or changed, and waits until it is durable.
    pub(super) async fn put(&self, record: &R) -> Result<(), EngineError> {
        let json = serde_json::to_string(record).expect("plain data is always JSON");
        let (id, name) = (record.id().to_owned(), record.name().to_owned());
        let statement = format!(
            "INSERT INTO {} (id, name, record) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record",
            R::TABLE
        );
        self.write(move |database| {
            database.with(|transaction| transaction.execute(&statement, (id, name, json)).map(|_rows| ()))
        })
        .await
    }

    pub(super) async fn delete(&self, id: &str) -> Result<(), EngineError> {
        let id = id.to_owned();
        let statement = format!("DELETE FROM {} WHERE id = ?1", R::TABLE);
        self.write(move |database| {
            database.with(|transaction| transaction.execute(&statement, [id]).map(|_rows| ()))
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

    /// All records. One that cannot be read is an error: guessing would lose what it is about. Blocks.
    pub(super) fn all(&self) -> Result<Vec<R>, EngineError> {
        let rows = self.database.with(|transaction| {
            let mut statement = transaction.prepare(&format!("SELECT record FROM {}", R::TABLE))?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, rusqlite::Error>>()
        });
        let rows = rows.map_err(|error| EngineError::internal("cannot read the database", &error))?;
        let records = rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<_, _>>();
        let damaged = format!("a {}'s record in the database is damaged", R::NOUN);
        records.map_err(|error| EngineError::internal(&damaged, &error))
    }
}
