//! Flags, made from the table of settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::config::options::{SETTINGS, Setting};
use crate::config::{Config, Problems, Sources};

/// Flags that set settings, and the file.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags {
    file: Option<PathBuf>,
    values: BTreeMap<String, Vec<String>>,
}

impl SettingFlags {
    /// The same flags with `value` for `key` if no flag, variable or file says anything about it.
    #[must_use]
    pub fn with_default(&self, key: &str, value: &str) -> Self {
        let mut flags = self.clone();
        let unsaid = self
            .load()
            .is_ok_and(|config| super::serve::is_default(&config, key));
        if unsaid {
            flags.values.insert(key.to_owned(), vec![value.to_owned()]);
        }
        flags
    }

    /// Reads this process's variables and the file, and checks everything.
    ///
    /// # Errors
    /// All problems.
    pub fn load(&self) -> Result<Config, Problems> {
        Config::load(&self.sources()?)
    }

    /// What [`SettingFlags::load`] reads.
    ///
    /// # Errors
    /// A named file cannot be read.
    pub fn sources(&self) -> Result<Sources, Problems> {
        Sources::of_process(self.values.clone(), self.file.clone())
    }
}

/// All settings as flags, for commands that serve.
#[derive(Clone, Debug, Default)]
pub struct ServeFlags(pub SettingFlags);

/// All settings as flags, those that only matter to a server hidden from help, for commands beside the server.
#[derive(Clone, Debug, Default)]
pub struct AdminFlags(pub SettingFlags);

/// Settings that commands beside the server read.
const ADMIN: &[&str] = &["data_dir", "database_url", "encryption_key_file"];

/// clap wants names that live as long as the process.
struct Names {
    flag: String,
    variable: String,
    help: String,
    long_help: String,
}

static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| {
    SETTINGS
        .iter()
        .map(|setting| {
            let variable = setting.variable();
            let default = match (setting.default, setting.default_note) {
                (Some(text), _) | (None, Some(text)) => format!("\n[default: {text}]"),
                (None, None) => String::new(),
            };
            Names {
                flag: setting.flag().trim_start_matches('-').to_owned(),
                help: setting.help[0].to_owned(),
                long_help: format!(
                    "{}{default}\n[variable: {variable}, since {}]",
                    setting.help.join(" "),
                    setting.since
                ),
                variable,
            }
        })
        .collect()
});

#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    Server,
    Admin,
}

fn augment(command: Command, audience: Audience) -> Command {
    let global = audience == Audience::Admin;
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help_heading("Settings")
        .global(global)
        .help("Settings file [default: patchbay.toml, if it exists] [variable: PATCHBAY_CONFIG]");
    SETTINGS
        .iter()
        .zip(NAMES.iter())
        .fold(command.arg(file), |command, (setting, names)| {
            command.arg(flag(setting, names, audience).global(global))
        })
}

fn flag(setting: &Setting, names: &'static Names, audience: Audience) -> Arg {
    let heading = match audience {
        Audience::Server => setting.section,
        Audience::Admin => "Settings",
    };
    let arg = Arg::new(setting.key)
        .long(names.flag.as_str())
        .value_name(setting.kind.placeholder())
        .help(names.help.as_str())
        .long_help(names.long_help.as_str())
        .help_heading(section(heading))
        .hide(audience == Audience::Admin && !ADMIN.contains(&setting.key));
    debug_assert!(names.variable.starts_with("PATCHBAY_"));
    if setting.kind.is_list() {
        arg.action(ArgAction::Append)
    } else {
        arg.action(ArgAction::Set)
    }
}

fn section(name: &str) -> &'static str {
    crate::config::options::SECTIONS
        .iter()
        .map(|(section, _)| *section)
        .find(|section| *section == name)
        .unwrap_or("Settings")
}

fn collect(matches: &ArgMatches) -> SettingFlags {
    let values = SETTINGS
        .iter()
        .filter_map(|setting| {
            let values = matches.get_many::<String>(setting.key)?;
            Some((setting.key.to_owned(), values.cloned().collect()))
        })
        .collect();
    SettingFlags {
        file: matches.get_one::<PathBuf>("config").cloned(),
        values,
    }
}

macro_rules! flags {
    ($name:ident, $audience:expr) => {
        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                augment(command, $audience)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $audience)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(collect(matches)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = collect(matches);
                Ok(())
            }
        }
    };
}

flags!(ServeFlags, Audience::Server);
flags!(AdminFlags, Audience::Admin);
