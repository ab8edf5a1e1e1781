//! What a challenge asks. Another kind is another implementation of [`ChallengeKind`].

/// Makes questions from a secret seed and judges answers to them. Keeps nothing: the same seed is the same question at
/// every gateway.
pub trait ChallengeKind: Send + Sync {
    /// Member `kind` of the challenge; front ends choose their form by it.
    fn name(&self) -> &'static str;

    /// Stands in the signed text, so that no answer counts for a question of another kind. Never used twice.
    fn tag(&self) -> u8;

    /// What is shown to the buyer.
    fn question(&self, seed: &[u8; 32]) -> String;

    /// Whether `answer`, as it was typed, is right.
    fn is_right(&self, seed: &[u8; 32], answer: &str) -> bool;
}

/// A sum, difference or product of small numbers. It slows people down and spreads their rush; it stops no program that
/// was written for it.
#[derive(Debug, Clone, Copy)]
pub struct Arithmetic;

impl Arithmetic {
    fn terms(seed: &[u8; 32]) -> (i64, char, i64) {
        let (a, b) = (i64::from(seed[1]), i64::from(seed[2]));
        match seed[0] % 3 {
            0 => (11 + a % 89, '+', 11 + b % 89),
            1 => (60 + a % 40, '-', 11 + b % 49),
            _ => (3 + a % 10, '×', 3 + b % 10),
        }
    }
}

impl ChallengeKind for Arithmetic {
    fn name(&self) -> &'static str {
        "arithmetic"
    }

    fn tag(&self) -> u8 {
        1
    }

    fn question(&self, seed: &[u8; 32]) -> String {
        let (a, sign, b) = Self::terms(seed);
        format!("{a} {sign} {b} = ?")
    }

    fn is_right(&self, seed: &[u8; 32], answer: &str) -> bool {
        let (a, sign, b) = Self::terms(seed);
        let right = match sign {
            '+' => a + b,
            '-' => a - b,
            _ => a * b,
        };
        answer.trim().parse() == Ok(right)
    }
}
