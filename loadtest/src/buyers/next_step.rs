//! What a buyer does after an answer. Pure: plan and answer in, next errand out.

use super::answer::Answer;
use super::errand::{Due, Errand, Follow, Order};
use crate::clock::Micros;
use crate::scenario::{Abusers, Buyers, Generator, is_made_up};
use crate::schedule::{Persona, persona};
use crate::seeded::{Seed, Stream};
use tidegate_client::wire::ProblemType;

/// Back-off of a buyer without an answer: doubling from the first to the second.
const RETRY_FIRST_MS: u64 = 50;
const RETRY_LAST_MS: u64 = 1_000;
/// A winner who asks again does so after this.
const ASK_AGAIN_MS: u64 = 1_500;
/// A buyer who is told when to come back is late by this, at most.
const AS_TOLD_LATE_MS: u64 = 300;
/// A follower without an answer polls again after this.
const FOLLOW_AGAIN_MS: u64 = 200;

/// What all buyers know.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    pub(crate) buyers: Buyers,
    pub(crate) generator: Generator,
    pub(crate) seed: Seed,
    pub(crate) abusers: Option<Abusers>,
}

/// What comes after an answer to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The same chain goes on.
    Retry(Due),
    /// The chain has its answer; the buyer comes back later with a new one.
    ComeBack(Due),
    /// The chain has its answer.
    Done,
    /// The bound on retries is reached without one.
    Unresolved,
}

impl Habits {
    /// After the answer to `order`, at `now_us`.
    pub(crate) fn after_order(&self, order: Order, answer: &Answer, now_us: Micros) -> Step {
        match answer {
            Answer::Lost | Answer::NotYet(..) => self.retry(order, now_us),
            Answer::Refused(ProblemType::SoldOut) if is_made_up(order.buyer) => Step::Done,
            Answer::Ticket(_) | Answer::Refused(_) | Answer::Later(..) if is_made_up(order.buyer) => {
                self.under_another_name(order, now_us)
            }
            Answer::Later(_, after_ms) => self.as_told(order, *after_ms, now_us),
            Answer::Refused(problem) => match problem {
                ProblemType::SalePaused
                | ProblemType::LedgerUnavailable
                | ProblemType::QueueUnavailable
                | ProblemType::RequestTimeout => self.retry(order, now_us),
                ProblemType::SoldOut | ProblemType::NotEnoughStock | ProblemType::Overloaded => {
                    self.come_back(order, now_us)
                }
                _ => Step::Done,
            },
            Answer::Ticket(_) | Answer::Undocumented(_) => Step::Done,
        }
    }

    /// An abuser goes on at once, as somebody else.
    fn under_another_name(&self, order: Order, now_us: Micros) -> Step {
        let Some(abusers) = self.abusers else { return Step::Done };
        let at_us = now_us + abusers.again_after_ms * 1_000;
        let buyer = Abusers::next_name(order.buyer, abusers.count(self.buyers.count));
        let turn = order.turn + 1;
        let errand = Errand::Order(Order {
            buyer,
            key: 0,
            asked_us: at_us,
            tries: 0,
            again: false,
            alone: true,
            turn,
        });
        Step::ComeBack(Due { at_us, errand })
    }

    /// A good buyer comes back when told to, some a little later than others.
    fn as_told(&self, order: Order, after_ms: u64, now_us: Micros) -> Step {
        let late_us =
            self.seed.unit(Stream::Jitter, u64::from(order.buyer)) * AS_TOLD_LATE_MS as f64 * 1_000.0;
        let at_us = now_us + after_ms * 1_000 + late_us as Micros;
        let order = Order { asked_us: at_us, tries: 0, turn: order.turn + 1, alone: false, ..order };
        Step::ComeBack(Due { at_us, errand: Errand::Order(order) })
    }

    fn retry(&self, order: Order, now_us: Micros) -> Step {
        if now_us.saturating_sub(order.asked_us) > self.generator.retry_for_ms * 1_000 {
            return Step::Unresolved;
        }
        let delay_ms = (RETRY_FIRST_MS << order.tries.min(8)).min(RETRY_LAST_MS);
        let tries = order.tries.saturating_add(1);
        Step::Retry(Due {
            at_us: now_us + self.jittered_us(delay_ms, order.buyer, now_us),
            errand: Errand::Order(Order { tries, turn: order.turn + 1, alone: false, ..order }),
        })
    }

    fn come_back(&self, order: Order, now_us: Micros) -> Step {
        if !self.seed.chance(Stream::ComesBack, order.buyer.into(), self.buyers.come_back_share) {
            return Step::Done;
        }
        let at_us = now_us + self.jittered_us(self.buyers.come_back_after_ms, order.buyer, now_us);
        let order = Order { asked_us: at_us, tries: 0, turn: order.turn + 1, alone: false, ..order };
        Step::ComeBack(Due { at_us, errand: Errand::Order(order) })
    }

    /// A winner who presses often asks once more, long after the rush: the ticket must be the same.
    pub(crate) fn ask_again(&self, order: Order, now_us: Micros) -> Option<Due> {
        let presses = persona(&self.buyers, self.seed, order.buyer) == Persona::PressesTwice;
        let at_us = now_us + ASK_AGAIN_MS * 1_000;
        (presses && !order.again).then_some(Due {
            at_us,
            errand: Errand::Order(Order {
                asked_us: at_us,
                tries: 0,
                again: true,
                turn: order.turn + 1,
                ..order
            }),
        })
    }

    /// Where an order goes: spread as a load balancer would, a repeat to the next gateway.
    pub(crate) fn route(&self, order: Order) -> usize {
        let index = u64::from(order.buyer) << 8 | u64::from(order.key);
        (self.seed.hash(Stream::Route, index) >> 8) as usize + order.turn as usize
    }

    /// Where a poll goes: each to another gateway than the one before.
    pub(crate) fn poll_route(&self, follow: Follow) -> usize {
        (self.seed.hash(Stream::Route, follow.buyer.into()) >> 8) as usize + follow.turn as usize
    }

    /// Whether this winner follows the ticket to its end.
    pub(crate) fn follows(&self, buyer: u32) -> bool {
        self.seed.chance(Stream::Polls, buyer.into(), self.buyers.poll_share)
    }

    /// After a poll: on to the next version, until the end.
    pub(crate) fn after_poll(follow: Follow, answer: &Answer, now_us: Micros) -> Option<Due> {
        let follow = Follow { turn: follow.turn + 1, ..follow };
        match answer {
            Answer::Ticket(ticket) if ticket.status.is_terminal() => None,
            Answer::Ticket(ticket) => Some(Due {
                at_us: now_us,
                errand: Errand::Follow(Follow { version: ticket.version.max(follow.version), ..follow }),
            }),
            Answer::Refused(ProblemType::TicketNotFound) | Answer::Undocumented(_) => None,
            Answer::Refused(_) | Answer::Later(..) | Answer::NotYet(..) | Answer::Lost => {
                Some(Due { at_us: now_us + FOLLOW_AGAIN_MS * 1_000, errand: Errand::Follow(follow) })
            }
        }
    }

    /// Half to one and a half times the delay.
    fn jittered_us(&self, delay_ms: u64, buyer: u32, now_us: Micros) -> Micros {
        let share = 0.5 + self.seed.unit(Stream::Jitter, u64::from(buyer) ^ (now_us << 20));
        (delay_ms as f64 * 1_000.0 * share) as Micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn habits() -> Habits {
        let scenario = Scenario::load("demo").unwrap();
        let buyers = Buyers { come_back_share: 1.0, ..scenario.buyers };
        Habits { buyers, generator: scenario.generator, seed: Seed(1), abusers: None }
    }

    const ORDER: Order =
        Order { buyer: 7, key: 0, asked_us: 1_000, tries: 0, again: false, alone: true, turn: 0 };

    #[test]
    fn a_lost_answer_is_retried_with_the_same_key_until_the_bound() {
        let habits = habits();
        let mut order = ORDER;
        let mut now_us = 2_000;
        let mut retries = 0;
        loop {
            match habits.after_order(order, &Answer::Lost, now_us) {
                Step::Retry(Due { at_us, errand: Errand::Order(next) }) => {
                    assert_eq!((next.key, next.asked_us), (ORDER.key, ORDER.asked_us));
                    assert!(at_us > now_us && next.turn == order.turn + 1, "another gateway");
                    (order, now_us, retries) = (next, at_us, retries + 1);
                }
                step => {
                    assert_eq!(step, Step::Unresolved);
                    break;
                }
            }
        }
        assert!((20..100).contains(&retries), "{retries}");
    }

    #[test]
    fn a_good_buyer_keeps_to_what_it_is_told_and_an_abuser_takes_another_name_at_once() {
        let scenario = Scenario::load("abuse").unwrap();
        let Scenario { buyers, generator, abusers, .. } = scenario;
        let habits = Habits { buyers, generator, seed: Seed(1), abusers };
        let told = Answer::Later(ProblemType::ClientQuota, 1_000);
        let next = |order: Order| match habits.after_order(order, &told, 5_000) {
            Step::ComeBack(Due { at_us, errand: Errand::Order(next) }) => (at_us, next),
            step => panic!("{step:?}"),
        };
        let (at_us, good) = next(ORDER);
        assert_eq!((good.buyer, good.key), (ORDER.buyer, ORDER.key));
        assert!((1_005_000..1_306_000).contains(&at_us), "{at_us}");
        let name = Abusers::arrivals(40, &habits.buyers, Seed(1), 0, 1).next().unwrap().buyer;
        let (at_us, abuser) = next(Order { buyer: name, ..ORDER });
        assert_eq!((at_us, abuser.buyer), (6_000, name + 40));
    }

    #[test]
    fn a_service_problem_is_no_answer_and_sold_out_is_one() {
        let habits = habits();
        let after = |problem| habits.after_order(ORDER, &Answer::Refused(problem), 5_000);
        assert!(matches!(after(ProblemType::QueueUnavailable), Step::Retry(_)));
        assert!(matches!(after(ProblemType::SoldOut), Step::ComeBack(_)));
        assert_eq!(after(ProblemType::LimitReached), Step::Done);
    }
}
