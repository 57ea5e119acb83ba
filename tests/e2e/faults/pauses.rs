//! A host that stands still for a while: SIGSTOP and SIGCONT under load.

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use super::load::{Heard, check, client};
use crate::{
    host::{Host, Place, get},
    support::{Moments, Over, World, wait_until},
};

const PAUSES: u32 = 12;

#[test]
fn a_host_that_stands_still_answers_afterwards_and_nobody_takes_its_ledger_meanwhile() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let place = Place::default();
    place.set(Some(address));
    let over = AtomicBool::new(false);
    let mut moments = Moments::new(u64::from(host.running.pid()));
    let heard = thread::scope(|scope| {
        let until = Over(&over);
        let clients = ["a", "b", "c"].map(|name| scope.spawn(|| client(&place, name, &over)));
        let records = || get(address, "/v1/status")["log"]["records"].as_u64().unwrap();
        for pause in 0..PAUSES {
            let before = records();
            wait_until("it works", || records() > before + 20);
            thread::sleep(moments.next(Duration::from_millis(40)));
            host.running.signal("STOP");
            if pause % 4 == 0 {
                let other = world.hb(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
                let said = String::from_utf8_lossy(&other.stderr).into_owned();
                assert_eq!(other.status.code(), Some(125), "{said}");
                assert!(said.contains("in use by process"), "{said}");
                // Reading needs no lock.
                world.run(["ledger", "check"]).ok();
            }
            thread::sleep(moments.next(Duration::from_millis(200)));
            host.running.signal("CONT");
        }
        drop(until);
        clients.into_iter().map(|one| one.join().unwrap()).reduce(Heard::and).unwrap()
    });
    println!("{PAUSES} pauses; {} jobs were told; {:?}", heard.told.len(), heard.refused);
    heard.only(&[]);
    check(address, &heard.told);
    host.stop();
    world.run(["ledger", "check"]).ok();
}
