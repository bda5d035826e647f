//! What the machine says where the arguments do not: the database's path, the time zone.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::time::Timestamp;
use crate::when::{self, When};
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
    let from_system = || iana_time_zone::get_timezone().unwrap_or_else(|_| "UTC".to_owned());
    let name = match (given, env::var("TZ")) {
        (Some(name), _) => return Zone::named(name).map_err(anyhow::Error::msg).context("--tz"),
        (None, Ok(name)) if !name.is_empty() => match name.trim_start_matches(':') {
            name if name.contains("zoneinfo/") => name.rsplit("zoneinfo/").next().unwrap_or(name).to_owned(),
            name if name.starts_with('/') => from_system(),
            name => name.to_owned(),
        },
        _ => from_system(),
    };
    Zone::named(&name).map_err(anyhow::Error::msg).context("the system's time zone cannot be used: give --tz")
}

/// What times mean here and now.
pub(super) struct Clock {
    now: Timestamp,
    /// Or why the system has none that can be used: that matters only where one is needed.
    zone: Result<Zone, String>,
    month_start: u32,
}

impl Clock {
    /// In the zone of `--tz`, or the system's.
    pub(super) fn new(tz: Option<&str>, month_start: u32) -> anyhow::Result<Self> {
        let zone = match zone(tz) {
            Err(error) if tz.is_none() => Err(format!("{error:#}")),
            zone => Ok(zone?),
        };
        Ok(Clock { now: Timestamp::now(), zone, month_start })
    }

    /// The zone.
    pub(super) fn zone(&self) -> anyhow::Result<Zone> {
        self.zone.clone().map_err(anyhow::Error::msg)
    }

    /// Reads the time that a flag was given.
    pub(super) fn time(&self, flag: &str, text: Option<&str>) -> anyhow::Result<Option<When>> {
        let Some(text) = text else { return Ok(None) };
        if let Some(time) = Zone::absolute(text) {
            return Ok(Some(When::At(time)));
        }
        let read = when::read(text, self.now, self.zone()?, self.month_start);
        read.map(Some).map_err(|error| anyhow::anyhow!("{flag} '{text}': {error}"))
    }
}

/// Lets this process have as many files open as it may: captures that overlap are read side by side.
pub(super) fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it may not, the files that cannot be opened are named.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
}
