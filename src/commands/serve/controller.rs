//! A network's members, from its controller: a self-hosted one or ZeroTier Central.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use super::alarm::Alarm;
use super::control::Shared;
use super::log;
use crate::web::client::{Client, Url};
use crate::zerotier::{NetworkId, NodeId, Roster, names};

/// How often to ask, and how soon again where it failed.
const ASK_EVERY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(5);

/// How often to look whether there is another network to ask for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The longest that a controller may take for one answer, and for all about a network.
const ONE_ANSWER: Duration = Duration::from_secs(10);
const ALL_ANSWERS: Duration = Duration::from_secs(50);

/// The most bytes of a token.
const MAX_TOKEN: u64 = 4096;

/// ZeroTier Central's servers, and where their API is.
const CENTRAL: &str = "zerotier.com";
const CENTRAL_PATH: &str = "/api/v1";

/// An API that a server may have, and the path that it is under.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Api {
    SelfHosted(String),
    Central(String),
}

pub(super) struct Controller {
    client: Client,
    token: String,
    /// Those that it may have. One that is not there answers with 404.
    apis: Vec<Api>,
}

/// The status of what is not there.
const NOT_FOUND: u16 = 404;

impl Controller {
    /// Reads the token, and all else that cannot be read later.
    pub(super) fn new(url: Url, token_file: &Path) -> anyhow::Result<Self> {
        let token = read_token(token_file)?;
        let apis = Api::of(url.host(), url.path());
        Ok(Controller { client: Client::new(url)?, token, apis })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &Url {
        self.client.url()
    }

    /// Asks now and then on a thread of its own, which nobody waits for.
    pub(super) fn watch(self, control: Shared, alarm: &Alarm) -> anyhow::Result<()> {
        alarm.spawn("controller", move || {
            let mut asked: BTreeMap<NetworkId, (Instant, Result<usize, String>)> = BTreeMap::new();
            while !control.stopping() {
                for network in control.known.networks() {
                    let before = asked.get(&network);
                    let pause = if before.is_some_and(|(_, state)| state.is_err()) { RETRY } else { ASK_EVERY };
                    if before.is_some_and(|(at, _)| at.elapsed() < pause) {
                        continue;
                    }
                    let answer = self.members(network);
                    if let Ok(roster) = &answer {
                        control.known.by_controller(roster);
                    }
                    let state = answer.map(|roster| roster.len()).map_err(|error| format!("{error:#}"));
                    let before = before.map(|(_, state)| state);
                    match &state {
                        Ok(members) if before != Some(&state) => {
                            log::info(&format!("{}: network {network} has {members} members", self.url()));
                        }
                        Err(error) if !before.is_some_and(Result::is_err) => {
                            log::warn(&format!("{}: {error}; what is known of members stays so", self.url()));
                        }
                        _ => (),
                    }
                    asked.insert(network, (Instant::now(), state));
                }
                thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(())
    }

    /// All members of a network.
    fn members(&self, network: NetworkId) -> anyhow::Result<Roster> {
        let until = Instant::now() + ALL_ANSWERS;
        for api in &self.apis {
            let path = match api {
                Api::Central(base) => format!("{base}/network/{network}/member"),
                Api::SelfHosted(base) => format!("{base}/controller/network/{network}/member"),
            };
            let Some(mut all) = self.ask(api, &path, until)? else { continue };
            // A controller of one's own lists its members' revisions.
            if let (Api::SelfHosted(_), Value::Object(members)) = (api, &mut all) {
                for (node, member) in members {
                    let node: NodeId = node.parse().map_err(|_| anyhow!("it does not list its members"))?;
                    // One that was deleted just now is known by its id alone.
                    if let Some(found) = self.ask(api, &format!("{path}/{node}"), until)? {
                        *member = found;
                    }
                }
            }
            return names::members(&all, Some(network)).map_err(anyhow::Error::msg);
        }
        bail!("it knows no network {network} (404): check --controller, and whose network that is")
    }

    /// What it has at `path`, if that is there.
    fn ask(&self, api: &Api, path: &str, until: Instant) -> anyhow::Result<Option<Value>> {
        let central = format!("token {}", self.token);
        let header = match api {
            Api::Central(_) => ("Authorization", central.as_str()),
            Api::SelfHosted(_) => ("X-ZT1-Auth", self.token.as_str()),
        };
        let time = ONE_ANSWER.min(until.saturating_duration_since(Instant::now()));
        let answer = self.client.get(path, header, time)?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map(Some).map_err(|_| anyhow!("it answers with no whole JSON")),
            NOT_FOUND => Ok(None),
            401 | 403 => bail!("it refuses the token ({}): check --controller-token-file", answer.status),
            status => bail!("it answers with status {status}"),
        }
    }
}

impl Api {
    /// What a URL says of it; where it says nothing, both.
    fn of(host: &str, path: &str) -> Vec<Api> {
        let is_central = host == CENTRAL || host.ends_with(&format!(".{CENTRAL}"));
        match path {
            "" if is_central => vec![Api::Central(CENTRAL_PATH.to_owned())],
            "" => vec![Api::SelfHosted(String::new()), Api::Central(CENTRAL_PATH.to_owned())],
            path if is_central || path.contains("/api/") => vec![Api::Central(path.to_owned())],
            path => vec![Api::SelfHosted(path.trim_end_matches("/controller").to_owned())],
        }
    }
}

/// One line of visible characters.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_TOKEN + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read --controller-token-file {}", path.display()))?;
    let token = text.trim();
    let is_token =
        !token.is_empty() && token.len() <= MAX_TOKEN as usize && token.bytes().all(|c| c.is_ascii_graphic());
    ensure!(is_token, "--controller-token-file {}: it does not hold a token, one line of it", path.display());
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_which_api_it_is() {
        let central = |path: &str| Api::Central(path.to_owned());
        let own = |path: &str| Api::SelfHosted(path.to_owned());
        assert_eq!(Api::of("api.zerotier.com", ""), [central("/api/v1")]);
        assert_eq!(Api::of("my.zerotier.com", "/api/v1"), [central("/api/v1")]);
        assert_eq!(Api::of("127.0.0.1", "/api/v1"), [central("/api/v1")]);
        assert_eq!(Api::of("127.0.0.1", ""), [own(""), central("/api/v1")]);
        assert_eq!(Api::of("example.org", "/zt/controller"), [own("/zt")]);
        assert_eq!(Api::of("notzerotier.com", "/zt"), [own("/zt")]);
    }

    #[test]
    fn a_token_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, token) in [("abc\n", Some("abc")), (" a b", None), ("", None), ("a\r\nX: y", None), ("\u{e9}", None)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_token(&path).ok().as_deref(), token, "{text:?}");
        }
        let error = read_token(&dir.path().join("none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read --controller-token-file "), "{error}");
    }
}
