//! Several texts for Prometheus made one: of a metric that stands in more than one of them, all series must stand
//! together.

use std::collections::BTreeMap;

/// A metric's `# HELP` and `# TYPE`, and its series.
#[derive(Default)]
struct Family<'a> {
    head: Vec<&'a str>,
    series: Vec<&'a str>,
}

/// One text of `texts`, each of which has its metrics' series together, as the exporter writes them.
pub(super) fn merge(texts: &[String]) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for text in texts {
        let (mut current, mut is_known) = ("", false);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let head = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            if let Some(name) = head.and_then(|rest| rest.split(' ').next()) {
                if name != current {
                    (current, is_known) = (name, families.contains_key(name));
                }
                if !is_known {
                    families.entry(current).or_default().head.push(line);
                }
            } else {
                families.entry(current).or_default().series.push(line);
            }
        }
    }
    let mut merged = String::with_capacity(texts.iter().map(String::len).sum());
    for family in families.values() {
        for line in family.head.iter().chain(&family.series) {
            merged.push_str(line);
            merged.push('\n');
        }
        merged.push('\n');
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_metric_stand_together_under_one_head() {
        let of_a_version = |version: &str| {
            format!(
                "# HELP rows Rows\n# TYPE rows histogram\nrows_bucket{{version=\"{version}\",le=\"1\"}} 0\n\
                 rows_count{{version=\"{version}\"}} 0\n\n# TYPE asked counter\nasked{{version=\"{version}\"}} 1\n\n"
            )
        };
        let texts = [of_a_version("1"), "# TYPE phase gauge\nphase 1\n\n".to_owned(), of_a_version("2")];
        let expected = "# TYPE asked counter\nasked{version=\"1\"} 1\nasked{version=\"2\"} 1\n\n\
                        # TYPE phase gauge\nphase 1\n\n\
                        # HELP rows Rows\n# TYPE rows histogram\nrows_bucket{version=\"1\",le=\"1\"} 0\n\
                        rows_count{version=\"1\"} 0\nrows_bucket{version=\"2\",le=\"1\"} 0\nrows_count{version=\"2\"} 0\n\n";
        assert_eq!(merge(&texts), expected);
    }
}
