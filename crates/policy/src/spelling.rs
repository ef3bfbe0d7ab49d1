//! The known word that an unknown one probably misspells.

/// The nearest of the known words: at one edit from a short word, at two from a longer one. `None` if
/// there is none.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = if word.chars().count() <= 4 { 1 } else { 2 };
    let distances = known.into_iter().map(|other| (edits(word, other), other));
    let (least, other) = distances.min_by_key(|(edits, _)| *edits)?;
    (least <= most).then_some(other)
}

/// The number of insertions, deletions, replacements and swaps of neighbours that make one word the other.
fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let differs = usize::from(one[i - 1] != other[j - 1]);
            let mut least =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_at_few_edits() {
        for (word, expected) in [
            ("wieghts", Some("weights")),
            ("stiky", Some("sticky")),
            ("cup", Some("cpu")),
            ("c", None),
            ("roundrobin", Some("round-robin")),
            ("leastconn", None),
            ("", None),
        ] {
            let known = ["weights", "sticky", "cpu", "round-robin", "least-connections"];
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(nearest("web", []), None);
    }

    #[test]
    fn edits_are_counted() {
        for (one, other, count) in [
            ("", "", 0),
            ("ls", "ls", 0),
            ("sl", "ls", 1),
            ("staus", "status", 1),
            ("top", "stop", 1),
            ("a", "", 1),
        ] {
            assert_eq!((edits(one, other), edits(other, one)), (count, count), "{one} {other}");
        }
    }
}
