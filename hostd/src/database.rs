//! The daemon's one SQLite database: opening, migrating, short transactions.
//!
//! Knows the schema and nothing of what the rows mean; each part keeps its own queries beside its own types.
//! One process at a time: the connection holds the file exclusively, so a second daemon on the same data root
//! learns it at once instead of repairing files under the feet of the first.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

/// Marks the file as ours (`PRAGMA application_id`): the letters "Bert".
const APPLICATION_ID: i32 = 0x4265_7274;

/// How long an opener waits for a predecessor that is on its way out.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// One step of the schema. `PRAGMA user_version` counts the steps that were taken.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

/// Steps are only ever appended: what a released daemon has run is never edited.
const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "images",
        sql: "
        -- id: digest of `config`, the image configuration exactly as it was received.
        CREATE TABLE images (
            id          TEXT PRIMARY KEY,
            config      BLOB NOT NULL,
            loaded_at   TEXT NOT NULL
        ) STRICT;
        -- repository is canonical (docker.io/library/busybox).
        CREATE TABLE image_tags (
            repository  TEXT NOT NULL,
            tag         TEXT NOT NULL,
            image_id    TEXT NOT NULL REFERENCES images(id),
            PRIMARY KEY (repository, tag)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX image_tags_by_image ON image_tags(image_id);
        CREATE TABLE image_digests (
            repository  TEXT NOT NULL,
            digest      TEXT NOT NULL,
            image_id    TEXT NOT NULL REFERENCES images(id),
            PRIMARY KEY (repository, digest)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX image_digests_by_image ON image_digests(image_id);
        -- A layer that was verified and is durable on disk. content_bytes: all its regular files' bytes.
        CREATE TABLE layers (
            diff_id       TEXT PRIMARY KEY,
            content_bytes INTEGER NOT NULL
        ) STRICT;
        -- Which layers an image is made of, base first, and the blob each arrived as.
        CREATE TABLE image_layers (
            image_id    TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            position    INTEGER NOT NULL,
            diff_id     TEXT NOT NULL REFERENCES layers(diff_id),
            blob        TEXT NOT NULL,
            PRIMARY KEY (image_id, position)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX image_layers_by_diff_id ON image_layers(diff_id);
        CREATE INDEX image_layers_by_blob ON image_layers(blob);",
    },
    Migration {
        name: "containers",
        sql: "
        -- record: the engine's own description of the container, as JSON.
        CREATE TABLE containers (
            id      TEXT PRIMARY KEY,
            name    TEXT UNIQUE NOT NULL,
            record  TEXT NOT NULL
        ) STRICT;",
    },
    Migration {
        name: "manifests",
        sql: "
        -- Manifests and indexes exactly as they were received; digest: of content.
        CREATE TABLE manifests (
            digest      TEXT PRIMARY KEY,
            media_type  TEXT NOT NULL,
            content     BLOB NOT NULL
        ) STRICT;
        -- What they refer to, in their order. A child is a manifest or index that may or may not be here; a config
        -- is an image's id; a layer is a blob.
        CREATE TABLE manifest_links (
            manifest    TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE,
            position    INTEGER NOT NULL,
            role        TEXT NOT NULL CHECK (role IN ('child', 'config', 'layer')),
            digest      TEXT NOT NULL,
            PRIMARY KEY (manifest, position)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX manifest_links_by_digest ON manifest_links(digest);
        -- A layer as it travels, verified and durable on disk; several blobs may hold the same layer.
        CREATE TABLE blobs (
            digest      TEXT PRIMARY KEY,
            size_bytes  INTEGER NOT NULL,
            diff_id     TEXT NOT NULL REFERENCES layers(diff_id)
        ) STRICT;
        CREATE INDEX blobs_by_diff_id ON blobs(diff_id);
        -- What the tag stood for when it was pulled or loaded, if anything stood for it: an index or a manifest.
        ALTER TABLE image_tags ADD COLUMN target TEXT;",
    },
    Migration {
        name: "networks",
        sql: "
        -- record: the engine's own description of the network, as JSON.
        CREATE TABLE networks (
            id      TEXT PRIMARY KEY,
            name    TEXT UNIQUE NOT NULL,
            record  TEXT NOT NULL
        ) STRICT;",
    },
    Migration {
        name: "volumes",
        sql: "
        -- record: the engine's own description of the volume, as JSON; id: its name.
        CREATE TABLE volumes (
            id      TEXT PRIMARY KEY,
            name    TEXT UNIQUE NOT NULL,
            record  TEXT NOT NULL
        ) STRICT;",
    },
    Migration {
        name: "when images were tagged",
        sql: "
        -- When the image last got a name with a tag; NULL if never since this is kept.
        ALTER TABLE images ADD COLUMN tagged_at TEXT;",
    },
];

/// Why the database did not open.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("database {}: held by another process; another berthd uses this data root", path.display())]
    InUse { path: PathBuf },
    #[error("database {}: written by a newer berthd (schema {found}, this one knows {known}); use that version or another data root", path.display())]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("database {}: damaged or not Berth's ({reason}); move it away to start with an empty one", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("database {}: {step}", path.display())]
    Sqlite { path: PathBuf, step: &'static str, source: rusqlite::Error },
}

/// A handle to the open database; clones share one connection.
#[derive(Clone, Debug)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens or creates the database and brings its schema up to date.
    ///
    /// # Errors
    /// The file is held by another process, of a newer version, damaged, or not writable.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let named = |step| move |source| explain(path, step, source);
        let mut connection = Connection::open(path).map_err(named("open"))?;
        configure(&connection).map_err(named("configure"))?;
        migrate(&mut connection, path)?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(named("check"))?;
        if verdict != "ok" {
            return Err(DatabaseError::Damaged { path: path.to_owned(), reason: verdict });
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in one transaction: committed and durable when it returns `Ok`, without effect when `Err`.
    ///
    /// Keep it short: everyone else waits. Never call it from inside `work`.
    ///
    /// # Errors
    /// What `work` returns, or why the transaction could not begin or commit.
    pub fn with<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // A panic inside `work` rolled its transaction back while unwinding, so the connection is sound.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Exclusive before WAL: then SQLite needs no shared-memory file beside the database.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A record that the API has acknowledged must survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let named = |step| move |source| explain(path, step, source);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(named("lock"))?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(named("read application id"))?;
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(named("read schema"))?;
    if application != APPLICATION_ID && tables > 0 {
        let reason = "its application id is another program's".to_owned();
        return Err(DatabaseError::Damaged { path: path.to_owned(), reason });
    }
    let version = pragma("user_version").map_err(named("read version"))?;
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(missing) = MIGRATIONS.get(found..) else {
        return Err(DatabaseError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() });
    };
    for migration in missing {
        transaction.execute_batch(migration.sql).map_err(named(migration.name))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(named("set application id"))?;
    let current = i64::try_from(MIGRATIONS.len()).expect("a handful");
    transaction.pragma_update(None, "user_version", current).map_err(named("set version"))?;
    transaction.commit().map_err(named("commit migrations"))
}

/// Names the two failures that have a remedy; the others keep SQLite's words.
fn explain(path: &Path, step: &'static str, source: rusqlite::Error) -> DatabaseError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DatabaseError::InUse { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            DatabaseError::Damaged { path, reason: source.to_string() }
        }
        _ => DatabaseError::Sqlite { path, step, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(database: &Database, id: &str) -> rusqlite::Result<usize> {
        database.with(|tx| tx.execute("INSERT INTO containers VALUES (?1, ?1, '{}')", [id]))
    }

    fn count(database: &Database) -> i64 {
        database
            .with(|tx| tx.query_row("SELECT count(*) FROM containers", [], |row| row.get(0)))
            .map_err(|error: rusqlite::Error| error)
            .unwrap()
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("berth.db");
        let database = Database::open(&path).unwrap();
        insert(&database, "a").unwrap();
        drop(database);
        assert_eq!(count(&Database::open(&path).unwrap()), 1);
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let database = Database::open(&root.path().join("berth.db")).unwrap();
        let result = database.with(|tx| {
            tx.execute("INSERT INTO containers VALUES ('a', 'a', '{}')", [])?;
            tx.execute("INSERT INTO containers VALUES ('b', 'a', '{}')", [])
        });
        assert!(result.is_err(), "the second name is taken");
        assert_eq!(count(&database), 0);
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("berth.db");
        let _held = Database::open(&path).unwrap();
        let error = Database::open(&path).unwrap_err();
        assert!(matches!(error, DatabaseError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("berth.db");
        drop(Database::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
        let error = Database::open(&path).unwrap_err();
        assert!(error.to_string().contains("written by a newer berthd (schema 1000"), "{error}");
    }

    #[test]
    fn garbage_and_other_programs_databases_are_called_damaged() {
        let root = tempfile::tempdir().unwrap();
        let garbage = root.path().join("garbage.db");
        std::fs::write(&garbage, vec![0x5a; 8192]).unwrap();
        let foreign = root.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE moz_places (id)").unwrap();
        for path in [garbage, foreign] {
            let error = Database::open(&path).unwrap_err();
            assert!(matches!(error, DatabaseError::Damaged { .. }), "{error}");
        }
    }
}
