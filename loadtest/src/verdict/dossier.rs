//! Evidence by ticket, and the one place where our clock meets the gateway's.

use crate::clock::Micros;
use crate::evidence::{Delivery, EventSeen, Evidence, LastLook, OffsetsSeen, OrderRow, Table, TicketId};
use tidegate_client::wire::TicketStatus;

/// Gateway and generator share a machine; both anchor to its wall clock at their start and advance monotonically.
/// So much the two anchors may differ.
pub(crate) const CLOCK_SKEW_MS: u64 = 5;

/// What is known of one ticket.
#[derive(Debug, Default)]
pub(crate) struct File<'a> {
    /// Transitions in order of version, repeats removed.
    pub(crate) transitions: Vec<&'a EventSeen>,
    /// Two events of one version differ.
    pub(crate) contradiction: bool,
    pub(crate) deliveries: Vec<&'a Delivery>,
    pub(crate) created_us: Option<Micros>,
    pub(crate) row: Option<&'a OrderRow>,
}

pub(crate) struct Dossier<'a> {
    pub(crate) evidence: &'a Evidence,
    /// Every ticket that anyone heard of.
    pub(crate) files: Table<File<'a>>,
}

impl<'a> Dossier<'a> {
    pub(crate) fn new(evidence: &'a Evidence) -> Self {
        let mut files: Table<File<'a>> = Table::default();
        for ticket in evidence.buyers.tickets.keys().chain(evidence.last_look.keys()) {
            files.entry(*ticket).or_default();
        }
        for event in evidence.events.iter().filter(|event| !event.refund_required) {
            files.entry(event.ticket).or_default().transitions.push(event);
        }
        for delivery in &evidence.workers.deliveries {
            files.entry(delivery.ticket).or_default().deliveries.push(delivery);
        }
        for created in &evidence.workers.created {
            let first = &mut files.entry(created.ticket).or_default().created_us;
            *first = Some(first.map_or(created.at_us, |at_us| at_us.min(created.at_us)));
        }
        for row in &evidence.rows {
            files.entry(row.ticket).or_default().row = Some(row);
        }
        files.values_mut().for_each(File::order_transitions);
        Self { evidence, files }
    }

    /// What the gateway said of a ticket at the very end, if it knew it.
    pub(crate) fn final_status(&self, ticket: &TicketId) -> Option<TicketStatus> {
        match self.evidence.last_look.get(ticket)? {
            LastLook::Ticket { status, .. } => Some(*status),
            LastLook::NotFound | LastLook::NoAnswer => None,
        }
    }

    pub(crate) fn quantity(&self, ticket: &TicketId) -> u64 {
        if let Some(LastLook::Ticket { quantity, .. }) = self.evidence.last_look.get(ticket) {
            return (*quantity).into();
        }
        self.evidence.buyers.tickets.get(ticket).map_or(1, |told| told.quantity.into())
    }

    pub(crate) fn wall_ms(&self, at_us: Micros) -> u64 {
        self.evidence.wall_ms(at_us)
    }

    /// Units of every ticket whose state at the end satisfies `wanted`.
    pub(crate) fn units_where(&self, wanted: impl Fn(TicketStatus) -> bool) -> u64 {
        self.files
            .keys()
            .filter(|ticket| self.final_status(ticket).is_some_and(&wanted))
            .map(|ticket| self.quantity(ticket))
            .sum()
    }

    /// Messages that this run brought into topic `orders`.
    pub(crate) fn order_messages(&self) -> Option<u64> {
        // What a deleted folder held is not known.
        if self.evidence.folder_lost_us().is_some() {
            return None;
        }
        let mut messages = 0;
        for seen in &self.evidence.offsets {
            let queues = &seen.offsets.as_ref().ok()?.queues;
            messages += queues
                .iter()
                .map(|queue| queue.end - seen.first_offset(queue.queue).min(queue.end))
                .sum::<u64>();
        }
        Some(messages)
    }

    /// Only a gateway whose folder was deleted may have known of an event of this ticket.
    pub(crate) fn events_may_be_lost(&self, ticket: &TicketId) -> bool {
        let Some(lost_us) = self.evidence.folder_lost_us() else { return false };
        match self.evidence.last_look.get(ticket) {
            Some(LastLook::Ticket { won_at_ms, .. }) => *won_at_ms <= self.wall_ms(lost_us),
            _ => false,
        }
    }

    /// A released ticket's event went with a deleted folder: nobody could close the order's row.
    pub(crate) fn release_untold(&self, ticket: &TicketId) -> bool {
        let released = self.final_status(ticket).is_some_and(TicketStatus::is_released);
        let told = self.files.get(ticket).is_some_and(|file| file.release().is_some());
        released && !told && self.events_may_be_lost(ticket)
    }

    /// Units that may ever have been put on sale.
    pub(crate) fn stock(&self) -> u64 {
        self.evidence.sale.stock + self.evidence.audit.as_ref().map_or(0, |audit| audit.restocked)
    }
}

impl OffsetsSeen {
    /// The first offset of a queue of `orders` that came from this run.
    pub(crate) fn first_offset(&self, queue: u32) -> u64 {
        self.before.iter().find(|(number, _)| *number == queue).map_or(0, |(_, end)| *end)
    }
}

impl File<'_> {
    /// The transition that gave the units back.
    pub(crate) fn release(&self) -> Option<&EventSeen> {
        self.transitions.iter().copied().find(|event| event.to.is_released())
    }

    /// Unix milliseconds before which the units were surely not given back; `None` when they never were.
    pub(crate) fn released_not_before_ms(&self) -> Option<u64> {
        self.release().map(|event| event.at_ms.saturating_sub(CLOCK_SKEW_MS))
    }

    fn order_transitions(&mut self) {
        self.transitions.sort_by_key(|event| event.version);
        let mut contradiction = false;
        self.transitions.dedup_by(|later, first| {
            let same_version = later.version == first.version;
            contradiction |= same_version && (later.from, later.to) != (first.from, first.to);
            same_version && later.to == first.to
        });
        self.contradiction = contradiction;
    }
}

/// The greatest sum of weights that overlap at one instant, of intervals `[from, to)`.
pub(crate) fn peak(intervals: impl Iterator<Item = (u64, Option<u64>, u64)>) -> u64 {
    let mut steps = Vec::new();
    for (from, to, weight) in intervals {
        if to.is_none_or(|to| to > from) {
            steps.push((from, weight as i64));
            steps.extend(to.map(|to| (to, -(weight as i64))));
        }
    }
    // At one instant, ends come before beginnings.
    steps.sort_unstable();
    let (mut now, mut peak) = (0, 0);
    for (_, step) in steps {
        now += step;
        peak = peak.max(now);
    }
    peak as u64
}
