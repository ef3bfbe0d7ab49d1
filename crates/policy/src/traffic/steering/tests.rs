//! An interpreter executes the programs; the group follows the kernel's array.

use super::*;
use crate::traffic::execution::{self, Packet};

/// The index that a program returns for this random number.
fn execute(program: &[Instruction], random: u32) -> usize {
    let packet = Packet { random: [random; 2], ..Packet::default() };
    execution::execute(program, &packet).0.try_into().unwrap()
}

/// The number of times each index is selected if every remainder occurs `rounds` times.
fn histogram(live: &[usize], count: usize, rounds: u32) -> Vec<u32> {
    let program = program(live, count).unwrap();
    let mut counts = vec![0; count];
    for random in 0..rounds * u32::try_from(live.len()).unwrap() {
        counts[execute(&program, random)] += 1;
    }
    counts
}

#[test]
fn live_members_have_equal_probability() {
    // Every subset of up to nine members.
    for count in 1..=9_usize {
        for mask in 1..1_u32 << count {
            let live: Vec<_> = (0..count).filter(|index| mask & 1 << index != 0).collect();
            let expected: Vec<_> =
                (0..count).map(|index| if live.contains(&index) { 3 } else { 0 }).collect();
            assert_eq!(histogram(&live, count, 3), expected, "{live:?} of {count}");
        }
    }
}

#[test]
fn every_random_number_selects_a_live_member() {
    let live = [0, 2, 5];
    let program = program(&live, 6).unwrap();
    for random in [0, 1, u32::MAX, u32::MAX - 1, 1 << 31, 0x1234_5678] {
        assert!(live.contains(&execute(&program, random)), "{random}");
    }
}

#[test]
fn the_largest_program_is_within_the_limits_of_the_kernel() {
    for live in
        [vec![0], vec![511], vec![1023], (0..1024).step_by(2).collect(), (0..1024).collect()]
    {
        // The last member is a gate or a replacement.
        for count in [1024, 1025] {
            let program = program(&live, count).unwrap();
            assert!(program.len() <= 2051, "{}", program.len());
            assert!(program.len() * 8 < 20_480);
            let counts = histogram(&live, count, 1);
            assert!((0..count).all(|i| counts[i] == u32::from(live.contains(&i))), "{live:?}");
        }
    }
    assert_eq!(program(&[0], MAX_EXCLUDED + 2), None);
}

#[test]
fn without_exclusions_a_program_has_three_instructions() {
    assert_eq!(program(&[0, 1, 2, 3], 4).unwrap().len(), 3);
}

#[test]
fn invalid_indices_have_no_program() {
    for (live, count) in [(&[][..], 0), (&[], 3), (&[3], 3), (&[1, 0], 3), (&[1, 1], 3), (&[0], 0)]
    {
        assert_eq!(program(live, count), None, "{live:?} of {count}");
    }
}

fn group(members: &str) -> OrderedGroup<char> {
    let mut group = OrderedGroup::default();
    members.chars().for_each(|id| group.join(id));
    group
}

fn order(group: &OrderedGroup<char>) -> String {
    group.members().iter().collect()
}

#[test]
fn the_last_member_takes_the_index_of_a_leaving_one() {
    let mut group = group("ABCD");
    group.leave(&'B');
    assert_eq!(order(&group), "ADC");
    group.join('E');
    assert_eq!(order(&group), "ADCE");
    group.leave(&'E');
    assert_eq!(order(&group), "ADC");
    group.leave(&'A');
    assert_eq!(order(&group), "CD");
    group.leave(&'X');
    group.join('C');
    assert_eq!(order(&group), "CD");
    assert_eq!([group.index(&'D'), group.index(&'C'), group.index(&'A')], [Some(1), Some(0), None]);
}

/// The members that the program selects. `?` is an index beyond the array: the kernel selects.
fn selected(program: &[Instruction], array: &OrderedGroup<char>) -> String {
    let mut names: Vec<_> = (0..5040)
        .map(|random| array.members().get(execute(program, random)).copied().unwrap_or('?'))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().collect()
}

#[test]
fn a_new_member_receives_nothing_from_the_old_program() {
    let mut group = group("AB");
    let program = group.program(|_| true).unwrap();
    group.join('C');
    assert_eq!(selected(&program, &group), "AB");
    assert_eq!(selected(&group.program(|_| true).unwrap(), &group), "ABC");
}

#[test]
fn while_a_member_leaves_only_live_members_are_selected() {
    // The group, its live members, the leaving one; the selected ones before and after it left.
    for (members, live, leaving, meanwhile) in [
        ("ABCD", "ABCD", 'B', "AC"),
        ("ABCD", "ABCD", 'D', "ABC"),
        ("ABCD", "ACD", 'B', "AC"),
        ("ABCD", "AC", 'B', "AC"),
        ("ABCD", "AB", 'C', "AB"),
        ("AB", "AB", 'B', "A"),
        ("ABCDEFG", "ABCDEFG", 'A', "BCDEF"),
    ] {
        let mut group = group(members);
        let is_live = |id: &char| live.contains(*id) && *id != leaving;
        let program = group.program_while_leaving(&leaving, is_live).unwrap();
        assert_eq!(selected(&program, &group), meanwhile, "{members} {live} before {leaving}");
        group.leave(&leaving);
        assert_eq!(selected(&program, &group), meanwhile, "{members} {live} after {leaving}");
        let program = group.program(is_live).unwrap();
        assert!(selected(&program, &group).chars().all(|id| is_live(&id)));
    }
}

#[test]
fn if_only_the_last_member_is_live_the_kernel_selects_for_a_moment() {
    let mut group = group("ABC");
    let program = group.program_while_leaving(&'A', |id| *id == 'C').unwrap();
    assert_eq!(selected(&program, &group), "C");
    group.leave(&'A');
    assert_eq!(selected(&program, &group), "?");
    assert_eq!(selected(&group.program(|id| *id == 'C').unwrap(), &group), "C");
}

#[test]
fn without_live_members_there_is_no_program() {
    let group = group("AB");
    assert_eq!(group.program(|_| false), None);
    assert_eq!(group.program_while_leaving(&'A', |id| *id == 'A'), None);
}

#[test]
fn the_order_survives_one_member_that_left() {
    for (earlier, present, expected) in [
        (&[1, 2, 3][..], &[1, 2, 3][..], Some(&[1, 2, 3][..])),
        // The last one takes the place of the one that left.
        (&[1, 2, 3], &[2, 3], Some(&[3, 2])),
        (&[3, 1, 2], &[1, 3], Some(&[3, 1])),
        // A single member has one place.
        (&[1, 2, 3], &[2], Some(&[2])),
        (&[], &[7], Some(&[7])),
        (&[], &[], Some(&[])),
        (&[1, 2, 3, 4], &[2, 3], None),
        (&[1, 2], &[1, 2, 3], None),
        (&[1, 2], &[1, 3], None),
        (&[], &[1, 2], None),
    ] {
        let present: std::collections::BTreeSet<u32> = present.iter().copied().collect();
        assert_eq!(order_after(earlier, &present).as_deref(), expected, "{earlier:?} {present:?}");
    }
}
