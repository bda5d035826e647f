//! What the fuzz targets do with their bytes: what must hold whatever comes in.
//!
//! Apart from the targets, so that the tests of ztmon can run the stored corpus without a fuzzer.

pub mod capture;
pub mod frames;
pub mod http;
pub mod names;
