//! Rows in columns, as wide as their content, within a width.

use std::borrow::Cow;

use sameport_policy::top::{TopGroup, TopMember, TopRow, TopView};

use super::cells::{self, Column};
use crate::operations::top::TopSample;
use crate::output::text::truncate;

/// Members are indented below the title of their group.
const INDENT: usize = 2;
/// The least width of a column with names, before a column is left out.
const LEAST_NAME: usize = 8;

/// A line and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopLine<'a> {
    pub(super) row: TopRow<'a>,
    pub(super) text: String,
}

/// The columns for a set of members in a width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    shown: Vec<(Column, usize)>,
}

impl Columns {
    /// Leaves out columns that do not fit, and then cuts names. `width`: `None` for no limit.
    pub(super) fn new<'a>(
        members: impl IntoIterator<Item = &'a TopMember>,
        width: Option<usize>,
    ) -> Self {
        let mut widths = Column::ALL.map(|column| column.title().len());
        let (mut has_weight, mut has_restarts) = (false, false);
        for member in members {
            has_weight |= member.weight.is_some();
            has_restarts |= member.restarts.is_some();
            for (width, column) in widths.iter_mut().zip(Column::ALL) {
                *width = (*width).max(cells::cell(member, column).chars().count());
            }
        }
        let mut shown: Vec<(Column, usize)> = Column::ALL.into_iter().zip(widths).collect();
        shown.retain(|(column, _)| match column {
            Column::Weight => has_weight,
            Column::Restarts => has_restarts,
            _ => true,
        });
        let mut columns = Self { shown };
        let Some(limit) = width else { return columns };
        for optional in [None].into_iter().chain(Column::OPTIONAL.map(Some)) {
            columns.shown.retain(|(column, _)| Some(*column) != optional);
            if columns.cut(limit) {
                break;
            }
        }
        columns
    }

    fn width(&self) -> usize {
        INDENT + self.shown.iter().map(|(_, width)| width + 2).sum::<usize>() - 2
    }

    /// Cuts the names, and returns whether the columns fit.
    fn cut(&mut self, limit: usize) -> bool {
        let whole = self.shown.clone();
        for name in [Column::Program, Column::Member] {
            let excess = self.width().saturating_sub(limit);
            let cut = self.shown.iter_mut().find(|(column, _)| *column == name);
            if let Some((_, width)) = cut {
                *width -= excess.min(width.saturating_sub(LEAST_NAME));
            }
        }
        let fits = self.width() <= limit;
        if !fits {
            self.shown = whole;
        }
        fits
    }

    /// Whether every column is shown that has a value.
    pub(super) fn has(&self, column: Column) -> bool {
        self.shown.iter().any(|(shown, _)| *shown == column)
    }

    /// The line with the titles.
    pub(super) fn header(&self) -> String {
        self.line(|column| column.title().into())
    }

    pub(super) fn member(&self, member: &TopMember) -> String {
        self.line(|column| cells::cell(member, column).into())
    }

    fn line(&self, cell: impl Fn(Column) -> Cow<'static, str>) -> String {
        let mut line = " ".repeat(INDENT);
        for (at, (column, width)) in self.shown.iter().enumerate() {
            if at > 0 {
                line.push_str("  ");
            }
            let whole = cell(*column);
            let text = truncate(&whole, *width);
            let gap = " ".repeat(width.saturating_sub(text.chars().count()));
            let parts = if column.is_number() { [&*gap, &*text] } else { [&*text, &*gap] };
            parts.iter().for_each(|part| line.push_str(part));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The lines of the rows.
pub(super) fn lines<'a>(rows: &[TopRow<'a>], columns: &Columns) -> Vec<TopLine<'a>> {
    let text = |row: &TopRow<'a>| match row {
        TopRow::Group(group) => cells::title(group),
        TopRow::Member(_, member) => columns.member(member),
        TopRow::More(_, count, open) => {
            format!("{}{}", " ".repeat(INDENT), cells::more(*count, *open))
        }
    };
    rows.iter().map(|row| TopLine { row: *row, text: text(row) }).collect()
}

/// The members of rows.
pub(super) fn members<'a>(rows: &[TopRow<'a>]) -> impl Iterator<Item = &'a TopMember> {
    rows.iter().filter_map(|row| match row {
        TopRow::Member(_, member) => Some(*member),
        _ => None,
    })
}

/// A frame as text: every group and member that the view shows. `width`: of the terminal, if it is one.
pub(crate) fn text(sample: &TopSample, view: &TopView, width: Option<usize>) -> String {
    let shown: Vec<&TopGroup> = view.groups(&sample.frame);
    let rows = view.rows(&sample.frame);
    let columns = Columns::new(members(&rows), width);
    let mut text = String::new();
    let mut push = |line: &str| {
        text.push_str(&truncate(line, width.unwrap_or(usize::MAX)));
        text.push('\n');
    };
    push(&cells::summary(&sample.frame, &shown));
    push(&columns.header());
    lines(&rows, &columns).iter().for_each(|line| push(&line.text));
    text
}
