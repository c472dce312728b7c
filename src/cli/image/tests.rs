use std::io::{Seek, Write};

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::image::archive::{self, Import};
use crate::image::tests::{Home, tarball};
use crate::image::{self, Image};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Group,
}

fn parse(line: &str) -> Group {
    Cli::try_parse_from(line.split(' ')).unwrap().command
}

fn import(home: &Home, name: &str, content: &str, changes: &[&str]) -> Image {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&tarball(&[("file", content.into())]))
        .unwrap();
    file.rewind().unwrap();
    let import = Import {
        reference: Some(name.parse().unwrap()),
        platform: Some("linux/arm64".parse().unwrap()),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        message: Some("a comment".to_owned()),
        source: "-".to_owned(),
    };
    archive::import(&home.store, &home.settings, file, &import).unwrap()
}

fn context(home: Home) -> (Context, tempfile::TempDir) {
    let (store, settings, directory) = home.into_parts();
    (Context { store, settings }, directory)
}

/// The rows of `images` with these options, as `REPOSITORY TAG`.
fn listed(context: &Context, options: &str) -> Vec<String> {
    let Group::Ls(args) = parse(format!("x ls {options}").trim()) else {
        panic!("not ls")
    };
    let rows = images::rows(&args, context).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| format!("{} {}", text(row, "Repository"), text(row, "Tag")))
        .collect()
}

#[test]
fn images_are_listed_and_filtered() {
    let home = Home::new();
    let one = import(&home, "one:1", "one", &["LABEL kind=a"]);
    import(&home, "r.example/two:2", "two two", &["LABEL kind=b"]);
    image::tag(&home.store, "one:1", &"one:latest".parse().unwrap(), None).unwrap();
    import(&home, "one:1", "newer", &[]);
    image::tag(&home.store, "one:latest", &"gone:1".parse().unwrap(), None).unwrap();
    home.store
        .remove_name("docker.io/library/one:latest", "linux/arm64")
        .unwrap();
    home.store
        .remove_name("docker.io/library/gone:1", "linux/arm64")
        .unwrap();
    let (context, _directory) = context(home);
    for (options, expected) in [
        ("", &["one 1", "r.example/two 2", "<none> <none>"][..]),
        ("one", &["one 1"]),
        ("one:2", &[]),
        ("--filter reference=*/two", &["r.example/two 2"]),
        ("--filter dangling=true", &["<none> <none>"]),
        ("--filter dangling=false", &["one 1", "r.example/two 2"]),
        ("--filter label=kind=a", &["<none> <none>"]),
        ("--filter label=kind", &["r.example/two 2", "<none> <none>"]),
        (
            "--filter before=one:1",
            &["r.example/two 2", "<none> <none>"],
        ),
        ("--filter since=r.example/two:2", &["one 1"]),
    ] {
        assert_eq!(listed(&context, options), expected, "{options}");
    }
    let Group::Ls(args) = parse("x ls --no-trunc --digests") else {
        panic!("not ls")
    };
    let rows = images::rows(&args, &context).unwrap();
    let row = rows.iter().find(|row| row["Tag"] == "<none>").unwrap();
    assert_eq!(row["ID"], one.id.to_string());
    assert_eq!(
        (&row["Size"], &row["Digest"]),
        (&json!("3B"), &json!("<none>"))
    );
    assert_eq!(row["Platform"], "linux/arm64");
    let Group::Ls(args) = parse("x ls --filter nosuch=1") else {
        panic!("not ls")
    };
    let error = images::rows(&args, &context).unwrap_err().to_string();
    assert_eq!(error, "invalid filter 'nosuch'");
}

#[test]
fn inspect_has_dockers_shape() {
    let home = Home::new();
    let changes = [
        "CMD [\"sh\"]",
        "ENV A=1",
        "EXPOSE 80",
        "LABEL b=2 a=1",
        "HEALTHCHECK CMD true",
    ];
    let image = import(&home, "x:1", "content", &changes);
    let (context, _directory) = context(home);
    let value = inspect::inspect_value(&context, "x:1").unwrap().unwrap();
    assert_eq!(value["Id"], image.id.to_string());
    assert_eq!(value["RepoTags"], json!(["x:1"]));
    assert_eq!(value["RepoDigests"], json!([]));
    assert_eq!(value["Comment"], "a comment");
    assert_eq!(value["Architecture"], "arm64");
    assert_eq!(value["Size"], 7);
    assert_eq!(value["RootFS"]["Layers"], json!([image.layers[0]]));
    let config = &value["Config"];
    assert_eq!(config["Cmd"], json!(["sh"]));
    assert_eq!(config["Entrypoint"], Value::Null);
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Labels"].to_string(), r#"{"a":"1","b":"2"}"#);
    assert_eq!(inspect::inspect_value(&context, "nosuch").unwrap(), None);
}

#[test]
fn options_are_dockers() {
    for line in [
        "x pull -q --platform linux/arm64 debian",
        "x pull --disable-content-trust debian",
        "x push --all-tags name",
        "x ls -aq --no-trunc --format {{.ID}} -f dangling=true",
        "x list",
        "x rm -f --no-prune a b",
        "x remove a",
        "x history -H=false --no-trunc a",
        "x history -H a",
        "x load -q -i file",
        "x save -o file a b",
        "x import -c CMD=x --message m - name:tag",
        "x inspect -f {{.Id}} a",
        "x prune -af --filter until=24h",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    for line in [
        "x pull",
        "x pull --platform moon a",
        "x rm",
        "x save",
        "x tag a",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
