//! Manifests in the older form, by every way in, and in the present form.

use std::fs;

use serde_json::json;

use super::{IMAGE, Place};
use crate::{
    host::{Host, JSON, stdout_of, submit, wait_for_seal},
    http,
    support::wait_until,
};

#[test]
fn a_plain_python_job_in_the_older_form_runs_by_every_way_in() {
    let Some(place) = Place::open("the older form") else { return };
    let data = place.world.path("data-of-the-operator");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("numbers"), "1\n2\n3\n").unwrap();
    let config = place.world.path("hb.toml");
    let text = format!("[container]\nmounts = [{:?}]\n", data.to_str().unwrap());
    fs::write(&config, text).unwrap();
    let mut host =
        Host::spawn_with(&place.world, &["--config", config.to_str().unwrap()], |command| {
            place.engine.name_to(command);
        });
    let address = host.ready();
    let image = place.engine.docker(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    let program = "print('[D1_STABLE] read'); print(sum(map(int, open('/data/numbers'))))";
    let older = |job: &str, image: &str| {
        json!({"job_id": job, "image_hash": image, "command": ["python3", "-c", program],
            "mount_spec": format!("{}:/data", data.display()), "required_cpu": 0.5})
    };

    let body = older("by-http", &image).to_string();
    let answer = http::request(address, "POST", "/api/submit_job", JSON, body.as_bytes());
    answer.unwrap().is(202);
    wait_for_seal(address, "by-http");
    assert_eq!(stdout_of(address, "by-http"), b"[D1_STABLE] read\n6\n");
    let again = http::request(address, "POST", "/api/submit_job", JSON, body.as_bytes());
    again.unwrap().is(200);

    let manifest = place.world.path("old.json");
    fs::write(&manifest, older("by-submit", IMAGE).to_string()).unwrap();
    let server = format!("http://{address}");
    let named = ["submit", "--server", &server, "--wait", manifest.to_str().unwrap()];
    assert_eq!(place.run(named).ok().text(), "[D1_STABLE] read\n6\n");
    let flags = ["submit", "--server", &server, "--wait", "--image", IMAGE, "--", "echo", "hello"];
    assert_eq!(place.run(flags).ok().text(), "hello\n");

    let queue = place.world.data().join("queue");
    fs::write(place.world.path("q.json"), older("by-queue", IMAGE).to_string()).unwrap();
    fs::rename(place.world.path("q.json"), queue.join("q.json")).unwrap();
    wait_until("the queue is taken in", || {
        http::request(address, "GET", "/v1/jobs/by-queue", &[], b"").is_ok_and(|r| r.status == 200)
    });
    wait_for_seal(address, "by-queue");
    assert_eq!(stdout_of(address, "by-queue"), b"[D1_STABLE] read\n6\n");

    let present = json!({"job_id": "present", "image": IMAGE, "program": "cat",
        "arguments": ["/data/numbers"], "mounts": [format!("{}:/data", data.display())],
        "preflight": "test -r /data/numbers; echo checked"});
    submit(address, &present);
    let shown = wait_for_seal(address, "present");
    assert_eq!(shown["state"], "SEALED");
    assert_eq!(stdout_of(address, "present"), b"1\n2\n3\n");
    host.stop();
    place.engine.is_clean();
    place.run(["ledger", "check"]).ok();
}
