//! `ztmon serve`: capture, count, commit, and show what is committed.
//!
//! One thread per device owns a meter ([`feed`], [`devices`]); one thread owns the database ([`keeper`]); HTTP runs on
//! the main thread and only reads the board of committed totals. They talk by messages and tickets ([`control`]).
//! Before they start, what none of them needs is given up ([`mod@confine`]).

mod alarm;
#[cfg(feature = "live")]
mod changes;
#[cfg(target_os = "linux")]
mod confine;
mod control;
mod controller;
#[cfg(feature = "live")]
mod devices;
mod feed;
mod keeper;
mod log;
mod members;
mod observe;
mod play;
mod quotas;
#[cfg(feature = "live")]
mod service;
mod watched;
mod widening;

use std::hash::{BuildHasher, Hasher, RandomState};
#[cfg(target_os = "linux")]
use std::net::IpAddr;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Status, place, say};
use crate::capture::{Filter, History, Source};
use crate::cli::{Counting, Serve};
use crate::frame::{Frame, LinkType};
use crate::metrics::{self, Board, Listing};
use crate::store::Writer;
use crate::time::Timestamp;
use crate::web::{self, Limits, Response};
use alarm::Alarm;
use control::{Control, Shared, lock};
use controller::Controller;
use feed::Feed;
use keeper::{HandOver, Keeper, Progress};
use members::NamesFiles;
use quotas::QuotasFile;

/// A scrape that comes sooner after a commit is answered with it.
const FRESH: Duration = Duration::from_secs(1);

/// Signals that come sooner after the first one belong to it.
const SECOND_THOUGHT: Duration = Duration::from_secs(2);

/// Hand-overs that may wait for the keeper. Beyond them what is counted stays with the feeds.
const KEEPER_QUEUE: usize = 4;

/// The longest that a scrape waits for the commit it asked for.
const SCRAPE_WAIT: Duration = Duration::from_millis(50);

pub(super) fn run(args: Serve) -> anyhow::Result<Status> {
    check_filter(&args.counting)?;
    let several = args.zerotier_device.len() > 1 || args.zerotier_device.iter().any(|name| name == "all");
    anyhow::ensure!(
        !(several && args.counting.observer_mac.is_some()),
        "--observer-mac is the MAC of one device: leave it out where there are several"
    );
    anyhow::ensure!(
        !(several && args.who.network_id.is_some()),
        "--network-id is the network of one device: leave it out where there are several"
    );
    let history = args.source.as_deref().map(open_source).transpose()?;
    #[cfg(feature = "live")]
    let permission = history.is_none().then(crate::capture::live::check_permission).transpose()?;
    #[cfg(not(feature = "live"))]
    anyhow::ensure!(history.is_some(), "this ztmon was built without libpcap: it plays files only (--source)");
    let control = Shared::new(Control::default());
    let names = NamesFiles::read(args.who.names, args.who.network_id, &control.known)?;
    let quotas = args.quotas.map(|file| QuotasFile::read(file, args.tz, &control)).transpose()?;
    let controller = match (args.controller, args.controller_token_file) {
        (Some(url), Some(file)) => Some(Controller::new(url, &file)?),
        _ => None,
    };
    let listener = web::listen(&args.listen_address)?;
    let database = place::database(args.db.as_deref());
    let opened = Writer::open_with_live_totals(&database.path, args.bucket);
    let (writer, live) = opened.with_context(|| database.cannot_open())?;
    log::info(&format!("database {}: {} addresses", database.path.display(), writer.addresses()?));
    // Asked now, with all the rights that there are.
    #[cfg(feature = "live")]
    let own = service::Own::now(args.who.network_id);
    #[cfg(target_os = "linux")]
    {
        // What is opened later, beside the database: files, or directories with all that is in them.
        let mut read: Vec<&Path> = names.directories().chain(quotas.as_ref().map(QuotasFile::directory)).collect();
        let mut connect: Vec<u16> = controller.iter().map(|controller| controller.url().port()).collect();
        if controller.as_ref().is_some_and(|controller| controller.url().host().parse::<IpAddr>().is_err()) {
            read.extend(confine::RESOLVE.map(Path::new));
            connect.push(confine::DNS);
        }
        #[cfg(feature = "live")]
        {
            read.push(service::identity());
            connect.extend(own.port());
        }
        log::info(&confine::confine(&database.path, &read, &connect, history.is_none())?);
    }
    log::info(&format!("scope {}", args.counting.settings(0).scope));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anyone can know that this runs: from here on, being told to stop ends in a commit.
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        // A file that may grow no further is a disk that is full, and no reason to die.
        drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };

    let listing = Listing::new(args.metrics_max_addresses, args.metrics_idle.as_seconds());
    let board = Arc::new(Mutex::new(Board::new(listing)));
    // Until there is a feed, there is nothing to wait for.
    let (progress, seen) = watch::channel(Progress { ticket: u64::MAX, at: None });
    let (sender, hand_overs) = mpsc::sync_channel(KEEPER_QUEUE);
    let keeper = Keeper::new(writer, live, args.retain, Arc::clone(&board), Shared::clone(&control), progress)?;
    log::info(&format!("serving http://{}/metrics", listener.local_addr()?));
    let alarm = Alarm::default();
    let keeper = alarm.spawn("keeper", move || keeper.run(&hand_overs))?;
    names.watch(Shared::clone(&control), &alarm)?;
    quotas.map(|quotas| quotas.watch(Shared::clone(&control), &alarm)).transpose()?;
    if let Some(controller) = controller {
        controller.watch(Shared::clone(&control), &alarm)?;
    }

    let mut feeds = Feeds::new(args.counting, &control, sender, &alarm);
    let (speed, network) = (args.speed, args.who.network_id.or_else(|| control.known.only_network()));
    match history {
        Some(history) => feeds.start(move |feed, _| play::play(feed, history, speed, network))?,
        #[cfg(feature = "live")]
        None => {
            let wanted = devices::Wanted::from_flags(args.zerotier_device);
            let mut others = feeds.split();
            feeds.threads.push(alarm.spawn("devices", move || {
                if let Err(error) = devices::follow(wanted, own, args.buffer, &mut others) {
                    log::warn(&format!("cannot capture: {error:#}"));
                    others.alarm.sound();
                }
                drop(permission);
                others.join();
            })?);
        }
        #[cfg(not(feature = "live"))]
        None => (),
    }

    let (asked, last) = (Mutex::default(), Mutex::default());
    let scrapes = Arc::new(Scrapes { board, control: Shared::clone(&control), progress: seen, asked, last });
    let (well, committed) = runtime.block_on(async {
        let (done, ended) = tokio::sync::oneshot::channel();
        let shutdown = async move {
            let well = tokio::select! {
                _ = terminate.recv() => { log::info("SIGTERM: stopping"); true }
                _ = interrupt.recv() => { log::info("SIGINT: stopping"); true }
                () = alarm.sounded() => { log::warn("a part of this program failed: stopping"); false }
            };
            // Capture first, then the last commit, then HTTP.
            control.stop();
            let last_commit = tokio::task::spawn_blocking(move || {
                feeds.join();
                keeper.join().unwrap_or(false)
            });
            let committed = tokio::select! {
                committed = last_commit => committed.unwrap_or(false),
                _ = told_again() => {
                    log::warn("told to stop again: ending without the last commit");
                    std::process::exit(1);
                }
            };
            done.send((well, committed)).ok();
        };
        let handler = move |path: String| answer(Arc::clone(&scrapes), path);
        web::serve(listener, Limits::default(), handler, shutdown).await?;
        anyhow::Ok(ended.await.unwrap_or((false, false)))
    })?;
    if !committed {
        say(&format!("ztmon: what was counted last could not be committed to {}", database.path.display()));
        return Ok(Status::Partly);
    }
    log::info("everything is committed; bye");
    Ok(if well { Status::Done } else { Status::Partly })
}

/// Waits for a signal that comes well after the first. A terminal and a script may send one each for the same Ctrl-C.
async fn told_again() {
    tokio::time::sleep(SECOND_THOUGHT).await;
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}

/// A filter that libpcap cannot compile is told of before anything starts.
fn check_filter(counting: &Counting) -> anyhow::Result<()> {
    let Some(expression) = counting.filter.clone() else { return Ok(()) };
    let nothing = Frame { time: Timestamp(0), link: LinkType::ETHERNET, original_len: 0, data: &[] };
    Filter::new(expression).accepts(&nothing).map(|_| ())
}

/// Opens the file that takes the device's place.
fn open_source(file: &std::ffi::OsStr) -> anyhow::Result<History> {
    let source = Source::from_argument(file);
    // Reading from a pipe may take for ever, and then nothing could end it.
    let is_pipe = source.path().is_none_or(|path| path.exists() && !path.is_file() && !path.is_dir());
    anyhow::ensure!(!is_pipe, "--source {source}: give a file; save what comes through a pipe to one first");
    let history = History::open(vec![source]);
    match history.problems().first() {
        Some(problem) if !problem.error.is_damage() => anyhow::bail!("{}: {}", file.display(), problem.error),
        _ => Ok(history),
    }
}

/// The feeds' threads and what each new one needs.
struct Feeds {
    counting: Arc<Counting>,
    seed: u64,
    control: Shared,
    keeper: SyncSender<HandOver>,
    alarm: Alarm,
    threads: Vec<JoinHandle<()>>,
}

impl Feeds {
    fn new(counting: Counting, control: &Shared, keeper: SyncSender<HandOver>, alarm: &Alarm) -> Self {
        // A random key: no client can tell which packets would look like copies of each other.
        let seed = RandomState::new().build_hasher().finish();
        let (control, alarm) = (Shared::clone(control), alarm.clone());
        Feeds { counting: Arc::new(counting), seed, control, keeper, alarm, threads: Vec::new() }
    }

    /// For a thread that starts feeds of its own.
    #[cfg(feature = "live")]
    fn split(&self) -> Self {
        Feeds {
            counting: Arc::clone(&self.counting),
            seed: self.seed,
            control: Shared::clone(&self.control),
            keeper: self.keeper.clone(),
            alarm: self.alarm.clone(),
            threads: Vec::new(),
        }
    }

    /// Starts a feed on a thread of its own.
    fn start(&mut self, run: impl FnOnce(Feed, &Counting) + Send + 'static) -> anyhow::Result<()> {
        let feed = Feed::new(&self.counting, self.seed, &self.control, &self.keeper)?;
        let counting = Arc::clone(&self.counting);
        self.threads.push(self.alarm.spawn("capture", move || run(feed, &counting))?);
        Ok(())
    }

    /// Waits for all of them. Dropping the last sender then ends the keeper.
    fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                log::warn("a capture thread failed");
            }
        }
    }
}

/// What a request needs.
struct Scrapes {
    board: Arc<Mutex<Board>>,
    control: Shared,
    progress: watch::Receiver<Progress>,
    /// The last ticket that a scrape asked for: those that come meanwhile wait for the same.
    asked: Mutex<u64>,
    /// The last page: the next one takes its memory if it is on its way to nobody.
    last: Mutex<Arc<String>>,
}

impl Scrapes {
    /// The committed totals, brought up to date if that is quick.
    async fn page(&self) -> Arc<String> {
        let mut progress = self.progress.clone();
        let Progress { ticket, at } = *progress.borrow();
        if at.is_none_or(|at| at.elapsed() >= FRESH) {
            let wanted = {
                let mut asked = lock(&self.asked);
                if ticket >= *asked {
                    *asked = self.control.request();
                }
                *asked
            };
            // Late or not, what is committed is shown.
            tokio::time::timeout(SCRAPE_WAIT, progress.wait_for(|progress| progress.ticket >= wanted)).await.ok();
        }
        let mut last = lock(&self.last);
        let mut page = Arc::try_unwrap(std::mem::take(&mut *last)).unwrap_or_default();
        let mut board = lock(&self.board);
        self.control.show(&mut board);
        board.render_into(&mut page, self.control.uptime());
        *last = Arc::new(page);
        Arc::clone(&last)
    }
}

async fn answer(scrapes: Arc<Scrapes>, path: String) -> Response {
    match path.as_str() {
        "/metrics" => Response { status: 200, content_type: metrics::CONTENT_TYPE, body: scrapes.page().await },
        "/" => Response { status: 200, content_type: "text/html; charset=utf-8", body: Arc::new(web::page()) },
        "/-/healthy" => Response::text(200, "ztmon is running"),
        "/-/ready" if scrapes.control.store.is_up() => Response::text(200, "ztmon is ready"),
        "/-/ready" => Response::text(503, "the database cannot be written"),
        _ => Response::text(404, "not found; there are /, /metrics, /-/healthy and /-/ready"),
    }
}
