use super::*;
use crate::orders::{OrderStore, Release, RowState};
use crate::wire::{OrderBody, Ticket, TicketStatus, parse_raw};
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

fn order(ticket: &str) -> OrderBody<'_> {
    OrderBody {
        ticket: ticket.into(),
        sale: "s".into(),
        item: "i".into(),
        buyer: "b".into(),
        quantity: 1,
        won_at_ms: 5,
        deadline_ms: 10,
        pay_window_ms: 20,
        attributes: Cow::Borrowed(parse_raw("{}").unwrap()),
    }
}

fn created(ticket: &str) -> Ticket<'_> {
    Ticket {
        ticket: ticket.into(),
        sale: "s".into(),
        item: "i".into(),
        buyer: "b".into(),
        quantity: 1,
        status: TicketStatus::AwaitingPayment,
        version: 2,
        won_at_ms: 5,
        deadline_ms: 10,
        updated_at_ms: 6,
        position: None,
        estimated_wait_ms: None,
        order_id: None,
        pay_by_ms: Some(26),
        payment_id: None,
        reason: None,
    }
}

fn expired(ticket: &str) -> Release<'_> {
    Release {
        ticket,
        sale: "s",
        buyer: "b",
        quantity: 1,
        version: 3,
        status: Some(TicketStatus::Expired),
        reason: "unpaid",
    }
}

fn open(path: &Path) -> OrderDb {
    let options = DbOptions { synchronous: Synchronous::Normal, busy_timeout: Duration::from_secs(20) };
    OrderDb::open(path, options).unwrap()
}

#[tokio::test]
async fn row_goes_from_pending_to_paid_and_every_step_may_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.sqlite");
    let db = open(&path);
    for _ in 0..2 {
        let row = db.insert_pending(&order("T")).await.unwrap();
        assert_eq!((row.order_id.as_str(), row.state), ("order-T", RowState::Pending));
    }
    for _ in 0..2 {
        assert_eq!(db.confirm(&created("T")).await.unwrap(), RowState::Confirmed);
        assert_eq!(db.insert_pending(&order("T")).await.unwrap().state, RowState::Confirmed);
    }
    for _ in 0..2 {
        assert_eq!(db.paid("T", "p", 3).await.unwrap(), Some(RowState::Paid));
    }
    assert_eq!(db.close(&expired("T")).await.unwrap(), RowState::Paid, "an end is final");
    let records = OrderDb::read_all(&path).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].state, records[0].version, records[0].pay_by_ms), (RowState::Paid, 3, Some(26)));
    assert_eq!(records[0].payment_id.as_deref(), Some("p"));
}

#[tokio::test]
async fn release_before_the_row_leaves_a_closed_row_that_the_insert_finds() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("orders.sqlite"));
    assert_eq!(db.close(&expired("T")).await.unwrap(), RowState::Closed);
    assert_eq!(db.insert_pending(&order("T")).await.unwrap().state, RowState::Closed);
    assert_eq!(db.confirm(&created("T")).await.unwrap(), RowState::Closed);
    assert_eq!(db.paid("T", "p", 4).await.unwrap(), Some(RowState::Closed));
}

#[tokio::test]
async fn release_between_answer_and_confirmation_wins() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("orders.sqlite"));
    db.insert_pending(&order("T")).await.unwrap();
    assert_eq!(db.close(&expired("T")).await.unwrap(), RowState::Closed);
    assert_eq!(db.confirm(&created("T")).await.unwrap(), RowState::Closed);
    assert!(db.pending("", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn confirming_a_row_that_is_not_there_is_an_error_and_spares_the_rest_of_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("orders.sqlite"));
    let (missing, order) = (created("absent"), order("T"));
    let (confirmed, inserted) = tokio::join!(db.confirm(&missing), db.insert_pending(&order));
    assert!(matches!(confirmed, Err(DbError::Sqlite(_))), "{confirmed:?}");
    assert_eq!(inserted.unwrap().state, RowState::Pending);
    assert_eq!(db.counts().await.unwrap(), OrderCountsByState { pending: 1, ..Default::default() });
    assert_eq!(db.paid("absent", "p", 3).await.unwrap(), None);
}

#[tokio::test]
async fn pending_rows_and_records_are_paged_by_ticket() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("orders.sqlite"));
    for ticket in ["A", "B", "C", "D"] {
        db.insert_pending(&order(ticket)).await.unwrap();
    }
    db.confirm(&created("B")).await.unwrap();
    let first = db.pending("", 2).await.unwrap();
    assert_eq!(first.iter().map(|row| row.ticket.as_str()).collect::<Vec<_>>(), ["A", "C"]);
    let rest = db.pending("C", 2).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.ticket.as_str()).collect::<Vec<_>>(), ["D"]);
    assert_eq!(db.records("B", 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_on_one_file_see_each_others_rows_and_one_insert_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.sqlite");
    let handles = [open(&path), open(&path)];
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..200 {
        for db in &handles {
            let db = db.clone();
            racing.spawn(async move {
                let ticket = format!("T{number:03}");
                db.insert_pending(&order(&ticket)).await.unwrap();
                if number % 2 == 0 {
                    db.close(&expired(&ticket)).await.unwrap();
                }
                db.confirm(&created(&ticket)).await.unwrap()
            });
        }
    }
    racing.join_all().await;
    let expected = OrderCountsByState { confirmed: 100, closed: 100, ..Default::default() };
    for db in &handles {
        // An even row may have been confirmed by one handle before the other closed it; closed wins all the same.
        assert_eq!(db.counts().await.unwrap(), expected);
    }
}

#[test]
fn file_of_a_newer_schema_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.sqlite");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = OrderDb::open(&path, DbOptions::default()).unwrap_err();
    assert!(error.to_string().contains("schema version 9"), "{error}");
}
