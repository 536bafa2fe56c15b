//! Lines for spreadsheets: RFC 4180, and nothing in a cell that a spreadsheet would run.
//!
//! Pure. Called by `usage`.

/// One line with its end. Texts of others come with their control characters spelt out.
pub(super) fn line(cells: impl IntoIterator<Item = String>) -> String {
    cells.into_iter().map(|text| cell(&text)).collect::<Vec<_>>().join(",") + "\n"
}

fn cell(text: &str) -> String {
    // It would be a formula.
    let mark = if text.starts_with(['=', '+', '-', '@', '\t']) { "'" } else { "" };
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{mark}{}\"", text.replace('"', "\"\"")),
        false => format!("{mark}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_none_is_a_formula() {
        for (text, expected) in [
            ("gpt-4o", "gpt-4o"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"a\"", "\"say \"\"a\"\"\""),
            ("a\nb", "\"a\nb\""),
            ("=1+2", "'=1+2"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@a", "'@a"),
            ("\ta", "'\ta"),
            ("=a(\"b\",1)", "\"'=a(\"\"b\"\",1)\""),
        ] {
            assert_eq!(line([text.to_owned(), "1".to_owned()]), format!("{expected},1\n"), "{text}");
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(expected.as_bytes());
            let back = reader.records().next().map_or_else(String::new, |record| record.unwrap()[0].to_owned());
            assert_eq!(back.trim_start_matches('\''), text);
        }
    }
}
