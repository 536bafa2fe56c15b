//! From OpenMetrics, as the library writes it, to Prometheus' own text format, which every tool reads: `promtool check
//! metrics` calls a counter's help lost where it stands under the name without `_total`.
//!
//! Pure. Called by `metrics`.
//!
//! **Source**: Prometheus, "Exposition formats", text-based format 0.0.4.

/// The content type of the answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The same families: a counter is called as its samples are, and one with quantiles is a summary.
pub(super) fn prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(family) = line.strip_prefix("# HELP ") else {
            // Units stand in the names already, and the end is the end.
            if !line.starts_with("# UNIT ") && line != "# EOF" {
                text.extend([line, "\n"]);
            }
            continue;
        };
        let (name, help) = family.split_once(' ').unwrap_or((family, ""));
        let mut kind = "untyped";
        while let Some(comment) = lines.next_if(|line| line.starts_with("# ") && !line.starts_with("# HELP ")) {
            if let Some(told) = comment.strip_prefix("# TYPE ").and_then(|told| told.split_once(' ')) {
                kind = told.1;
            }
        }
        let has_quantiles = lines.peek().is_some_and(|line| line.contains("quantile=\""));
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            _ if has_quantiles => ("", "summary"),
            other => ("", other),
        };
        text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::prometheus;

    #[test]
    fn counters_units_and_quantiles_are_told_as_prometheus_tells_them() {
        let open = "# HELP a Counted.\n# TYPE a counter\na_total{x=\"1\"} 3\n# HELP b_seconds Waits.\n# TYPE b_seconds gauge\n\
                    # UNIT b_seconds seconds\nb_seconds 0.5\n# HELP q_seconds Parts.\n# TYPE q_seconds gauge\n\
                    # UNIT q_seconds seconds\nq_seconds{quantile=\"0.5\"} 1.0\n# HELP e Empty.\n# TYPE e gauge\n# EOF\n";
        assert_eq!(
            prometheus(open),
            "# HELP a_total Counted.\n# TYPE a_total counter\na_total{x=\"1\"} 3\n# HELP b_seconds Waits.\n\
             # TYPE b_seconds gauge\nb_seconds 0.5\n# HELP q_seconds Parts.\n# TYPE q_seconds summary\n\
             q_seconds{quantile=\"0.5\"} 1.0\n# HELP e Empty.\n# TYPE e gauge\n"
        );
    }
}
