//! Edits of every kind at any moment, with an agent that dies at any moment: it always ends in what the file says.

use super::support::haproxy::binaries;
use super::support::stage::Stage;
use super::support::{PATIENCE, pause, wait_for};
use hapilot::model::Digest;
use std::time::Duration;

/// Small random numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

#[test]
fn whenever_the_agent_dies_among_edits_the_last_one_is_served_in_the_end() {
    let seed = std::env::var("HAPILOT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    for (at, binary) in (0_u64..).zip(binaries()) {
        println!("{} HAPILOT_TEST_SEED={seed}", binary.version);
        let mut dice = Dice(seed.wrapping_add(at));
        let mut stage = Stage::running(&binary, |text| text);
        let first = stage.text();
        let (mut weight, mut idle) = (100, 10);
        for _ in 0..20 {
            match dice.below(3) {
                0 => weight = 1 + dice.below(200),
                1 => idle = 10 + dice.below(50),
                _ => (weight, idle) = (1 + dice.below(200), 10 + dice.below(50)),
            }
            let text = first
                .replace("weight = 100 # a", &format!("weight = {weight} # a"))
                .replace("idle = \"10s\"", &format!("idle = \"{idle}s\""));
            stage.write_file(&text);
            pause(Duration::from_millis(dice.below(250)));
            if dice.below(3) == 0 {
                stage.agent().kill();
                stage.begin_agent();
            }
        }
        wait_for("the last edit", PATIENCE, || {
            let status = stage.cli(&["status", "--json"]);
            let is_weighed = u64::from(stage.weight("a")) == weight;
            // `timeout server` or, since 3.0, `set-timeout server`.
            let is_loaded = stage.read("haproxy.cfg").contains(&format!("timeout server {idle}s"));
            // The file comes before the reload that makes it run.
            let said: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
            let runs = stage.read("haproxy.cfg").contains(said["haproxy"]["structure"].as_str()?);
            (is_weighed && is_loaded && runs && status.code == Some(0)).then_some(())
        });
        // A weight hastens ahead of the file that has it.
        wait_for("files like what runs", PATIENCE, || {
            (Digest::of(stage.done(&["render"])) == Digest::of(stage.read("haproxy.cfg"))).then_some(())
        });
        // The history comes last, when the reload is proven.
        wait_for("the history", PATIENCE, || (stage.done(&["diff"]).trim() == "no difference").then_some(()));
        assert_eq!(stage.check_live(&binary).code, Some(0));
        assert_eq!(stage.done(&["plan"]).lines().next(), Some("nothing to do: HAProxy runs what the file says"));
    }
}
