//! A controller that speaks TLS, as ZeroTier Central does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::serve::Setup;
use support::server::{Reply, Server};
use support::{real, run, skip};
use tempfile::tempdir;

const NETWORK: &str = "460cacee2d00a7e1";
const MEMBERS: &str = r#"[{"networkId": "460cacee2d00a7e1", "nodeId": "6df5629e82", "name": "Ann",
    "config": {"authorized": true, "ipAssignments": []}}]"#;

/// Runs openssl; false if there is none.
fn openssl(dir: &Path, args: &str) -> bool {
    let mut command = Command::new("openssl");
    if command.arg("version").output().is_err() {
        skip("openssl is not installed");
        return false;
    }
    let ended = run(Command::new("openssl").current_dir(dir).args(args.split(' ')));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    true
}

#[test]
fn a_controller_is_believed_if_the_system_trusts_it() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    fs::write(path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    for step in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"),
        format!("req {key} -keyout key.pem -out server.csr -subj /CN=server"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem"
            .to_owned(),
    ] {
        if !openssl(dir.path(), &step) {
            return;
        }
    }
    let certificates = CertificateDer::pem_file_iter(path("server.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let private_key = PrivateKeyDer::from_pem_file(path("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, private_key).unwrap();
    let server = Server::with_tls(config);
    server.reply(&format!("/api/v1/network/{NETWORK}/member"), Reply::Json(MEMBERS.to_owned()));
    fs::write(path("token"), "t0ken").unwrap();

    let serve = |host: &str, trusted: &str| {
        let url = format!("https://{host}:{}/api/v1", server.port());
        let db = dir.path().join(format!("{host}-{trusted}.db"));
        Setup::new(&db)
            .source(&real("tee-both.pcap"), "0.000001")
            .args(["--network-id", NETWORK, "--controller", &url, "--controller-token-file"])
            .args([path("token")])
            .env("SSL_CERT_FILE", path(trusted))
            .start()
    };
    // A name has to be looked up, which takes files.
    for host in ["127.0.0.1", "localhost"] {
        let serve = serve(host, "ca.pem");
        serve.wait_for_log(&format!("network {NETWORK} has 1 members"), 1);
        serve.stop();
    }
    // It may be anybody: it does not hear the token.
    let asked = server.asked().len();
    openssl(dir.path(), &format!("req -x509 {key} -keyout other.key -out other.pem -subj /CN=other -days 2"));
    let distrusts = serve("127.0.0.1", "other.pem");
    distrusts.wait_for_log("invalid peer certificate", 1);
    distrusts.stop();
    assert_eq!(server.asked().len(), asked);
}
