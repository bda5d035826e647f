//! What a report is asked for.

use std::rc::Rc;

use super::place::Clock;
use crate::cli::{Ends, Form, Output};
use crate::period::Every;
use crate::report::{Format, Query};
use crate::time::Timestamp;
use crate::traffic::End;
use crate::when::When;
use crate::zone::Zone;

/// The query of the flags; `bound` makes times of the words.
pub(super) fn query(output: &Output, bound: fn(When) -> Timestamp) -> anyhow::Result<Query> {
    let clock = Clock::new(output.tz.as_deref(), output.month_start())?;
    let every = output.every();
    let page = output.format == Some(Form::Report(Format::Html));
    Ok(Query {
        by: output.by,
        // Without periods it is only printed.
        zone: if every.is_some() { clock.zone()? } else { clock.zone().unwrap_or(Zone::UTC) },
        every: if page { every.or(Some(Every::Hour)) } else { every },
        since: clock.time("--since", output.since.as_deref())?.map(bound),
        until: clock.time("--until", output.until.as_deref())?.map(bound),
        only: only(&output.addr),
        page,
        fits: page && every.is_none(),
    })
}

/// Whether an end is one of those chosen, if any are.
fn only(chosen: &[Ends]) -> Option<Rc<dyn Fn(End) -> bool>> {
    if chosen.is_empty() {
        return None;
    }
    let chosen = chosen.to_vec();
    Some(Rc::new(move |end| {
        chosen.iter().any(|one| match (one, end) {
            (Ends::Range(range), End::Addr(addr)) => range.contains(addr),
            (Ends::Pseudo(pseudo), end) => *pseudo == end,
            _ => false,
        })
    }))
}
