//! Columns for a terminal: as wide as their widest cell, numbers to the right.

use std::fmt::Write as _;

/// Lines of `head` and `rows`; a column whose cells are all numbers stands to the right.
pub(super) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        !rows.is_empty()
            && rows.iter().all(|row| row[column].bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
    };
    let columns: Vec<(usize, bool)> =
        (0..head.len()).map(|column| (width(column), numeric(column))).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, (width, right)) in cells.zip(&columns) {
            if !out.is_empty() {
                out.push_str("  ");
            }
            let _ = if *right { write!(out, "{cell:>width$}") } else { write!(out, "{cell:<width$}") };
        }
        text.push_str(out.trim_end());
        text.push('\n');
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [vec!["demo".to_owned(), "7".to_owned()], vec!["a".to_owned(), "1000".to_owned()]];
        assert_eq!(render(&["sale", "sold"], &rows), "sale  sold\ndemo     7\na     1000\n");
    }
}
