//! Which HAProxy the files are rendered for.

/// HAProxy's branch, as far as the configuration's language depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// 3 of 3.0.
    pub major: u16,
    /// 0 of 3.0.
    pub minor: u16,
}

impl Target {
    /// The branch of that number.
    pub fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    fn at_least(self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// `http-response set-timeout server`: the wait for the first byte and the gap within a stream can differ.
    pub(crate) fn has_response_timeout(self) -> bool {
        self.at_least(3, 0)
    }

    /// `retry-on 429`.
    pub(crate) fn has_retry_on_429(self) -> bool {
        self.at_least(3, 0)
    }
}
