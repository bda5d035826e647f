//! Finds libpcap for the linker, or says what to install.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-env-changed=LIBPCAP_LIBDIR");
    let wanted = std::env::var_os("CARGO_FEATURE_LIVE").is_some();
    let native = std::env::var("HOST")? == std::env::var("TARGET")?;
    let linux = std::env::var("CARGO_CFG_TARGET_OS")? == "linux";
    // Elsewhere, and where LIBPCAP_LIBDIR says where it is, the pcap crate finds it by itself.
    if !(wanted && native && linux) || std::env::var_os("LIBPCAP_LIBDIR").is_some() || linker_finds_it() {
        return Ok(());
    }
    match runtime_library() {
        // Without the -dev package only the name for the linker is missing.
        Some(library) => {
            let out = PathBuf::from(std::env::var("OUT_DIR")?);
            let link = out.join("libpcap.so");
            std::fs::remove_file(&link).ok();
            std::os::unix::fs::symlink(library, link)?;
            println!("cargo::rustc-link-search=native={}", out.display());
        }
        None => println!(
            "cargo::error=libpcap is missing. Debian, Ubuntu: apt install libpcap-dev; Fedora: dnf install libpcap-devel; \
             Alpine: apk add libpcap-dev. Or set LIBPCAP_LIBDIR, or build without capture and --filter: \
             cargo build --no-default-features"
        ),
    }
    Ok(())
}

/// Whether the C compiler, and so the linker, knows a libpcap.
fn linker_finds_it() -> bool {
    ["libpcap.so", "libpcap.a"].iter().any(|name| {
        let found = Command::new("cc").arg(format!("-print-file-name={name}")).output();
        found.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
    })
}

/// The library that programs run with, if there is one.
fn runtime_library() -> Option<PathBuf> {
    let cache =
        Command::new("ldconfig").arg("-p").output().or_else(|_| Command::new("/sbin/ldconfig").arg("-p").output());
    let cache = String::from_utf8(cache.ok()?.stdout).ok()?;
    let line = cache.lines().find(|line| line.trim_start().starts_with("libpcap.so."))?;
    Some(PathBuf::from(line.rsplit_once("=> ")?.1))
}
