//! A Keepalived whose `-t` hangs: keepalived.conf waits for it, and nothing else does.

use super::support::haproxy::{Binary, binaries};
use super::support::stage::Stage;
use super::support::{PATIENCE, wait_for, write};
use hapilot::mock::{Fault, FaultKind};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// The agent gives `keepalived -t` up after 5 s, and looks again 5 s later.
const LOOKS: Duration = Duration::from_secs(15);

/// A node with a virtual address on an interface that is not there, so that the network of this machine stays as it is, and a Keepalived that hangs at `-t` while there is a file `hang`.
fn stage(binary: &Binary, faults: &str) -> Stage {
    let mut stage = Stage::new(binary);
    let dir = stage.path("").display().to_string();
    let script = stage.path("slow-keepalived");
    write(
        &script,
        format!(
            "#!/bin/sh\n[ -e {dir}/hang ] && exec sleep 3600\n[ -e {dir}/own ] && cp {dir}/own {dir}/keepalived.conf\n\
             [ -e {dir}/refuse ] && exit 1\nexit 0\n"
        ),
    );
    fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let more = format!(
        "\n[keepalived]\nconfig = \"{dir}/keepalived.conf\"\nbinary = \"{}\"\ndirectory = \"{dir}/vrrp\"\n\
         pid_file = \"{dir}/keepalived.pid\"\nfirewall = false\n\n[vip.public]\naddresses = [\"198.51.100.200/24\"]\n\
         interface = \"nowhere0\"\nrouter_id = 51\npriority = {{ test = 150 }}\n",
        script.display()
    );
    stage.write_file(&(stage.text() + &more));
    stage.done(&["apply"]);
    stage.start_haproxy();
    stage.begin_agent_with(faults);
    stage.agent().wait_for_output("serving");
    stage.wait_for_health();
    stage
}

#[test]
fn a_keepalived_that_hangs_keeps_nobody_from_steering() {
    for binary in binaries().into_iter().rev().take(1) {
        let stage = stage(&binary, "");
        assert!(stage.read("keepalived.conf").contains("198.51.100.200"), "{}", binary.version);
        write(stage.path("hang"), "");
        let before = stage.read("keepalived.conf");
        // Ours still, and not what it should be: each look has it judged.
        fs_err::remove_file(stage.path("keepalived.conf")).expect("the file");
        let began = Instant::now();
        let (mut slowest, mut words) = (Duration::ZERO, 0);
        let mut is_out = None;
        while began.elapsed() < LOOKS {
            let asked = Instant::now();
            stage.done(&["server", "weight", "chat/c", if words % 2 == 0 { "90" } else { "100" }]);
            slowest = slowest.max(asked.elapsed());
            words += 1;
            if words == 1 {
                stage.break_mock("b", vec![Fault::new(FaultKind::Refuse)]);
            }
            if is_out.is_none() && stage.weight("b") == 0 {
                is_out = Some(began.elapsed());
            }
        }
        println!("{}: {words} words, slowest {slowest:?}, a broken server out after {is_out:?}", binary.version);
        assert!(slowest < Duration::from_secs(2), "{}: {slowest:?}", binary.version);
        assert!(is_out.is_some_and(|out| out < Duration::from_secs(5)), "{}: {is_out:?}", binary.version);
        let told = stage.json(&["status"])["problems"].to_string();
        assert!(told.contains("keepalived.conf is not what it should be"), "{}: {told}", binary.version);
        assert!(told.contains("`keepalived -t` did not end"), "{}: {told}", binary.version);
        stage.mend_mock("b");
        // It is written, with its notes, as soon as Keepalived answers.
        fs_err::remove_file(stage.path("hang")).expect("the file");
        wait_for("keepalived.conf", PATIENCE, || {
            std::fs::read_to_string(stage.path("keepalived.conf")).is_ok_and(|text| text == before).then_some(())
        });
        wait_for("nothing to be wrong with it", PATIENCE, || {
            (!stage.json(&["status"])["problems"].to_string().contains("keepalived.conf")).then_some(())
        });
    }
}

#[test]
fn an_edit_of_an_address_is_answered_with_what_became_of_keepalived_conf() {
    let binary = binaries().pop().expect("a HAProxy");
    let stage = stage(&binary, "");
    stage.edit("198.51.100.200/24", "198.51.100.201/24");
    wait_for("the edit", PATIENCE, || stage.read("keepalived.conf").contains("198.51.100.201").then_some(()));
    // An operator's own `apply` has the notes in its answer.
    stage.edit("198.51.100.201/24", "198.51.100.202/24");
    let said = stage.done(&["apply"]);
    assert!(stage.read("keepalived.conf").contains("198.51.100.202"), "{said}");
}

#[test]
fn an_address_is_released_at_once_and_answered_when_that_is_written_down() {
    let binary = binaries().pop().expect("a HAProxy");
    let stage = stage(&binary, "files.sync@1+=slow1500");
    let (mut slowest, mut looks) = (Duration::ZERO, 0);
    let (took, said) = std::thread::scope(|scope| {
        let began = Instant::now();
        let release = scope.spawn(|| stage.cli(&["vip", "release", "--force"]));
        while !release.is_finished() {
            let asked = Instant::now();
            stage.json(&["status"]);
            slowest = slowest.max(asked.elapsed());
            looks += 1;
        }
        (began.elapsed(), release.join().expect("an answer"))
    });
    println!("released after {took:?}, {looks} looks meanwhile, slowest {slowest:?}");
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""));
    assert!(said.stderr.contains("public: it is released") && !said.stderr.contains("not kept"), "{}", said.stderr);
    assert!(took > Duration::from_secs(1), "the disk was waited for: {took:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let status = stage.json(&["vip", "status"]);
    assert_eq!(status["vips"][0]["is_released"], true, "{status}");
}

#[test]
fn a_keepalived_conf_that_somebody_writes_meanwhile_is_left_as_it_is_and_told() {
    let binary = binaries().pop().expect("a HAProxy");
    let stage = stage(&binary, "");
    // The script plays an operator who writes his own file while hapilot's is being judged.
    let own = "! an operator's own file\n";
    write(stage.path("own"), own);
    stage.edit("198.51.100.200/24", "198.51.100.201/24");
    wait_for("it to be told", PATIENCE, || {
        stage.json(&["status"])["problems"].to_string().contains("keepalived.conf").then_some(())
    });
    assert_eq!(stage.read("keepalived.conf"), own);
    fs_err::remove_file(stage.path("own")).expect("the file");
    let told = wait_for("the next look", PATIENCE, || {
        let told = stage.json(&["status"])["problems"].to_string();
        told.contains("was not written by hapilot").then_some(told)
    });
    assert!(told.contains("--adopt") && stage.read("keepalived.conf") == own, "{told}");
}

#[test]
fn a_rollback_that_keepalived_does_not_follow_says_so() {
    let binary = binaries().pop().expect("a HAProxy");
    let stage = stage(&binary, "");
    stage.edit("198.51.100.200/24", "198.51.100.201/24");
    wait_for("the edit", PATIENCE, || stage.read("keepalived.conf").contains("198.51.100.201").then_some(()));
    write(stage.path("refuse"), "");
    let said = stage.cli(&["rollback"]);
    // HAProxy goes back all the same.
    let text = format!("{}{}", said.stdout, said.stderr);
    assert!(said.code == Some(0) && text.contains("keepalived.conf is not what it should be"), "{text}");
    assert!(stage.json(&["status"])["problems"].to_string().contains("keepalived.conf is not what it should be"));
    fs_err::remove_file(stage.path("refuse")).expect("the file");
    wait_for("keepalived.conf", PATIENCE, || stage.read("keepalived.conf").contains("198.51.100.200").then_some(()));
}
