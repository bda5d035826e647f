//! Stands in for capture filters where libpcap is not built in.

use crate::frame::Frame;

/// A capture filter that cannot be compiled.
pub struct Filter;

impl Filter {
    /// A filter; the error comes with its first frame, as it does where libpcap refuses it.
    pub fn new(_expression: String) -> Self {
        Filter
    }

    /// Always an error.
    #[inline]
    pub fn accepts(&mut self, _frame: &Frame<'_>) -> anyhow::Result<bool> {
        anyhow::bail!("--filter needs libpcap, and this ztmon was built without it")
    }
}
