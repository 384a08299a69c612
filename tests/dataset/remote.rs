//! Fetching from a server that behaves, and from one that does not.
#![cfg(feature = "hub")]

use crate::common::fake_kernel::FakeKernel;
use crate::common::server;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::common::server::{Reply, Server};
use lorascope::dataset::Dataset;
use lorascope::hub::{Network, RemoteOptions, Reuse, fetch_url, hub_files, hub_model};
use sha2::Digest as _;
use tempfile::TempDir;

const TAG: &str = "\"v1\"";

fn rows(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| format!("{{\"instruction\": \"q{i}\", \"output\": \"a\"}}\n").into_bytes())
        .collect()
}

fn options(cache: &TempDir) -> RemoteOptions {
    RemoteOptions {
        cache: Some(cache.path().join("web")),
        hub_cache: Some(cache.path().join("hub")),
        pause: 0.01,
        retries: 2,
        timeout: 60.0,
        network: Network::Online,
        token: Some("secret".into()),
        ..Default::default()
    }
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The message of the error, without the server's address.
fn error(found: lorascope::error::Result<PathBuf>, server: &Server) -> String {
    found.unwrap_err().to_string().replace(&server.url, "URL")
}

#[test]
fn stop_ends_a_download_and_the_next_cell_makes_it() {
    let kernel = FakeKernel::attach();
    let cache = tempfile::tempdir().unwrap();
    let options = options(&cache);
    let server = Server::new(move |request, _| Reply::file(&rows(100), TAG, request));
    kernel.press_stop(1);
    assert!(fetch_url(&server.at("/rows.jsonl"), &options).unwrap_err().is_interrupted());
    kernel.sync(1);
    let path = fetch_url(&server.at("/rows.jsonl"), &options).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), rows(100));
}

#[test]
fn a_file_is_fetched_once_and_checked() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(&cache);
    let body = rows(100);
    let server = Server::new(move |request, _| Reply::file(&rows(100), TAG, request));
    let url = server.at("/a/../../evil%2F..%2F/../rows.jsonl?download=true");
    let path = fetch_url(&url, &options).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), body);
    assert_eq!(path.parent(), options.cache.as_deref());
    assert!(path.to_str().unwrap().ends_with("-rows.jsonl"), "{}", path.display());
    assert_eq!(Dataset::open(&path).unwrap().len(), 100);
    assert_eq!(fetch_url(&url, &options).unwrap(), path);
    assert_eq!(server.seen().len(), 1, "the second time it is there");
    assert_eq!(server.seen()[0].header("authorization"), None, "the hub's token is the hub's");
    let offline = RemoteOptions { network: Network::Offline, ..options.clone() };
    assert_eq!(fetch_url(&url, &offline).unwrap(), path);

    let mut bent = body.clone();
    bent[10] ^= 1;
    std::fs::write(&path, bent).unwrap();
    let said = error(fetch_url(&url, &offline), &server);
    assert!(said.contains("was not fetched before, and network access is off"), "{said}");
    assert_eq!(std::fs::read(fetch_url(&url, &options).unwrap()).unwrap(), body);
    fetch_url(&url, &RemoteOptions { reuse: Reuse::Never, ..options.clone() }).unwrap();
    assert_eq!(server.seen().len(), 3);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        names(options.cache.as_ref().unwrap()),
        [name.to_string(), format!("{name}.about.json"), format!("{name}.lock")]
    );
}

#[test]
fn what_breaks_off_goes_on() {
    let cache = tempfile::tempdir().unwrap();
    let body = Arc::new(rows(5000));
    let whole = body.clone();
    let server = Server::new(move |request, number| {
        let reply = Reply::file(&whole, TAG, request);
        if number < 3 { reply.cut(20_000) } else { reply }
    });
    let path = fetch_url(&server.at("/rows.jsonl"), &options(&cache)).unwrap();
    assert!(std::fs::read(path).unwrap() == *body);
    let starts: Vec<_> = server.seen().iter().map(|request| request.start()).collect();
    assert_eq!(starts, [None, Some(20_000), Some(40_000), Some(60_000)]);
    assert_eq!(server.seen()[1].header("if-range"), Some(TAG));
}

#[test]
fn the_next_call_goes_on_as_well() {
    let cache = tempfile::tempdir().unwrap();
    let body = Arc::new(rows(5000));
    let whole = body.clone();
    let server = Server::new(move |request, number| {
        let reply = Reply::file(&whole, TAG, request);
        if number == 0 { reply.cut(30_000) } else { reply }
    });
    let options = RemoteOptions { retries: 0, ..options(&cache) };
    let said = error(fetch_url(&server.at("/rows.jsonl"), &options), &server);
    assert!(said.contains("the connection broke off") && said.ends_with("it goes on where it was"), "{said}");
    let path = fetch_url(&server.at("/rows.jsonl"), &options).unwrap();
    assert!(std::fs::read(path).unwrap() == *body);
    assert_eq!(server.seen()[1].start(), Some(30_000));
}

/// A server that cannot go on, one whose file has changed, and one that names no version.
#[test]
fn what_cannot_go_on_begins_again() {
    let body = rows(5000);
    let other = rows(4000);
    type Answer = Box<dyn Fn(&server::Request, usize) -> Reply + Send + Sync>;
    let (b, o) = (body.clone(), other.clone());
    let servers: [(Answer, &[u8]); 4] = [
        (
            Box::new({
                let body = body.clone();
                move |_, number| {
                    let reply = Reply::new(200, body.clone()).with("etag", TAG);
                    if number == 0 { reply.cut(30_000) } else { reply }
                }
            }),
            &body,
        ),
        (
            Box::new(move |request, number| match number {
                0 => Reply::file(&b, TAG, request).cut(30_000),
                _ => Reply::file(&o, "\"v2\"", request),
            }),
            &other,
        ),
        (
            Box::new({
                let body = body.clone();
                move |_, number| {
                    let reply = Reply::new(200, body.clone());
                    if number == 0 { reply.cut(30_000) } else { reply }
                }
            }),
            &body,
        ),
        (
            Box::new({
                let body = body.clone();
                move |request, number| match (number, request.start()) {
                    (0, _) => Reply::file(&body, TAG, request).cut(30_000),
                    // The wrong part.
                    (_, Some(_)) => Reply::new(206, &body[5..]).with("content-range", "bytes 5-9/10"),
                    _ => Reply::file(&body, TAG, request),
                }
            }),
            &body,
        ),
    ];
    for (answer, expected) in servers {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::new(answer);
        let path = fetch_url(&server.at("/rows.jsonl"), &options(&cache)).unwrap();
        assert!(std::fs::read(path).unwrap() == expected);
    }
}

#[test]
fn faults_that_pass_and_faults_that_stay() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(&cache);
    let server = Server::new(|request, number| match (request.path.as_str(), number) {
        ("/passes", 0) => Reply::new(500, "oops"),
        ("/passes", 1) => Reply::new(503, "").with("retry-after", "0"),
        ("/passes", _) => Reply::new(200, rows(1)),
        ("/none", _) => Reply::new(404, ""),
        ("/refused", _) => Reply::new(403, ""),
        _ => Reply::new(500, ""),
    });
    fetch_url(&server.at("/passes"), &options).unwrap();
    let before = server.seen().len();
    let said = error(fetch_url(&server.at("/stays"), &options), &server);
    assert_eq!(said, "URL/stays: the server answers 500; try again later");
    assert_eq!(server.seen().len() - before, 3, "once, and two retries");
    let said = error(fetch_url(&server.at("/none"), &options), &server);
    assert_eq!(said, "URL/none: there is no such file; check the address");
    assert!(error(fetch_url(&server.at("/refused"), &options), &server).contains("the server refuses (403)"));
    assert_eq!(server.seen().len() - before, 5, "what stays is asked once");
    let gone = RemoteOptions { retries: 0, ..options.clone() };
    // Where nobody listens any more.
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = fetch_url(&format!("http://{place}/x"), &gone).unwrap_err();
    assert!(said.is_io() && said.to_string().contains("check the address and the network"), "{said}");
    for bad in ["rows.jsonl", "ftp://h/x", "file:///etc/passwd", "http://u:p@h/x"] {
        assert!(fetch_url(bad, &options).unwrap_err().is_input(), "{bad}");
    }
    let left: Vec<_> =
        names(options.cache.as_ref().unwrap()).into_iter().filter(|n| n.contains("about")).collect();
    assert_eq!(left.len(), 1, "only the one that came whole");
}

#[test]
fn redirects_end_and_keep_the_token_at_home() {
    let cache = tempfile::tempdir().unwrap();
    let far = Arc::new(Server::new(|request, _| Reply::file(&rows(3), TAG, request)));
    let away = far.url.clone();
    let server = Server::new(move |request, _| match request.path.as_str() {
        "/first" => Reply::redirect(302, "/a/second"),
        "/a/second" => Reply::redirect(307, "third"),
        "/a/third" => Reply::redirect(301, format!("{away}/rows.jsonl")),
        "/file" => Reply::redirect(302, "file:///etc/passwd"),
        _ => Reply::redirect(302, "/loop"),
    });
    let options = options(&cache);
    assert_eq!(std::fs::read(fetch_url(&server.at("/first"), &options).unwrap()).unwrap(), rows(3));
    let said = error(fetch_url(&server.at("/loop"), &options), &server);
    assert!(said.contains("redirects without end"), "{said}");
    assert!(error(fetch_url(&server.at("/file"), &options), &server).contains("is no address"));
}

#[test]
fn a_web_page_is_no_data() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(&cache);
    let server = Server::new(|request, _| match request.path.as_str() {
        "/typed" => Reply::new(200, "<p>Please log in").with("content-type", "text/html; charset=utf-8"),
        _ => Reply::new(200, "\n<!DOCTYPE HTML><html>").with("content-type", "application/json"),
    });
    for path in ["/typed", "/begins"] {
        let said = error(fetch_url(&server.at(path), &options), &server);
        assert!(said.starts_with(&format!("URL{path} gives a web page, not data")), "{said}");
    }
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_file_that_is_too_large_is_not_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let options = RemoteOptions { max_bytes: 1000, ..options(&cache) };
    let server = Server::new(|request, _| match request.path.as_str() {
        "/said" => Reply::new(200, rows(1000)),
        _ => Reply::new(200, rows(1000)).without("content-length"),
    });
    for path in ["/said", "/unsaid"] {
        let said = error(fetch_url(&server.at(path), &options), &server);
        assert!(said.contains("more than the 1.0 kB allowed; raise RemoteOptions::max_bytes"), "{said}");
    }
    assert_eq!(
        fetch_url(&server.at("/unsaid"), &RemoteOptions { max_bytes: 1 << 20, ..options })
            .unwrap()
            .metadata()
            .unwrap()
            .len(),
        rows(1000).len() as u64
    );
}

#[test]
fn a_server_that_stalls_is_left() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::new(|request, number| {
        let reply = Reply::file(&rows(5000), TAG, request);
        if number == 0 { reply.wait(Duration::from_secs(3600)) } else { reply }
    });
    let options = RemoteOptions { timeout: 1.0, ..options(&cache) };
    let path = fetch_url(&server.at("/rows.jsonl"), &RemoteOptions { retries: 20, ..options }).unwrap();
    assert!(std::fs::read(path).unwrap() == rows(5000));
    assert!(server.seen().len() > 1);
}

#[test]
fn a_checksum_must_be_right() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::new(|request, _| Reply::file(&rows(3), TAG, request));
    let url = server.at("/rows.jsonl");
    let wrong = RemoteOptions { sha256: Some("0".repeat(64)), ..options(&cache) };
    let said = error(fetch_url(&url, &wrong), &server);
    assert!(said.contains(&format!("has the SHA-256 {}, not 000", sha256(&rows(3)))), "{said}");
    let right = RemoteOptions { sha256: Some(sha256(&rows(3)).to_uppercase()), ..options(&cache) };
    let path = fetch_url(&url, &right).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), rows(3));
    let short = RemoteOptions { sha256: Some("abc".into()), ..options(&cache) };
    assert!(fetch_url(&url, &short).unwrap_err().is_input());
}

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one dataset, whose large file lies on another server.
fn hub() -> (Server, Arc<Server>) {
    let store = Arc::new(Server::new(|request, number| {
        let reply = Reply::file(&rows(2000), TAG, request);
        if number == 0 { reply.cut(10_000) } else { reply }
    }));
    let large = store.at("/large");
    let server = Server::new(move |request, _| {
        let files = r#"[{"rfilename": "README.md"}, {"rfilename": "data/train.jsonl"}, {"rfilename": "data/test.jsonl"},
            {"rfilename": "../../../evil.json"}, {"rfilename": "data/small train.json"}]"#;
        let token = request.header("authorization") == Some("Bearer secret");
        match request.path.as_str() {
            "/api/datasets/org/math/revision/main" => {
                Reply::new(200, format!("{{\"sha\": \"{SHA}\", \"siblings\": {files}}}"))
            }
            "/api/datasets/org/gated/revision/main" if token => {
                Reply::new(403, "").with("x-error-code", "GatedRepo")
            }
            "/api/datasets/org/gated/revision/main" => Reply::new(401, ""),
            "/api/datasets/org/odd/revision/main" => {
                Reply::new(200, "{\"sha\": \"../../x\", \"siblings\": []}")
            }
            "/api/datasets/org/math/revision/refs%2Fnone" => {
                Reply::new(404, "").with("x-error-code", "RevisionNotFound")
            }
            path if path == format!("/datasets/org/math/resolve/{SHA}/data/train.jsonl") => {
                Reply::redirect(302, &large)
                    .with("x-linked-etag", format!("\"{}\"", sha256(&rows(2000))))
                    .with("x-linked-size", rows(2000).len())
            }
            path if path == format!("/datasets/org/math/resolve/{SHA}/data/small%20train.json") => {
                Reply::redirect(307, "/small").with("x-repo-commit", SHA)
            }
            "/small" => Reply::file(
                b"[{\"instruction\": \"a\", \"output\": \"b\"}]",
                "W/\"0123456789012345678901234567890123456789\"",
                request,
            ),
            _ => Reply::new(404, ""),
        }
    });
    (server, store)
}

#[test]
fn a_dataset_of_the_hub_lies_where_its_client_looks() {
    let cache = tempfile::tempdir().unwrap();
    let (server, store) = hub();
    let options = RemoteOptions {
        endpoint: Some(server.url.clone()),
        files: Some("data/*train*".into()),
        ..options(&cache)
    };
    let found = hub_files("org/math", &options).unwrap();
    let folder = cache.path().join("hub/datasets--org--math");
    let snapshot = folder.join("snapshots").join(SHA);
    assert_eq!(found, [snapshot.join("data/small train.json"), snapshot.join("data/train.jsonl")]);
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), SHA);
    let mut blobs = vec![sha256(&rows(2000)), "0123456789012345678901234567890123456789".to_string()];
    blobs.sort();
    assert_eq!(names(&folder.join("blobs")), blobs);
    let link = std::fs::read_link(&found[1]).unwrap();
    assert_eq!(link, Path::new("../../../blobs").join(sha256(&rows(2000))));
    assert_eq!(Dataset::open(&found[1]).unwrap().len(), 2000);
    assert_eq!(Dataset::open(&found[0]).unwrap().len(), 1);

    assert!(server.seen().iter().all(|request| request.header("authorization") == Some("Bearer secret")));
    assert!(store.seen().iter().all(|request| request.header("authorization").is_none()), "another host");
    assert_eq!(store.seen()[1].start(), Some(10_000), "it broke off there");

    let (asked, stored) = (server.seen().len(), store.seen().len());
    assert_eq!(hub_files("org/math", &options).unwrap(), found);
    assert_eq!((server.seen().len(), store.seen().len()), (asked + 1, stored), "only the list is asked for");
    let offline = RemoteOptions { network: Network::Offline, ..options.clone() };
    assert_eq!(hub_files("org/math", &offline).unwrap(), found);
    let train = RemoteOptions { files: None, ..offline.clone() };
    assert_eq!(hub_files("org/math", &train).unwrap(), found[1..], "JSON lines before JSON");
    assert_eq!(server.seen().len(), asked + 1);
    let error = hub_files("org/other", &offline).unwrap_err();
    assert!(error.is_state() && error.to_string().contains("was not fetched before"), "{error}");
    assert!(!cache.path().join("evil.json").exists());
}

/// The tiny golden model behind the hub's paths, and without a network afterwards.
#[test]
fn a_model_of_the_hub_is_opened() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny");
    let files = golden.clone();
    let server = Server::new(move |request, _| {
        let path = request.path.as_str();
        if path == "/api/models/org/tiny/revision/main" {
            let names = [
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
                "onnx/model.safetensors",
                "../x.json",
            ];
            let names = names.map(|name| format!("{{\"rfilename\": \"{name}\"}}")).join(",");
            return Reply::new(200, format!("{{\"sha\": \"{SHA}\", \"siblings\": [{names}]}}"));
        }
        if path == "/api/models/org/bin/revision/main" {
            return Reply::new(
                200,
                format!("{{\"sha\": \"{SHA}\", \"siblings\": [{{\"rfilename\": \"pytorch_model.bin\"}}]}}"),
            );
        }
        match path.strip_prefix(&format!("/org/tiny/resolve/{SHA}/")) {
            Some(name) => {
                let bytes = std::fs::read(files.join(name)).unwrap();
                let tag = format!("\"{}\"", sha256(&bytes));
                Reply::file(&bytes, &tag, request)
            }
            None => Reply::new(404, ""),
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let options = RemoteOptions { endpoint: Some(server.url.clone()), ..options(&cache) };
    let folder = hub_model("org/tiny", &options).unwrap();
    assert_eq!(folder, cache.path().join("hub/models--org--tiny/snapshots").join(SHA));
    assert_eq!(names(&folder), ["config.json", "model.safetensors"]);
    let device = lorascope::candle_core::Device::Cpu;
    let open = |path: &Path| lorascope::model::Decoder::open(path, &device).unwrap();
    assert_eq!(open(&folder).config(), open(&golden).config());
    let offline = RemoteOptions { network: Network::Offline, ..options.clone() };
    assert_eq!(hub_model("org/tiny", &offline).unwrap(), folder);
    let said = |id: &str| hub_model(id, &options).unwrap_err().to_string();
    assert_eq!(
        said("org/bin"),
        "the model org/bin has no config.json with safetensors: it has pytorch_model.bin; \
         name a .gguf file of it in RemoteOptions::files"
    );
    assert!(said("org/none").starts_with("the hub has no model org/none"));
    assert!(said("../x").contains("is no name of a model"));
}

#[test]
fn the_hub_refuses() {
    let cache = tempfile::tempdir().unwrap();
    let (server, _store) = hub();
    let options = RemoteOptions { endpoint: Some(server.url.clone()), ..options(&cache) };
    let said = |id: &str, options: &RemoteOptions| {
        hub_files(id, options).unwrap_err().to_string().replace(&server.url, "URL")
    };
    assert_eq!(
        said("org/none", &options),
        "the hub has no dataset org/none; check the name; for a private one set HF_TOKEN"
    );
    assert!(said("org/gated", &options).ends_with("set HF_TOKEN to a token that may read it"));
    // An empty token of one's own hides that of the environment.
    let nobody = RemoteOptions { token: Some(String::new()), ..options.clone() };
    assert!(said("org/gated", &nobody).ends_with("accept its terms on its page, and set HF_TOKEN"));
    assert!(said("org/odd", &options).contains("names `../../x`, which is no commit"));
    let none = RemoteOptions { revision: "refs/none".into(), ..options.clone() };
    assert!(said("org/math", &none).starts_with("the dataset org/math has no revision refs/none"));
    let test = RemoteOptions { files: Some("data/test.jsonl".into()), ..options.clone() };
    assert!(
        said("org/math", &test).starts_with("the hub has no dataset org/math"),
        "{}",
        said("org/math", &test)
    );
    for bad in ["../x", "org/../x", "a/b/c", "org/math?x"] {
        assert!(hub_files(bad, &options).unwrap_err().is_input(), "{bad}");
    }
    assert!(!cache.path().join("hub/datasets--org--odd").exists());
}

/// A store that gives other bytes than the hub promised.
#[test]
fn a_blob_must_have_its_hash() {
    static STORE: OnceLock<Server> = OnceLock::new();
    let cache = tempfile::tempdir().unwrap();
    let store = STORE.get_or_init(|| Server::new(|request, _| Reply::file(&rows(4), TAG, request)));
    let server = Server::new(move |request, _| match request.path.starts_with("/api") {
        true => {
            Reply::new(200, format!("{{\"sha\": \"{SHA}\", \"siblings\": [{{\"rfilename\": \"a.jsonl\"}}]}}"))
        }
        false => {
            Reply::redirect(302, store.at("/x")).with("x-linked-etag", format!("\"{}\"", sha256(&rows(5))))
        }
    });
    let options = RemoteOptions { endpoint: Some(server.url.clone()), ..options(&cache) };
    let error = hub_files("org/x", &options).unwrap_err().to_string();
    assert!(error.contains("has the SHA-256"), "{error}");
    let blobs = cache.path().join("hub/datasets--org--x/blobs");
    assert!(names(&blobs).iter().all(|name| name.ends_with(".incomplete")), "{:?}", names(&blobs));
}
