//! Thousands of requests made from the host's own document: it answers each as its document says, and
//! lives.
//!
//! A run is repeated with `HB_FUZZ_SEED=SEED`; `HB_FUZZ_REQUESTS` says how many requests it has.

use std::{collections::BTreeMap, env, fs};

use proptest::{
    strategy::{BoxedStrategy, Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use super::{
    client::Server,
    generate::{Asked, Known, requests},
    oracle,
};
use crate::{guests::guest, support::World};

const REQUESTS: usize = 3000;

fn number_from(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

fn runner(seed: u64) -> TestRunner {
    let seed = blake3::hash(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed.as_bytes());
    TestRunner::new_with_rng(Config::default(), rng)
}

/// Puts something on the host that requests can be about.
fn furnish(server: &Server) -> Known {
    let hello = server.upload(&fs::read(guest("hello")).unwrap());
    let input = server.upload(b"an input");
    let manifest = json!({"job_id": "done", "component": hello, "arguments": ["one"]});
    let done = server.run(&manifest);
    let number = done["number"].to_string();
    let waiting =
        json!({"job_id": "waiting", "component": hello, "not_before": "2500-01-01T00:00:00Z"});
    assert_eq!(server.post("/v1/jobs", &waiting).status, 202);
    let mut known = Known::default();
    known.add(&["component"], &[&hello]);
    known.add(&["stdin", "inputs", "digest"], &[&input, &hello]);
    known.add(&["job"], &["done", "waiting", "job-1", "job-2", &number, "1"]);
    known.add(&["job_id"], &["job-1", "job-2", "done", "waiting"]);
    known.add(&["program"], &["hello", "/x/hello.wasm"]);
    known.add(&["cron"], &["* * * * *", "0 4 * * 1", "@hourly"]);
    known.add(&["missed"], &["skip", "latest"]);
    known.add(&["Range"], &["bytes=0-3", "bytes=-2", "bytes=1-", "bytes=900-"]);
    known.add(&["Last-Event-ID", "last_event_id"], &["0", "5", "5:1:0", "99999"]);
    known.add(&["manifest"], &[]);
    known
}

/// One strategy for each operation.
fn strategies(document: &Value, known: &Known) -> Vec<(Value, BoxedStrategy<Asked>)> {
    let mut all = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            all.push((operation.clone(), requests(document, path, method, known)));
        }
    }
    all
}

#[test]
fn a_host_answers_thousands_of_strange_requests_as_its_document_says_and_lives() {
    let seed = number_from("HB_FUZZ_SEED").unwrap_or_else(|| {
        let hash = blake3::hash(tempfile::tempdir().unwrap().path().as_os_str().as_encoded_bytes());
        u64::from(u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()))
    });
    let count = number_from("HB_FUZZ_REQUESTS").map_or(REQUESTS, |count| count.try_into().unwrap());
    println!("HB_FUZZ_SEED={seed}");
    let world = World::new();
    let server = Server::start(&world, &[]);
    let known = furnish(&server);
    let document = server.get("/openapi.json").json();
    let all = strategies(&document, &known);
    assert!(all.len() > 30, "only {} operations are in the document", all.len());
    let mut runner = runner(seed);
    let mut statuses = BTreeMap::<u16, usize>::new();
    let mut faults = Vec::new();
    for number in 0..count {
        let (operation, strategy) = &all[number % all.len()];
        let Asked { request, reaches } = strategy.new_tree(&mut runner).unwrap().current();
        let answer = server.send(&request);
        *statuses.entry(answer.status).or_default() += 1;
        let right = oracle::check(&request.method, &answer);
        let right = right.and_then(|()| {
            let documented = || oracle::check_success(&document, operation, &answer);
            if reaches { documented() } else { Ok(()) }
        });
        if let Err(why) = right {
            let asked = request.bytes(&server.address);
            let asked = String::from_utf8_lossy(&asked[..asked.len().min(3000)]).into_owned();
            faults.push(format!("request {number}: {why}\n{asked}\n{answer:?}\n"));
        }
    }
    println!("answers by status: {statuses:?}");
    let shown = faults.len().min(10);
    assert!(
        faults.is_empty(),
        "HB_FUZZ_SEED={seed}, {} faults:\n{}",
        faults.len(),
        faults[..shown].join("\n")
    );
    assert!(server.lives(&world));
    // Requests that were all refused would have shown little.
    let good: usize = statuses.range(200..300).map(|(_, count)| count).sum();
    assert!(good > count / 5, "only {good} requests succeeded: {statuses:?}");
    server.stop();
    world.run(["ledger", "check"]).ok();
}
