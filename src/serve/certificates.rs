//! Certificates beside the serving: when they end, which `check` tells and the log warns of, and a look at
//! their files for listeners that ask for it.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use upring::http::Date;
use upring::server::Reloader;
use upring::site::Site;
use upring::tls::{Acceptor, Expiry, Watch};

/// How often it is looked whether files have changed; a change is taken at the second look.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

const DAY_S: i64 = 24 * 60 * 60;

/// Days before its end at which a certificate is warned of: two weeks to find out why it was not renewed.
const WARNING_DAYS: i64 = 14;

/// What is to be said of the certificates of a configuration: a line for each, and warnings.
pub(crate) fn report(site: &Site) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut warnings) = (Vec::new(), Vec::new());
    for listener in &site.config().listen {
        // One that cannot be used has been told as a fault.
        let acceptor = listener.tls.clone().map(Acceptor::new).and_then(Result::ok);
        for expiry in acceptor.iter().flat_map(Acceptor::expiries) {
            let (name, end) = (&expiry.name, date(expiry.not_after));
            lines.push(format!("{}: certificate of {name}, ends {end}", listener.address));
            warnings.extend(warning(&expiry, unix_now()));
        }
        let staples = acceptor.iter().flat_map(Acceptor::staples);
        warnings.extend(staples.filter_map(|staple| staple.warning));
    }
    (lines, warnings)
}

/// What is to be done about their files as long as the process lives, if something is.
pub(super) fn watching(reloader: &Reloader) -> Option<impl FnOnce() + Send + 'static> {
    let watch = reloader.watch();
    (!watch.is_empty()).then_some(move || look(watch))
}

/// Has the log say which have ended, or are about to.
pub(super) fn warn(certificates: &[Expiry]) {
    for warning in certificates.iter().filter_map(|expiry| warning(expiry, unix_now())) {
        tracing::warn!("{warning}");
    }
}

fn look(mut watch: Watch) {
    loop {
        thread::sleep(LOOK_PAUSE);
        for seen in watch.look() {
            match seen {
                Ok(certificates) => {
                    let names: Vec<_> = certificates.iter().map(|one| &*one.name).collect();
                    tracing::info!("certificates have changed and are used: {}", names.join(", "));
                    warn(&certificates);
                }
                Err(why) => {
                    tracing::error!("certificates have changed, the former ones are kept: {why}");
                }
            }
        }
    }
}

fn warning(expiry: &Expiry, now: i64) -> Option<String> {
    let (name, end) = (&expiry.name, date(expiry.not_after));
    match expiry.not_after - now {
        ..0 => Some(format!("the certificate of {name} has ended: {end}")),
        left if left < WARNING_DAYS * DAY_S => {
            Some(format!("the certificate of {name} ends within {WARNING_DAYS} days: {end}"))
        }
        _ => None,
    }
}

fn date(unix_seconds: i64) -> String {
    // Nothing before 1970 is worth telling apart.
    let date = Date::at(u64::try_from(unix_seconds).unwrap_or_default());
    String::from_utf8_lossy(date.as_bytes()).into_owned()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_from_two_weeks_before_its_end() {
        let expiry = Expiry { name: "a.example".into(), not_after: 784_111_777 };
        let said = |before: i64| warning(&expiry, expiry.not_after - before);
        assert_eq!(said(WARNING_DAYS * DAY_S), None);
        let end = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (before, words) in
            [(WARNING_DAYS * DAY_S - 1, "ends within 14 days"), (-1, "has ended")]
        {
            let expected = format!("the certificate of a.example {words}: {end}");
            assert_eq!(said(before), Some(expected));
        }
    }
}
