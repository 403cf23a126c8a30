//! Arithmetic on what rounds bring: medians, and roundings for the tables.

/// The middle of some figures, or between the two. NaN of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    if figures.is_empty() {
        return f64::NAN;
    }
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[middle - 1], figures[middle])
    } else {
        figures[middle]
    }
}

/// The least of some figures; infinity of none.
pub(crate) fn lowest(figures: impl IntoIterator<Item = f64>) -> f64 {
    figures.into_iter().fold(f64::INFINITY, f64::min)
}

/// The greatest of some figures, none of which is below 0; 0 of none.
pub(crate) fn highest(figures: impl IntoIterator<Item = f64>) -> f64 {
    figures.into_iter().fold(0.0, f64::max)
}

/// To so many decimals.
pub(crate) fn round(figure: f64, decimals: i32) -> f64 {
    let unit = 10_f64.powi(decimals);
    (figure * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn the_ends_of_figures() {
        assert_eq!((lowest([3.0, 1.0, 2.0]), highest([3.0, 1.0, 2.0])), (1.0, 3.0));
        assert_eq!((lowest([]), highest([])), (f64::INFINITY, 0.0));
    }

    #[test]
    fn rounds_to_decimals() {
        assert_eq!((round(1.2345, 2), round(1.2345, 0), round(0.0675, 3)), (1.23, 1.0, 0.068));
    }
}
