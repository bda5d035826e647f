//! ztmon's command line.

fn main() {}
