//! What a user has selected, asked for and not yet confirmed.

use std::time::Duration;

use sameport_policy::top::{
    GroupKey, MemberKey, TopGroup, TopMember, TopRow, TopState, TopView, selector, stepped_values,
};

use super::keys::Key;
use crate::operations::top::TopSample;
use crate::operations::top::actions::TopAction;

/// What a key makes the program do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyEffect {
    /// Draw again.
    Redraw,
    Quit,
    Act(TopAction),
}

/// What covers the list or waits for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Overlay {
    #[default]
    None,
    Help,
    /// The next key answers.
    Confirm(TopAction),
}

/// A row that stays selected while others come and go: a group, or one of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Selection {
    group: GroupKey,
    member: Option<MemberKey>,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub(super) struct ScreenState {
    pub(super) view: TopView,
    pub(super) sample: Option<TopSample>,
    pub(super) overlay: Overlay,
    /// The result of an action, or why a key did nothing.
    pub(super) message: Option<String>,
    /// Why the last look failed.
    pub(super) error: Option<String>,
    /// The port, if only one is shown, as text.
    pub(super) on: Option<String>,
    pub(super) interval: Duration,
    selected: Option<Selection>,
    /// The row at the top of the list.
    pub(super) scroll: usize,
    /// The rows that fit, from the last drawing.
    pub(super) height: usize,
}

impl ScreenState {
    /// `on`: the port, if only one is shown.
    pub(super) fn new(view: TopView, on: Option<String>, interval: Duration) -> Self {
        Self { view, on, interval, ..Self::default() }
    }

    /// Handles a key.
    pub(super) fn key(&mut self, key: Key) -> KeyEffect {
        self.message = None;
        match (std::mem::take(&mut self.overlay), key) {
            (Overlay::Confirm(action), Key::Char('y' | 'Y')) => return KeyEffect::Act(action),
            (Overlay::Confirm(_), _) => return KeyEffect::Redraw,
            (Overlay::Help, Key::Char('q')) => return KeyEffect::Quit,
            // Any other key closes the help.
            (Overlay::Help, _) => return KeyEffect::Redraw,
            (Overlay::None, _) => {}
        }
        match key {
            Key::Char('q') | Key::Escape => return KeyEffect::Quit,
            Key::Char('?' | 'h') => self.overlay = Overlay::Help,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-self.page()),
            Key::PageDown | Key::Char(' ') => self.step(self.page()),
            Key::Home | Key::Char('g') => self.step(isize::MIN),
            Key::End | Key::Char('G') => self.step(isize::MAX),
            Key::Char('s') => self.view.order = self.view.order.next(),
            Key::Char('a') => self.view.singles = !self.view.singles,
            Key::Enter => self.unfold(),
            Key::Char('r') => self.ask_restart(),
            Key::Char('d') => self.ask_drain(),
            Key::Char('+' | '=') => return self.step_weight(true),
            Key::Char('-') => return self.step_weight(false),
            Key::Char(_) => {}
        }
        KeyEffect::Redraw
    }

    fn page(&self) -> isize {
        isize::try_from(self.height.saturating_sub(1)).unwrap_or(isize::MAX)
    }

    /// The rows of the last frame.
    pub(super) fn rows(&self) -> Vec<TopRow<'_>> {
        self.sample.as_ref().map(|sample| self.view.rows(&sample.frame)).unwrap_or_default()
    }

    /// The index of the selected row. If it is gone, its group is selected, else the first row.
    pub(super) fn selected_index(&self, rows: &[TopRow<'_>]) -> usize {
        let Some(selected) = self.selected else { return 0 };
        let exact = rows.iter().position(|row| selection(row) == selected);
        let of_group = || rows.iter().position(|row| selection(row).group == selected.group);
        exact.or_else(of_group).unwrap_or(0)
    }

    /// Moves the selection.
    fn step(&mut self, by: isize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let next = self.selected_index(&rows).saturating_add_signed(by).min(last);
        self.selected = rows.get(next).map(selection);
    }

    fn unfold(&mut self) {
        let rows = self.rows();
        let Some(row) = rows.get(self.selected_index(&rows)) else { return };
        let (row_of, group) = (selection(row), selection(row).group);
        if !self.view.unfolded.remove(&group) {
            self.view.unfolded.insert(group);
        }
        self.selected = Some(row_of);
    }

    /// The selected member, or the only one of the selected group.
    fn target(&self) -> Option<(&TopGroup, &TopMember)> {
        let rows = self.rows();
        match *rows.get(self.selected_index(&rows))? {
            TopRow::Member(group, member) => Some((group, member)),
            TopRow::Group(group) | TopRow::More(group, ..) => match group.members.as_slice() {
                [member] => Some((group, member)),
                _ => None,
            },
        }
    }

    /// The only run of the selected group, if no member is selected.
    fn run(&self) -> Option<(String, Option<String>)> {
        if let Some((_, member)) = self.target() {
            return Some((member.run.clone()?, member.user.clone()));
        }
        let rows = self.rows();
        let TopRow::Group(group) = rows.get(self.selected_index(&rows))? else { return None };
        let run = |member: &TopMember| Some((member.run.clone()?, member.user.clone()));
        let mut runs: Vec<_> = group.members.iter().filter_map(run).collect();
        runs.dedup();
        match runs.as_slice() {
            [run] => Some(run.clone()),
            _ => None,
        }
    }

    fn ask_restart(&mut self) {
        match self.run() {
            Some((run, user)) => self.overlay = Overlay::Confirm(TopAction::Restart { run, user }),
            None => self.refuse("select a member of a named run: only a run can be restarted"),
        }
    }

    fn ask_drain(&mut self) {
        let action = self.target().and_then(|(group, member)| {
            let undo = member.state == TopState::Draining;
            Some(TopAction::Drain { group: group.key, member: selector(member)?, undo })
        });
        match action {
            Some(action) => self.overlay = Overlay::Confirm(action),
            None => self.refuse("select a member with a visible process: it can be drained"),
        }
    }

    /// A weight is changed without a question: the other key changes it back.
    fn step_weight(&mut self, up: bool) -> KeyEffect {
        let action = self.target().and_then(|(group, member)| {
            let (values, member) = (stepped_values(group, member, up)?, selector(member)?);
            Some(TopAction::Step { group: group.key, member, values })
        });
        match action {
            Some(action) => KeyEffect::Act(action),
            None => {
                self.refuse("select a member with a visible process and a weight above 0");
                KeyEffect::Redraw
            }
        }
    }

    fn refuse(&mut self, why: &str) {
        self.message = Some(why.to_owned());
    }
}

fn selection(row: &TopRow<'_>) -> Selection {
    match row {
        TopRow::Group(group) | TopRow::More(group, ..) => {
            Selection { group: group.key, member: None }
        }
        TopRow::Member(group, member) => Selection { group: group.key, member: Some(member.key) },
    }
}
