//! Asks for the state of tickets once all buyers are done, each as its buyer.

use super::answer::Answer;
use super::connection::Connection;
use super::engine::buyer_name;
use crate::evidence::{LastLook, TicketId};
use crate::gateway::{Member, Members};
use http::{Request, header};
use http_body_util::Empty;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate_client::wire::ProblemType;

const CONNECTIONS: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one ticket, with a pause between.
const TRIES_MAX: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// One look at each ticket, at the first of these gateways that answers. Blocks its thread.
pub(crate) fn look(
    members: &Members,
    tickets: Vec<(TicketId, u32)>,
) -> std::io::Result<Vec<(TicketId, LastLook)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let seen = Rc::new(RefCell::new(Vec::with_capacity(tickets.len())));
    let todo = Rc::new(RefCell::new(tickets));
    local.block_on(&runtime, async {
        let mut lookers = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let (todo, seen, members) = (Rc::clone(&todo), Rc::clone(&seen), Members::clone(members));
            lookers.push(tokio::task::spawn_local(async move {
                let mut connection = Connection::new(TIMEOUT);
                loop {
                    let next = todo.borrow_mut().pop();
                    let Some((ticket, buyer)) = next else { return };
                    let state = look_at(&mut connection, &members, ticket, buyer).await;
                    seen.borrow_mut().push((ticket, state));
                }
            }));
        }
        for looker in lookers {
            let _ = looker.await;
        }
    });
    drop(local);
    Ok(seen.take())
}

async fn look_at(connection: &mut Connection, members: &Members, ticket: TicketId, buyer: u32) -> LastLook {
    let request = |member: &Member| {
        Request::builder()
            .uri(format!("/v1/tickets/{ticket}"))
            .header(header::HOST, member.host.as_str())
            .header("x-user-id", buyer_name(buyer))
            .body(Empty::new())
    };
    for turn in 0..TRIES_MAX {
        match connection.exchange(members, turn, request, 200).await.0 {
            Answer::Ticket(seen) => {
                return LastLook::Ticket {
                    status: seen.status,
                    version: seen.version,
                    quantity: seen.quantity,
                    won_at_ms: seen.won_at_ms,
                };
            }
            Answer::Refused(ProblemType::TicketNotFound) => return LastLook::NotFound,
            Answer::Refused(_)
            | Answer::Later(..)
            | Answer::NotYet(..)
            | Answer::Undocumented(_)
            | Answer::Lost => {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    LastLook::NoAnswer
}
