//! Each way is killed between its steps (the transaction is dropped, as a dying process leaves it) and repeated,
//! and raced over several connections.

use super::*;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

const INSERT: &str = "INSERT INTO shipment (order_id, units) VALUES (?1, ?2)";
const TAKE: &str =
    "UPDATE account SET version = version + 1, balance = balance - ?3 WHERE id = ?1 AND version = ?2";

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS shipment (order_id TEXT PRIMARY KEY, units INTEGER NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS account (id TEXT PRIMARY KEY, version INTEGER NOT NULL, balance INTEGER NOT NULL) STRICT;
             INSERT OR IGNORE INTO account VALUES ('a', 1, 100);",
        )
        .unwrap();
    create_table(&connection).unwrap();
    connection
}

fn immediate(connection: &mut Connection) -> Transaction<'_> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap()
}

fn number(connection: &Connection, query: &str) -> i64 {
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

/// One message: take 10 from the account and note a shipment, once.
fn ship_by_unique_key(tx: &Transaction<'_>) {
    if insert_once(tx, INSERT, params!["o1", 1]).unwrap() == Inserted::New {
        tx.execute("UPDATE account SET balance = balance - 10", []).unwrap();
    }
}

fn ship_by_version(tx: &Transaction<'_>) -> Updated {
    update_at_version(tx, TAKE, params!["a", 1, 10]).unwrap()
}

fn ship_by_mark(tx: &Transaction<'_>) -> Once<()> {
    once(tx, "shipping", "m1", 5, |tx| tx.execute("UPDATE account SET balance = balance - 10", []).map(drop))
        .unwrap()
}

type Way = (&'static str, fn(&Transaction<'_>));

fn ways() -> [Way; 3] {
    [
        ("unique key", ship_by_unique_key),
        ("version", |tx| _ = ship_by_version(tx)),
        ("mark", |tx| _ = ship_by_mark(tx)),
    ]
}

#[test]
fn change_killed_before_its_commit_happens_on_repeat_and_only_then() {
    for (name, change) in ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        for _ in 0..3 {
            let mut connection = open(&path);
            change(&immediate(&mut connection));
            // Dropped: rolled back, as the death of the process would.
        }
        let mut connection = open(&path);
        assert_eq!(number(&connection, "SELECT balance FROM account"), 100, "{name}");
        for _ in 0..3 {
            let tx = immediate(&mut connection);
            change(&tx);
            tx.commit().unwrap();
        }
        assert_eq!(number(&connection, "SELECT balance FROM account"), 90, "{name}");
    }
}

#[test]
fn change_happens_once_however_many_connections_race() {
    const RACERS: usize = 4;
    for (name, change) in ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(open(&path));
        let barrier = Barrier::new(RACERS);
        std::thread::scope(|scope| {
            for _ in 0..RACERS {
                scope.spawn(|| {
                    let mut connection = open(&path);
                    barrier.wait();
                    for _ in 0..5 {
                        let tx = immediate(&mut connection);
                        change(&tx);
                        tx.commit().unwrap();
                    }
                });
            }
        });
        assert_eq!(number(&open(&path), "SELECT balance FROM account"), 90, "{name}");
    }
}

#[test]
fn other_constraints_are_errors_and_leave_the_transaction_usable() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = open(&folder.path().join("db"));
    let tx = immediate(&mut connection);
    assert!(insert_once(&tx, INSERT, params!["o1", None::<i64>]).is_err());
    assert_eq!(insert_once(&tx, INSERT, params!["o1", 1]).unwrap(), Inserted::New);
    assert_eq!(insert_once(&tx, INSERT, params!["o1", 2]).unwrap(), Inserted::Existing);
    tx.commit().unwrap();
    assert_eq!(number(&connection, "SELECT units FROM shipment"), 1);
}

#[test]
fn stale_version_changes_nothing_and_a_loose_condition_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = open(&folder.path().join("db"));
    connection.execute("INSERT INTO account VALUES ('b', 1, 100)", []).unwrap();
    let tx = immediate(&mut connection);
    assert_eq!(ship_by_version(&tx), Updated::Done);
    assert_eq!(ship_by_version(&tx), Updated::Stale);
    let loose = update_at_version(&tx, "UPDATE account SET balance = 0 WHERE version >= ?1", params![1]);
    assert!(matches!(loose, Err(VersionError::NotOneRow(2))), "{loose:?}");
}

#[test]
fn failed_change_takes_its_mark_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = open(&folder.path().join("db"));
    let tx = immediate(&mut connection);
    let failed = once(&tx, "shipping", "m1", 5, |tx| tx.execute("UPDATE nowhere SET x = 1", []));
    assert!(failed.is_err());
    drop(tx);
    let tx = immediate(&mut connection);
    assert_eq!(ship_by_mark(&tx), Once::Ran(()));
    assert_eq!(ship_by_mark(&tx), Once::Before);
}

#[test]
fn marks_are_scoped_to_their_consumer_and_can_be_forgotten_in_bounded_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = open(&folder.path().join("db"));
    let tx = immediate(&mut connection);
    for (consumer, id, at_ms) in [("a", "1", 10), ("b", "1", 20), ("a", "2", 30), ("a", "3", 40)] {
        let ran = once::<_, rusqlite::Error>(&tx, consumer, id, at_ms, |_| Ok(())).unwrap();
        assert_eq!(ran, Once::Ran(()), "{consumer} {id}");
    }
    assert_eq!(forget_before(&tx, 40, 2).unwrap(), 2);
    assert_eq!(forget_before(&tx, 40, 2).unwrap(), 1);
    assert_eq!(once::<_, rusqlite::Error>(&tx, "a", "3", 50, |_| Ok(())).unwrap(), Once::Before);
    assert_eq!(once::<_, rusqlite::Error>(&tx, "a", "1", 50, |_| Ok(())).unwrap(), Once::Ran(()));
}
