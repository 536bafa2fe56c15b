//! Small words for building the templates' context.

use std::collections::BTreeMap;
use std::time::Duration;
use tera::Value;

/// A map of the context under construction. Tera hashes it once, at the end.
#[derive(Default)]
pub(super) struct ContextMap(BTreeMap<&'static str, Value>);

impl ContextMap {
    /// Sets one key.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.insert(key, value.into());
        self
    }
}

impl From<ContextMap> for Value {
    fn from(table: ContextMap) -> Self {
        Self::from(table.0)
    }
}

/// A duration as HAProxy takes it: a whole number of the largest unit that fits.
pub(super) fn duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let ms = duration.as_millis();
    match UNITS.iter().find(|(_, length)| ms >= *length && ms.is_multiple_of(*length)) {
        Some((unit, length)) => format!("{}{unit}", ms / length),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_whole_numbers_of_one_unit() {
        for (ms, text) in [(0, "0ms"), (500, "500ms"), (1000, "1s"), (90_000, "90s"), (5_400_000, "90m")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
