//! JSON: one object and a newline. Rows are written one by one, never held as a document.

use std::io::{self, Write};

use serde_json::Value;

use super::Report;
use super::record::{COVERED, Cell, cells_of};

pub(super) fn write(out: &mut dyn Write, report: &Report, summary: &Value) -> io::Result<()> {
    let columns = report.columns();
    let every = report.query.every.map_or("total".to_owned(), |every| every.to_string());
    let (zone, offset) = (Value::from(report.query.zone.to_string()), Value::from(report.offset()));
    write!(out, "{{\"every\":\"{every}\",\"time_zone\":{zone},\"utc_offset\":{offset},\"rows\":[")?;
    for (i, cells) in report.records().enumerate() {
        out.write_all(if i > 0 { b"," } else { b"" })?;
        object(out, columns.iter().zip(&cells))?;
    }
    out.write_all(b"],\"coverage\":[")?;
    let known = report.networks().filter_map(|name| Some((name, report.covered(name, None)?)));
    for (i, (name, covered)) in known.enumerate() {
        out.write_all(if i > 0 { b"," } else { b"" })?;
        let network = [(&"network", &Cell::Text(name))];
        object(out, network.into_iter().chain(COVERED.iter().zip(&cells_of(Some(covered)))))?;
    }
    out.write_all(b"],\"summary\":")?;
    serde_json::to_writer(&mut *out, summary)?;
    out.write_all(b"}\n")
}

/// Names, which need no escapes, and values.
fn object<'a>(out: &mut dyn Write, cells: impl Iterator<Item = (&'a &'static str, &'a Cell<'a>)>) -> io::Result<()> {
    out.write_all(b"{")?;
    for (i, (name, cell)) in cells.enumerate() {
        write!(out, "{}\"{name}\":", if i > 0 { "," } else { "" })?;
        match cell {
            Cell::Number(_) | Cell::Share(_) => write!(out, "{cell}")?,
            Cell::Nothing => out.write_all(b"null")?,
            _ => serde_json::to_writer(&mut *out, &cell.to_string())?,
        }
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{add, address_sample, pair_sample, printed, row};
    use super::super::{Builder, By, Format, Sort};
    use super::*;

    #[test]
    fn by_address() {
        assert_eq!(
            printed(&address_sample(), Format::Json),
            concat!(
                r#"{"every":"total","time_zone":"UTC","utc_offset":"+00:00","rows":[{"addr":"10.0.0.1","sent_bytes":1500,"received_bytes":40,"sent_packets":2,"#,
                r#""received_packets":1,"first_seen":"1970-01-01T00:00:01Z","last_seen":"1970-01-01T00:00:04Z"},"#,
                r#"{"addr":"fd00::2","sent_bytes":40,"received_bytes":1000,"sent_packets":1,"#,
                r#""received_packets":1,"first_seen":"1970-01-01T00:00:01Z","last_seen":"1970-01-01T00:00:03.5Z"},"#,
                r#"{"addr":"external","sent_bytes":0,"received_bytes":500,"sent_packets":0,"#,
                r#""received_packets":1,"first_seen":"1970-01-01T00:00:04Z","last_seen":"1970-01-01T00:00:04Z"}],"coverage":[],"#,
                r#""summary":{"frames":3,"damaged":false}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn by_pair_has_the_columns_of_the_csv() {
        let json: Value = serde_json::from_str(&printed(&pair_sample(), Format::Json)).unwrap();
        let second: Vec<_> = json["rows"][1].as_object().unwrap().iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            second.join(" "),
            r#"src="10.0.0.1" dst="external" bytes=500 packets=1 "#.to_owned()
                + r#"first_seen="1970-01-01T00:00:04Z" last_seen="1970-01-01T00:00:04Z""#
        );
    }

    #[test]
    fn no_rows() {
        let empty = Builder::new(By::Address).finish(Sort::Total, None);
        assert_eq!(
            printed(&empty, Format::Json),
            "{\"every\":\"total\",\"time_zone\":\"UTC\",\"utc_offset\":null,\"rows\":[],\"coverage\":[],\"summary\":{\"frames\":3,\"damaged\":false}}\n"
        );
    }

    #[test]
    fn names_are_escaped_and_numbers_exact() {
        let mut builder = Builder::new(By::Pair);
        add(&mut builder, "a\"\n", &row("10.0.0.1", "external", u64::MAX, 1, 0));
        add(&mut builder, "b", &row("10.0.0.1", "external", 1, 1, 0));
        let json = printed(&builder.finish(Sort::Total, None), Format::Json);
        assert!(json.contains(r#","rows":[{"network":"a\"\n","src":"10.0.0.1","dst":"external","#), "{json}");
        assert!(json.contains(r#""bytes":18446744073709551615,"#), "{json}");
        serde_json::from_str::<Value>(&json).unwrap();
    }
}
