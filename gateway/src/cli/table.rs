//! Columns for a terminal: as wide as their widest cell, numbers to the right.

use std::fmt::Write as _;

/// A cell is not shortened below this.
const LEAST: usize = 8;
/// Between two columns.
const GAP: usize = 2;

/// Lines of `head` and `rows`, without the last line end; a column whose cells are all numbers stands to the right.
pub(super) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    fit(head, rows, &[], None)
}

/// As [`render`], in no more than so many columns if that can be had by shortening the columns `words`, the first one
/// first.
pub(super) fn fit(head: &[&str], rows: &[Vec<String>], words: &[usize], room: Option<usize>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        !rows.is_empty()
            && rows.iter().all(|row| row[column].bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
    };
    let mut columns: Vec<(usize, bool)> =
        (0..head.len()).map(|column| (width(column), numeric(column))).collect();
    for word in words {
        let all = columns.iter().map(|(width, _)| width + GAP).sum::<usize>().saturating_sub(GAP);
        let excess = all.saturating_sub(room.unwrap_or(usize::MAX));
        let (width, _) = &mut columns[*word];
        *width -= excess.min(width.saturating_sub(LEAST));
    }
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, (width, right)) in cells.zip(&columns) {
            if !out.is_empty() {
                out.push_str("  ");
            }
            let cell = shortened(cell, *width);
            let _ = if *right { write!(out, "{cell:>width$}") } else { write!(out, "{cell:<width$}") };
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(out.trim_end());
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// The start of a cell that is too wide, and a sign that it goes on.
fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [vec!["demo".to_owned(), "7".to_owned()], vec!["a".to_owned(), "1000".to_owned()]];
        assert_eq!(render(&["sale", "sold"], &rows), "sale  sold\ndemo     7\na     1000");
    }

    #[test]
    fn words_are_shortened_to_the_room_and_no_further_than_makes_sense() {
        let cells = ["a-sale-of-some-length", "an item of some length", "1000"];
        let rows = [cells.map(str::to_owned).to_vec()];
        let head = ["sale", "item", "sold"];
        let in_room = |room| fit(&head, &rows, &[1, 0], room).lines().last().unwrap_or_default().to_owned();
        assert_eq!(in_room(None), "a-sale-of-some-length  an item of some length  1000");
        assert_eq!(in_room(Some(45)), "a-sale-of-some-length  an item of some…  1000");
        assert_eq!(in_room(Some(30)), "a-sale-of-som…  an item…  1000");
        assert_eq!(in_room(Some(1)), "a-sale-…  an item…  1000");
    }
}
