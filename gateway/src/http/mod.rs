//! HTTP without meaning: bodies, answers, problem documents, query strings. What is answered, and why, is
//! decided in `admission/` and `api/`.

pub mod answer;
pub mod body;
pub mod entity_tag;
pub mod refusal;
pub mod request;

pub use answer::{Answer, json, problem};
pub use body::Body;
pub use refusal::Refusal;
