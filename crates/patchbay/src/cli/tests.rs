use clap::CommandFactory as _;

use super::*;
use crate::config::options::SETTINGS;

#[track_caller]
fn parse(words: &str) -> Cli {
    Cli::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{error}"))
}

fn flags(cli: Cli) -> SettingFlags {
    match cli.command {
        Command::Serve(flags) => flags.0,
        Command::Env(env) => env.settings.0,
        Command::Logs(logs) => logs.settings.0,
        _ => panic!("no flags read here"),
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_setting_is_a_flag_of_serve() {
    let help = Cli::command()
        .find_subcommand_mut("serve")
        .unwrap()
        .render_long_help()
        .to_string();
    for setting in SETTINGS {
        assert!(help.contains(&setting.flag()), "{}", setting.key);
        assert!(
            help.contains(&format!("[variable: {}", setting.variable())),
            "{}",
            setting.key
        );
    }
}

#[test]
fn flags_reach_the_configuration_wherever_they_stand() {
    for words in [
        "patchbay serve --data-dir /x --catalog a --catalog b",
        "patchbay env --data-dir /x --catalog a list --catalog b",
        "patchbay env list --data-dir /x --catalog a --catalog b",
        "patchbay logs --data-dir /x --catalog a,b",
    ] {
        let sources = flags(parse(words)).sources().unwrap();
        assert_eq!(sources.flags["data_dir"], ["/x"], "{words}");
        assert!(!sources.flags["catalog"].is_empty(), "{words}");
    }
}

#[test]
fn the_promised_forms_are_understood() {
    for words in [
        "patchbay serve",
        "patchbay worker",
        "patchbay demo --listen 127.0.0.1:0",
        "patchbay migrate --check",
        "patchbay doctor --json",
        "patchbay backup f",
        "patchbay restore f --force",
        "patchbay env list --json",
        "patchbay env create staging --production",
        "patchbay env show dev",
        "patchbay env delete staging --confirm staging",
        "patchbay env set dev webhooks.primary_url=https://a.example hmac_key=",
        "patchbay keys create --env dev --name ci --scope environment:proxy --scope environment:connections:*",
        "patchbay keys create --account",
        "patchbay keys list",
        "patchbay keys list --env dev",
        "patchbay keys revoke 7",
        "patchbay keys rotate-encryption",
        "patchbay rotate-encryption",
        "patchbay logs --follow --env dev --type auth --state failed --integration github --connection c --since 1h",
        "patchbay logs 0190",
        "patchbay deliveries list --status dead --limit 5",
        "patchbay deliveries show x",
        "patchbay deliveries retry x y",
        "patchbay deliveries retry --dead --env dev",
        "patchbay catalog check a.yaml b",
        "patchbay catalog list git",
        "patchbay catalog show github --json",
        "patchbay catalog diff",
        "patchbay explain",
        "patchbay explain invalid_json",
        "patchbay config default",
        "patchbay config check --json --listen 127.0.0.1:1",
        "patchbay config schema",
        "patchbay openapi",
    ] {
        parse(words);
    }
}

#[test]
fn contradictions_are_refused() {
    for words in [
        "patchbay",
        "patchbay keys create",
        "patchbay keys create --env dev --account",
        "patchbay deliveries retry",
        "patchbay deliveries retry x --dead",
        "patchbay deliveries retry --env dev",
        "patchbay logs --limit 0",
        "patchbay logs --limit 1001",
        "patchbay logs x --follow",
        "patchbay env set dev",
        "patchbay env delete dev",
        "patchbay serve --no-such-flag",
    ] {
        assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words}");
    }
}

#[test]
fn config_check_prints_values_and_origins_or_all_problems() {
    let check = |words: &str| {
        let mut buffer = Vec::new();
        let exit = run(&parse(words), &mut Output::new(&mut buffer)).unwrap();
        (exit, String::from_utf8(buffer).unwrap())
    };
    let (exit, text) = check("patchbay config check --listen 127.0.0.1:7");
    assert_eq!(exit, Exit::Done);
    assert!(
        text.contains("127.0.0.1:7") && text.contains("flag --listen"),
        "{text}"
    );
    let (exit, text) = check("patchbay config check --listen x --body-limit y");
    assert_eq!(exit, Exit::Configuration);
    assert!(text.contains("2 problems"), "{text}");
    let (exit, text) = check("patchbay config check --json --listen x");
    assert_eq!(exit, Exit::Configuration);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["problems"][0]["key"], "listen");
}
