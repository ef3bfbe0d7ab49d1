//! The programs, run as the kernel would; the array, against a model of the kernel's.

use super::*;

/// Which index the program picks when the kernel's random number is this one. Runs it as the kernel
/// would; a jump outside it or a missing return panics.
fn pick(program: &[Instruction], random: u32) -> usize {
    let (mut accumulator, mut at) = (0_u32, 0);
    loop {
        let Instruction { code, if_true, if_false, k } = program[at];
        at += 1;
        match code {
            LOAD_WORD if k.cast_signed() == -0x1000 + 56 => accumulator = random,
            ADD => accumulator += k,
            REMAINDER => accumulator %= k,
            JUMP_IF_NOT_LESS => {
                at += usize::from(if accumulator >= k { if_true } else { if_false });
            }
            RETURN_RESULT => return accumulator.try_into().unwrap(),
            other => panic!("code {other:#x} of {k:#x}"),
        }
    }
}

/// How often each index is picked when every remainder comes `rounds` times.
fn picks(live: &[usize], count: usize, rounds: u32) -> Vec<u32> {
    let program = program(live, count).unwrap();
    let mut times = vec![0; count];
    for random in 0..rounds * u32::try_from(live.len()).unwrap() {
        times[pick(&program, random)] += 1;
    }
    times
}

#[test]
fn every_live_member_is_picked_equally_often_and_no_other() {
    // Every choice of live members among up to nine.
    for count in 1..=9_usize {
        for mask in 1..1_u32 << count {
            let live: Vec<_> = (0..count).filter(|index| mask & 1 << index != 0).collect();
            let expected: Vec<_> =
                (0..count).map(|index| if live.contains(&index) { 3 } else { 0 }).collect();
            assert_eq!(picks(&live, count, 3), expected, "{live:?} of {count}");
        }
    }
}

#[test]
fn a_random_number_of_any_size_picks_a_live_member() {
    let live = [0, 2, 5];
    let program = program(&live, 6).unwrap();
    for random in [0, 1, u32::MAX, u32::MAX - 1, 1 << 31, 0x1234_5678] {
        assert!(live.contains(&pick(&program, random)), "{random}");
    }
}

#[test]
fn the_largest_group_fits_into_the_kernels_limits() {
    for live in
        [vec![0], vec![511], vec![1023], (0..1024).step_by(2).collect(), (0..1024).collect()]
    {
        let program = program(&live, MAX_MEMBERS).unwrap();
        assert!(program.len() <= 2051, "{}", program.len());
        assert!(program.len() * 8 < 20_480);
        let times = picks(&live, MAX_MEMBERS, 1);
        assert!((0..MAX_MEMBERS).all(|i| times[i] == u32::from(live.contains(&i))), "{live:?}");
    }
    assert_eq!(program(&[0], MAX_MEMBERS + 1), None);
}

#[test]
fn with_everybody_live_it_is_three_instructions() {
    assert_eq!(program(&[0, 1, 2, 3], 4).unwrap().len(), 3);
}

#[test]
fn what_makes_no_sense_has_no_program() {
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
fn the_last_one_takes_the_place_of_the_one_that_left() {
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

/// Everything that the program picks, by name, when the array is this one. An index that is not
/// there is `?`: the kernel chooses.
fn picked(program: &[Instruction], array: &OrderedGroup<char>) -> String {
    let mut names: Vec<_> = (0..5040)
        .map(|random| array.members().get(pick(program, random)).copied().unwrap_or('?'))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().collect()
}

#[test]
fn who_joins_gets_nothing_from_the_program_before() {
    let mut group = group("AB");
    let program = group.program(|_| true).unwrap();
    group.join('C');
    assert_eq!(picked(&program, &group), "AB");
    assert_eq!(picked(&group.program(|_| true).unwrap(), &group), "ABC");
}

#[test]
fn while_a_member_leaves_nobody_is_picked_who_should_not_be() {
    // The group, who takes connections, who leaves; who is picked before and after it has left.
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
        let takes = |id: &char| live.contains(*id) && *id != leaving;
        let program = group.program_while_leaving(&leaving, takes).unwrap();
        assert_eq!(picked(&program, &group), meanwhile, "{members} {live} before {leaving}");
        group.leave(&leaving);
        assert_eq!(picked(&program, &group), meanwhile, "{members} {live} after {leaving}");
        let program = group.program(takes).unwrap();
        assert!(picked(&program, &group).chars().all(|id| takes(&id)));
    }
}

#[test]
fn if_only_the_last_one_takes_connections_the_kernel_chooses_for_a_moment() {
    let mut group = group("ABC");
    let program = group.program_while_leaving(&'A', |id| *id == 'C').unwrap();
    assert_eq!(picked(&program, &group), "C");
    group.leave(&'A');
    assert_eq!(picked(&program, &group), "?");
    assert_eq!(picked(&group.program(|id| *id == 'C').unwrap(), &group), "C");
}

#[test]
fn if_nobody_is_left_there_is_no_program() {
    let group = group("AB");
    assert_eq!(group.program(|_| false), None);
    assert_eq!(group.program_while_leaving(&'A', |id| *id == 'A'), None);
}
