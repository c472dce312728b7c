//! Registries that break down, refuse, redirect and lie.

use super::pulling::{assert_nothing_left, content, image, pull, server};
use super::server::{Reply, Request, Server};
use super::{Home, TestImage, layer};
use crate::image::digest::Digest;

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let (home, image) = (Home::new(), image());
    let server = server(&image, 6, |_, good| good.cut_after(20_000));
    pull(&home, &server.reference("x")).unwrap();
    let ranges: Vec<_> = server
        .seen("/blobs/")
        .iter()
        .filter_map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert!(
        ranges.iter().any(|range| range == "bytes=20000-"),
        "{ranges:?}"
    );
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let (home, image) = (Home::new(), image());
    let whole = content(&image);
    let server = server(&image, 4, move |request, _| {
        let mut request = request.clone();
        request.headers.remove("range");
        whole.answer(&request).cut_after(50_000)
    });
    pull(&home, &server.reference("x")).unwrap();
    assert_eq!(home.files(), (3, 3, 0));
}

#[test]
fn a_server_that_sends_another_range_is_given_up() {
    let (home, image) = (Home::new(), image());
    let server = server(&image, usize::MAX, |request, good| {
        match request.header("range") {
            None => good.cut_after(1000),
            Some(_) => Reply::new(206, "x").with("content-range", "bytes 7-7/400000"),
        }
    });
    let error = pull(&home, &server.reference("x")).unwrap_err().to_string();
    assert!(error.contains("another part"), "{error}");
    assert_nothing_left(&home);
}

#[test]
fn a_connection_that_never_gets_anywhere_is_given_up() {
    let (home, image) = (Home::new(), image());
    let server = server(&image, usize::MAX, |_, good| good.cut_after(0));
    let error = pull(&home, &server.reference("x")).unwrap_err().to_string();
    assert!(error.contains("cannot reach the registry"), "{error}");
    assert_nothing_left(&home);
}

#[test]
fn content_that_is_not_what_was_promised_is_refused() {
    type Lie = fn(Reply) -> Reply;
    let flipped: Lie = |mut good| {
        let middle = good.body.len() - 6;
        good.body[middle] ^= 1;
        good
    };
    let short: Lie = |mut good| {
        good.body.truncate(good.body.len() - 1);
        good
    };
    let long: Lie = |mut good| {
        good.body.push(0);
        good
    };
    let other: Lie = |mut good| {
        let size = good.body.len();
        good.body = super::layer(&[("evil", size)]).blob;
        good.body.resize(size, 0);
        good
    };
    for (lie, expected) in [
        (flipped, &["corrupt", "damaged"][..]),
        (short, &["ended after", "corrupt"]),
        (long, &["sends more"]),
        (other, &["corrupt", "damaged", "truncated"]),
    ] {
        let (home, image) = (Home::new(), image());
        let server = server(&image, usize::MAX, move |request, good| {
            match request.header("range") {
                None => lie(good),
                Some(_) => Reply::new(404, ""),
            }
        });
        let error = pull(&home, &server.reference("x")).unwrap_err().to_string();
        let fits = expected.iter().any(|part| error.contains(part));
        assert!(
            fits || error.contains("does not have"),
            "{expected:?}: {error}"
        );
        assert_nothing_left(&home);
    }
}

#[test]
fn a_layer_whose_content_the_configuration_does_not_name_is_refused() {
    let layers = [layer(&[("a", 10)])];
    let image = TestImage::changed(
        "amd64",
        &layers,
        |config| config["rootfs"]["diff_ids"][0] = Digest::of("other").to_string().into(),
        |_| {},
    );
    let home = Home::new();
    let server = Server::good(content(&image));
    let error = pull(&home, &server.reference("x")).unwrap_err().to_string();
    assert!(error.contains("is corrupt: its digest is"), "{error}");
    assert_nothing_left(&home);
}

#[test]
fn overload_is_waited_out_but_not_for_ever() {
    for status in [429, 500, 503] {
        let (home, image) = (Home::new(), image());
        let server = server(&image, 3, move |_, _| {
            Reply::new(status, "").with("retry-after", "0")
        });
        pull(&home, &server.reference("x")).unwrap();
    }
    let (home, image) = (Home::new(), image());
    let server = server(&image, usize::MAX, |_, _| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        Reply::new(429, body).with("retry-after", "0")
    });
    let error = pull(&home, &server.reference("x")).unwrap_err().to_string();
    assert_eq!(error, "toomanyrequests: slow down");
    assert_nothing_left(&home);
}

#[test]
fn a_token_is_fetched_once_and_shown() {
    let (home, image) = (Home::new(), image());
    let content = content(&image);
    let server = Server::start(move |request| {
        if request.path.starts_with("/token") {
            return Reply::new(200, r#"{"token":"sesame"}"#);
        }
        if request.header("authorization") == Some("Bearer sesame") {
            return content.answer(request);
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        let challenge =
            format!(r#"Bearer realm="{realm}",service="reg",scope="repository:x:pull""#);
        Reply::new(401, "").with("www-authenticate", &challenge)
    });
    pull(&home, &server.reference("x")).unwrap();
    let tokens = server.seen("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?service=reg&scope=repository%3Ax%3Apull"
    );
}

#[test]
fn refusals_are_told_in_dockers_words() {
    let denied = r#"{"errors":[{"message":"requested access to the resource is denied"}]}"#;
    for (handler, expected) in [
        (
            Box::new(move |_: &Request| Reply::new(401, denied))
                as Box<dyn Fn(&Request) -> Reply + Send + Sync>,
            "repository does not exist or may require 'docker login': denied: requested access",
        ),
        (
            Box::new(|request: &Request| {
                let realm = format!("http://{}/token", request.header("host").unwrap());
                match request.path.starts_with("/token") {
                    true => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
                    false => Reply::new(401, "").with(
                        "www-authenticate",
                        &format!(r#"Bearer realm="{realm}",service="reg""#),
                    ),
                }
            }),
            "denied: incorrect username or password",
        ),
        (
            Box::new(|_: &Request| {
                Reply::new(401, "").with("www-authenticate", r#"Bearer realm="file:///etc/passwd""#)
            }),
            "is no web address",
        ),
        (
            Box::new(|_: &Request| Reply::new(404, "")),
            "not found: manifest unknown",
        ),
        (
            Box::new(|_: &Request| Reply::new(400, "bad request")),
            "with 400: bad request",
        ),
        (
            Box::new(|_: &Request| Reply::new(302, "").with("location", "/v2/x/manifests/latest")),
            "too many redirects",
        ),
    ] {
        let home = Home::new();
        let server = Server::start(handler);
        let error = pull(&home, &server.reference("x")).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_nothing_left(&home);
    }
}

#[test]
fn redirects_are_followed_without_the_token() {
    let (home, image) = (Home::new(), image());
    let storage = Server::good(content(&image));
    let (content, elsewhere) = (content(&image), storage.url());
    let server = Server::start(move |request| {
        if request.path.starts_with("/token") {
            return Reply::new(200, r#"{"access_token":"sesame"}"#);
        }
        if request.header("authorization").is_none() {
            let realm = format!("http://{}/token", request.header("host").unwrap());
            return Reply::new(401, "")
                .with("www-authenticate", &format!(r#"Bearer realm="{realm}""#));
        }
        match request.path.contains("/blobs/") {
            true => Reply::new(307, "").with("location", &format!("{elsewhere}{}", request.path)),
            false => content.answer(request),
        }
    });
    pull(&home, &server.reference("x")).unwrap();
    let blobs = storage.seen("/blobs/");
    assert_eq!(blobs.len(), 4);
    assert!(
        blobs
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}
