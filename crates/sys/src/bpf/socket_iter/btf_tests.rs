//! Types as a compiler writes them down, and broken ones.

use super::*;

/// `struct list { int one; union { int two; struct { int three:3; int four:5; }; }; name_of_it five; }`
/// with `typedef const struct inner name_of_it; struct inner { int six[2]; int seven; }`, after a
/// function `walk` and behind a struct whose name begins alike.
fn description() -> Vec<u8> {
    let mut strings = vec![0_u8];
    let mut name = |text: &str| {
        let at = u32::try_from(strings.len()).unwrap();
        strings.extend(text.as_bytes());
        strings.push(0);
        at
    };
    let info = |kind: u32, count: u32, flag: bool| kind << 24 | count | u32::from(flag) << 31;
    let words: Vec<u32> = [
        // 1: int
        vec![name("int"), info(1, 0, false), 4, 32],
        // 2, 3: void walk(int)
        vec![0, info(13, 1, false), 0, 0, 1],
        vec![name("walk"), info(FUNC, 0, false), 2],
        // 4: an array; 5: struct inner
        vec![0, info(ARRAY, 0, false), 0, 1, 1, 2],
        vec![name("inner"), info(STRUCT, 2, false), 12],
        vec![name("six"), 4, 0, name("seven"), 1, 64],
        // 6, 7: typedef const struct inner
        vec![0, info(10, 0, false), 5],
        vec![name("name_of_it"), info(8, 0, false), 6],
        // 8, 9: what has no name; bit fields of 3 and 5 bits
        vec![0, info(STRUCT, 2, true), 4],
        vec![name("three"), 1, 3 << 24, name("four"), 1, 5 << 24 | 3],
        vec![0, info(UNION, 2, false), 4, name("two"), 1, 0, 0, 8, 0],
        // 10, 11
        vec![name("list_head"), info(STRUCT, 0, false), 0],
        vec![name("list"), info(STRUCT, 3, false), 20],
        vec![name("one"), 1, 0, 0, 9, 32, name("five"), 7, 64],
    ]
    .concat();
    let length = u32::try_from(words.len() * 4).unwrap();
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    let strings_length = u32::try_from(strings.len()).unwrap();
    for word in [24, 0, length, length, strings_length] {
        bytes.extend(u32::to_ne_bytes(word));
    }
    words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    bytes.extend(strings);
    bytes
}

#[test]
fn members_are_found_through_names_and_in_what_has_none() {
    let bytes = description();
    let types = Btf::read(&bytes, &["list", "inner"], &["walk"]).unwrap();
    assert_eq!(types.function("walk"), Some(3));
    let cases = [
        ("list", Some(160)),
        ("list:one", Some(0)),
        ("list:two", Some(32)),
        ("list:three", Some(32)),
        ("list:four", Some(35)),
        ("list:five", Some(64)),
        ("list:five.seven", Some(128)),
        ("inner:six", Some(0)),
        ("list:six", None),
        ("list:o", None),
        ("list:one.two", None),
        ("list_head", None),
        ("nobody", None),
    ];
    for (name, expected) in cases {
        assert_eq!(types.bits(name), expected, "{name}");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let bytes = description();
    let types = Btf::read(&bytes, &["walk", "int"], &["list", "wal"]).unwrap();
    assert_eq!(types.bits("int"), None);
    assert_eq!(types.function("list"), None);
    assert_eq!(types.function("wal"), None);
}

#[test]
fn every_cut_and_every_altered_byte_ends_without_a_panic() {
    let whole = description();
    for end in 0..whole.len() {
        assert!(Btf::read(&whole[..end], &["list"], &["walk"]).is_none(), "{end}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut altered = whole.clone();
            altered[at] = value;
            if let Some(types) = Btf::read(&altered, &["list"], &["walk"]) {
                let _ = types.bits("list:five.seven");
                let _ = types.bits("list:four");
            }
        }
    }
}
