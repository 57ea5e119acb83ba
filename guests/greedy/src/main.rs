//! Asks for everything that a guest must not have, one thing at a time, by name.
//!
//! For tests of limits, traps and walls. The first argument names what is asked for; what each
//! name does stands in one table below and in `docs/guests.md`. A command that the host refuses
//! without ending the guest says so on stderr and ends with exit code 1.

mod limits;
mod rollback;
mod traps;
mod walls;

use std::process::ExitCode;

/// How a command ends if the guest lives on: with nothing to say, or with why it stopped.
type Ended = Result<(), String>;

struct Command {
    name: &'static str,
    run: fn(&[String]) -> Ended,
}

macro_rules! commands {
    ($($name:literal $run:path),* $(,)?) => {
        const COMMANDS: &[Command] = &[$(Command { name: $name, run: $run }),*];
    };
}

commands! {
    "loop" limits::endless_loop,
    "grow" limits::grow,
    "recurse" limits::recurse,
    "flood-stdout" limits::flood_stdout,
    "flood-stderr" limits::flood_stderr,
    "flood-metrics" limits::flood_metrics,
    "flood-notes" limits::flood_notes,
    "fill-files" limits::fill_files,
    "many-files" limits::many_files,
    "open-files" limits::open_files,
    "big-checkpoint" limits::big_checkpoint,
    "many-checkpoints" limits::many_checkpoints,
    "unreachable" traps::unreachable,
    "panic" traps::panic,
    "divide" traps::divide,
    "overflow" traps::overflow,
    "oob" traps::out_of_bounds,
    "table-oob" traps::table_out_of_bounds,
    "null-call" traps::null_call,
    "bad-signature" traps::bad_signature,
    "hostile-name" traps::hostile_name,
    "restore-twice" traps::restore_twice,
    "falling-step" traps::falling_step,
    "long-metric" traps::long_metric,
    "long-note" traps::long_note,
    "exit" walls::exit,
    "std-exit" walls::std_exit,
    "sleep" walls::sleep,
    "clock" walls::clock,
    "random" walls::random,
    "escape" walls::escape,
    "after-checkpoint" rollback::after_checkpoint,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.first().map_or("nothing", String::as_str);
    let ended = if let Some(command) = COMMANDS.iter().find(|command| command.name == asked) {
        (command.run)(&arguments[1..])
    } else {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        Err(format!("{asked:?} was asked for, expected one of: {}", names.join(", ")))
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("greedy: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The argument at `index` as a number, or `default` where there is none.
fn number(arguments: &[String], index: usize, default: u64) -> Result<u64, String> {
    arguments.get(index).map_or(Ok(default), |text| {
        text.parse().map_err(|_| format!("{text:?} was given where a whole number was expected"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_in_the_documentation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guests.md");
        let page = std::fs::read_to_string(path).expect("docs/guests.md is there");
        for command in COMMANDS {
            let row = format!("| `{}", command.name);
            assert!(page.contains(&row), "docs/guests.md has no row for {}", command.name);
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused() {
        assert_eq!(number(&[], 0, 7), Ok(7));
        assert_eq!(number(&["9".to_owned()], 0, 7), Ok(9));
        assert!(number(&["-1".to_owned()], 0, 7).is_err());
    }
}
