//! The list of models that a caller gets: of all servers that it may reach, by the names that it may ask for. Real HAProxy and
//! agent, on every version.

use super::clients::{client, key};
use super::support::haproxy::binaries;
use super::support::http::{Connection, Reply, Request};
use super::support::stage::{SERVERS, Stage, swapped};
use super::support::{PATIENCE, wait_for};
use hapilot::mock::{Fault, FaultKind};
use serde_json::Value;

pub(super) fn list(stage: &Stage, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
    Connection::open(&stage.address).and_then(|mut connection| connection.send(&request)).expect("an answer")
}

pub(super) fn names(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    let all = json["data"].as_array().or(json["models"].as_array()).unwrap_or_else(|| panic!("{}", reply.text()));
    let name = |model: &Value| model["id"].as_str().or(model["name"].as_str()).expect("a name").to_owned();
    all.iter().map(name).collect()
}

/// `a` and `b` have other names than clients ask for, `c` has none of its own; `embeddings` is reached by its path alone, and
/// `claude` by its models.
fn file(stage: &str) -> String {
    let text = SERVERS[..2].iter().fold(stage.to_owned(), |text, server| {
        let line = format!("weight = 100 # {server}");
        swapped(&text, &line, &format!("{line}\nmodels = {{ \"public-{server}\" = \"mock-small\" }}"))
    });
    let text = swapped(&text, "expect = [\"mock-small\"]", "expect = []");
    let text = swapped(&text, "routes  = [", "routes  = [{ model = [\"claude-*\"], backend = \"claude\" }, ");
    let plans =
        "[plan.all]\nrequests = \"1000/1s\"\n[plan.few]\nmodels = [\"public-*\"]\n[plan.none]\nmodels = [\"other\"]\n";
    let clients: String = ["all", "few", "none"].iter().map(|plan| client(plan, plan)).collect();
    let claude = "[backend.claude]\nprovider = \"anthropic\"\n[backend.claude.check]\nmodels = { expect = [\"claude-new\"] }\n[backend.claude.server.one]\nurl = \"http://127.0.0.1:1\"\n";
    format!("{text}\n{plans}{clients}{claude}")
}

#[test]
fn a_caller_sees_the_models_that_it_may_ask_for_by_their_public_names_also_without_the_agent() {
    for binary in binaries() {
        let version = &binary.version;
        let mut stage = Stage::with_haproxy(&binary, |text| file(&text));
        stage.start_agent();
        let asked = |stage: &Stage, who: &str, headers: &[(&str, &str)]| {
            let key = key(who);
            list(stage, "/v1/models", &[&[("x-api-key", key.as_str())], headers].concat())
        };
        let all = ["mock-large", "mock-small", "public-a", "public-b"];
        wait_for("the whole list", PATIENCE, || (names(&asked(&stage, "all", &[])) == all).then_some(()));
        let reply = asked(&stage, "all", &[]);
        assert_eq!((reply.status, reply.json()["object"].as_str()), (200, Some("list")), "{version}");
        assert_eq!(names(&asked(&stage, "few", &[])), ["public-a", "public-b"], "{version}");
        // Whose API has none gets what the servers say.
        assert_eq!(asked(&stage, "nobody", &[]).status, 401, "{version}");
        let claude = asked(&stage, "all", &[("anthropic-version", "2023-06-01")]);
        assert_eq!(names(&claude), ["claude-new"], "{version}");
        assert_eq!(claude.json()["has_more"], false);
        // A plan that includes none of them gets none, whatever the servers say, and however the path is spelt.
        assert!(names(&asked(&stage, "none", &[])).is_empty(), "{version}");
        let few = key("few");
        for path in ["/v1/models/", "//v1//models", "/v1/%6dodels", "/v1/models?limit=5"] {
            assert_eq!(
                names(&list(&stage, path, &[("x-api-key", &few)])),
                ["public-a", "public-b"],
                "{version} {path}"
            );
        }
        assert!(names(&list(&stage, "/v1beta/models", &[("x-api-key", &few)])).is_empty(), "{version}");
        // Each of them can be asked for.
        for model in all {
            let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]}}"#);
            let request = Request::post("/v1/chat/completions", &body).header("x-api-key", &key("all"));
            let reply = Connection::open(&stage.address).and_then(|mut one| one.send(&request)).expect("an answer");
            // `c` alone has them all by these names.
            assert!(reply.status == 200 || reply.status == 404, "{version} {model}: {}", reply.text());
        }
        // What a server no longer has is gone, and an edit is live, without a reload.
        let worker = stage.worker();
        for server in SERVERS {
            let fault = Fault { body: Some("mock-large".to_owned()), ..Fault::new(FaultKind::MissingModel) };
            stage.break_mock(server, vec![fault]);
        }
        let fewer = ["mock-small", "public-a", "public-b"];
        wait_for("a shorter list", PATIENCE, || (names(&asked(&stage, "all", &[])) == fewer).then_some(()));
        stage.edit("public-a", "renamed-a");
        let edited = ["mock-small", "public-b", "renamed-a"];
        wait_for("the edited list", PATIENCE, || (names(&asked(&stage, "all", &[])) == edited).then_some(()));
        assert_eq!(stage.worker(), worker, "{version}");
        // The list stays while nobody keeps it, and over the agent's next life.
        stage.agent().kill();
        assert_eq!(names(&asked(&stage, "all", &[])), edited, "{version}");
        stage.start_agent();
        stage.edit("requests = \"1000/1s\"", "requests = \"999/1s\"");
        wait_for("the edit", PATIENCE, || stage.read("maps/plans.map").contains("999").then_some(()));
        assert_eq!(names(&asked(&stage, "all", &[])), edited, "{version}");
    }
}

/// A list of many models must not keep anything else from HAProxy.
#[test]
fn a_thousand_models_are_listed_and_hold_back_no_other_change() {
    for binary in binaries() {
        let version = &binary.version;
        let stage = Stage::with_haproxy(&binary, |text| file(&text));
        let many: Vec<String> = (0..1000).map(|number| format!("a-model-with-a-name-{number:04}")).collect();
        let text = swapped(
            &stage.text(),
            "\"public-a\" = \"mock-small\"",
            &many.iter().map(|name| format!("\"{name}\" = \"mock-small\"")).collect::<Vec<_>>().join(", "),
        );
        stage.write_file(&text);
        stage.done(&["apply"]);
        let all = key("all");
        let listed = names(&list(&stage, "/v1/models", &[("x-api-key", &all)]));
        assert!(many.iter().all(|name| listed.contains(name)), "{version}: {} of 1000", listed.len());
        stage.write_file(&text.replace("plan = \"all\"", "plan = \"none\""));
        stage.done(&["apply"]);
        assert!(names(&list(&stage, "/v1/models", &[("x-api-key", &all)])).is_empty(), "{version}");
    }
}
