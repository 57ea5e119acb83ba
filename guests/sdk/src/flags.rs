//! Arguments of the form `--name value`, `--name=value` and `-n value`, and nothing more.
//!
//! Knows neither defaults nor meanings: the job names its flags and asks for each as a type.

use std::str::FromStr;

/// The arguments of a job, cut into flags and the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pairs: Vec<(String, String)>,
    /// What does not belong to a flag, in order.
    pub rest: Vec<String>,
}

/// Arguments that mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// A flag that the job does not have.
    #[error("unknown flag {name}: this job has {known}")]
    Unknown {
        /// As it was typed.
        name: String,
        /// The flags that there are, with commas.
        known: String,
    },
    /// A flag at the end of the arguments.
    #[error("{name} needs a value: write {name} VALUE")]
    NoValue {
        /// The flag.
        name: String,
    },
    /// A flag given twice.
    #[error("{name} is given twice: give it once")]
    Twice {
        /// The flag.
        name: String,
    },
    /// A value of another type.
    #[error("{name} is {found:?}, but must be {expected}")]
    BadValue {
        /// The flag.
        name: String,
        /// What it must be.
        expected: &'static str,
        /// What was typed.
        found: String,
    },
}

impl Flags {
    /// Cuts `arguments` (without the program's name); `known` holds the flags with their dashes.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        known: &[&str],
    ) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with('-') || argument.parse::<f64>().is_ok() {
                flags.rest.push(argument);
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(FlagError::Unknown { name, known });
            }
            if flags.find(&name).is_some() {
                return Err(FlagError::Twice { name });
            }
            match value.or_else(|| arguments.next()) {
                Some(value) => flags.pairs.push((name, value)),
                None => return Err(FlagError::NoValue { name }),
            }
        }
        Ok(flags)
    }

    /// The value of a flag, or `default` where it was not given; `expected` says in words what
    /// it must be.
    pub fn get<T: FromStr>(
        &self,
        name: &str,
        default: T,
        expected: &'static str,
    ) -> Result<T, FlagError> {
        self.find(name).map_or(Ok(default), |found| {
            found.parse().map_err(|_| FlagError::BadValue {
                name: name.to_owned(),
                expected,
                found: found.to_owned(),
            })
        })
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, FlagError> {
        Flags::parse(arguments.iter().map(|&one| one.to_owned()), &["-k", "--steps", "--b"])
    }

    #[test]
    fn flags_are_read_with_a_space_and_with_an_equals_sign() {
        let flags = parse(&["-k", "31", "file", "--steps=7", "--b", "-1.5"]).unwrap();
        assert_eq!(flags.get("-k", 21_u32, "a number"), Ok(31));
        assert_eq!(flags.get("--steps", 0_u64, "a number"), Ok(7));
        assert_eq!(flags.get("--b", 0.0_f64, "a number"), Ok(-1.5));
        assert_eq!(flags.rest, ["file"]);
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        assert_eq!(parse(&[]).unwrap().get("-k", 21_u32, "a number"), Ok(21));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_name() {
        assert_eq!(
            parse(&["--stpes", "7"]).unwrap_err().to_string(),
            "unknown flag --stpes: this job has -k, --steps, --b"
        );
        assert_eq!(parse(&["-k"]).unwrap_err().to_string(), "-k needs a value: write -k VALUE");
        assert_eq!(
            parse(&["-k", "1", "-k", "2"]).unwrap_err().to_string(),
            "-k is given twice: give it once"
        );
        let flags = parse(&["-k", "many"]).unwrap();
        assert_eq!(
            flags.get("-k", 21_u32, "a whole number").unwrap_err().to_string(),
            "-k is \"many\", but must be a whole number"
        );
    }
}
