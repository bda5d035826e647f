//! ztmon: how much traffic every client of a ZeroTier network moves.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod frame;
pub mod packet;
pub mod store;
pub mod time;
pub mod traffic;
