//! Commands are for the worker that was seen: another one that serves by then is sent nothing.

use crate::private_haproxy::{LONG, PrivateHaproxy};
use crate::support::haproxy::binaries;
use hapilot::haproxy::{Executed, Sockets, execute, observe, prove_reload, reload};
use hapilot::model::Weight;
use hapilot::plan::{Runtime, Step};

const BACKEND: &str = "  default_backend be\nbackend be\n  balance leastconn\n  server s1 127.0.0.1:9001 weight 10\n";

async fn runtime(haproxy: &PrivateHaproxy) -> Runtime {
    let observed = observe(&haproxy.admin(), Some(&haproxy.master()), &[haproxy.map()], true).await;
    observed.unwrap().expect("it runs")
}

#[tokio::test]
async fn steps_for_a_worker_of_before_are_not_sent_to_the_next() {
    for binary in binaries() {
        let haproxy = PrivateHaproxy::start(&binary, BACKEND);
        let before = runtime(&haproxy).await;
        assert!(reload(&haproxy.master(), before.version, LONG).await.unwrap().ok);
        let (admin, master) = (haproxy.admin(), haproxy.master());
        let sockets = Sockets { admin: &admin, master: Some(&master) };
        prove_reload(sockets, &before, "hapilot first", &[], LONG).await.unwrap();
        let after = observe(sockets.admin, sockets.master, &[], false).await.unwrap().unwrap();
        let steps = [
            Step::SetWeight {
                proxy: "be".into(),
                server: "s1".into(),
                from: Weight::ZERO,
                to: Weight::new(77).unwrap(),
            },
            Step::ReplaceMap { map: haproxy.map(), from_entries: 1, entries: vec![], is_secret: false },
        ];
        let refused = execute(&admin, &steps, Some(before.pid), LONG).await.unwrap_err();
        assert_eq!(refused.so_far, Executed::default(), "{binary:?}");
        let words = refused.source.to_string();
        let pids = format!("(pid {}, seen was pid {})", after.pid, before.pid);
        assert!(refused.source.is_other_worker() && words.contains(&pids), "{words}");
        let now = runtime(&haproxy).await;
        assert_eq!(
            (now.servers[&("be".into(), "s1".into())].weight.get(), now.maps[&haproxy.map()].len()),
            (10, 1),
            "{binary:?}"
        );
        assert_eq!(execute(&admin, &steps, Some(after.pid), LONG).await.unwrap().done, 2, "{binary:?}");
    }
}
