//! Valid and invalid names of runs, and the errors.

use proptest::prelude::*;
use sameport_policy::model::name::RunName;

#[test]
fn valid_names_are_unchanged() {
    let long = "x".repeat(64);
    for text in ["web", "a", "0", "_", "web-2", "web.v2", "A_b.C-d..", &long] {
        assert_eq!(text.parse::<RunName>().unwrap().to_string(), text);
    }
}

#[test]
fn errors_name_the_rule() {
    let long = "x".repeat(65);
    let cases = [
        ("", "1 to 64"),
        (&long, "not 65"),
        (".", "begins with"),
        ("..", "begins with"),
        (".web", "begins with"),
        ("-n", "begins with"),
        ("--", "begins with"),
        ("a/b", "no '/'"),
        ("../a", "no '/'"),
        ("a b", "no ' '"),
        ("a\n", "no '\\n'"),
        ("a\0", "no '\\0'"),
        ("a\u{1b}[2J", "\"a\\u{1b}[2J\": a name has no '\\u{1b}'"),
        ("wéb", "no 'é'"),
        ("８", "no '８'"),
        ("a:b", "no ':'"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<RunName>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

proptest! {
    /// A valid name is one component of a path, and not an option.
    #[test]
    fn a_name_is_a_file_name(text in "\\PC{0,70}") {
        if let Ok(name) = text.parse::<RunName>() {
            let path = std::path::Path::new(name.as_str());
            prop_assert_eq!(path.file_name().and_then(|it| it.to_str()), Some(text.as_str()));
            prop_assert!(!text.starts_with('-') && text.len() <= 64);
        }
    }
}
