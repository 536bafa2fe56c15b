//! Clusters in network namespaces, with real Keepalived and HAProxy and a client that asks all the time: who owns the
//! address when something dies, and what the client notices. How fast it is belongs to `scripts/measure/vip`.

use super::support::cluster::Cluster;
use super::support::{PATIENCE, pause, wait_for, write};
use nix::sys::signal::Signal;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

const PAIR: [&str; 2] = ["a", "b"];
/// For a request that a move finds under way: without it the new owner refuses that one.
const SECOND_CHANCE: &str = "second_chance = true\n";
/// Half of what the usual recipe takes; the figures are a matter of the measurement.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_dead_or_hung_haproxy_gives_the_address_away_and_does_not_take_it_back() {
    let Some(mut cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    let began = Instant::now();
    cluster.kill(owner, "haproxy");
    client.wait_for(other);
    cluster.wait_for_owner(other);
    let (_, outage) = client.lost_since(began);
    assert!(outage < SOON, "{outage:?}");
    assert!(cluster.events(owner).contains(&"haproxy_lost".to_owned()), "{:?}", cluster.events(owner));
    // It comes back as a node that stands by.
    cluster.start_haproxy(owner);
    assert_eq!(cluster.wait_until_quiet(), (other, owner));
    let began = Instant::now();
    cluster.signal(other, "haproxy", Signal::SIGSTOP);
    client.wait_for(owner);
    let (_, outage) = client.lost_since(began);
    assert!(outage < SOON, "{outage:?}");
    cluster.signal(other, "haproxy", Signal::SIGCONT);
    assert_eq!(cluster.wait_until_quiet(), (owner, other));
}

#[test]
fn a_haproxy_that_is_full_is_not_taken_for_one_that_hangs() {
    let Some(cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    // A look at it that takes its time must not keep the nodes from hearing each other either.
    let lost = || {
        let events = [cluster.events(owner), cluster.events(other)].concat();
        events.iter().filter(|event| ["haproxy_lost", "peer_lost"].contains(&event.as_str())).count()
    };
    let lost_before = lost();
    let held = cluster.idle_connections(owner, 250);
    let haproxy = |word: &str| {
        let nodes = cluster.vips(owner)["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().any(|node| node["node"] == owner && node["haproxy"] == word).then_some(())
    };
    wait_for("HAProxy to be full", PATIENCE, || haproxy("full"));
    // Longer than a hang takes to be one.
    pause(SOON);
    assert_eq!(cluster.wait_until_quiet(), (owner, other));
    assert_eq!(lost(), lost_before);
    drop(held);
    wait_for("HAProxy to take clients again", PATIENCE, || haproxy("serves"));
}

#[test]
fn an_operator_moves_the_address_there_and_back_and_no_request_is_lost() {
    let Some(mut cluster) = Cluster::serving_with(&PAIR, SECOND_CHANCE) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    let began = Instant::now();
    let done = cluster.hapilot(owner, &["vip", "release", "--drain", "10s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("public: {other} owns it")), "{}", done.stderr);
    client.wait_for(other);
    // The word outlives the agent, and the agent's end moves nothing.
    for node in [owner, other] {
        cluster.kill(node, "agent");
        cluster.start_agent(node);
    }
    cluster.wait_until_quiet();
    assert_eq!(cluster.bearers(), [other]);
    assert_eq!(cluster.vips(owner)["vips"][0]["is_released"], true);
    // A second node that lets go would leave nobody.
    let refused = cluster.hapilot(other, &["vip", "release"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("no other node is known to be able to take public"), "{}", refused.stderr);
    let done = cluster.hapilot(owner, &["vip", "reclaim"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    client.wait_for(owner);
    assert_eq!(cluster.wait_until_quiet(), (owner, other));
    let (lost, longest) = client.lost_since(began);
    assert_eq!(lost, 0, "the longest gap was {longest:?}");
    assert_eq!(cluster.hapilot(owner, &["vip", "status"]).code, Some(0));
}

#[test]
fn where_the_nodes_do_not_hear_each_other_one_gives_way_and_comes_back_by_itself() {
    let Some(cluster) = Cluster::serving_with(&PAIR, SECOND_CHANCE) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    let began = Instant::now();
    let cut = "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; \
               add rule inet cut in ip protocol 112 drop";
    for node in PAIR {
        cluster.net.done(node, &["nft", cut]);
    }
    wait_for("the event", PATIENCE, || cluster.events(owner).contains(&"two_masters".to_owned()).then_some(()));
    // The clients are with the one that announced itself last.
    cluster.wait_for_owner(other);
    let vips = cluster.vips(owner);
    let part =
        vips["vips"][0]["nodes"].as_array().and_then(|all| all.iter().find(|part| part["node"] == owner).cloned());
    let part = part.expect("its own part");
    assert_eq!((&part["state"], &part["fault"]), (&"FAULT".into(), &true.into()), "{part}");
    for node in PAIR {
        cluster.net.done(node, &["nft", "delete table inet cut"]);
    }
    assert_eq!(cluster.wait_until_quiet(), (other, owner));
    assert!(cluster.events(owner).contains(&"healed".to_owned()));
    let (lost, longest) = client.lost_since(began);
    assert_eq!(lost, 0, "the longest gap was {longest:?}");
}

#[test]
fn a_revision_goes_to_the_node_that_stands_by_first_and_a_bad_one_no_further() {
    let Some(cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    let revision = |node: &str| cluster.status(node)["config"]["revision"].as_u64().expect("a revision");
    let good = cluster.toml();
    let began = Instant::now();
    cluster.write_file(&good.replace("raw = [\"", "raw = [\"http-request set-header X-Y %[no_such_fetch]\", \""));
    let problem = wait_for("the owner to hold it back", PATIENCE, || {
        let status = cluster.status(owner);
        let problems = status["problems"].as_array()?.iter().filter_map(|problem| problem.as_str());
        problems.map(str::to_owned).find(|problem| problem.contains("could not serve this one"))
    });
    assert!(problem.contains(&format!("{other} takes a revision first")), "{problem}");
    assert_eq!((revision(owner), revision(other)), (1, 1));
    // One that HAProxy likes, and that no server answers to.
    cluster.write_file(&good.replace("127.0.0.1:9001", "127.0.0.1:9"));
    wait_for("the other node to serve it", PATIENCE, || (revision(other) == 2).then_some(()));
    let mut told = String::new();
    let began_waiting = Instant::now();
    while !told.contains("serves badly with it") {
        assert!(began_waiting.elapsed() < PATIENCE, "{told}\n{}", cluster.said(other, "agent"));
        told = cluster.status(owner)["problems"].to_string();
        pause(Duration::from_millis(50));
    }
    assert_eq!(revision(owner), 1);
    // One with a mistake waits for nobody: the owner says itself where it is, also when another node has refused it.
    cluster.write_file(&good.replace("interval = ", "intervall = "));
    wait_for("the other node to refuse it", PATIENCE, || {
        cluster.status(other)["problems"].to_string().contains("intervall").then_some(())
    });
    pause(Duration::from_millis(500));
    let refused = cluster.hapilot(owner, &["apply"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("hapilot.toml:"), "{}", refused.stderr);
    // A good one reaches both, the owner last.
    cluster.write_file(&good.replace("interval = \"1s\"", "interval = \"2s\""));
    wait_for("both to serve it", PATIENCE, || ((revision(owner), revision(other)) == (2, 3)).then_some(()));
    let created = |node: &str| {
        let history = cluster.hapilot(node, &["--json", "history"]).stdout;
        let all: serde_json::Value = serde_json::from_str(&history).expect("JSON");
        all[0]["created"].as_str().expect("a time").to_owned()
    };
    assert!(created(other) < created(owner), "{} {}", created(other), created(owner));
    let (lost, longest) = client.lost_since(began);
    assert_eq!(lost, 0, "the longest gap was {longest:?}");
}

#[test]
fn a_revision_soaks_where_no_client_is_and_goes_no_further() {
    let Some(cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    let revision = |node: &str| cluster.status(node)["config"]["revision"].as_u64().expect("a revision");
    let began = Instant::now();
    let good = cluster.toml() + "[apply]\nsoak = \"5m\"\n";
    cluster.write_file(&good);
    // What no request meets is confirmed at once.
    wait_for("both to serve it", PATIENCE, || ((revision(owner), revision(other)) == (2, 2)).then_some(()));
    wait_for("its confirmation", PATIENCE, || cluster.status(other)["trial"].is_null().then_some(()));
    cluster.write_file(&good.replace("127.0.0.1:9001", "127.0.0.1:9"));
    wait_for("the other node to serve it", PATIENCE, || (revision(other) == 3).then_some(()));
    let began_waiting = Instant::now();
    while revision(other) == 3 {
        assert!(began_waiting.elapsed() < Duration::from_secs(60), "{}", cluster.said(other, "agent"));
        assert_eq!(revision(owner), 2);
        pause(Duration::from_millis(250));
    }
    let history = cluster.hapilot(other, &["--json", "history"]).stdout;
    assert!(history.contains("rolled-back: chat: 0 of 1 servers are up, 1 of 1 before the edit"), "{history}");
    let problem = wait_for("the owner to say so", PATIENCE, || {
        let problems = cluster.status(owner)["problems"].to_string();
        problems.contains(&format!("{other} takes a revision first")).then_some(problems)
    });
    assert!(problem.contains("0 of 1 servers are up"), "{problem}");
    pause(Duration::from_secs(3));
    assert_eq!(revision(owner), 2);
    let (lost, longest) = client.lost_since(began);
    assert_eq!(lost, 0, "the longest gap was {longest:?}");
}

#[test]
fn what_fails_at_both_nodes_is_no_fault_of_the_edit_that_one_of_them_soaks() {
    let Some(mut cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let revision =
        |cluster: &Cluster, node: &str| cluster.status(node)["config"]["revision"].as_u64().expect("a revision");
    let good = cluster.toml() + "[apply]\nsoak = \"5m\"\n";
    cluster.write_file(&good);
    wait_for("both to serve it", PATIENCE, || {
        ((revision(&cluster, owner), revision(&cluster, other)) == (2, 2)).then_some(())
    });
    wait_for("its confirmation", PATIENCE, || cluster.status(other)["trial"].is_null().then_some(()));
    // Everything is served otherwise, and a provider breaks just then.
    cluster.write_file(&good.replace("[frontend.api]\n", "[frontend.api]\nmax_body = \"1MiB\"\n"));
    wait_for("the other node to serve it", PATIENCE, || (revision(&cluster, other) == 3).then_some(()));
    cluster.kill(owner, "mock");
    cluster.kill(other, "mock");
    let words = wait_for("what the soak says of it", PATIENCE, || {
        let trial = cluster.status(other)["trial"].clone();
        assert_eq!(revision(&cluster, other), 3, "{}", cluster.said(other, "agent"));
        (trial["soak"]["verdict"] == "shared").then(|| trial["soak"]["words"].to_string())
    });
    assert!(words.contains("0 of 1 servers are up") && words.contains("another node"), "{words}");
    pause(Duration::from_secs(10));
    assert_eq!(revision(&cluster, other), 3, "{}", cluster.said(other, "agent"));
}

#[test]
fn another_router_id_never_makes_two_owners() {
    let Some(cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    let began = Instant::now();
    cluster.write_file(&cluster.toml().replace("router_id = 51", "router_id = 52"));
    let has_new = |node: &str| {
        let conf = std::fs::read_to_string(cluster.path(node, "keepalived.conf")).expect("it is there");
        conf.contains("virtual_router_id 52")
    };
    // The node that stands by reads it first, hears nobody, and must not take that for the owner's death.
    wait_for("the other node to read it", PATIENCE, || has_new(other).then_some(()));
    while !has_new(owner) {
        let bearers = cluster.bearers();
        assert!(bearers == [owner] || has_new(owner), "{bearers:?}");
        assert!(began.elapsed() < PATIENCE);
    }
    cluster.wait_until_quiet();
    let (_, outage) = client.lost_since(began);
    assert!(outage < SOON, "{outage:?}");
}

#[test]
fn what_keepalived_says_is_heard_also_through_a_fifo_that_it_made_itself() {
    let Some(mut cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    // As after a boot that starts Keepalived before the agent.
    cluster.kill(other, "agent");
    cluster.kill(other, "keepalived");
    let fifo = cluster.path(other, "vrrp/vrrp.fifo");
    std::fs::remove_file(&fifo).expect("the agent made it");
    cluster.start_keepalived(other);
    wait_for("Keepalived to make it", PATIENCE, || fifo.exists().then_some(()));
    cluster.start_agent(other);
    assert_eq!(cluster.wait_until_quiet(), (owner, other));
    // A reload replaces it.
    // The new one may get the number of the old one.
    let made = |path: &std::path::Path| std::fs::metadata(path).map(|found| (found.ino(), found.created().ok())).ok();
    let before = made(&fifo);
    cluster.write_file(&cluster.toml().replace("router_id = 51", "router_id = 52"));
    wait_for("another FIFO", PATIENCE, || (made(&fifo) != before).then_some(()));
    let (owner, other) = cluster.wait_until_quiet();
    cluster.kill(owner, "haproxy");
    cluster.wait_for_owner(other);
    wait_for("the new owner to know", SOON, || cluster.events(other).contains(&"master".to_owned()).then_some(()));
}

#[test]
fn agent_and_haproxy_dying_together_leave_it_to_the_backstop() {
    let Some(mut cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    cluster.kill(owner, "agent");
    cluster.kill(owner, "haproxy");
    client.wait_for(other);
    cluster.wait_for_owner(other);
    // HAProxy comes back before the agent does: the backstop alone lets the node stand by again.
    cluster.start_haproxy(owner);
    wait_for("the node to stand by again", PATIENCE, || {
        cluster
            .said(owner, "keepalived")
            .rsplit("entering FAULT STATE")
            .next()?
            .contains("Entering BACKUP STATE")
            .then_some(())
    });
    cluster.start_agent(owner);
    assert_eq!(cluster.wait_until_quiet(), (other, owner));
}

#[test]
fn an_address_that_a_dead_keepalived_left_is_taken_away() {
    let Some(mut cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    let client = cluster.client();
    cluster.kill(owner, "keepalived");
    cluster.wait_for_owner(other);
    client.wait_for(other);
    let events = cluster.events(owner);
    assert!(["orphan", "keepalived_lost"].iter().all(|kind| events.iter().any(|event| event == kind)), "{events:?}");
    cluster.start_keepalived(owner);
    assert_eq!(cluster.wait_until_quiet(), (other, owner));
}

#[test]
fn of_nodes_that_are_all_bad_one_keeps_the_address() {
    let Some(mut cluster) = Cluster::serving(&PAIR) else { return };
    let (owner, other) = cluster.wait_until_quiet();
    cluster.kill(owner, "haproxy");
    cluster.wait_for_owner(other);
    cluster.kill(other, "haproxy");
    wait_for("both to know", PATIENCE, || {
        let told = cluster.vips(other)["vips"][0]["nodes"].to_string();
        (told.matches("no other node can serve either").count() == 2).then_some(())
    });
    assert_eq!(cluster.bearers().len(), 1);
    // The first one that can serve again has it.
    cluster.start_haproxy(owner);
    cluster.wait_for_owner(owner);
}

#[test]
fn of_three_nodes_the_next_in_rank_takes_over() {
    let Some(mut cluster) = Cluster::serving(&["a", "b", "c"]) else { return };
    let (owner, _) = cluster.wait_until_quiet();
    let client = cluster.client();
    let rest: Vec<&'static str> = cluster.nodes.iter().copied().filter(|node| *node != owner).collect();
    let mut dead = owner;
    for next in rest {
        cluster.kill(dead, "haproxy");
        client.wait_for(next);
        cluster.wait_for_owner(next);
        dead = next;
    }
}

#[test]
fn a_foreign_or_edited_keepalived_conf_is_told_and_kept() {
    let Some(mut cluster) = Cluster::new(&PAIR) else { return };
    let conf = cluster.path("a", "keepalived.conf");
    write(&conf, "global_defs {\n}\n");
    cluster.write_file(&cluster.toml());
    let refused = cluster.hapilot("a", &["apply"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("was not written by hapilot"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&conf).expect("it is there"), "global_defs {\n}\n");
    assert!(!cluster.path("a", "haproxy.cfg").exists(), "nothing is half done");
    let adopted = cluster.hapilot("a", &["apply", "--adopt"]);
    assert_eq!(adopted.code, Some(0), "{}", adopted.stderr);
    assert!((adopted.stdout + &adopted.stderr).contains("keepalived.conf is kept as"));
    let ours = std::fs::read_to_string(&conf).expect("it is there");
    assert!(ours.contains("vrrp_instance public"), "{ours}");
    write(&conf, ours.replace("priority 250", "priority 240"));
    cluster.start_agent("a");
    wait_for("the edit to be told", PATIENCE, || {
        cluster.status("a")["problems"].to_string().contains("keepalived.conf was edited by hand").then_some(())
    });
    assert!(std::fs::read_to_string(&conf).expect("it is there").contains("priority 240"));
    // What is wrong with Keepalived's file keeps nobody from steering HAProxy.
    cluster.start_haproxy("a");
    wait_for("HAProxy to be steered", PATIENCE, || {
        let status = cluster.status("a");
        let server = &status["backends"][0]["servers"][0];
        (status["config"]["is_serving"] == true && server["runtime_weight"] == 100).then_some(())
    });
}

#[test]
fn keepalived_accepts_every_kind_of_virtual_address() {
    let Some(cluster) = Cluster::new(&PAIR) else { return };
    let base = cluster.toml();
    let two = "[vip.second]\naddresses = [\"198.51.100.201/24\", \"198.51.100.202/24\"]\ninterface = \"eth0\"\nrouter_id = 52\n\
               priority = { a = 100, b = 150 }\nfailback = true\n";
    let v6 = |text: &str| text.replace("198.51.100.11", "2001:db8::11").replace("198.51.100.12", "2001:db8::12");
    for (what, text) in [
        ("unicast over IPv4", base.clone()),
        ("both families", base.replace("198.51.100.200/24\"]", "198.51.100.200/24\", \"2001:db8::200/64\"]")),
        ("unicast over IPv6", v6(&base).replace("198.51.100.200/24", "2001:db8::200/64")),
        ("multicast", base.replace("router_id = 51", "router_id = 51\nmulticast = true")),
        ("several", format!("{base}{two}")),
        ("long interval", base.replace("router_id = 51", "router_id = 255\nadvert_interval = \"10s\"")),
        ("second chance", base.replace("router_id = 51", "router_id = 51\nsecond_chance = true")),
    ] {
        cluster.write_file(&text);
        let judged = cluster.hapilot("a", &["check"]);
        assert_eq!(judged.code, Some(0), "{what}: {}{}", judged.stdout, judged.stderr);
    }
    cluster.write_file(&base.replace("interface = \"eth0\"", "interface = \"eth7\""));
    let judged = cluster.hapilot("a", &["check"]);
    assert_eq!(judged.code, Some(1), "{}{}", judged.stdout, judged.stderr);
    assert!((judged.stdout + &judged.stderr).contains("eth7"));
}

#[test]
fn an_address_that_the_node_has_by_itself_becomes_no_virtual_one() {
    let Some(mut cluster) = Cluster::new(&PAIR) else { return };
    let base = cluster.toml();
    cluster.write_file(&base.replace("198.51.100.200/24", "198.51.100.11/24"));
    let judged = cluster.hapilot("a", &["check"]);
    assert_eq!(judged.code, Some(2), "{}", judged.stderr);
    assert!(judged.stderr.contains("198.51.100.11 is a's own address"), "{}", judged.stderr);
    // One that no file names, such as a second address of the interface.
    cluster.net.done("a", &["ip", "addr", "add", "198.51.100.200/24", "dev", "eth0"]);
    cluster.write_file(&base);
    for command in [&["check"][..], &["apply"]] {
        let judged = cluster.hapilot("a", command);
        assert_eq!(judged.code, Some(1), "{}", judged.stderr);
        assert!(judged.stderr.contains("eth0 bears 198.51.100.200 already"), "{}", judged.stderr);
    }
    assert_eq!(cluster.hapilot("b", &["check"]).code, Some(0), "the other node does not have it");
    cluster.net.done("a", &["ip", "addr", "del", "198.51.100.200/24", "dev", "eth0"]);
    assert_eq!(cluster.hapilot("a", &["check"]).code, Some(0));
    // What Keepalived gave is no such address, though it dies and leaves it behind.
    cluster.start_node("a");
    cluster.wait_for_owner("a");
    cluster.kill("a", "keepalived");
    let edited = base.replace("router_id = 51", "router_id = 52");
    cluster.write_file(&edited);
    let judged = cluster.hapilot("a", &["check"]);
    assert_eq!(judged.code, Some(0), "{}", judged.stderr);
}
