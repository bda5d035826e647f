//! Quotas on `/metrics`: gauges, as their periods end and begin.

use std::fmt::{self, Write};

use super::{escape, head};

/// How a quota stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it is called.
    pub name: String,
    /// Bytes moved in the period that is now, once that is known.
    pub used_bytes: Option<u64>,
    /// Bytes that may be.
    pub limit_bytes: u64,
    /// When the period ends, in seconds since the epoch.
    pub period_end: i64,
}

/// Name, help and value.
type Family = (&'static str, &'static str, fn(&Quota) -> Option<i128>);

const FAMILIES: [Family; 3] = [
    (
        "ztmon_quota_used_bytes",
        "Bytes of IP packets, captured live, that count in the quota's present period.",
        |quota| quota.used_bytes.map(i128::from),
    ),
    ("ztmon_quota_limit_bytes", "Bytes that the quota allows in a period.", |quota| Some(quota.limit_bytes.into())),
    ("ztmon_quota_period_end_timestamp_seconds", "When the quota's present period ends.", |quota| {
        Some(quota.period_end.into())
    }),
];

/// Writes the families, unless there are no quotas.
pub(super) fn write(page: &mut String, quotas: &[Quota]) -> fmt::Result {
    for (name, help, value) in FAMILIES.iter().filter(|_| !quotas.is_empty()) {
        page.push_str(&head(name, help, "gauge"));
        for quota in quotas {
            if let Some(value) = value(quota) {
                writeln!(page, "{name}{{quota=\"{}\"}} {value}", escape(&quota.name))?;
            }
        }
    }
    Ok(())
}
