//! Who tells who members are.

use std::path::PathBuf;

use clap::Args;

use crate::zerotier::NetworkId;

/// Who members are, and on which network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Members")]
pub struct Who {
    /// Who is who: CSV 'address-or-node,name', or a controller's or Central's JSON; repeatable
    #[arg(long, value_name = "FILE")]
    pub names: Vec<PathBuf>,
    /// The ZeroTier network's id, 16 hex digits: with it a MAC names its member
    #[arg(long, value_name = "ID")]
    pub network_id: Option<NetworkId>,
}
