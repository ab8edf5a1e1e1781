//! Several gateways as one: who they are, who of them answers, and ticket transitions on any of them.
//!
//! ```text
//! builder.rs     addresses, client settings, bounds
//! member.rs      one gateway of the fleet
//! book.rs        what is known of all addresses, and who of them are members; no I/O, no clock
//! refresh.rs     asks every known address for the list, again and again
//! transition.rs  a transition on one gateway, or on another when that one does not answer
//! ```
//!
//! A fleet starts from the addresses it is given and learns the others from `GET /v1/gateways`. A listed address
//! becomes a member once it has answered as the gateway that it is listed as; one that does not answer, or leads to
//! somebody else from here, costs a probe each round and nothing else, so gateways that name addresses which only they
//! can reach do no harm. The addresses given stay
//! known for ever, whether they answer or not; others are forgotten when they do not answer and no list that was
//! heard names them. So the worst that can happen is that the fleet is what it was given.
//!
//! One gateway under two addresses is one member: under the address that it names itself where that one answers,
//! else under the first one. An address in front of several gateways (a load balancer) therefore serves to find
//! them, provided that their own addresses can be reached from here; where they cannot, give each gateway's own
//! address, because an ack must go to the gateway that delivered.
//!
//! The token is sent to every address listed: whoever may write the list is trusted with it.

mod book;
mod builder;
mod member;
mod refresh;
mod transition;

pub use builder::FleetBuilder;
pub use member::Member;
pub use refresh::Following;

use crate::Client;
use crate::client::ClientBuilder;
use book::Book;
use parking_lot::Mutex;
use refresh::{Refreshing, Snapshot};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// A handle on all gateways. Clones share what is known of them. A [`Client`] converts into a fleet of that one
/// gateway, which looks for no others.
#[derive(Debug, Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
    preferred: Option<Member>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    members: watch::Sender<Snapshot>,
    /// `None`: the members are fixed.
    discovery: Option<Discovery>,
    refreshing: Mutex<Weak<Refreshing>>,
}

#[derive(Debug)]
struct Discovery {
    /// For any address; all else of it holds for every member.
    client: ClientBuilder,
    every: Duration,
    probe_within: Duration,
}

impl Fleet {
    /// To be given one or more base URLs of inner listeners, such as `http://10.0.0.1:8081`.
    pub fn builder<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> FleetBuilder {
        FleetBuilder::new(addresses)
    }

    fn new(given: Vec<Client>, discovery: Option<Discovery>) -> Self {
        let book = Book::new(given);
        let rounds = u64::from(discovery.is_none());
        let (members, _) = watch::channel(Snapshot { rounds, members: book.members() });
        let refreshing = Mutex::new(Weak::new());
        let shared = Arc::new(Shared { book: Mutex::new(book), members, discovery, refreshing });
        Self { shared, preferred: None }
    }

    /// The members of the last round, those that answer first. Before the first round of the first
    /// [`Fleet::follow`]: the addresses given. Never empty.
    pub fn members(&self) -> Arc<[Member]> {
        Arc::clone(&self.shared.members.borrow().members)
    }

    /// The same fleet, whose transitions are tried on `member` first.
    #[must_use]
    pub fn preferring(&self, member: &Member) -> Self {
        Self { shared: Arc::clone(&self.shared), preferred: Some(member.clone()) }
    }
}

impl From<Client> for Fleet {
    fn from(client: Client) -> Self {
        Self::new(vec![client], None)
    }
}
