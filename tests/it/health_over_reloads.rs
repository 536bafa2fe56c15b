//! `/health` while HAProxy is reloaded: whoever watches it (a balancer in front, keepalived) must not take the node out
//! for a reload.

use crate::site::Site;
use crate::support::haproxy::{Binary, binaries};
use crate::support::http::get;
use camino::Utf8Path;
use hapilot::haproxy::{AdminError, binary_version, reload};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Each leaves an old worker behind, which accepts for some 20 to 60 ms beside the new one.
const RELOADS: usize = 5;
/// For one reload on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// Asks without a pause until it is told to stop; how often, and the first answer that was not 200.
fn ask(address: &str, stop: &AtomicBool) -> Result<u64, String> {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        match get(address, "/health") {
            Ok(answer) if answer.status == 200 => asked += 1,
            Ok(answer) => return Err(format!("{} after {asked} good answers", answer.status)),
            Err(e) => return Err(format!("{e} after {asked} good answers")),
        }
    }
    Ok(asked)
}

/// So many reloads, one after the other; whether all went well.
fn reloads(binary: &Binary, master: &Utf8Path) -> Result<bool, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let version = binary_version(binary.utf8_path()).await.expect("a version");
        for _ in 0..RELOADS {
            if !reload(master, version, LONG).await?.ok {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

#[test]
fn health_is_good_all_through_reloads() {
    for binary in binaries() {
        let mut site = Site::new(&binary);
        site.write(&site.toml(""));
        site.start();
        let (address, stop) = (format!("127.0.0.1:{}", site.port()), AtomicBool::new(false));
        let asked = std::thread::scope(|scope| {
            let clients = [(); 2].map(|()| scope.spawn(|| ask(&address, &stop)));
            let reloaded = reloads(&binary, &site.master());
            stop.store(true, Ordering::Relaxed);
            assert!(matches!(reloaded, Ok(true)), "{}: {reloaded:?}", binary.version);
            clients.map(|client| client.join().unwrap())
        });
        for asked in asked {
            assert!(asked.as_ref().is_ok_and(|asked| *asked > 20), "{}: {asked:?}", binary.version);
        }
    }
}
