//! Requests over a rate that wait for their turn, where HAProxy can hold them back.

use super::clients::{chat, client, stage};
use super::support::haproxy::binaries;
use std::time::{Duration, Instant};

#[test]
fn who_is_over_its_rate_waits_for_its_turn_where_haproxy_can_hold_it_back() {
    for binary in binaries() {
        let can = (binary.version.major, binary.version.minor) >= (3, 2);
        let text = format!(
            "[plan.patient]\nrequests = \"4/4s\"\nover = \"delay\"\n{}{}",
            client("acme", "patient"),
            client("other", "patient"),
        );
        let stage = stage(&binary, &text);
        let told = stage.cli(&["check"]);
        let said = format!("{}: {}{}", binary.version, told.stdout, told.stderr);
        assert_eq!(said.contains("over = \"delay\" is not in force"), !can, "{said}");
        // Four at once, five that wait for 1 to 5 s, and the rest is too many.
        let mut answers: Vec<(u16, f64)> = std::thread::scope(|scope| {
            let asked = |of: &'static str| {
                let stage = &stage;
                scope.spawn(move || {
                    let began = Instant::now();
                    (chat(stage, of).status, began.elapsed().as_secs_f64())
                })
            };
            let all: Vec<_> = (0..12).map(|_| asked("acme")).collect();
            let other = asked("other").join().expect("an answer");
            assert_eq!(other.0, 200, "{said}");
            assert!(other.1 < 1.0, "{said}: {other:?}");
            all.into_iter().map(|one| one.join().expect("an answer")).collect()
        });
        answers.sort_by(|a, b| a.1.total_cmp(&b.1));
        let passed: Vec<f64> = answers.iter().filter(|one| one.0 == 200).map(|one| one.1).collect();
        let refused = answers.iter().filter(|one| one.0 == 429).count();
        let expected = if can { (9, 3) } else { (4, 8) };
        assert_eq!((passed.len(), refused), expected, "{said}: {answers:?}");
        for (at, took) in passed.iter().enumerate().skip(4) {
            let turn = at as f64 - 3.0;
            assert!((turn - 0.5..turn + 1.0).contains(took), "{said}: {passed:?}");
        }
        if can {
            // Nobody is owed anything: the next one waits for its own turn alone.
            let began = Instant::now();
            assert_eq!(chat(&stage, "acme").status, 200, "{said}");
            assert!(began.elapsed() < Duration::from_secs(2), "{said}: {:?}", began.elapsed());
        }
    }
}
