//! What the integration tests share: processes that never outlive their test, private HAProxies, a blocking HTTP
//! client and a bounded load generator. Knows nothing of the product but its binary.

pub mod agent;
pub mod chance;
pub mod cluster;
pub mod haproxy;
pub mod http;
pub mod load;
pub mod net;
pub mod port;
pub mod process;
pub mod sink;
pub mod stage;
pub mod tls;

use std::io::Write;
use std::time::{Duration, Instant};

/// How long [`wait_for`] lets a thing take that is usual to happen within a second, on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `probe` gives something.
///
/// # Panics
/// When that has not happened within `limit`, naming `what`.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        pause(Duration::from_millis(10));
    }
}

/// Lets other threads and processes work between two looks.
#[expect(clippy::disallowed_methods, reason = "a test thread between two polls: no runtime is blocked")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Writes a file of a test's own directory.
#[expect(clippy::disallowed_methods, reason = "a fixture, read by nobody before it is complete")]
pub fn write(path: impl AsRef<std::path::Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    std::fs::write(path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Says that a test cannot run here; the test returns after it. `make test` lists these lines at its end.
///
/// # Panics
/// With `HAPILOT_TEST_DEMAND=1`, as in CI, where nothing may be missing.
pub fn skip_or_demand(reason: &str) {
    let demanded = std::env::var_os("HAPILOT_TEST_DEMAND").is_some_and(|value| value == "1");
    assert!(!demanded, "HAPILOT_TEST_DEMAND=1, but: {reason}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os("HAPILOT_TEST_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the list of skips");
        writeln!(list, "skipped: {test}: {reason}").expect("the list of skips takes a line");
    }
}

/// Whether this test may do what only root may.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn waiting_ends_with_the_first_find() {
    let mut looks = 0;
    let found = wait_for("the third look", PATIENCE, || {
        looks += 1;
        (looks == 3).then_some(looks)
    });
    assert_eq!(found, 3);
}

#[test]
#[should_panic(expected = "in vain for a miracle")]
fn waiting_is_bounded() {
    wait_for("a miracle", Duration::from_millis(30), || None::<()>);
}

#[test]
fn root_is_who_may_read_what_only_root_may() {
    assert_eq!(is_root(), nix::unistd::getuid().is_root());
    if !is_root() {
        skip_or_demand("needs root");
    }
}
