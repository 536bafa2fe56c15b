//! A canary of two nodes: the owner of the virtual address decides, the other does as it does, and whoever owns the address next
//! goes on with it. Real HAProxy and Keepalived. With thousands of clients: `scripts/measure/canaries`.

use super::support::cluster::{Cluster, VIP};
use super::support::{PATIENCE, wait_for};
use serde_json::Value;

const KEYS: usize = 80;
/// The owner's word is heard with its next heartbeat, and done with the next look.
const CANARY: &str = "[backend.chat.server.two]\nurl = \"http://127.0.0.1:9001/v1\"\nhost = \"two\"\n\
    [canary.turbo]\nbackend = \"chat\"\nservers = [\"two\"]\n\
    stages = [{ percent = 25, hold = \"1h\" }, { percent = 50, hold = \"1h\" }]\n";

/// The group of each client, asked through the virtual address.
fn groups(cluster: &Cluster) -> Vec<String> {
    let script = format!(
        "for key in $(seq {KEYS}); do curl -s -m 5 -o /dev/null -D - -H \"X-Test-Client: client-$key\" \
         http://{VIP}:8080/v1/models | tr -d '\\r' | sed -n 's/^x-served-version: //Ip'; done"
    );
    let said = cluster.net.run("sw", &["sh", "-c", &script]).stdout;
    let groups: Vec<String> = said.lines().map(str::to_owned).collect();
    assert_eq!(groups.len(), KEYS, "{said}");
    groups
}

/// The phase, stage and percent that a node tells.
fn told(cluster: &Cluster, node: &str) -> (String, Option<u64>, Option<f64>) {
    let said = cluster.hapilot(node, &["canary", "status", "--json"]).stdout;
    let canaries: Value = serde_json::from_str(&said).unwrap_or_default();
    let canary = &canaries[0];
    (canary["phase"].as_str().unwrap_or_default().to_owned(), canary["stage"].as_u64(), canary["percent"].as_f64())
}

fn wait_for_both(cluster: &Cluster, phase: &str, stage: Option<u64>, percent: f64) {
    let wanted = (phase.to_owned(), stage, Some(percent));
    wait_for(&format!("{wanted:?} at both nodes"), PATIENCE, || {
        cluster.nodes.iter().all(|node| told(cluster, node) == wanted).then_some(())
    });
}

#[test]
fn a_canary_goes_on_at_the_next_owner_of_the_address_and_is_rolled_back_at_both() {
    let Some(mut cluster) = Cluster::new(&["a", "b"]) else { return };
    let named =
        "raw = [\"http-request set-var(txn.client) req.fhdr(x-test-client) if { req.fhdr(x-test-client) -m found }\", ";
    cluster.write_file(&(cluster.toml().replace("raw = [", named) + CANARY));
    for node in ["a", "b"] {
        cluster.start_node(node);
    }
    let (owner, other) = cluster.wait_until_quiet();
    wait_for_both(&cluster, "stage", Some(1), 25.0);
    let before = groups(&cluster);
    let part = before.iter().filter(|group| *group == "turbo").count();
    assert!((KEYS / 10..KEYS / 2).contains(&part), "{part} of {KEYS}: {before:?}");

    for part in ["keepalived", "haproxy"] {
        let (owner, other) = cluster.wait_until_quiet();
        cluster.kill(owner, part);
        cluster.wait_for_owner(other);
        wait_for_both(&cluster, "stage", Some(1), 25.0);
        assert_eq!(groups(&cluster), before, "{part} of {owner} killed");
        match part {
            "keepalived" => cluster.start_keepalived(owner),
            _ => cluster.start_haproxy(owner),
        }
    }
    assert_eq!(cluster.wait_until_quiet(), (owner, other), "it moved twice");

    // The owner's word holds for both, and outlives another move.
    let done = cluster.hapilot(owner, &["canary", "promote", "turbo"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    wait_for_both(&cluster, "stage", Some(2), 50.0);
    let grown = groups(&cluster);
    let left: Vec<_> = before.iter().zip(&grown).filter(|(was, is)| *was == "turbo" && *is != "turbo").collect();
    assert!(left.is_empty() && grown != before, "{left:?}");
    cluster.kill(owner, "keepalived");
    cluster.wait_for_owner(other);
    wait_for_both(&cluster, "stage", Some(2), 50.0);
    assert_eq!(groups(&cluster), grown);
    cluster.start_keepalived(owner);
    cluster.wait_until_quiet();

    let done = cluster.hapilot(other, &["canary", "abort", "turbo"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    wait_for_both(&cluster, "rolled_back", None, 0.0);
    assert!(groups(&cluster).iter().all(|group| group == "control"));
    cluster.kill(other, "keepalived");
    cluster.wait_for_owner(owner);
    wait_for_both(&cluster, "rolled_back", None, 0.0);
    assert!(groups(&cluster).iter().all(|group| group == "control"), "at the other node");
}
