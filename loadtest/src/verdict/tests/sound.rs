//! Evidence that holds: the ground from which each test makes its one change.

use super::*;

/// Unix milliseconds at instant 0.
pub(super) const START_MS: u64 = 1_000_000;
pub(super) const MS: u64 = 1_000;

pub(super) fn id(number: u32) -> TicketId {
    TicketId::parse(&format!("01TEST{number:020}")).unwrap()
}

pub(super) fn told(buyer: u32, told_ms: u64, states: &[(TicketStatus, u32)]) -> Told {
    let seen =
        states.iter().map(|&(status, version)| Sighting { status, version, at_us: told_ms * MS }).collect();
    Told {
        buyer,
        key: 0,
        quantity: 1,
        gateway: 0,
        at_once: true,
        asked_us: told_ms * MS - 500,
        told_us: told_ms * MS,
        times: 1,
        seen,
    }
}

pub(super) fn event(
    ticket: u32,
    buyer: u32,
    at: u64,
    version: u32,
    from: TicketStatus,
    to: TicketStatus,
) -> EventSeen {
    let at_ms = START_MS + at;
    let (ticket, buyer) = (id(ticket), Some(buyer));
    EventSeen { ticket, buyer, quantity: 1, version, from, to, at_ms, refund_required: false }
}

pub(super) fn delivery(ticket: u32, buyer: u32, offset: u64, at_ms: u64, ack: AckSeen) -> Delivery {
    Delivery {
        ticket: id(ticket),
        buyer: Some(buyer),
        quantity: 1,
        gateway: 0,
        queue: 0,
        offset,
        deadline_ms: START_MS + 1_000,
        asked_us: (at_ms - 5) * MS,
        received_us: at_ms * MS,
        ack,
    }
}

pub(super) fn row(ticket: u32, buyer: u32, state: RowState) -> OrderRow {
    OrderRow { ticket: id(ticket), buyer: Some(buyer), quantity: 1, state }
}

pub(super) fn look(status: TicketStatus, version: u32, won: u64) -> LastLook {
    LastLook::Ticket { status, version, quantity: 1, won_at_ms: START_MS + won }
}

pub(super) fn created(ticket: u32, at_ms: u64) -> CreatedSeen {
    CreatedSeen { ticket: id(ticket), at_us: at_ms * MS }
}

/// Two units: ticket 1 paid; 2 created and never paid; 3 dropped in the queue; 4, the resold unit of 2 or 3, paid.
pub(super) fn sound() -> Evidence {
    let ok = |at_ms: u64| AckSeen::Ok(at_ms * MS);
    let identity = Identity { name: "stock".to_owned(), left: 2, right: 2, holds: true };
    let queue = QueueOffsets {
        queue: 0,
        start: 0,
        end: 4,
        floor: 4,
        dropped: vec![(2, 3)],
        dead: vec![],
        skipped: vec![],
    };
    Evidence {
        sale: Sale {
            item: "desk".to_owned(),
            stock: 2,
            per_buyer_limit: 1,
            order_deadline_ms: 900,
            pay_window_ms: 400,
        },
        buyers_count: 10,
        start_wall_us: START_MS * MS,
        buyers: BuyersSaw {
            tickets: [
                (id(1), told(1, 100, &[(Queued, 1), (Paid, 3)])),
                (id(2), told(2, 100, &[(Queued, 1), (Expired, 3)])),
                (id(3), told(3, 610, &[(Queued, 1), (Dropped, 2)])),
                (id(4), told(4, 2_000, &[(Queued, 1)])),
            ]
            .into_iter()
            .collect(),
            ..BuyersSaw::default()
        },
        workers: WorkersSaw {
            deliveries: vec![
                delivery(1, 1, 0, 110, ok(120)),
                delivery(2, 2, 1, 110, ok(120)),
                Delivery { deadline_ms: START_MS + 3_000, ..delivery(4, 4, 3, 2_010, ok(2_020)) },
            ],
            created: vec![created(1, 115), created(2, 115), created(4, 2_015)],
            payments: [1, 4]
                .map(|ticket| PaymentSeen { ticket: id(ticket), quantity: 1, accepted: true })
                .to_vec(),
            ..WorkersSaw::default()
        },
        events: vec![
            event(1, 1, 114, 2, Queued, AwaitingPayment),
            event(1, 1, 200, 3, AwaitingPayment, Paid),
            event(2, 2, 114, 2, Queued, AwaitingPayment),
            event(2, 2, 600, 3, AwaitingPayment, Expired),
            event(3, 3, 1_510, 2, Queued, Dropped),
            event(4, 4, 2_014, 2, Queued, AwaitingPayment),
            event(4, 4, 2_100, 3, AwaitingPayment, Paid),
        ],
        rows: vec![row(1, 1, RowState::Paid), row(2, 2, RowState::Closed), row(4, 4, RowState::Paid)],
        last_look: [
            (id(1), look(Paid, 3, 99)),
            (id(2), look(Expired, 3, 99)),
            (id(3), look(Dropped, 2, 609)),
            (id(4), look(Paid, 3, 1_999)),
        ]
        .into_iter()
        .collect(),
        audit: Ok(Audit {
            sale: "s".to_owned(),
            holds: true,
            initial: 2,
            restocked: 0,
            available: 0,
            held: 0,
            sold: 2,
            returned: 2,
            tickets: [(Paid, 2), (Expired, 1), (Dropped, 1)].into(),
            identities: vec![identity],
        }),
        looks_apart: Vec::new(),
        not_yet_known: Table::default(),
        other_audits: Vec::new(),
        offsets: vec![OffsetsSeen {
            gateway: 0,
            before: Vec::new(),
            offsets: Ok(GroupOffsets {
                topic: "orders".into(),
                group: "order-workers".into(),
                queues: vec![queue],
            }),
        }],
        shared: false,
        proxied: None,
        tokens: Some(Tokens { rate_per_s: 10, burst: 3, max_wait_ms: 0 }),
        faults_wanted: Vec::new(),
        faults: Vec::new(),
        overload: None,
        stop_wanted: false,
        stop: None,
        restart_failed: None,
        abuse: None,
        exit: Some(ExitSeen::Clean),
    }
}
