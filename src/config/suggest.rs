//! The key that was probably meant.

/// Returns the `known` word that is nearest to `given`: the same but for case, or at most a third of
/// its letters (and at most three) inserted, lost, changed or swapped with their neighbour.
pub(crate) fn nearest(given: &str, known: &[&str]) -> Option<String> {
    let given: Vec<char> = given.to_lowercase().chars().filter(|&c| c != '_' && c != '-').collect();
    if given.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|&word| (distance(&given, &word.to_lowercase().chars().collect::<Vec<_>>()), word))
        .filter(|&(distance, word)| distance <= (word.len().min(given.len()) / 3).clamp(1, 3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word.to_owned())
}

/// Returns the edit distance with swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &cb) in b.iter().enumerate() {
            let change = above[j] + usize::from(ca != cb);
            let mut least = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && a[i - 1] == cb {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = above;
        above = row;
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_find_their_key() {
        let known = ["delay", "maxDelay", "delete", "maxDelete", "source", "targets", "excludeFrom", "acls"];
        for (given, near) in [
            ("maxdelay", Some("maxDelay")),
            ("max_delay", Some("maxDelay")),
            ("maxDelays", Some("maxDelay")),
            ("soruce", Some("source")),
            ("target", Some("targets")),
            ("exclude_from", Some("excludeFrom")),
            ("dealy", Some("delay")),
            ("acl", Some("acls")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given, &known).as_deref(), near, "{given}");
        }
    }

    #[test]
    fn a_swap_counts_once() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("ab"), &letters("ba")), 1);
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
        assert_eq!(distance(&letters(""), &letters("abc")), 3);
    }
}
