use super::credentials::Credentials;
use super::*;
use crate::image::reference::Reference;
use crate::image::tests::server::{Reply, Request, Server};

fn endpoint(server: &Server, registry: &str) -> Endpoint {
    Endpoint {
        credentials: None,
        base: server.url(),
        registry: registry.to_owned(),
        is_origin: true,
        accept_any_certificate: false,
        plain: None,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Asks a server for a manifest that it does not have, as somebody.
fn ask(server: &Server, credentials: Credentials) -> Result<Fetched, RegistryError> {
    let reference: Reference = server.reference("x");
    let endpoint = endpoint(server, reference.registry());
    runtime().block_on(async {
        let session = Session::open_as(credentials, &endpoint, &reference, Access::Pull).await?;
        session.manifest(&reference, 1000).await
    })
}

fn user() -> Credentials {
    Credentials::Password("me".to_owned(), "word".to_owned())
}

/// `me:word` as basic authentication has it.
const BASIC: &str = "Basic bWU6d29yZA==";

#[test]
fn passwords_answer_a_basic_challenge() {
    let server = Server::start(|request| match request.header("authorization") {
        Some(BASIC) => Reply::new(200, "{}"),
        _ => Reply::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
    });
    assert_eq!(ask(&server, user()).unwrap().bytes, b"{}");
    let error = ask(&server, Credentials::Anonymous).unwrap_err();
    assert!(
        matches!(error, RegistryError::Denied { action: "pull", .. }),
        "{error}"
    );
}

fn with_tokens(grant: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| {
        if request.path.starts_with("/token") {
            return grant(request);
        }
        if request.header("authorization") == Some("Bearer sesame") {
            return Reply::new(200, "{}");
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        let challenge = format!(r#"Bearer realm="{realm}",service="reg""#);
        Reply::new(401, "").with("www-authenticate", &challenge)
    })
}

#[test]
fn passwords_get_tokens() {
    let server = with_tokens(|request| match request.header("authorization") {
        Some(BASIC) => Reply::new(200, r#"{"token":"sesame"}"#),
        _ => Reply::new(200, r#"{"token":"for nobody"}"#),
    });
    ask(&server, user()).unwrap();
    assert_eq!(
        server.seen("/token")[0].path,
        "/token?service=reg&scope=repository%3Ax%3Apull"
    );
    let error = ask(&server, Credentials::Anonymous).unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
}

#[test]
fn identity_tokens_are_exchanged() {
    let server = with_tokens(|request| match request.method.as_str() {
        "POST" => Reply::new(200, r#"{"access_token":"sesame"}"#),
        _ => Reply::new(400, ""),
    });
    ask(&server, Credentials::Identity("id".to_owned())).unwrap();
    let seen = server.seen("/token");
    assert_eq!(
        seen[0].header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
}

#[test]
fn nonsense_from_a_token_server_is_an_error() {
    for answer in ["", "{}", r#"{"token":""}"#, "<html>"] {
        let server = with_tokens(move |_| Reply::new(200, answer));
        let error = ask(&server, user()).unwrap_err().to_string();
        assert!(
            error.contains("the token server's answer has no token"),
            "{answer}: {error}"
        );
    }
    let endless = with_tokens(|_| Reply::new(200, vec![b' '; 2 << 20]));
    assert!(
        ask(&endless, user())
            .unwrap_err()
            .to_string()
            .contains("has no end")
    );
}

#[test]
fn manifests_have_a_limit_and_a_digest() {
    let large = Server::start(|_| Reply::new(200, vec![b' '; 1001]));
    let error = ask(&large, Credentials::Anonymous).unwrap_err();
    assert!(
        matches!(error, RegistryError::TooLarge { limit: 1000, .. }),
        "{error}"
    );
    let lying = Server::start(|_| {
        let digest = Digest::of("other").to_string();
        Reply::new(200, "{}").with("docker-content-digest", &digest)
    });
    let error = ask(&lying, Credentials::Anonymous).unwrap_err().to_string();
    assert!(error.contains("instead of"), "{error}");
}

/// Logs in as `me` with `word`.
fn log_in(server: &Server) -> Result<(), RegistryError> {
    runtime().block_on(Session::login(&endpoint(server, "r.example"), user()))
}

#[test]
fn registries_say_whether_they_know_a_user() {
    let basic = |known: &'static str| {
        Server::start(move |request| match request.header("authorization") {
            Some(told) if told == known => Reply::new(200, "{}"),
            _ => Reply::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
        })
    };
    log_in(&basic(BASIC)).unwrap();
    let error = log_in(&basic("Basic b3RoZXI=")).unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error}");
    // No rights on any repository are asked for.
    let tokens = with_tokens(|request| {
        assert!(!request.path.contains("scope"), "{}", request.path);
        match request.header("authorization") {
            Some(BASIC) => Reply::new(200, r#"{"token":"sesame"}"#),
            _ => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
        }
    });
    log_in(&tokens).unwrap();
    // Who wants no login has every one.
    log_in(&Server::start(|_| Reply::new(200, "{}"))).unwrap();
    let error = log_in(&Server::start(|_| Reply::new(404, "no registry"))).unwrap_err();
    assert!(matches!(error, RegistryError::Status { .. }), "{error}");
}
