//! The HTTP edge: a listening socket, and answers that no client can hold up; and, the other way round, a question to
//! another server ([`client`]).
//!
//! The caller gives a handler from paths to [`Response`]s; everything that is HTTP stays here, and hyper is used nowhere
//! else. A metrics port is often open to a whole network, so a client is trusted with nothing:
//!
//! * Every wait has an end ([`Limits`]): for a request, between requests, until an answer is taken.
//! * When a place is needed, the client with the most connections loses the one that has gone longest without a step
//!   (accepted, request complete, answer taken or a good part of it); one that is being answered goes last. A client that
//!   speaks at once is therefore always heard, however many others dawdle.
//! * Those who ask for the same at the same time get the same answer: it is made once.
//! * Headers, connections and the bytes of answers not yet taken are bounded. Request bodies are never read.

mod answers;
pub mod client;
mod connections;
mod listen;
mod page;
mod server;
#[cfg(test)]
mod tests;

pub use answers::Response;
pub use connections::Limits;
pub use listen::listen;
pub use page::page;
pub use server::serve;
