//! The same project gives the same images, whoever builds it, where and when.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::Hull;

const DOCKERFILE: &str = "FROM busybox AS one\n\
    WORKDIR /w\n\
    COPY . .\n\
    ADD archive.tar /unpacked/\n\
    RUN date +%Y > /dev/shm/now; touch new; mkdir -p d/e; ln -s x d/l; ln new d/hard; mkfifo d/p; echo $SOURCE_DATE_EPOCH $HOSTNAME > env; \
        echo somebody:x:1000:1000::/home/somebody:/bin/sh >> /etc/passwd; mkdir -p /home/somebody; chown -R 1000:1000 d /home/somebody; rm -r b; for n in $(seq 300); do echo $n > d/$n; done; find /w > /listing; stat -c '%n %i %s %b' /w/d /w/d/* >> /listing\n\
    USER somebody\n\
    RUN --mount=type=cache,target=/c,uid=1000 echo cached > /c/x; cp /c/x /home/somebody/; id > /home/somebody/id\n\
    FROM scratch\n\
    COPY --from=one --chown=5:6 /w /w\n\
    COPY --from=one /listing /home /etc/passwd /\n\
    LABEL a=b\n\
    HEALTHCHECK --interval=5s CMD true\n";

/// The files, made anew.
fn project(root: &Path) {
    fs::create_dir(root).unwrap();
    fs::write(root.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::create_dir(root.join("b")).unwrap();
    for (path, content) in [("a", "1"), ("b/c", "2"), ("b/d", "3")] {
        fs::write(root.join(path), content).unwrap();
    }
    symlink("a", root.join("l")).unwrap();
    let mut archive = tar::Builder::new(fs::File::create(root.join("archive.tar")).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o640);
    header.set_mtime(2_000_000_000);
    header.set_uid(7);
    header.set_gid(8);
    archive.append_data(&mut header, "f", &b"abc"[..]).unwrap();
    archive.finish().unwrap();
}

/// A user, a place and a time to build in.
struct Setting {
    hull: Hull,
    place: &'static str,
    zone: &'static str,
    time: Option<&'static str>,
    user: Option<u32>,
}

/// The target's id, and all layers of it and of the stage before it.
fn build(setting: &Setting) -> (String, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(setting.place);
    project(&root);
    if let Some(user) = setting.user {
        for path in ["", "a", "b", "b/c", "b/d", "archive.tar", "Dockerfile"] {
            let path = root.join(path);
            chown(&path, Some(user), Some(user)).unwrap();
            if path.is_file() {
                let file = fs::File::options().append(true).open(&path).unwrap();
                let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
                file.set_modified(long_ago).unwrap();
            }
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = root.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = setting
            .hull
            .command(&[&["build", "-q"], arguments, &[path]].concat());
        command
            .env("TZ", setting.zone)
            .env("HOSTNAME", setting.place);
        if let Some(time) = setting.time {
            // The library that the program of this name loads into others.
            let library = Command::new("faketime")
                .args([time, "sh", "-c", "echo $LD_PRELOAD"])
                .output()
                .expect("faketime is there");
            let library = String::from_utf8(library.stdout).unwrap();
            command
                .env("LD_PRELOAD", library.trim())
                .env("FAKETIME", format!("@{time}"));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let stage = run(&["--target", "one"]);
    let id = run(&[]);
    let layers = |id: &str| setting.hull.field(id, "{{json .RootFS.Layers}}");
    (layers(&stage), layers(&id), id)
}

#[test]
fn the_same_project_gives_the_same_ids_everywhere() {
    let user = Hull::unprivileged();
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(user.root()).unwrap());
    let here = build(&Setting {
        hull: Hull::fresh(),
        place: "here",
        zone: "UTC",
        time: None,
        user: None,
    });
    let elsewhere = build(&Setting {
        hull: Hull::fresh(),
        place: "elsewhere-in-a-longer-place",
        zone: "Asia/Tokyo",
        time: Some("2031-05-06 07:08:09"),
        user: Some(1234),
    });
    let somebody = build(&Setting {
        hull: user,
        place: "users",
        zone: "America/Lima",
        time: Some("2019-02-03 04:05:06"),
        user: Some(owner),
    });
    assert_eq!(here, elsewhere);
    assert_eq!(here, somebody);
}
