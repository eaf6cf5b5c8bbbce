//! What a question can come back with instead of an answer: a refusal that teaches, or a failure that tells nothing.

use std::fmt;

/// Why a question was not understood or cannot be answered: safe to show to anyone, and says what to ask instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What tests and metrics look at.
    pub kind: RefusalKind,
    /// What is wrong with the question.
    pub message: String,
    /// What to ask instead; may be empty.
    pub hint: String,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// More characters or words than a question has.
    TooLong,
    /// A character that no question needs.
    Character,
    /// A word outside the lexicon.
    UnknownWord,
    /// A symbol the database does not have.
    UnknownSymbol,
    /// Every word is known, but not what is asked.
    Unclear,
    /// Dates without a session or outside what the calendar covers.
    NoSession,
    /// Understood, and there are no trades to answer from.
    NoTrades,
    /// Asked too often.
    TooOften,
}

impl Refusal {
    /// A refusal with a hint.
    pub fn new(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The database or the machine let us down. The cause goes to the log under the reference, never to the user.
#[derive(Debug)]
pub struct Failure {
    /// Links what the user saw with the log.
    pub reference: Reference,
    cause: anyhow::Error,
}

impl Failure {
    /// A failure of this cause, with a new reference.
    pub fn new(cause: impl Into<anyhow::Error>) -> Failure {
        Failure { reference: Reference::new(), cause: cause.into() }
    }

    /// Writes the cause to the log.
    pub fn log(&self) {
        tracing::error!(reference = %self.reference, cause = format!("{:#}", self.cause), "question failed");
    }
}

impl fmt::Display for Failure {
    /// What the user sees.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Something went wrong on our side. Please try again in a moment (reference {}).", self.reference)
    }
}

/// Eight letters and digits that are easy to read out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference([u8; 8]);

impl Reference {
    fn new() -> Reference {
        use std::hash::{BuildHasher, RandomState};
        // The keys of a new `RandomState` are random, which is all a reference needs.
        let mut random = RandomState::new().hash_one(0u8);
        Reference([(); 8].map(|()| {
            let letter = b"0123456789abcdefghjkmnpqrstvwxyz"[(random & 31) as usize];
            random >>= 5;
            letter
        }))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", *letter as char))
    }
}

/// A question without an answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The asker can do something about it.
    Refused(Refusal),
    /// The operator must.
    Failed(Failure),
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Unanswered {
        Unanswered::Refused(refusal)
    }
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Unanswered {
        Unanswered::Failed(failure)
    }
}

impl From<market::Error> for Unanswered {
    /// The domain's errors about dates and segments are meant for users.
    fn from(error: market::Error) -> Unanswered {
        match error.kind() {
            market::error::ErrorKind::OutOfBounds => {
                Refusal::new(RefusalKind::NoSession, error.to_string(), error.hint()).into()
            }
            _ => Failure::new(error).into(),
        }
    }
}
