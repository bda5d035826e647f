//! Quotas: the verb, and the file that says what they are.

use std::fmt::Display;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::values::{bytes, origin, quota_format};
use super::{Form, Origins, Who};
use crate::meter::Cidr;
use crate::period::Every;
use crate::quota::{Direction, Holder, Quota};
use crate::zone::Zone;

const EXAMPLES: &str = "Examples:
  ztmon quota check --quotas quotas.toml                 how each quota stands
  ztmon quota check --quotas quotas.toml || mail-me      for cron

  # quotas.toml
  tz = \"Europe/Berlin\"
  [[quota]]
  name = \"alice\"
  client = \"10.147.20.11\"        # or: member = \"6df5629e82\" (or its name),
                                 #     group = [\"fd00::/8\", \"bob\"]
  bytes = \"50GB\"                 # kB, MB, GB, TB; KiB, MiB, GiB, TiB
  period = \"month\"               # hour, day, week, month
  start-day = 14                 # on which a month begins
  direction = \"both\"             # sent, received, both

Exit status: 0 none is exceeded; 1 one is; 2 of one that cannot be told, or nothing could be done.";

/// `ztmon quota`.
#[derive(Debug, Subcommand)]
pub enum QuotaVerb {
    /// Print how each quota stands; exit with 1 if one is exceeded, with 2 if that cannot be told
    #[command(after_help = EXAMPLES)]
    Check(QuotaCheck),
}

/// `ztmon quota check`.
#[derive(Debug, Args)]
pub struct QuotaCheck {
    /// Quotas, a TOML file
    #[arg(long, value_name = "FILE")]
    pub quotas: PathBuf,
    /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Captured live, imported by replay, or both
    #[arg(long, value_name = "ORIGIN", default_value = "all", value_parser = origin())]
    pub origin: Origins,
    /// Time zone in which periods begin (IANA name) [default: the file's tz, else the system's]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// How to print [default: table on a terminal, csv otherwise]
    #[arg(long, value_name = "FORMAT", value_parser = quota_format())]
    pub format: Option<Form>,
    /// Who members are.
    #[command(flatten)]
    pub who: Who,
}

/// What a file of quotas says.
#[derive(Debug)]
pub struct QuotaFile {
    /// Where periods begin, if it says so.
    pub tz: Option<Zone>,
    /// Its quotas, in its order.
    pub quotas: Vec<Quota>,
}

const OF_FILE: [&str; 2] = ["quota", "tz"];
const OF_QUOTA: [&str; 8] = ["name", "client", "member", "group", "bytes", "period", "start-day", "direction"];
const HOLDERS: &str = "give one of client = \"10.147.20.11\", member = \"6df5629e82\" or group = [...]";

impl QuotaFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The number of the line, and what to do about it.
    pub fn parse(text: &str) -> Result<QuotaFile, String> {
        let lines = Lines(text);
        let file = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            lines.wrong(at, error.message().replace('\n', ", "))
        })?;
        let top = Table { at: file.span().start, table: file.get_ref(), lines, known: &OF_FILE };
        top.check_keys()?;
        let tz = top.text("tz")?.map(|tz| Zone::named(tz.value).map_err(|error| tz.wrong(error))).transpose()?;
        let Some(found) = top.get("quota") else { return Err(top.wrong("there is no [[quota]] in it")) };
        let found = found.value.as_array().ok_or_else(|| found.wrong("write [[quota]], with two brackets"))?;
        let mut quotas: Vec<Quota> = Vec::new();
        for one in found {
            let table =
                one.get_ref().as_table().ok_or_else(|| lines.wrong(one.span().start, "begin each with [[quota]]"))?;
            let table = Table { at: one.span().start, table, lines, known: &OF_QUOTA };
            let quota = quota(&table)?;
            if quotas.iter().any(|other| other.name == quota.name) {
                let name = table.get("name").map_or(table.at, |name| name.at);
                return Err(
                    lines.wrong(name, format!("a quota before is called '{}', too: give another name", quota.name))
                );
            }
            quotas.push(quota);
        }
        Ok(QuotaFile { tz, quotas })
    }
}

fn quota(table: &Table) -> Result<Quota, String> {
    table.check_keys()?;
    let name = table.text("name")?.ok_or_else(|| table.wrong("give the quota a name"))?;
    if name.value.is_empty() || name.value.len() > 255 || name.value.chars().any(char::is_control) {
        return Err(name.wrong("give a name of up to 255 bytes, in one line"));
    }
    let limit = table.get("bytes").ok_or_else(|| table.wrong("say how much: bytes = \"50GB\""))?;
    let bytes = match limit.value {
        DeValue::String(text) => bytes(text),
        DeValue::Integer(number) if number.radix() == 10 => bytes(number.as_str()),
        _ => Err("give a number of bytes, like \"50GB\"".to_owned()),
    };
    let bytes = bytes.and_then(|bytes| if bytes > 0 { Ok(bytes) } else { Err("give at least 1 byte".to_owned()) });
    let period = table.text("period")?.ok_or_else(|| table.wrong("say for how long: period = \"month\""))?;
    let start_day = table.get("start-day");
    let start =
        match start_day.as_ref().map(|day| (day, day.value.as_integer().and_then(|day| day.as_str().parse().ok()))) {
            None => 1,
            Some((_, Some(day @ 1..=31))) => day,
            Some((wrong, _)) => return Err(wrong.wrong("give a day from 1 to 31")),
        };
    let every = match period.value {
        "hour" => Every::Hour,
        "day" => Every::Day,
        "week" => Every::Week,
        "month" => Every::Month { start },
        _ => return Err(period.wrong("give hour, day, week or month")),
    };
    if let (Some(day), true) = (&start_day, period.value != "month") {
        return Err(day.wrong("start-day needs period = \"month\""));
    }
    let direction = match table.text("direction")? {
        None => Direction::Both,
        Some(text) => match text.value {
            "sent" => Direction::Sent,
            "received" => Direction::Received,
            "both" => Direction::Both,
            _ => return Err(text.wrong("give sent, received or both")),
        },
    };
    Ok(Quota {
        name: name.value.to_owned(),
        whose: holders(table)?,
        limit: bytes.map_err(|error| limit.wrong(error))?,
        every,
        direction,
    })
}

/// Whose the quota is.
fn holders(table: &Table) -> Result<Vec<Holder>, String> {
    let given = [table.get("client"), table.get("member"), table.get("group")];
    match given {
        [Some(client), None, None] => {
            let range = client.text()?.parse::<Cidr>().map_err(|error| client.wrong(error))?;
            Ok(vec![Holder::Clients(range)])
        }
        [None, Some(member), None] => Ok(vec![Holder::Member(member.name()?.to_owned())]),
        [None, None, Some(group)] => {
            let wrong = || group.wrong("give a list of addresses, ranges, node ids and members' names");
            let list = group.value.as_array().filter(|list| !list.is_empty()).ok_or_else(wrong)?;
            let holder = |one: &Spanned<DeValue>| {
                let one = At { at: one.span().start, value: one.get_ref(), lines: table.lines };
                Ok(match one.name()?.parse::<Cidr>() {
                    Ok(range) => Holder::Clients(range),
                    // What can be nothing but a range is one that is wrong.
                    Err(error) if one.text()?.contains('/') => return Err(one.wrong(error)),
                    Err(_) => Holder::Member(one.text()?.to_owned()),
                })
            };
            list.iter().map(holder).collect()
        }
        _ => Err(table.wrong(HOLDERS)),
    }
}

/// The file's text, to tell lines by.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a str);

impl Lines<'_> {
    /// The error at a byte.
    fn wrong(self, at: usize, what: impl Display) -> String {
        let line = 1 + self.0.bytes().take(at).filter(|byte| *byte == b'\n').count();
        format!("{line}: {what}")
    }
}

/// A table, where it begins.
struct Table<'a> {
    at: usize,
    table: &'a DeTable<'a>,
    lines: Lines<'a>,
    known: &'static [&'static str],
}

/// A value, where it stands.
struct At<'a, T> {
    at: usize,
    value: T,
    lines: Lines<'a>,
}

impl<'a> Table<'a> {
    fn wrong(&self, what: impl Display) -> String {
        self.lines.wrong(self.at, what)
    }

    fn check_keys(&self) -> Result<(), String> {
        let unknown = self.table.keys().filter(|key| !self.known.contains(&&**key.get_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            Some(key) => {
                let known = self.known.join(", ");
                Err(self
                    .lines
                    .wrong(key.span().start, format!("'{}' means nothing here; there are {known}", key.get_ref())))
            }
            None => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<At<'a, &'a DeValue<'a>>> {
        let value = self.table.get(key)?;
        Some(At { at: value.span().start, value: value.get_ref(), lines: self.lines })
    }

    fn text(&self, key: &str) -> Result<Option<At<'a, &'a str>>, String> {
        let Some(found) = self.get(key) else { return Ok(None) };
        Ok(Some(At { at: found.at, value: found.text()?, lines: found.lines }))
    }
}

impl<T> At<'_, T> {
    fn wrong(&self, what: impl Display) -> String {
        self.lines.wrong(self.at, what)
    }
}

impl<'a> At<'a, &'a DeValue<'a>> {
    fn text(&self) -> Result<&'a str, String> {
        self.value.as_str().ok_or_else(|| self.wrong("write it in quotes"))
    }

    /// A text that is not empty.
    fn name(&self) -> Result<&'a str, String> {
        let text = self.text()?;
        if text.is_empty() { Err(self.wrong("there is nothing between the quotes")) } else { Ok(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quota with these lines instead of, or behind, its own.
    fn with(lines: &str) -> Result<Quota, String> {
        let keys: Vec<&str> = lines.lines().filter_map(|line| line.split_once(" =")).map(|(key, _)| key).collect();
        let of_whom = ["client", "member", "group"];
        let own = ["name = \"a\"", "client = \"10.0.0.1\"", "bytes = \"1kB\"", "period = \"month\""];
        let says_whose = keys.iter().any(|key| of_whom.contains(key));
        let kept = own.iter().filter(|line| {
            let key = line.split_once(" =").unwrap().0;
            !(keys.contains(&key) || says_whose && of_whom.contains(&key))
        });
        let text = kept.fold("[[quota]]\n".to_owned(), |text, line| text + line + "\n") + lines;
        QuotaFile::parse(&text).map(|file| file.quotas.into_iter().next().unwrap())
    }

    #[test]
    fn a_quota_says_who_and_how_much_and_when() {
        let quota = with("bytes = \"2GiB\"\nstart-day = 14\ndirection = \"sent\"").unwrap();
        let client = Holder::Clients("10.0.0.1".parse().unwrap());
        let expected = Quota {
            name: "a".to_owned(),
            whose: vec![client.clone()],
            limit: 2 << 30,
            every: Every::Month { start: 14 },
            direction: Direction::Sent,
        };
        assert_eq!(quota, expected);
        let group = with("group = [\"10.0.0.1\", \"fd00::/8\", \"6df5629e82\", \"the bob\"]").unwrap();
        let member = |name: &str| Holder::Member(name.to_owned());
        assert_eq!(
            group.whose,
            [client, Holder::Clients("fd00::/8".parse().unwrap()), member("6df5629e82"), member("the bob")]
        );
        assert_eq!((group.every, group.direction), (Every::Month { start: 1 }, Direction::Both));
        assert_eq!(with("bytes = 5_000").unwrap().limit, 5000);
        let file =
            QuotaFile::parse("tz = \"Asia/Kathmandu\"\n[[quota]]\nname=\"a\"\nmember=\"b\"\nbytes=1\nperiod=\"hour\"");
        assert_eq!(file.unwrap().tz, Some(Zone::named("Asia/Kathmandu").unwrap()));
    }

    #[test]
    fn an_error_names_its_line_and_what_to_do() {
        for (lines, error) in [
            (
                "colour = 1",
                "6: 'colour' means nothing here; there are name, client, member, group, bytes, period, start-day, direction",
            ),
            ("bytes = \"5XB\"", "5: give a number of bytes, like 500, 10kB, 5MB or 1GiB"),
            ("bytes = 0", "5: give at least 1 byte"),
            ("bytes = 1.5", "5: give a number of bytes, like \"50GB\""),
            ("bytes = -1", "5: give a number of bytes, like 500, 10kB, 5MB or 1GiB"),
            ("start-day = 32", "6: give a day from 1 to 31"),
            ("start-day = \"1\"", "6: give a day from 1 to 31"),
            ("period = \"day\"\nstart-day = 3", "6: start-day needs period = \"month\""),
            ("period = \"year\"", "5: give hour, day, week or month"),
            ("direction = \"up\"", "6: give sent, received or both"),
            ("client = \"10.0.0.1/8\"", "5: has host bits set; the network meant is 10.0.0.0/8"),
            ("group = []", "5: give a list of addresses, ranges, node ids and members' names"),
            ("group = [\"10.0.0.1\",\n\"10.0.0.0/33\"]", "6: give an address range like 10.147.20.0/24 or fd00::/8"),
            ("client = 5", "5: write it in quotes"),
            ("member = \"\"", "5: there is nothing between the quotes"),
            ("name = \"\"", "5: give a name of up to 255 bytes, in one line"),
            ("name = \"a\\nb\"", "5: give a name of up to 255 bytes, in one line"),
            (
                "client = \"10.0.0.1\"\nmember = \"x\"",
                "1: give one of client = \"10.147.20.11\", member = \"6df5629e82\" or group = [...]",
            ),
            ("bytes = 1\nbytes = 2", "6: duplicate key"),
            ("bytes = ", "5: "),
        ] {
            let found = with(lines).unwrap_err();
            assert!(found.starts_with(error) && !found.contains('\n'), "{lines:?}: {found}");
        }
        let one = "[[quota]]\nname = \"a\"\nclient = \"10.0.0.2\"\nbytes = 1\nperiod = \"day\"\n";
        for (text, error) in [
            (one.repeat(2).as_str(), "7: a quota before is called 'a', too: give another name"),
            (&format!("{one}\n[[quota]]\nname = \"b\""), "7: say how much: bytes = \"50GB\""),
            ("", "1: there is no [[quota]] in it"),
            ("\n[quota]\nname = \"a\"", "2: write [[quota]], with two brackets"),
            ("quota = [1]", "1: begin each with [[quota]]"),
            ("\ntz = \"Mars\"", "2: 'Mars' is no time zone; give an IANA name like Europe/Berlin"),
        ] {
            assert_eq!(QuotaFile::parse(text).unwrap_err(), error, "{text:?}");
        }
    }
}
