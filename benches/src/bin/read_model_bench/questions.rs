//! The filters that are measured, helpful ones and unhelpful ones.

use hb_read_model::{Filter, IdMatch, LabelMatch, TimeRange};
use hb_types::{Digest, state::Phase};

use crate::history;

/// Filters by name, for a history of `rows` jobs.
pub fn all(rows: u64) -> Vec<(&'static str, Filter)> {
    let old = history::job(rows / 3, rows);
    let everything = Filter::default;
    let middle = TimeRange {
        from_ns: Some(history::received_ns(rows / 4)),
        before_ns: Some(history::received_ns(rows / 2)),
    };
    let recent = TimeRange { from_ns: Some(history::received_ns(rows / 20 * 19)), before_ns: None };
    let long_ago = TimeRange { from_ns: None, before_ns: Some(history::received_ns(rows / 20)) };
    let week_before = history::received_ns(rows / 2).saturating_sub(7 * 86_400_000_000_000);
    vec![
        ("everything", everything()),
        ("SEALED", phases(&[Phase::Sealed])),
        ("FAILED or CANCELLED", phases(&[Phase::Failed, Phase::Cancelled])),
        (
            "RECEIVED (three) + nightly (half)",
            Filter { labels: vec![label("nightly", Some("yes"))], ..phases(&[Phase::Received]) },
        ),
        (
            "SEALED + kept=paper (ten) + old ends",
            Filter {
                labels: vec![label("kept", Some("paper"))],
                ended: middle,
                ..phases(&[Phase::Sealed])
            },
        ),
        (
            "FAILED + project=p7 + owner + nightly",
            Filter {
                labels: vec![
                    label("project", Some("p7")),
                    label("owner", Some("ada")),
                    label("nightly", None),
                ],
                ..phases(&[Phase::Failed])
            },
        ),
        (
            "kmer + queue gpu (never meet)",
            Filter {
                program: Some("kmer".to_owned()),
                queue: Some("gpu".to_owned()),
                ..everything()
            },
        ),
        (
            "exit 3 + run (any value)",
            Filter {
                outcome: Some("exit 3".to_owned()),
                labels: vec![label("run", None)],
                ..everything()
            },
        ),
        ("received in the second quarter", Filter { received: middle, ..everything() }),
        ("ended in the last twentieth", Filter { ended: recent, ..everything() }),
        ("ended in the first twentieth", Filter { ended: long_ago, ..everything() }),
        (
            "FAILED + ended in the first twentieth",
            Filter { ended: long_ago, ..phases(&[Phase::Failed]) },
        ),
        (
            "ran for a week across the middle",
            Filter {
                received: TimeRange { from_ns: None, before_ns: Some(week_before) },
                ended: TimeRange { from_ns: Some(history::received_ns(rows / 2)), before_ns: None },
                ..everything()
            },
        ),
        ("name starts with sweep-1", starts("sweep-1")),
        ("name starts with one job's", starts(&old.job_id)),
        ("sweep- + queue gpu", Filter { queue: Some("gpu".to_owned()), ..starts("sweep-") }),
        (
            "fold. + program kmer (never meet)",
            Filter { program: Some("kmer".to_owned()), ..starts("fold.") },
        ),
        ("name contains ecoli", contains("ecoli")),
        ("name contains 0042", contains("0042")),
        ("name contains nothing-like-it", contains("nothing-like-it")),
        ("hash, one digit", Filter { job_hash: Some(prefix("a")), ..everything() }),
        (
            "hash, eight digits",
            Filter { job_hash: Some(prefix(&old.job_hash.short())), ..everything() },
        ),
        (
            "hash that a thousandth has + FAILED",
            Filter {
                job_hash: Some(prefix(&Digest::of(&7_u64.to_le_bytes()).to_string())),
                ..phases(&[Phase::Failed])
            },
        ),
        (
            "seal, twelve digits",
            Filter {
                seal: Some(prefix(&old.seal.unwrap_or(old.job_hash).to_string()[..12])),
                ..everything()
            },
        ),
    ]
}

fn phases(phases: &[Phase]) -> Filter {
    Filter { phases: phases.iter().copied().collect(), ..Filter::default() }
}

fn label(name: &str, value: Option<&str>) -> LabelMatch {
    LabelMatch { name: name.to_owned(), value: value.map(str::to_owned) }
}

fn starts(text: &str) -> Filter {
    Filter { id: Some(IdMatch::Prefix(text.to_owned())), ..Filter::default() }
}

fn contains(text: &str) -> Filter {
    Filter { id: Some(IdMatch::Contains(text.to_owned())), ..Filter::default() }
}

fn prefix(digits: &str) -> hb_read_model::HexPrefix {
    digits.parse().expect("digits of a digest")
}
