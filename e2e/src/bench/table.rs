//! Figures and how they are printed.

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Hawser's figure, with its unit.
    pub(crate) hawser: String,
    /// What it is compared with, with its unit; a dash without comparison.
    pub(crate) beside: String,
    /// The ratio or the goal.
    pub(crate) judgement: String,
}

/// The middle value; the mean of the two middle ones of an even number. 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A table in Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let head = "| what | Hawser | beside it | ratio or goal |\n|---|---|---|---|\n".to_owned();
    rows.iter().fold(head, |table, row| {
        format!(
            "{table}| {} | {} | {} | {} |\n",
            row.what, row.hawser, row.beside, row.judgement
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
