//! ztmon tells how much traffic every client of a ZeroTier network moves.
//!
//! It stands on one node, the observer, to which a flow rule (`tee 128 OBSERVER;`) sends the first bytes of every
//! packet, and reads them there from the device or from capture files.
//!
//! ```text
//! ztmon serve     device or file ─┐                                    ┌─► store ─► committed totals ─► /metrics
//!                                 ├─► Frame ─► Meter ─► Ledger deltas ─┤      └─► rows ─┐
//! ztmon replay    capture files ──┘   (parse · pair copies · scope)    └─► rows ────────┴─► report ─► table, CSV, JSON
//! ztmon report    the database ─────────────────────────────────────────► rows ─► report
//! ```
//!
//! Live capture and replay share everything after the [`frame::Frame`]; a report is a pure function over rows, whether
//! they come from the store or from a ledger in memory.
//!
//! # What must never be
//!
//! 1. The core ([`parse`], [`meter`], [`report`]) reads no clock, opens no file and takes no lock. Time comes in with the
//!    packets.
//! 2. A bad packet is a count, never an error and never a panic. Every frame ends in exactly one
//!    [`traffic::Outcome`], and the outcomes add up to the frames.
//! 3. No number is shown before it is safe: what `/metrics` shows of clients has been committed to SQLite.
//! 4. Nothing is counted twice and nothing by half.
//! 5. Memory is bounded, whatever arrives.
//! 6. No payload is stored: who, when, how much.
//!
//! # Reading order
//!
//! The nouns first, which know only each other: [`time`], [`frame`], [`packet`], [`traffic`], [`copies`], [`coverage`], [`zone`], [`period`],
//! [`when`], [`plain`]. Then the core: [`parse`],
//! [`meter`], [`report`], [`zerotier`], [`quota`]. Then the edges, which know those and never each other: [`capture`], [`store`],
//! [`web`]. [`metrics`] has every Prometheus name. [`commands`] alone know everything; [`cli`] says what they can do.
//! [`allocator`] is set up before any of it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod allocator;
pub mod capture;
pub mod cli;
pub mod commands;
pub mod copies;
pub mod coverage;
pub mod frame;
pub mod meter;
pub mod metrics;
pub mod packet;
pub mod parse;
pub mod period;
pub mod plain;
pub mod quota;
pub mod report;
pub mod store;
pub mod time;
pub mod traffic;
pub mod web;
pub mod when;
pub mod zerotier;
pub mod zone;
