//! Frames come back as they were, and nothing else passes for one.

use proptest::prelude::*;

use super::*;
use crate::record::{self, Record};

const ID: LogId = LogId { uuid: [7; 16], salt: [9; 32] };

fn build(records: &[Record]) -> (Vec<u8>, FrameHeader) {
    let mut buffer = vec![0; SECTOR];
    for (at, record) in records.iter().enumerate() {
        record.encode(10 + at as u64, &mut buffer);
    }
    let mut header = FrameHeader {
        frame_seq: 3,
        first_lsn: 10,
        count: u32::try_from(records.len()).unwrap(),
        durable_lsn: 9,
        body_len: 0,
        flags: 0,
        time_ns: 5,
        segment: 2,
        offset: 8192,
        previous: [1; 32],
        link: [0; 32],
    };
    finish(&mut buffer, &ID, &mut header);
    (buffer, header)
}

fn passes(frame: &[u8]) -> bool {
    match read_header(frame, &ID, 2, 8192) {
        AtOffset::Valid(header) => {
            header.len() == frame.len()
                && bad_sectors(frame, &header).is_empty()
                && link_holds(frame, &ID, &header)
        }
        AtOffset::Zero | AtOffset::Damaged(_) => false,
    }
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        (0_usize..90_000).prop_map(|len| vec![0; len]),
    ];
    let record = (any::<u16>(), any::<u16>(), payload).prop_map(|(kind, schema, payload)| Record {
        kind,
        schema,
        payload,
    });
    prop::collection::vec(record, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_frame_is_read_back(records in records()) {
        let (frame, header) = build(&records);
        prop_assert_eq!(frame.len() % BLOCK, 0);
        prop_assert_eq!(read_header(&frame, &ID, 2, 8192), AtOffset::Valid(header.clone()));
        prop_assert!(passes(&frame));
        let mut found = Vec::new();
        record::decode(body(&frame, &header), 10, header.count, |record| {
            found.push((record.lsn, Record {
                kind: record.kind,
                schema: record.schema,
                payload: record.payload.to_vec(),
            }));
        }).unwrap();
        let expected: Vec<_> = records.into_iter().enumerate()
            .map(|(at, record)| (10 + at as u64, record)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn one_changed_byte_is_noticed(records in records(), at in any::<prop::sample::Index>(), mask in 1..=255_u8) {
        let (mut frame, _) = build(&records);
        let at = at.index(frame.len());
        frame[at] ^= mask;
        prop_assert!(!passes(&frame));
    }

    #[test]
    fn lost_sectors_are_zero_and_nothing_else_is(records in records(), lost in any::<u128>()) {
        let (whole, header) = build(&records);
        let mut frame = whole.clone();
        for sector in 1..frame.len() / SECTOR {
            if lost.rotate_right(u32::try_from(sector % 128).unwrap()) & 1 == 1 {
                frame[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
            }
        }
        let bad = bad_sectors(&frame, &header);
        prop_assert!(bad.iter().all(|bad| bad.zero));
        prop_assert_eq!(bad.is_empty(), frame == whole);
    }
}

#[test]
fn a_frame_elsewhere_or_of_another_log_is_not_valid() {
    let (frame, _) = build(&[Record { kind: 1, schema: 1, payload: vec![5; 100] }]);
    let other = LogId { uuid: [8; 16], ..ID };
    let valid = |id: &LogId, segment, offset| {
        matches!(read_header(&frame, id, segment, offset), AtOffset::Valid(_))
    };
    assert!(valid(&ID, 2, 8192));
    assert!(!valid(&ID, 2, 4096));
    assert!(!valid(&ID, 3, 8192));
    assert!(!valid(&other, 2, 8192));
}

#[test]
fn tables_grow_out_of_the_header() {
    assert_eq!(Geometry::new(0).len(), BLOCK);
    assert_eq!(Geometry::new(7 * SECTOR).len(), BLOCK);
    assert_eq!(Geometry::new(7 * SECTOR + 1).len(), 2 * BLOCK);
    assert_eq!(Geometry::new(87 * SECTOR).table_sectors, 0);
    assert_eq!(Geometry::new(87 * SECTOR + 1).table_sectors, 1);
    assert_eq!(Geometry::new((87 + 126) * SECTOR + 1).table_sectors, 2);
}
