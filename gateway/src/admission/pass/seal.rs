//! The signed texts: what they are for, when they end, a number, the key's id, the signature. Whom they are for is
//! signed with them and does not stand in them.

use super::keys::{Key, Keys, TAG_BYTES};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const FIELDS_BYTES: usize = 2 + 4 + 8 + 8;
const BYTES: usize = FIELDS_BYTES + TAG_BYTES;
const CHARACTERS: usize = (BYTES * 4).div_ceil(3);

/// What a text is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be answered.
    Challenge {
        /// [`super::ChallengeKind::tag`].
        kind: u8,
    },
    /// To be sent with an order.
    Pass,
}

/// For whom and what.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Sale.
    pub sale: &'a str,
    /// Buyer.
    pub buyer: &'a str,
    /// The sale's window: when its opening is moved, what was given before is void.
    pub opens_at_ms: Option<u64>,
}

/// A text, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) purpose: Purpose,
    pub(super) expires_at_ms: u64,
    pub(super) number: u64,
}

impl Purpose {
    fn bytes(self) -> [u8; 2] {
        match self {
            Self::Challenge { kind } => [1, kind],
            Self::Pass => [2, 0],
        }
    }
}

impl Scope<'_> {
    pub(super) fn opens(&self) -> [u8; 9] {
        let mut bytes = [0; 9];
        if let Some(opens) = self.opens_at_ms {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(&opens.to_be_bytes());
        }
        bytes
    }

    /// Of sale and buyer, so that no two pairs of them are signed as the same bytes.
    pub(super) fn lengths(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.sale.len() as u64).to_be_bytes());
        bytes[8..].copy_from_slice(&(self.buyer.len() as u64).to_be_bytes());
        bytes
    }
}

impl Sealed {
    /// The text, and the key that signed it.
    pub(super) fn seal<'k>(&self, keys: &'k Keys, scope: &Scope<'_>) -> (String, &'k Key) {
        let key = keys.signer();
        let mut bytes = [0; BYTES];
        bytes[..2].copy_from_slice(&self.purpose.bytes());
        bytes[2..6].copy_from_slice(&key.id);
        bytes[6..14].copy_from_slice(&self.expires_at_ms.to_be_bytes());
        bytes[14..FIELDS_BYTES].copy_from_slice(&self.number.to_be_bytes());
        let (fields, tag) = bytes.split_at_mut(FIELDS_BYTES);
        tag.copy_from_slice(&key.tag(&[
            fields,
            &scope.opens(),
            &scope.lengths(),
            scope.sale.as_bytes(),
            scope.buyer.as_bytes(),
        ]));
        (URL_SAFE_NO_PAD.encode(bytes), key)
    }

    /// The text's content if it was signed by one of our keys for this purpose and scope. Says nothing of its time.
    pub(super) fn open<'k>(
        text: &str,
        purpose: Purpose,
        keys: &'k Keys,
        scope: &Scope<'_>,
    ) -> Option<(Self, &'k Key)> {
        let mut bytes = [0; BYTES + 2];
        if text.len() != CHARACTERS || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(BYTES) {
            return None;
        }
        let (fields, tag) = bytes[..BYTES].split_at(FIELDS_BYTES);
        if fields[..2] != purpose.bytes() {
            return None;
        }
        let (opens, lengths) = (scope.opens(), scope.lengths());
        let signed = [fields, &opens, &lengths, scope.sale.as_bytes(), scope.buyer.as_bytes()];
        let id = [fields[2], fields[3], fields[4], fields[5]];
        let key = keys.all_of(id).find(|key| key.verifies(&signed, tag))?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&fields[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Some((Self { purpose, expires_at_ms: number(6), number: number(14) }, key))
    }
}
