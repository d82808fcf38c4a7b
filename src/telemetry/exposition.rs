//! Several texts for Prometheus made one: of a metric that stands in more than one of them, all series must stand
//! together.

use std::collections::BTreeMap;

/// One text of `texts`, each of which has its metrics' series together with an empty line behind, as the exporter writes
/// them. Of a metric's heads, `# HELP` and `# TYPE`, the first is kept.
pub(super) fn merge(texts: &[String]) -> String {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for family in texts.iter().flat_map(|text| text.split_terminator("\n\n")) {
        let name = family.split(' ').nth(2).unwrap_or_default();
        families.entry(name).or_default().push(family);
    }
    let mut merged = String::with_capacity(texts.iter().map(String::len).sum());
    for family in families.values() {
        for (index, part) in family.iter().enumerate() {
            merged.push_str(if index == 0 { part } else { series(part) });
            merged.push('\n');
        }
        merged.push('\n');
    }
    merged
}

/// What stands below the head.
fn series(family: &str) -> &str {
    let mut rest = family;
    while rest.starts_with("# ") {
        rest = rest.split_once('\n').map_or("", |(_, below)| below);
    }
    rest
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
