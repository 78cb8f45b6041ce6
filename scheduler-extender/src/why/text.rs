//! The answer as a page to read.

use std::fmt::{self, Display, Formatter};

use super::{Alike, CameTo, Judged, Last, Why};

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}", self.pod)?;
        if let Some(uid) = &self.uid {
            write!(f, " ({uid})")?;
        }
        writeln!(f)?;
        if let Some(last) = &self.last {
            last.fmt(f)?;
        }
        if let Some(now) = &self.now {
            writeln!(f, "\nnow, {}", now.at)?;
            now.came_to.fmt(f)?;
        }
        for (i, note) in self.notes.iter().enumerate() {
            writeln!(f, "{}note: {note}", if i == 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Last {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(filter) = &self.filter {
            writeln!(
                f,
                "\nlast filtered {} s ago, {}",
                filter.seconds_ago, filter.at
            )?;
            filter.came_to.fmt(f)?;
        }
        if let Some(prioritize) = &self.prioritize {
            writeln!(
                f,
                "\nlast prioritized {} s ago, {}: points, 0 to 10",
                prioritize.seconds_ago, prioritize.at
            )?;
            let width = width(prioritize.scores.iter().map(|score| score.node.as_str()));
            for score in &prioritize.scores {
                writeln!(f, "  {:width$}  {}", score.node, score.points)?;
            }
        }
        Ok(())
    }
}

impl Display for CameTo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs { .. } => {
                writeln!(f, "  none of its volumes is ours: storage has no say")
            }
            Self::Refused { sentence, .. } => writeln!(f, "  no node will do: {sentence}"),
            Self::NotYet { sentence, .. } => writeln!(f, "  nothing can be said yet: {sentence}"),
            Self::Judged {
                asks,
                fit,
                refused,
                nodes,
                alike,
            } => {
                for asked in asks.iter().flatten() {
                    writeln!(f, "  {asked}")?;
                }
                writeln!(f, "  {fit} of {} nodes can hold its volumes", fit + refused)?;
                let width = width(nodes.iter().map(|judged| judged.node.node.as_str()));
                nodes.iter().try_for_each(|judged| judged.line(f, width))?;
                alike.iter().try_for_each(|alike| alike.line(f))
            }
        }
    }
}

impl Judged {
    fn line(&self, f: &mut Formatter<'_>, width: usize) -> fmt::Result {
        write!(f, "  {:width$}  ", self.node.node)?;
        match (&self.node.score, &self.node.why) {
            (Some(score), _) => {
                let places = self.node.volumes.iter().flatten();
                let further: Vec<String> = places
                    .filter(|planned| planned.copies.len() > 1)
                    .map(|planned| {
                        let nodes: Vec<&str> = planned.copies[1..]
                            .iter()
                            .map(|place| &*place.node)
                            .collect();
                        format!("{} also on {}", planned.claim, nodes.join(", "))
                    })
                    .collect();
                let further = if further.is_empty() {
                    String::new()
                } else {
                    format!("; {}", further.join("; "))
                };
                writeln!(
                    f,
                    "yes, {} points ({:?}, {} up to date, room {}/1000){further}",
                    score.points, score.tier, score.up_to_date, score.room
                )
            }
            (None, Some(why)) => writeln!(f, "no: {}", why.sentence),
            (None, None) => writeln!(f, "no"),
        }
    }
}

impl Alike {
    fn line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (count, nearest, said) = (self.count, &self.nearest, &self.said);
        writeln!(f, "  {count} alike, {nearest} the nearest  no: {said}")
    }
}

/// The longest of the names.
pub(crate) fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).max().unwrap_or(0)
}
