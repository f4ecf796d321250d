//! The two figures that stand for many.

/// Returns the value below which `share` (0 to 1) of the values lie, by nearest rank; 0 of none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// Returns the middle of the values, the mean of the two middle ones of an even number; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = (sorted.len() / 2).checked_sub(1).and_then(|index| sorted.get(index));
    lower.map_or(upper, |lower| (lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median(&[5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!((median(&[7.0]), median(&[])), (7.0, 0.0));
    }

    #[test]
    fn quantile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=300).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 297.0);
        assert_eq!((quantile(&values, 0.0), quantile(&values, 1.0)), (1.0, 300.0));
        assert_eq!(quantile(&values[..20], 0.99), 300.0);
    }
}
