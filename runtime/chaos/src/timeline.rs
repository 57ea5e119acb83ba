//! A picture of an experiment: time from left to right.
//!
//! Owns how it looks; knows nothing of what is shown.

use std::fmt::Write as _;

use crate::report::Restart;

/// Columns of the picture.
const WIDTH: usize = 72;
const COLUMNS: f64 = 72.0;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Three rows: how much of the time a host took jobs, what was done to it, and how many jobs ended.
pub(crate) fn draw(restarts: &[Restart], ends_s: &[f64], duration_s: f64) -> String {
    let column = Columns { step: (duration_s / COLUMNS).max(1e-9) };
    let mut up = [0.0; WIDTH];
    for restart in restarts {
        if let Some(ready_ms) = restart.ready_ms {
            column.spread(restart.start_s + ready_ms / 1000.0, restart.end_s, &mut up);
        }
    }
    // The last host is not killed.
    let last = restarts.last().map_or(0.0, |restart| restart.end_s);
    column.spread(last, duration_s, &mut up);
    let mut done: Vec<Vec<char>> = vec![Vec::new(); WIDTH];
    for restart in restarts {
        done[column.of(restart.end_s)].push(restart.fault.letter());
    }
    let mut ended = [0.0; WIDTH];
    for end in ends_s {
        ended[column.of(*end)] += 1.0;
    }
    let most = ended.iter().copied().fold(0.0, f64::max);
    let mut picture = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(picture, "  host  |{}|", bars(&up, column.step));
    for row in 0..ROWS {
        let letter = |faults: &Vec<char>| match faults.len() {
            count if count > ROWS && row == ROWS - 1 => '+',
            _ => faults.get(row).copied().unwrap_or(' '),
        };
        let letters: String = done.iter().map(letter).collect();
        if !letters.trim().is_empty() {
            let name = if row == 0 { "done" } else { "" };
            let _ = writeln!(picture, "  {name:<5} |{letters}|");
        }
    }
    let _ = writeln!(picture, "  jobs  |{}|", bars(&ended, most));
    let _ = writeln!(
        picture,
        "         0 s{:>width$}\n  {LEGEND}\n  a full bar: a host that took jobs all the time; {most:.0} \
         jobs that ended",
        format!("{duration_s:.0} s"),
        width = WIDTH - 3
    );
    picture
}

/// Faults that are drawn in one column.
const ROWS: usize = 4;
const LEGEND: &str = "k kill  t torn write  f full disk  b flipped bit  p power cut  s stopped  e failed flush  l lying flush";

struct Columns {
    step: f64,
}

impl Columns {
    fn of(&self, at_s: f64) -> usize {
        // Not negative, and cut to the picture.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let column = (at_s / self.step).max(0.0) as usize;
        column.min(WIDTH - 1)
    }

    /// Adds a span of time to the columns that it covers.
    fn spread(&self, from_s: f64, to_s: f64, columns: &mut [f64; WIDTH]) {
        for (index, column) in columns.iter_mut().enumerate() {
            #[expect(clippy::cast_precision_loss)]
            let (begin, end) = (index as f64 * self.step, (index + 1) as f64 * self.step);
            *column += (to_s.min(end) - from_s.max(begin)).max(0.0);
        }
    }
}

fn bars(values: &[f64], full: f64) -> String {
    let bar = |value: &f64| {
        if full <= 0.0 || *value <= 0.0 {
            return BARS[0];
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let height = (value / full * 8.0).round().max(1.0) as usize;
        BARS[height.min(8)]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use crate::{fault::Fault, plan::Plan};

    use super::*;

    #[test]
    fn a_picture_has_one_width_whatever_happened() {
        let rounds = Plan::new(3, 30, &Fault::ALL).rounds;
        let mut at = 0.0;
        let restarts: Vec<Restart> = rounds
            .iter()
            .map(|round| {
                let start = std::time::Duration::from_secs_f64(at);
                at += 0.3;
                let mut restart = Restart::of(round, start);
                restart.ready_ms = Some(100.0);
                restart.until(std::time::Duration::from_secs_f64(at))
            })
            .collect();
        let picture = draw(&restarts, &[0.1, 5.0, 5.1, 99.0], at);
        let rows: Vec<&str> = picture.lines().filter(|line| line.ends_with('|')).collect();
        assert!(rows.len() >= 3, "{picture}");
        for row in rows {
            assert_eq!(row.chars().count(), WIDTH + 10, "{row}");
        }
        assert!(draw(&[], &[], 0.0).contains("host"));
    }
}
