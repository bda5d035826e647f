//! What the machine says where the arguments do not: the database's path, the time zone.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::time::Timestamp;
use crate::zone::Zone;

const SYSTEM_DB: &str = "/var/lib/ztmon/ztmon.db";
const LOCAL_DB: &str = "ztmon.db";

/// The database that is meant, and how that was decided.
pub(super) struct Database {
    /// Where it is, or is to be.
    pub path: PathBuf,
    /// The places that were looked at.
    tried: String,
}

/// `--db`, else `$ZTMON_DB`, else the system's if it exists, else one in the current directory.
pub(super) fn database(given: Option<&Path>) -> Database {
    if let Some(path) = given {
        return Database { path: path.to_owned(), tried: path.display().to_string() };
    }
    if let Some(path) = env::var_os("ZTMON_DB").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return Database { tried: format!("{} ($ZTMON_DB)", path.display()), path };
    }
    let system = Path::new(SYSTEM_DB);
    let path = if system.exists() { system } else { Path::new(LOCAL_DB) };
    Database { path: path.to_owned(), tried: format!("{SYSTEM_DB}, ./{LOCAL_DB} ($ZTMON_DB is not set)") }
}

impl Database {
    /// What to say before the reason; the places tried, unless it was the one given.
    pub(super) fn cannot_open(&self) -> String {
        match self.path.display().to_string() == self.tried {
            true => "cannot open the database".to_owned(),
            false => format!("cannot open the database (tried {})", self.tried),
        }
    }

    /// An error that names the places tried, if the database is not there.
    pub(super) fn must_exist(&self) -> anyhow::Result<()> {
        let exists = self.path.try_exists().with_context(|| format!("cannot look at {}", self.path.display()))?;
        anyhow::ensure!(
            exists,
            "there is no database: tried {}; serve or replay --db make one, --db names another",
            self.tried
        );
        Ok(())
    }
}

/// The zone in which dates are read: `--tz`, else `$TZ`, else the system's; UTC where the system has none.
fn zone(given: Option<&str>) -> anyhow::Result<Zone> {
    let name = match (given, env::var("TZ")) {
        (Some(name), _) => return Zone::named(name).map_err(anyhow::Error::msg).context("--tz"),
        (None, Ok(name)) if !name.is_empty() => {
            let name = name.trim_start_matches(':');
            name.rsplit_once("zoneinfo/").map_or(name, |(_, name)| name).to_owned()
        }
        _ => iana_time_zone::get_timezone().unwrap_or_else(|_| "UTC".to_owned()),
    };
    Zone::named(&name).map_err(anyhow::Error::msg).context("the system's time zone cannot be used: give --tz")
}

/// Reads `--since` and `--until`. The zone is looked up only if there is a date to read.
pub(super) fn bounds(
    since: Option<&str>,
    until: Option<&str>,
    tz: Option<&str>,
) -> anyhow::Result<(Option<Timestamp>, Option<Timestamp>)> {
    if let (None, None, None) = (since, until, tz) {
        return Ok((None, None));
    }
    let zone = zone(tz)?;
    let read = |flag: &str, text: Option<&str>| {
        text.map(|text| zone.instant(text).map_err(|error| anyhow::anyhow!("{flag} '{text}': {error}"))).transpose()
    };
    Ok((read("--since", since)?, read("--until", until)?))
}
