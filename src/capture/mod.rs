//! Frames from files and devices: the edge where bytes come in.
//!
//! [`History`] walks any number of capture files as one; [`CaptureFile`] is one of them.

mod ahead;
mod classic;
mod file;
#[cfg_attr(not(feature = "live"), path = "no_filter.rs")]
mod filter;
mod history;
mod input;
#[cfg(feature = "live")]
pub mod live;
mod pcapng;
mod record;
mod source;

pub use file::{CaptureFile, Error};
pub use filter::Filter;
pub use history::{History, Problem};
pub use source::Source;

#[cfg(test)]
mod tests;
