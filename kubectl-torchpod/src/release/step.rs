//! The steps of a canary: shares of all pods, and what they come to in pods.

use std::fmt;
use std::str::FromStr;

/// Shares in percent, each larger than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(Vec<u32>);

/// One share, in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub percent: u32,
    pub sizes: Sizes,
}

/// How many pods each of the two shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub stable: i32,
    pub canary: i32,
}

impl Shares {
    /// The shares of so many pods, half a pod and more being one. The canary has at least one pod, and until 100 % so has
    /// stable: there is somebody to compare with, and to go back to. Of shares that come to the same pods the last stays.
    pub fn of(&self, total: i32) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for percent in &self.0 {
            let sizes = sizes(*percent, total);
            steps.retain(|step| step.sizes != sizes);
            steps.push(Step { percent: *percent, sizes });
        }
        steps
    }
}

fn sizes(percent: u32, total: i32) -> Sizes {
    if percent == 100 {
        return Sizes { stable: 0, canary: total };
    }
    let pods = (i64::from(total) * i64::from(percent) + 50) / 100;
    let canary = i32::try_from(pods).unwrap_or(i32::MAX).clamp(1, (total - 1).max(1));
    Sizes { stable: (total - canary).max(1), canary }
}

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Shares, String> {
        let share = |part: &str| part.trim().parse().ok().filter(|share| (1..=100).contains(share));
        let shares: Option<Vec<u32>> = text.split(',').map(share).collect();
        match shares {
            Some(shares) if shares == [100] => Err("a first step of 100 leaves nothing to compare with".to_owned()),
            Some(shares) if shares.is_sorted_by(|one, next| one < next) => Ok(Shares(shares)),
            _ => Err("expected growing shares of 100, such as 10,25,50,100".to_owned()),
        }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<_> = self.0.iter().map(u32::to_string).collect();
        formatter.write_str(&shares.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(shares: &str, total: i32) -> Vec<(u32, i32, i32)> {
        let shares: Shares = shares.parse().unwrap();
        shares.of(total).iter().map(|step| (step.percent, step.sizes.stable, step.sizes.canary)).collect()
    }

    #[test]
    fn a_share_is_rounded_to_pods_and_leaves_one_to_each_until_all_is_canary() {
        for (shares, total, expected) in [
            ("10,25,50,100", 10, vec![(10, 9, 1), (25, 7, 3), (50, 5, 5), (100, 0, 10)]),
            ("10,25,50,100", 8, vec![(10, 7, 1), (25, 6, 2), (50, 4, 4), (100, 0, 8)]),
            ("10,25,50,100", 3, vec![(25, 2, 1), (50, 1, 2), (100, 0, 3)]),
            ("10,25,50,100", 2, vec![(50, 1, 1), (100, 0, 2)]),
            ("10,25,50,100", 1, vec![(50, 1, 1), (100, 0, 1)]),
            ("10,50", 4, vec![(10, 3, 1), (50, 2, 2)]),
            ("99", 4, vec![(99, 1, 3)]),
            ("1", 1000, vec![(1, 990, 10)]),
        ] {
            assert_eq!(pods(shares, total), expected, "{shares} of {total}");
        }
    }

    #[test]
    fn shares_that_do_not_grow_from_1_to_100_are_refused() {
        for wrong in ["", "0", "101", "10,10", "50,25", "10,,50", "100", "ten", "10%"] {
            assert!(wrong.parse::<Shares>().is_err(), "{wrong}");
        }
        assert_eq!("5, 100".parse::<Shares>().unwrap().to_string(), "5,100");
    }
}
