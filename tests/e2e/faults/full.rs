//! A file system that fills up under a host at work.

use std::{fs, sync::atomic::AtomicBool, thread};

use super::{
    SmallDisk,
    load::{Heard, check, client, manifest},
    skip,
};
use crate::{
    host::{Blob, Host, JSON, Place, get, stdout_of},
    http::{self, Response},
    support::{Over, World, wait_until},
};

/// On blocks of 1 KiB, as `mkfs.ext4` makes them on a small disk: there a host was ended by SIGBUS, because the
/// read model's index was a mapped file that had only every fourth block.
#[test]
fn a_host_on_a_full_disk_refuses_new_work_shows_what_it_has_and_goes_on_by_itself() {
    let mut world = World::new();
    let Some(disk) = SmallDisk::mount(&world, 400) else {
        return skip("full disk under a host", "file systems cannot be mounted here");
    };
    world.set_data(disk.mount.join("data"));
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let place = Place::default();
    place.set(Some(address));
    let over = AtomicBool::new(false);
    let heard = thread::scope(|scope| {
        let until = Over(&over);
        let clients = ["a", "b"].map(|name| scope.spawn(|| client(&place, name, &over)));
        wait_until("some jobs ended", || sealed(address).len() >= 5);

        let filler = disk.fill(0);
        let (counter, more) = (Blob::guest("counter"), Blob::new(vec![7; 1 << 20]));
        let is_refused =
            |answer: Response| answer.status == 507 && answer.json()["code"] == "disk-full";
        // An answer that comes before the request was read to its end may get lost on the way.
        wait_until("an upload is refused", || more.upload(address).is_ok_and(is_refused));
        // A job that needs no bytes that are not there is taken in while the log has room; then it ends.
        let body = manifest("one-more", &counter, &counter).to_string();
        let answer = http::request(address, "POST", "/v1/jobs", JSON, body.as_bytes()).unwrap();
        let one_more = (answer.status == 202).then(|| "one-more".to_owned());
        assert!(one_more.is_some() || is_refused(answer));
        // Reading goes on.
        let job = &sealed(address)[0];
        assert!(!stdout_of(address, job).is_empty());
        http::request(address, "GET", "/livez", &[], b"").unwrap().is(200);
        world.run(["show", job]).ok();
        assert!(host.running.is_there(), "{}", host.said());

        fs::remove_file(&filler).unwrap();
        let before = sealed(address).len();
        wait_until("it goes on by itself", || sealed(address).len() > before + 5);
        drop(until);
        let mut heard =
            clients.into_iter().map(|one| one.join().unwrap()).reduce(Heard::and).unwrap();
        heard.told.extend(one_more);
        heard
    });
    println!("{} jobs were told; {:?}", heard.told.len(), heard.refused);
    heard.only(&[(507, "disk-full")]);
    check(address, &heard.told);
    host.stop();
    world.run(["ledger", "check"]).ok();
    let mut host = Host::spawn(&world, &[]);
    check(host.ready(), &heard.told);
    host.stop();
}

fn sealed(address: std::net::SocketAddr) -> Vec<String> {
    let rows = get(address, "/v1/jobs?state=SEALED&limit=1000");
    let ids = rows["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["job_id"].as_str().unwrap().to_owned());
    ids.collect()
}
