//! Assigns sockets to programs.

use std::collections::HashMap;

use super::facts::AuditFacts;
use super::identity::{EvidenceSource, are_one_program};
use super::precedence::socket_user;
use crate::model::Member;

/// The number of processes that represent a socket in comparisons: the rest are copies of them.
const COMPARED_PROCESSES: usize = 8;

/// The number of sockets that represent a program in comparisons.
const COMPARED_SOCKETS: usize = 4;

/// A union-find structure: programs are merged when a socket belongs to both.
#[derive(Default)]
pub(super) struct ProgramSets<'a> {
    /// The sockets of each program, by number.
    sockets: Vec<Vec<&'a Member>>,
    /// For each number, the number of the program that it was merged into, or itself.
    merged_into: Vec<usize>,
    /// The program of a process, for sockets of one user.
    by_process: HashMap<(i32, u32), usize>,
}

impl<'a> ProgramSets<'a> {
    /// Adds a socket and returns the number of its program; `None` if its processes are hidden.
    /// Later sockets can merge programs: see [`Self::representative`].
    pub(super) fn add(&mut self, member: &'a Member, facts: &AuditFacts) -> Option<usize> {
        member.processes.first()?;
        let uid = socket_user(member);
        let pids = member.processes.iter().map(|process| (process.pid, uid));
        let mut matching: Vec<_> =
            pids.clone().filter_map(|key| self.by_process.get(&key).copied()).collect();
        if matching.is_empty() {
            let representatives =
                (0..self.sockets.len()).filter(|program| self.merged_into[*program] == *program);
            let has_this_program = |program: &usize| {
                let mut sockets = self.sockets[*program].iter().take(COMPARED_SOCKETS);
                sockets.any(|other| have_a_common_program(member, other, facts))
            };
            matching = representatives.filter(has_this_program).collect();
        }
        let program = match matching.into_iter().reduce(|one, other| self.merge(one, other)) {
            Some(program) => self.representative(program),
            None => self.new_program(),
        };
        self.sockets[program].push(member);
        self.by_process.extend(pids.map(|key| (key, program)));
        Some(program)
    }

    fn new_program(&mut self) -> usize {
        let number = self.sockets.len();
        self.sockets.push(Vec::new());
        self.merged_into.push(number);
        number
    }

    fn merge(&mut self, one: usize, other: usize) -> usize {
        let (one, other) = (self.representative(one), self.representative(other));
        if one != other {
            let moved = std::mem::take(&mut self.sockets[other]);
            self.sockets[one].extend(moved);
            self.merged_into[other] = one;
        }
        one
    }

    /// The number of the program after all merges.
    pub(super) fn representative(&self, mut program: usize) -> usize {
        while self.merged_into[program] != program {
            program = self.merged_into[program];
        }
        program
    }
}

fn have_a_common_program(one: &Member, other: &Member, facts: &AuditFacts) -> bool {
    let source = match socket_user(one) == socket_user(other) {
        true => EvidenceSource::OneUser,
        false => EvidenceSource::Users,
    };
    let has_pid = |pid| other.processes.iter().any(|process| process.pid == pid);
    one.processes.iter().any(|process| has_pid(process.pid))
        || one.processes.iter().take(COMPARED_PROCESSES).any(|process| {
            let mut others = other.processes.iter().take(COMPARED_PROCESSES);
            others.any(|other| are_one_program(process, other, source, facts))
        })
}
