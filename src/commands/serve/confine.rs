//! Least privilege on Linux: what `serve` gives up once the device, the listener and the database are open.
//!
//! Users, capabilities and Landlock are those of a thread and of the threads that it starts later. So this is done while
//! there is only one.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// What anyone here may read: libpcap and the process's own metrics, libc, and whoever asks for the system's time zone.
const READ: [&str; 5] = ["/proc", "/sys", "/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo"];

/// What tells a server's address from its name; it may be found by TCP, too.
pub(super) const RESOLVE: [&str; 6] =
    ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/run/systemd/resolve"];
pub(super) const DNS: u16 = 53;

/// libpcap looks for USB monitors there; it opens none.
const LIST: [&str; 1] = ["/dev"];

/// Confines this thread and those that it starts, for good; in a few words, to what.
///
/// From here on only CAP_NET_RAW is left, and that only to `capture`. Where the kernel has Landlock, files can be
/// written below the directory of `database` and nowhere else, and those that are opened later must be in [`READ`] or
/// below one of `read`: whatever else a part of `serve` is to look at has to be named there. Where it knows of networks,
/// too (Linux 6.7), TCP connections are made to the ports of `connect` alone.
///
/// # Errors
/// If the database's directory cannot be written without privileges.
pub(super) fn confine(database: &Path, read: &[&Path], connect: &[u16], capture: bool) -> anyhow::Result<String> {
    let database = database.canonicalize().with_context(|| format!("cannot find {}", database.display()))?;
    let directory = database.parent().unwrap_or(&database);
    // First of all, as it takes a capability. A process without that gets nothing from the set under no_new_privs.
    for bit in 0..64 {
        thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)).ok();
    }
    thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    let files = match restrict(directory, read, connect) {
        Ok(RulesetStatus::NotEnforced) => "no Landlock in this kernel".to_owned(),
        Ok(_) => "files by Landlock".to_owned(),
        Err(error) => format!("no Landlock: {error}"),
    };
    // Where it may not, the check below has the last word.
    leave_root(directory).ok();
    let keep = if capture { CapabilitySet::NET_RAW } else { CapabilitySet::empty() };
    drop_capabilities(keep).context("cannot give up capabilities")?;
    let user = geteuid().as_raw();
    let may = accessat(CWD, directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    ensure!(
        may != Err(Errno::ACCESS),
        "serve gives up its privileges, and without them user {user} cannot write in {}: give that directory to a user \
         who can reach it, or give another --db",
        directory.display()
    );
    let capabilities = if capture { "CAP_NET_RAW only" } else { "no capabilities" };
    Ok(format!("confined: user {user}, {capabilities}; {files}"))
}

/// Lets Landlock deny all files but those that are named here, and all servers but those at these ports. What is open
/// already stays open.
fn restrict(directory: &Path, read: &[&Path], connect: &[u16]) -> Result<RulesetStatus, RulesetError> {
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let keep = look | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    // An older kernel leaves out what it does not know; a path that is not there needs no rule.
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V7))?
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .add_rules(path_beneath_rules(LIST, AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(READ, look))?
        .add_rules(path_beneath_rules(read, look))?
        .add_rules(path_beneath_rules([directory], keep))?
        .add_rules(connect.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

/// Root goes on as the owner of the database's directory. Without its capabilities it could not write in a directory of
/// somebody else: SQLite has its files open, and in the end takes two of them away.
fn leave_root(directory: &Path) -> io::Result<()> {
    let owner = directory.metadata()?;
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if !geteuid().is_root() || user.is_root() {
        return Ok(());
    }
    thread::set_keep_capabilities(true)?;
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(group, group, group)?;
    thread::set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Leaves this thread with those of the capabilities that it has.
fn drop_capabilities(keep: CapabilitySet) -> io::Result<()> {
    let kept = keep & thread::capabilities(None)?.permitted;
    // What cannot be inherited is not ambient either.
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(thread::set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;
    use std::thread;

    use tempfile::{TempDir, tempdir};

    use super::*;

    /// A directory with a file in it.
    fn directory() -> (TempDir, std::path::PathBuf) {
        let directory = tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "text").unwrap();
        (directory, file)
    }

    /// Works on a thread of its own that is confined, if this kernel has Landlock.
    fn confined(database: &Path, read: &[&Path], connect: &[u16], work: impl FnOnce() + Send) {
        thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let said = confine(database, read, connect, false).unwrap();
                if said.ends_with("; no Landlock in this kernel") {
                    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be tested: {said}");
                    eprintln!("SKIPPED: {said}");
                    return;
                }
                assert!(said.ends_with(", no capabilities; files by Landlock"), "{said}");
                work();
            });
            confined.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    fn denied<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn files_are_the_databases_and_what_is_to_be_read() {
        let (directory, database) = directory();
        let (named, text) = self::directory();
        let (other, secret) = self::directory();
        let beside = |name| directory.path().join(name);
        let mut open = File::open(&secret).unwrap();
        confined(&database, &[named.path()], &[], || {
            // As SQLite does.
            fs::write(beside("file-wal"), "new").unwrap();
            fs::write(beside("file-wal"), "shorter and written again").unwrap();
            fs::rename(beside("file-wal"), beside("file-shm")).unwrap();
            fs::remove_file(beside("file-shm")).unwrap();
            File::open(directory.path()).unwrap().sync_all().unwrap();
            assert_eq!(fs::read_to_string(&database).unwrap(), "text");
            assert_eq!(fs::read_to_string(&text).unwrap(), "text");
            assert!(denied(fs::write(&text, "other")) && denied(fs::remove_file(&text)));
            for path in ["/proc/self/stat", "/proc/sys/kernel/osrelease", "/sys/class/net/lo/ifindex"] {
                fs::read_to_string(path).unwrap();
            }
            fs::read_dir("/dev").unwrap();
            assert!(denied(File::open("/dev/null")) && denied(File::open("/etc/passwd")));
            assert!(denied(File::open(&secret)) && denied(fs::read_dir(other.path())));
            assert!(denied(fs::write(&secret, "other")) && denied(fs::remove_file(&secret)));
            assert!(denied(File::create(other.path().join("new"))));
            assert!(fs::rename(&database, other.path().join("moved")).is_err());
            assert!(denied(File::create(std::env::temp_dir().join("new"))));
            assert!(denied(Command::new("/bin/true").status()));
            // A thread that is started later is no freer.
            thread::scope(|scope| assert!(scope.spawn(|| denied(File::open(&secret))).join().unwrap()));
            // What was open stays open.
            assert_eq!(io::read_to_string(&mut open).unwrap(), "text");
        });
        assert_eq!(fs::read_to_string(secret).unwrap(), "text");
    }

    #[test]
    fn servers_are_those_at_the_named_ports() {
        let (_directory, database) = directory();
        let servers = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [named, other] = servers.each_ref().map(|server| server.local_addr().unwrap());
        confined(&database, &[], &[named.port()], || {
            TcpStream::connect(named).unwrap();
            // An older kernel knows nothing of networks.
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
            let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
            if (numbers.next(), numbers.next()) >= (Some(6), Some(7)) {
                assert!(denied(TcpStream::connect(other)));
            }
        });
    }

    #[test]
    fn a_database_may_be_in_the_root_directory() {
        let (directory, file) = directory();
        thread::scope(|scope| {
            let restricted = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                restrict(Path::new("/"), &[], &[]).unwrap();
                fs::write(&file, "other").unwrap();
                File::create(directory.path().join("new")).unwrap();
                assert!(File::open("/etc/passwd").is_ok());
            });
            restricted.join().unwrap();
        });
    }
}
