//! What is done to servers, by whom it can be borne: profiles, targets, and which go together.
//! Shared by `load.rs`, `tail.rs` and `memory.rs`.

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::target::{Policy, Server, Target};

/// `NAME=ARGUMENTS` of the generator, mode first: `pipeline=http --connections 64 --depth 16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Profile {
    /// The arguments for so many requests a second, whatever becomes of them.
    pub(crate) fn at_rate(&self, rate: f64) -> String {
        format!("{} --rate {rate}", self.arguments)
    }

    /// How many requests a second it asks for by itself, whatever becomes of them.
    pub(crate) fn asked_rate(&self) -> Option<f64> {
        let words: Vec<&str> = self.arguments.split_whitespace().collect();
        let value = |(place, word): (usize, &&str)| match word.strip_prefix("--rate")? {
            "" => words.get(place + 1)?.parse().ok(),
            value => value.strip_prefix('=')?.parse().ok(),
        };
        words.iter().enumerate().find_map(value)
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        match text.split_once('=') {
            Some((name, arguments)) if !name.is_empty() && !arguments.trim().is_empty() => {
                Ok(Profile { name: name.to_owned(), arguments: arguments.trim().to_owned() })
            }
            _ => Err("a profile is NAME=ARGUMENTS of the generator, mode first".to_owned()),
        }
    }
}

/// `TARGET=PROFILE,PROFILE`: all that a server can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Only {
    target: String,
    profiles: Vec<String>,
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Only, String> {
        let (target, profiles) = text.split_once('=').ok_or("it is TARGET=PROFILE,PROFILE")?;
        Ok(Only {
            target: target.to_owned(),
            profiles: profiles.split(',').map(str::to_owned).collect(),
        })
    }
}

/// Which servers are measured at what.
#[derive(Args)]
pub(crate) struct Plan {
    /// What is done: NAME=ARGUMENTS of upring-load, mode first.
    #[arg(long = "profile", required = true)]
    pub(crate) profiles: Vec<Profile>,
    /// A server: NAME=COMMAND, or NAME@ADDR:PORT,PID of one that runs. The others are compared with
    /// the first.
    #[arg(long = "target", required = true)]
    pub(crate) targets: Vec<Target>,
    /// What a server can do that cannot do everything: TARGET=PROFILE,PROFILE.
    #[arg(long = "only")]
    pub(crate) only: Vec<Only>,
}

impl Plan {
    /// Starts every server that has something to do, once all names are known to mean something.
    pub(crate) fn start(&self) -> Result<Servers<'_>, Box<dyn Error>> {
        self.check()?;
        let has_work =
            |target: &&Target| self.profiles.iter().any(|profile| self.fits(target, profile));
        let start = |target| Ok((target, Server::start(target, Policy::Usual)?));
        let started = self.targets.iter().filter(has_work).map(start);
        Ok(Servers { plan: self, started: started.collect::<Result<_, Box<dyn Error>>>()? })
    }

    /// Says which names mean nothing.
    pub(crate) fn check(&self) -> Result<(), String> {
        let targets: Vec<&str> = self.targets.iter().map(|target| &*target.name).collect();
        let profiles: Vec<&str> = self.profiles.iter().map(|profile| &*profile.name).collect();
        if let Some(twice) = repeated(&targets).or_else(|| repeated(&profiles)) {
            return Err(format!("there are two of the name {twice}"));
        }
        for Only { target, profiles: some } in &self.only {
            if !targets.contains(&target.as_str()) {
                return Err(format!("--only {target}: no target has this name"));
            }
            if let Some(unknown) = some.iter().find(|name| !profiles.contains(&name.as_str())) {
                return Err(format!("--only {target}: no profile has the name {unknown}"));
            }
        }
        Ok(())
    }

    /// Whether a server can do it.
    pub(crate) fn fits(&self, target: &Target, profile: &Profile) -> bool {
        let only = self.only.iter().find(|only| only.target == target.name);
        only.is_none_or(|only| only.profiles.contains(&profile.name))
    }

    /// Each profile's arguments by its name, for the record.
    pub(crate) fn definitions(&self) -> BTreeMap<String, String> {
        let pair = |profile: &Profile| (profile.name.clone(), profile.arguments.clone());
        self.profiles.iter().map(pair).collect()
    }
}

/// Rounds beyond which a slip of the finger is meant.
const ROUNDS_MAX: u64 = 10_000;

/// A number of rounds: none would make rows of nothing.
pub(crate) fn rounds() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=ROUNDS_MAX)
}

fn repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    let twice = |(index, name): (usize, &&'a str)| names[..index].contains(name).then_some(*name);
    names.iter().enumerate().find_map(twice)
}

/// The servers of a plan, all running.
pub(crate) struct Servers<'a> {
    plan: &'a Plan,
    started: Vec<(&'a Target, Server)>,
}

impl Servers<'_> {
    /// Those that can do it, with their names, in the order of the command line.
    pub(crate) fn of(&self, profile: &Profile) -> Vec<(&str, &Server)> {
        let fitting = self.started.iter().filter(|(target, _)| self.plan.fits(target, profile));
        fitting.map(|(target, server)| (target.name.as_str(), server)).collect()
    }

    /// Every one, with its name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Server)> {
        self.started.iter().map(|(target, server)| (target.name.as_str(), server))
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;
    use clap::builder::TypedValueParser;

    use super::*;

    fn plan(only: &[&str]) -> Plan {
        Plan {
            profiles: ["a=http", "b=switch --late"].map(|text| text.parse().unwrap()).to_vec(),
            targets: ["x=x PORT", "y=y PORT"].map(|text| text.parse().unwrap()).to_vec(),
            only: only.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_profile_is_a_name_and_arguments() {
        let profile = "p=http --content a=b".parse::<Profile>().unwrap();
        assert_eq!((&*profile.name, &*profile.arguments), ("p", "http --content a=b"));
        for wrong in ["p", "p=", "p= ", "=http"] {
            assert!(wrong.parse::<Profile>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_profile_may_ask_for_a_rate() {
        let asked =
            |arguments: &str| format!("p={arguments}").parse::<Profile>().unwrap().asked_rate();
        assert_eq!(asked("echo --rate 1e5 --depth 2"), Some(100_000.0));
        assert_eq!(asked("echo --rate=7.5"), Some(7.5));
        for none in
            ["echo", "echo --rates 7", "echo --rate", "echo --rate x", "http --path /--rate"]
        {
            assert_eq!(asked(none), None, "{none}");
        }
    }

    #[test]
    fn a_server_with_a_list_does_only_what_is_on_it() {
        let plan = plan(&["y=b"]);
        let fits = |target: usize, profile: usize| {
            plan.fits(&plan.targets[target], &plan.profiles[profile])
        };
        assert_eq!([fits(0, 0), fits(0, 1), fits(1, 0), fits(1, 1)], [true, true, false, true]);
    }

    #[test]
    fn names_that_mean_nothing_are_refused_before_anything_starts() {
        assert!(plan(&["y=a,b"]).check().is_ok());
        for wrong in ["z=a", "y=c", "y=a,c", "y="] {
            assert!(plan(&[wrong]).check().is_err(), "{wrong}");
        }
        let mut twice = plan(&[]);
        twice.targets.push(twice.targets[0].clone());
        assert!(twice.check().is_err());
    }

    #[test]
    fn rounds_are_one_at_least_and_as_many_as_can_be_meant() {
        let parse = |text: &str| rounds().parse_ref(&Command::new("a"), None, text.as_ref());
        assert_eq!(parse("1").ok(), Some(1));
        let said = parse("0").unwrap_err().to_string();
        assert!(said.contains("0 is not in 1..=10000"), "{said}");
        for wrong in ["0", "10001", "-1", "x", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_record_gets_each_profile_by_name() {
        assert_eq!(plan(&[]).definitions()["b"], "switch --late");
    }
}
