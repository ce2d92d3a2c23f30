//! Medians, spreads and confidence, from a handful of samples.

/// Resamples of a bootstrap.
const RESAMPLES: usize = 4000;

/// Half of the samples are below it. None of none.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(sorted.len() / 2 - 1).map(|lower| f64::midpoint(*lower, upper))
}

/// Median with the least and the greatest sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// None of none.
pub(crate) fn spread(samples: &[f64]) -> Option<Spread> {
    let median = median(samples)?;
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(Spread { median, least, most })
}

/// A median and the bounds that hold it with 95 % confidence: percentile bootstrap with a fixed
/// seed, so that the same samples give the same bounds. None of none.
pub(crate) fn confidence(samples: &[f64]) -> Option<Spread> {
    let centre = median(samples)?;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut resample = vec![0.0; samples.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            resample.fill_with(|| samples[dice.below(samples.len())]);
            median(&resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: usize| medians.get(medians.len() * share / 1000).copied();
    Some(Spread { median: centre, least: at(25)?, most: at(975)? })
}

/// xorshift64*: enough to draw samples with.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Uniform below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        usize::try_from(drawn % bound.max(1) as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0, 4.0]), Some(3.5));
        let spread = spread(&[9.0, 1.0, 3.0]).unwrap();
        assert_eq!((spread.least, spread.most), (1.0, 9.0));
    }

    #[test]
    fn confidence_holds_the_median_and_narrows_with_more_samples() {
        let mut dice = Dice(7);
        let samples: Vec<f64> = (0..400).map(|_| 1.0 + dice.below(1000) as f64 / 1e4).collect();
        let few = confidence(&samples[..10]).unwrap();
        let many = confidence(&samples).unwrap();
        for spread in [few, many] {
            assert!(spread.least <= spread.median && spread.median <= spread.most, "{spread:?}");
        }
        assert!(many.most - many.least < few.most - few.least, "{few:?} {many:?}");
        assert!(many.least < 1.05 && 1.05 < many.most + 0.005, "{many:?}");
        assert_eq!(confidence(&samples), Some(many), "the same samples, the same bounds");
    }
}
