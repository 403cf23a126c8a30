//! Where the access log goes, and how a line of it looks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Whether and how each answer and each end of a switched connection is written down. With it, every
/// client's address is known, as by [`Config::identify_clients`](super::Config::identify_clients).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go. Default nowhere.
    pub to: AccessTarget,
    /// How they look. Default [`AccessFormat::Combined`].
    pub format: AccessFormat,
    /// Bytes of lines that may wait on each core to be written; lines beyond are dropped, and counted
    /// in `access_lines_dropped`. Default 4 MiB: what a core at full load writes in a fifth of a second,
    /// for a disk that stalls or a writer that is not scheduled.
    pub queue_bytes_max: usize,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog {
            to: AccessTarget::Off,
            format: AccessFormat::Combined,
            queue_bytes_max: 4 * 1024 * 1024,
        }
    }
}

impl AccessLog {
    /// Lines go somewhere, with the other defaults.
    pub fn to(target: AccessTarget) -> AccessLog {
        AccessLog { to: target, ..AccessLog::default() }
    }

    /// Whether they go anywhere.
    pub fn is_on(&self) -> bool {
        self.to != AccessTarget::Off
    }
}

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessTarget {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
    /// To the end of a file, which is made if there is none, or into a FIFO.
    File(PathBuf),
}

/// What is no target of an access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an access log goes to \"stdout\", \"stderr\" or a path, or is \"off\"")]
pub struct AccessTargetError;

impl FromStr for AccessTarget {
    type Err = AccessTargetError;

    fn from_str(text: &str) -> Result<AccessTarget, AccessTargetError> {
        match text {
            "" => Err(AccessTargetError),
            "off" => Ok(AccessTarget::Off),
            "stdout" => Ok(AccessTarget::Stdout),
            "stderr" => Ok(AccessTarget::Stderr),
            path => Ok(AccessTarget::File(path.into())),
        }
    }
}

impl fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessTarget::Off => f.write_str("off"),
            AccessTarget::Stdout => f.write_str("stdout"),
            AccessTarget::Stderr => f.write_str("stderr"),
            AccessTarget::File(path) => path.display().fmt(f),
        }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessFormat {
    /// Apache's common log format: client, `-`, `-`, time, request line, status, bytes.
    Common,
    /// The same with Referer and User-Agent.
    #[default]
    Combined,
    /// A JSON object in each line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_or_a_path() {
        for (text, target) in [
            ("off", AccessTarget::Off),
            ("stdout", AccessTarget::Stdout),
            ("stderr", AccessTarget::Stderr),
            ("/var/log/upring.log", AccessTarget::File("/var/log/upring.log".into())),
            ("./off", AccessTarget::File("./off".into())),
        ] {
            assert_eq!(text.parse(), Ok(target.clone()));
            assert_eq!(target.to_string(), text);
        }
        assert_eq!("".parse::<AccessTarget>(), Err(AccessTargetError));
        assert!(!AccessLog::default().is_on());
    }
}
