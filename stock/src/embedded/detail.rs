//! What transitions brought to a ticket, packed into one small block: a queued ticket has none, a created one
//! pays for its order id and little more.
//!
//! Layout: varint of `updated_at - won_at`, then fields of (tag byte, varint length or value, bytes). It also
//! stands in snapshots as it is, so tags keep their meaning.

use smallvec::SmallVec;

/// Payment ids of late money that a ticket remembers; the oldest is forgotten, and its repeat is published again.
pub(super) const REFUNDS_MAX: usize = 8;

const ORDER_ID: u8 = 1;
const PAY_BY: u8 = 2;
const PAYMENT_ID: u8 = 3;
const REASON: u8 = 4;
const REFUND: u8 = 5;

/// The unpacked form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Detail<'a> {
    pub(super) updated_at_ms: u64,
    pub(super) order_id: Option<&'a str>,
    pub(super) pay_by_ms: Option<u64>,
    pub(super) payment_id: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    /// Payments that came when the ticket was not payable, oldest first.
    pub(super) refunds: SmallVec<[&'a str; 1]>,
}

impl<'a> Detail<'a> {
    /// `None`: the block is not one. Blocks in memory always are; those of a snapshot are checked here.
    pub(super) fn unpack(packed: Option<&'a [u8]>, won_at_ms: u64) -> Option<Self> {
        let mut detail = Detail { updated_at_ms: won_at_ms, ..Detail::default() };
        let Some(mut rest) = packed else { return Some(detail) };
        detail.updated_at_ms = won_at_ms.wrapping_add(take_varint(&mut rest)?);
        while let Some((&tag, tail)) = rest.split_first() {
            rest = tail;
            if tag == PAY_BY {
                detail.pay_by_ms = Some(won_at_ms.wrapping_add(take_varint(&mut rest)?));
                continue;
            }
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            let (bytes, tail) = rest.split_at_checked(length)?;
            rest = tail;
            let text = std::str::from_utf8(bytes).ok()?;
            match tag {
                ORDER_ID => detail.order_id = Some(text),
                PAYMENT_ID => detail.payment_id = Some(text),
                REASON => detail.reason = Some(text),
                REFUND => detail.refunds.push(text),
                _ => return None,
            }
        }
        Some(detail)
    }

    /// Differences wrap, so that a clock that stepped back between two records costs bytes, not correctness.
    pub(super) fn pack(&self, won_at_ms: u64) -> Box<[u8]> {
        let mut out: SmallVec<[u8; 128]> = SmallVec::new();
        put_varint(&mut out, self.updated_at_ms.wrapping_sub(won_at_ms));
        if let Some(pay_by_ms) = self.pay_by_ms {
            out.push(PAY_BY);
            put_varint(&mut out, pay_by_ms.wrapping_sub(won_at_ms));
        }
        let texts = [(ORDER_ID, self.order_id), (PAYMENT_ID, self.payment_id), (REASON, self.reason)];
        let refunds = self.refunds.iter().map(|payment_id| (REFUND, Some(*payment_id)));
        for (tag, text) in texts.into_iter().chain(refunds) {
            if let Some(text) = text {
                out.push(tag);
                put_varint(&mut out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
        Box::from(out.as_slice())
    }
}

fn put_varint(out: &mut SmallVec<[u8; 128]>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Field by field: the two borrow from different owners, and one `==` would ask for the same.
    fn is_kept(packed: &[u8], detail: &Detail<'_>, won_at_ms: u64) -> bool {
        Detail::unpack(Some(packed), won_at_ms).is_some_and(|unpacked| {
            unpacked.updated_at_ms == detail.updated_at_ms
                && unpacked.order_id == detail.order_id
                && unpacked.pay_by_ms == detail.pay_by_ms
                && unpacked.payment_id == detail.payment_id
                && unpacked.reason == detail.reason
                && unpacked.refunds.as_slice() == detail.refunds.as_slice()
        })
    }

    proptest! {
        #[test]
        fn packing_keeps_every_field(
            won in any::<u64>(), updated in any::<u64>(), pay_by in any::<Option<u64>>(),
            order in any::<Option<String>>(), payment in any::<Option<String>>(),
            reason in any::<Option<String>>(), refunds in proptest::collection::vec(any::<String>(), 0..4),
        ) {
            let detail = Detail {
                updated_at_ms: updated,
                order_id: order.as_deref(),
                pay_by_ms: pay_by,
                payment_id: payment.as_deref(),
                reason: reason.as_deref(),
                refunds: refunds.iter().map(String::as_str).collect(),
            };
            let same = is_kept(&detail.pack(won), &detail, won);
            prop_assert!(same, "{:?}", detail);
        }

        #[test]
        fn a_foreign_block_is_refused_not_trusted(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Detail::unpack(Some(&bytes), 0);
        }
    }
}
