//! Many appenders, one reader, a log with its threads.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use hb_disk::{CrashChoice, RealDisk, SimulatedDisk, Storage};
use hb_wal::{AppendError, Lsn, Options, Record, Recovery, Wal, read_only};

fn options() -> Options {
    Options {
        segment_bytes: 256 << 10,
        max_frame_bytes: 32 << 10,
        reserve_bytes: 16 << 10,
        idle_seal: Duration::from_millis(2),
        mark_flush: Duration::from_millis(5),
        seed: Some(3),
        ..Options::default()
    }
}

/// A batch of three that says who appended it and which it is.
fn batch(appender: u64, number: u64) -> Vec<Record> {
    let part = |part: u64| {
        let mut payload = Vec::new();
        for value in [appender, number, part] {
            payload.extend_from_slice(&value.to_le_bytes());
        }
        payload.resize(24 + usize::try_from(number * 29 % 600).unwrap(), 0xA5);
        Record { kind: 9, schema: 1, payload }
    };
    (0..3).map(part).collect()
}

fn word(payload: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(payload[at * 8..at * 8 + 8].try_into().unwrap())
}

/// Which batch each LSN belongs to; every batch is whole and in order.
fn batches(recovery: &Recovery) -> BTreeMap<Lsn, (u64, u64)> {
    let mut found = BTreeMap::new();
    let mut open_batch: Option<(u64, u64, u64)> = None;
    recovery
        .replay(|record| {
            let (who, number, part) =
                (word(record.payload, 0), word(record.payload, 1), word(record.payload, 2));
            assert_eq!(open_batch.unwrap_or((who, number, 0)), (who, number, part));
            open_batch = (part < 2).then_some((who, number, part + 1));
            if part == 2 {
                found.insert(record.lsn, (who, number));
            }
            Ok::<(), std::fmt::Error>(())
        })
        .unwrap();
    assert_eq!(open_batch, None, "the log ends with a whole batch");
    found
}

fn append_from_many(wal: &Arc<Wal>, appenders: u64, each: u64) -> BTreeMap<Lsn, (u64, u64)> {
    let acked = Arc::new(Mutex::new(BTreeMap::new()));
    let handles: Vec<_> = (0..appenders)
        .map(|appender| {
            let (wal, acked) = (Arc::clone(wal), Arc::clone(&acked));
            std::thread::spawn(move || {
                for number in 0..each {
                    let records = batch(appender, number);
                    let last = match number % 3 {
                        0 => wal.append_wait(&records),
                        1 => wal.append(&records).and_then(|t| t.wait().map(|()| t.last_lsn)),
                        _ => wal.append(&records).and_then(|ticket| {
                            let (sender, receiver) = mpsc::channel();
                            ticket.on_durable(move |result| sender.send(result).unwrap());
                            receiver.recv().unwrap().map(|()| ticket.last_lsn)
                        }),
                    };
                    let Ok(last) = last else { return };
                    assert!(wal.durable_lsn() >= last);
                    acked.lock().unwrap().insert(last, (appender, number));
                }
            })
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    let acked = acked.lock().unwrap();
    acked.clone()
}

#[test]
fn many_appenders_get_their_own_positions_and_find_their_records_again() {
    let disk = SimulatedDisk::new();
    let (wal, _) = Wal::open(Arc::new(disk.clone()), options()).unwrap();
    let wal = Arc::new(wal);
    let acked = append_from_many(&wal, 8, 90);
    assert_eq!(acked.len(), 8 * 90);
    let stats = wal.stats();
    assert_eq!(stats.records, 8 * 90 * 3);
    assert!(stats.frames - stats.seals < stats.records, "commits are shared: {stats:?}");
    wal.close().unwrap();
    let (_wal, recovery) = Wal::open(Arc::new(disk.fork()), options()).unwrap();
    assert_eq!(batches(&recovery), acked);
    assert_eq!(recovery.last_lsn, 8 * 90 * 3);
}

#[test]
fn power_lost_amid_many_appenders_loses_nothing_acknowledged() {
    for crash_at in (40..700).step_by(33) {
        let disk = SimulatedDisk::new();
        disk.crash_at(crash_at);
        let Ok((wal, _)) = Wal::open(Arc::new(disk.clone()), options()) else { continue };
        let acked = append_from_many(&Arc::new(wal), 6, 200);
        for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seeded(crash_at)]
        {
            let image = disk.crash_image(choice);
            let (_wal, recovery) = Wal::open(Arc::new(image), options())
                .unwrap_or_else(|error| panic!("{crash_at}, {choice:?}: {error}"));
            let found = batches(&recovery);
            for (lsn, batch) in &acked {
                assert_eq!(found.get(lsn), Some(batch), "{crash_at}, {choice:?}");
            }
        }
    }
}

#[test]
fn everyone_who_waits_learns_that_the_log_is_poisoned() {
    let disk = SimulatedDisk::new();
    let (wal, _) = Wal::open(Arc::new(disk.clone()), options()).unwrap();
    wal.append_wait(&batch(0, 0)).unwrap();
    for at in 1..200 {
        disk.fail_at(disk.operations() + at, 5);
    }
    let wal = Arc::new(wal);
    let told = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..8)
        .map(|appender| {
            let (wal, told) = (Arc::clone(&wal), Arc::clone(&told));
            std::thread::spawn(move || {
                let mut number = 0;
                loop {
                    match wal.append_wait(&batch(appender, number)) {
                        Ok(_) => number += 1,
                        Err(AppendError::Unknown { .. } | AppendError::Poisoned { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                told.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    assert_eq!(told.load(Ordering::Relaxed), 8);
    assert!(wal.close().is_err());
}

/// Waits for a state of the log, which its threads bring about.
fn until(wal: &Wal, reached: impl Fn(&hb_wal::Stats) -> bool) {
    while !reached(&wal.stats()) {
        std::thread::yield_now();
    }
}

#[test]
fn an_idle_log_seals_itself_and_makes_the_mark_durable() {
    let disk = SimulatedDisk::new();
    let (wal, _) = Wal::open(Arc::new(disk.clone()), options()).unwrap();
    wal.append_wait(&batch(0, 0)).unwrap();
    until(&wal, |stats| stats.seals == 1 && stats.mark_flushes >= 1);
    // Power is lost with nothing pending: the mark knows all of it.
    let image = disk.crash_image(CrashChoice::Nothing);
    let report = hb_wal::check(&image, false).unwrap();
    assert!(report.healthy(), "{:?}", report.problems);
    assert_eq!((report.last_good_lsn, report.acknowledged_lsn), (3, Some(3)));
    wal.append_wait(&batch(0, 1)).unwrap();
    until(&wal, |stats| stats.seals == 2);
}

#[test]
fn a_log_with_threads_goes_on_by_itself_when_there_is_room_again() {
    let disk = SimulatedDisk::new();
    let (wal, _) = Wal::open(Arc::new(disk.clone()), options()).unwrap();
    disk.set_capacity(Some(0));
    let mut number = 0;
    let error = loop {
        match wal.append_wait(&batch(1, number)) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    wal.append_reserved_wait(&batch(1, number)).unwrap();
    disk.set_capacity(None);
    until(&wal, |stats| stats.full.is_none() && stats.spares == 1);
    wal.append_wait(&batch(1, number + 1)).unwrap();
}

/// A second handle on the real disk reads while the first one writes, changes segments and
/// removes old ones.
#[test]
fn a_reader_beside_a_writer_sees_all_that_was_acknowledged_and_nothing_half() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Storage> = Arc::new(RealDisk::open(root.path()).unwrap());
    assert!(read_only(disk.as_ref()).unwrap().uuid.is_none());
    let (wal, _) = Wal::open(Arc::clone(&disk), options()).unwrap();
    let wal = Arc::new(wal);
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (wal, done) = (Arc::clone(&wal), Arc::clone(&done));
        std::thread::spawn(move || {
            for number in 0..600 {
                let last = wal.append_wait(&batch(7, number)).unwrap();
                if number % 100 == 99 {
                    wal.snapshot(last, &last.to_le_bytes()).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        })
    };
    let mut reads = 0;
    loop {
        let last_round = done.load(Ordering::Acquire);
        let acknowledged = wal.durable_lsn();
        let reader = read_only(disk.as_ref()).unwrap();
        assert!(reader.last_lsn >= acknowledged, "{} < {acknowledged}", reader.last_lsn);
        let mut next = reader.snapshot.as_ref().map_or(1, |snapshot| snapshot.lsn + 1);
        reader
            .replay(|record| {
                assert_eq!(record.lsn, next);
                assert_eq!(word(record.payload, 1), (next - 1) / 3);
                next += 1;
                Ok::<(), std::fmt::Error>(())
            })
            .unwrap();
        assert_eq!(next, reader.last_lsn + 1);
        reads += 1;
        if last_round {
            break;
        }
    }
    writer.join().unwrap();
    assert!(reads > 1, "{reads}");
    let report = hb_wal::check(disk.as_ref(), true).unwrap();
    assert!(report.healthy(), "{:?}", report.problems);
}
