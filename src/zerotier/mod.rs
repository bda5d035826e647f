//! What ZeroTier knows and a capture does not say: whose address an address is, and how to make a network copy its
//! packets to ztmon.
//!
//! - A **member** is a ZeroTier node that has joined a network, named by its [`NodeId`]. The network's [`NetworkId`]
//!   and the node id together fix the member's MAC and its planned IPv6 addresses, so both can be read back from them:
//!   [`identity`]. Its name and the addresses assigned to it are told by others: [`names`] reads what they write,
//!   [`members`] says whose an endpoint is.
//! - The **observer** is the member on which ztmon runs.
//! - The **tee** is the line in the network's flow rules that has every other member send the observer a copy of the
//!   first bytes of each packet: [`rules`] writes it.

pub mod identity;
pub mod members;
pub mod names;
pub mod rules;

pub use identity::{NetworkId, NodeId};
pub use members::{Members, Roster, Whose};
