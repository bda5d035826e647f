//! CSV as in RFC 4180.

use std::borrow::Cow;
use std::io::{self, Write};

use super::Report;
use super::record::Cell;

pub(super) fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    write!(out, "{}\r\n", report.columns().join(","))?;
    for cells in report.records() {
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                out.write_all(b",")?;
            }
            match cell {
                Cell::Text(text) => out.write_all(quoted(text).as_bytes())?,
                _ => write!(out, "{cell}")?,
            }
        }
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address_sample, pair_sample, printed};
    use super::super::{Builder, By, Format, Sort};
    use super::*;

    #[test]
    fn by_address() {
        assert_eq!(
            printed(&address_sample(), Format::Csv),
            "addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen\r\n\
             10.0.0.1,1500,40,2,1,1970-01-01T00:00:01Z,1970-01-01T00:00:04Z\r\n\
             fd00::2,40,1000,1,1,1970-01-01T00:00:01Z,1970-01-01T00:00:03.5Z\r\n\
             external,0,500,0,1,1970-01-01T00:00:04Z,1970-01-01T00:00:04Z\r\n"
        );
    }

    #[test]
    fn by_pair() {
        assert_eq!(
            printed(&pair_sample(), Format::Csv),
            "src,dst,bytes,packets,first_seen,last_seen\r\n\
             10.0.0.1,fd00::2,1000,1,1970-01-01T00:00:01Z,1970-01-01T00:00:01Z\r\n\
             10.0.0.1,external,500,1,1970-01-01T00:00:04Z,1970-01-01T00:00:04Z\r\n\
             fd00::2,10.0.0.1,40,1,1970-01-01T00:00:03.5Z,1970-01-01T00:00:03.5Z\r\n"
        );
    }

    #[test]
    fn the_header_comes_without_rows_too() {
        let empty = Builder::new(By::Pair).finish(Sort::Total, None);
        assert_eq!(printed(&empty, Format::Csv), "src,dst,bytes,packets,first_seen,last_seen\r\n");
    }

    #[test]
    fn quotes_what_would_break_a_line() {
        assert_eq!(quoted("zt0"), "zt0");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("a\"b\r\n"), "\"a\"\"b\r\n\"");
    }
}
