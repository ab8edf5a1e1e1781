//! Asks for the state of tickets once all buyers are done, each as its buyer.

use super::answer::Answer;
use super::connection::{Connection, Shop};
use super::engine::buyer_name;
use crate::evidence::{LastLook, TicketId};
use http::{Request, header};
use http_body_util::Empty;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tidegate_client::wire::ProblemType;

const CONNECTIONS: usize = 32;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one ticket, with a pause between.
const TRIES_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// One look at each ticket. Blocks its thread.
pub(crate) fn look(
    public: SocketAddr,
    tickets: Vec<(TicketId, u32)>,
) -> std::io::Result<Vec<(TicketId, LastLook)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let seen = Rc::new(RefCell::new(Vec::with_capacity(tickets.len())));
    let todo = Rc::new(RefCell::new(tickets));
    local.block_on(&runtime, async {
        let mut lookers = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let (todo, seen) = (Rc::clone(&todo), Rc::clone(&seen));
            lookers.push(tokio::task::spawn_local(async move {
                let shop = Shop { address: public, host: public.to_string() };
                let mut connection = Connection::new(TIMEOUT);
                loop {
                    let next = todo.borrow_mut().pop();
                    let Some((ticket, buyer)) = next else { return };
                    let state = look_at(&mut connection, &shop, ticket, buyer).await;
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

async fn look_at(connection: &mut Connection, shop: &Shop, ticket: TicketId, buyer: u32) -> LastLook {
    for _ in 0..TRIES_MAX {
        let request = Request::builder()
            .uri(format!("/v1/tickets/{ticket}"))
            .header(header::HOST, shop.host.as_str())
            .header("x-user-id", buyer_name(buyer))
            .body(Empty::new());
        let Ok(request) = request else { return LastLook::NoAnswer };
        match connection.exchange(shop, request, 200).await {
            Answer::Ticket(seen) => {
                return LastLook::Ticket {
                    status: seen.status,
                    version: seen.version,
                    quantity: seen.quantity,
                    won_at_ms: seen.won_at_ms,
                };
            }
            Answer::Refused(ProblemType::TicketNotFound) => return LastLook::NotFound,
            Answer::Refused(_) | Answer::Undocumented(_) | Answer::Lost => tokio::time::sleep(PAUSE).await,
        }
    }
    LastLook::NoAnswer
}
