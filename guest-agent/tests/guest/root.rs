//! The root that a container finds.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use guest_agent::protocol::runtime::{Device, Mount};
use guest_agent::protocol::{ErrorKind, ProvidedFile, Request, Response, Storage, Task, Work};

use crate::harness::{Guest, possible, run};
use crate::talk::{exec, layer, shell, stream_out, writable};

const NOTHING: &dyn Fn(&Path) = &|_| {};

fn file(path: &str, content: &str) -> ProvidedFile {
    ProvidedFile {
        path: path.to_owned(),
        content: content.into(),
        mode: 0o644,
        uid: 0,
        gid: 0,
    }
}

fn mount(kind: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        kind: Some(kind.to_owned()),
        source: Some(kind.to_owned()),
        destination: destination.into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    }
}

#[test]
fn layers_stack_in_order() {
    if !possible() {
        return;
    }
    let count = 40;
    let fills: Vec<_> = (0..count)
        .map(|number| {
            move |root: &Path| {
                fs::write(root.join("who"), format!("{number}\n")).unwrap();
                fs::write(root.join(format!("only{number}")), "").unwrap();
            }
        })
        .collect();
    let fills: Vec<&dyn Fn(&Path)> = fills.iter().map(|f| f as &dyn Fn(&Path)).collect();
    let guest = Guest::with_layers(&fills, false);
    let mut request =
        shell("cat /who; ls / | grep -c only; grep -o lowerdir+ /proc/mounts | wc -l");
    request.storage.layers = (1..=count + 1).map(layer).collect();
    assert_eq!(guest.run(request).text(), "0\n40\n41\n");
}

#[test]
fn the_writable_disk_keeps_what_was_written() {
    if !possible() {
        return;
    }
    let guest = Guest::with_layers(&[&|root| fs::write(root.join("old"), "x").unwrap()], true);
    let mut request = shell("echo kept > /new; rm /old; mkdir /d; stat -c '%a %u' /; echo done");
    request.storage.writable = Some(writable());
    assert_eq!(guest.run(request).text(), "755 0\ndone\n");
    let (_, response) = guest.request(Request::Shutdown);
    assert_eq!(
        response,
        Response::Ok {
            pid: 0,
            warnings: Vec::new()
        }
    );
    // The machine's own check finds a file system that needs no repair and no replay.
    run(Command::new("/sbin/e2fsck")
        .args(["-f", "-n"])
        .arg(guest.disk()));
    let features = Command::new("/sbin/dumpe2fs")
        .arg("-h")
        .arg(guest.disk())
        .output()
        .unwrap();
    let features = String::from_utf8(features.stdout).unwrap();
    assert!(
        !features.contains("needs_recovery") && features.contains("clean"),
        "{features}"
    );
    let kept = Command::new("/sbin/debugfs")
        .args(["-R", "cat upper/new"])
        .arg(guest.disk())
        .output();
    assert_eq!(kept.unwrap().stdout, b"kept\n");
}

#[test]
fn shutdown_ends_what_runs() {
    if !possible() {
        return;
    }
    let guest = Guest::with_layers(&[NOTHING], true);
    let mut request = shell("trap '' TERM; (while :; do echo x >> /log; done) & echo ready; wait");
    request.storage.writable = Some(writable());
    let mut main = guest.start(request);
    crate::talk::read_until(&mut main, "ready");
    let (_, response) = guest.request(Request::Shutdown);
    assert!(matches!(response, Response::Ok { .. }), "{response:?}");
    assert_eq!(stream_out(main).exit.code, 137);
    run(Command::new("/sbin/e2fsck")
        .args(["-f", "-n"])
        .arg(guest.disk()));
}

#[test]
fn a_read_only_root_refuses_writes() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request =
        shell("touch /x 2>&1; touch /tmp/x && echo tmp; touch /etc/hosts && echo hosts");
    request.spec.root.readonly = true;
    request
        .spec
        .mounts
        .push(mount("tmpfs", "/tmp", &["rw", "noexec"]));
    request.files.push(file("/etc/hosts", "1.2.3.4 x\n"));
    let text = guest.run(request).text();
    assert_eq!(text, "touch: /x: Read-only file system\ntmp\nhosts\n");
}

#[test]
fn files_and_mounts_follow_links_inside_the_root_only() {
    if !possible() {
        return;
    }
    let guest = Guest::new(&|root| {
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink(
            "../../../../../../run/resolv.conf",
            root.join("etc/resolv.conf"),
        )
        .unwrap();
        symlink("/proc/1/root/writable", root.join("escape")).unwrap();
        symlink("/layers", root.join("up")).unwrap();
    });
    let mut request = shell(
        "cat /run/resolv.conf; cat /etc/hosts; stat -c %a /etc/hosts; ls /up/../layers; stat -c %a /layers/data; ls /made",
    );
    request
        .files
        .push(file("/etc/resolv.conf", "nameserver 9.9.9.9\n"));
    request.files.push(ProvidedFile {
        mode: 0o600,
        ..file("/etc/hosts", "127.0.0.1 localhost\n")
    });
    request.files.push(file("/made/for/you", ""));
    request
        .spec
        .mounts
        .push(mount("tmpfs", "/up/data", &["mode=700"]));
    let text = guest.run(request).text();
    assert_eq!(
        text,
        "nameserver 9.9.9.9\n127.0.0.1 localhost\n600\ndata\n700\nfor\n"
    );
}

#[test]
fn impossible_mounts_are_refused_with_their_path() {
    if !possible() {
        return;
    }
    for (bad, kind, text) in [
        (
            mount("bind", "/x", &[]),
            ErrorKind::Invalid,
            "mount type bind at /x is not supported",
        ),
        (
            mount("tmpfs", "relative", &[]),
            ErrorKind::Invalid,
            "relative is not an absolute path",
        ),
        (
            mount("tmpfs", "/bin/sh", &[]),
            ErrorKind::Guest,
            "/bin/sh: it is not a directory",
        ),
        (
            mount("tmpfs", "/bin/sh/x", &[]),
            ErrorKind::Guest,
            "/bin/sh/x",
        ),
        (
            mount("tmpfs", "/x", &["size=lots"]),
            ErrorKind::Guest,
            "cannot mount tmpfs",
        ),
        (
            mount("tmpfs", "/x", &["nonsense"]),
            ErrorKind::Guest,
            "nonsense",
        ),
    ] {
        let guest = Guest::new(NOTHING);
        let mut request = shell("true");
        request.spec.mounts.push(bad);
        let error = guest.refused(request);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(text), "{error}");
    }
    let guest = Guest::new(NOTHING);
    let mut request = shell("true");
    request.storage.layers.push(layer(99));
    assert!(guest.refused(request).message.contains("/images/layer99"));
}

#[test]
fn dev_proc_and_sys_are_a_containers() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = shell(
        "ls /dev | tr '\\n' ' '; echo; stat -c '%F %a %t:%T' /dev/null /dev/fuse; echo x > /dev/null && head -c4 /dev/zero | wc -c;
         cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/swappiness; mount -o remount,rw /proc/sys; cat /proc/keys | wc -c;
         stat -c %a /dev/shm; cat /proc/sys/kernel/shmmni",
    );
    let linux = &mut request.spec.linux;
    linux.devices.push(Device {
        path: "/dev/fuse".into(),
        kind: "c".to_owned(),
        major: 10,
        minor: 229,
        file_mode: Some(0o640),
        ..Device::default()
    });
    linux.sysctl = [("kernel.shmmni".to_owned(), "1234".to_owned())].into();
    let outcome = guest.run(request);
    let text = outcome.text();
    let lines: Vec<&str> = text.lines().collect();
    let names =
        "core fd full fuse mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(lines[0], names);
    assert_eq!(
        lines[1..3],
        [
            "character special file 666 1:3",
            "character special file 640 a:e5"
        ]
    );
    assert_eq!(lines[3..], ["4", "0", "0", "0", "1777", "1234"], "{text}");
    let errors = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        errors.contains("Read-only file system") && errors.contains("permission denied"),
        "{errors}"
    );
}

#[test]
fn the_root_comes_out_as_an_archive() {
    if !possible() {
        return;
    }
    let fill = |root: &Path| {
        fs::create_dir(root.join("data")).unwrap();
        fs::write(root.join("data/one"), vec![7; 300_000]).unwrap();
        fs::hard_link(root.join("data/one"), root.join("data/two")).unwrap();
    };
    let guest = Guest::new(&fill);
    let mut request = shell(
        "echo new > /data/three; rm /etc/group; mknod /data/null c 1 3; echo ready; exec sleep 1000",
    );
    request.files.push(file("/etc/hosts", "secret"));
    let mut main = guest.start(request);
    crate::talk::read_until(&mut main, "ready");
    let listing = export(&guest, Storage::default());
    for expected in [
        "data/three 4",
        "data/one 300000",
        "data/null 0",
        "etc/hosts 0",
        "bin/sh 0",
        "proc/ 0",
    ] {
        assert!(
            listing.lines().any(|l| l == expected),
            "{expected} in {listing}"
        );
    }
    assert!(
        !listing.contains("etc/group") && !listing.contains("proc/1"),
        "{listing}"
    );
    assert!(listing.contains("data/two 0"), "{listing}");

    // Without a container: the layers alone, read only.
    let guest = Guest::new(&fill);
    let storage = Storage {
        layers: vec![layer(1)],
        ..Storage::default()
    };
    assert_eq!(
        export(&guest, storage),
        "data/ 0\ndata/one 300000\ndata/two 0\n"
    );
    assert_eq!(
        guest.exec_refused(exec("x", "true")).kind,
        ErrorKind::NoSuchProcess
    );
}

/// Names and sizes of what an export contains.
fn export(guest: &Guest, storage: Storage) -> String {
    let task = Task::Export;
    let (stream, response) = guest.request(Request::Work(Box::new(Work { storage, task })));
    assert!(matches!(response, Response::Ok { .. }), "{response:?}");
    let outcome = stream_out(stream);
    assert_eq!(
        (outcome.exit.code, outcome.stderr.as_slice()),
        (0, &b""[..])
    );
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(&outcome.stdout).unwrap();
    let mut archive = tar::Archive::new(File::open(path.path()).unwrap());
    let entries = archive.entries().unwrap().map(|e| e.unwrap());
    entries
        .map(|e| format!("{} {}\n", e.path().unwrap().display(), e.size()))
        .collect()
}
