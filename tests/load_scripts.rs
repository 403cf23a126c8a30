//! The scripts of `loadtest/`, as far as they can be asked without measuring anything.

use std::path::Path;
use std::process::{Command, Output};

const SCRIPTS: [&str; 10] = [
    "churn.sh",
    "compare.sh",
    "echo.sh",
    "flood.sh",
    "idle.sh",
    "pipeline.sh",
    "plaintext.sh",
    "switch.sh",
    "tail.sh",
    "tls.sh",
];

fn bash(arguments: &[&str]) -> Output {
    let mut bash = Command::new("bash");
    bash.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest"));
    bash.output().expect("there is a bash")
}

#[test]
fn help_says_what_a_script_is_about_and_nothing_meant_for_a_linter() {
    for script in SCRIPTS {
        let output = bash(&[script, "--help"]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}: {output:?}");
        assert!(help.lines().next().is_some_and(|line| line.contains('?')), "{script}: {help}");
        assert!(help.contains("--rounds N"), "{script}: {help}");
        assert!(!help.contains("shellcheck"), "{script}: {help}");
    }
}

#[test]
fn a_peer_that_is_not_installed_is_in_the_notes_of_the_record() {
    let ask = "source ./common.sh; nginx() { return 127; }; \
        is_there nginx || printf '%s\\n' \"${notes[@]}\"";
    let output = bash(&["-c", ask]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "left out: nginx, not installed\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("LEFT OUT: nginx"), "{output:?}");
}

#[test]
fn the_check_does_nothing_that_it_is_not_asked_for() {
    let output = bash(&["check.sh", "--help"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(help.starts_with("A short load") && help.contains("--debug"), "{help}");
    for arguments in [&["check.sh", "--debugger"][..], &["check.sh", "--debug", "now"]] {
        let output = bash(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("there is no option "), "{said}");
    }
}
