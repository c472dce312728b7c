//! Directories of the host in the guest.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use vmm::DirShare;

use crate::support::{ask, ask_with, boot, config, end};

pub const TESTS: &[(&str, fn())] = &[
    ("shares::files_pass_both_ways", files_pass_both_ways),
    (
        "shares::read_only_is_refused_by_the_host",
        read_only_is_refused_by_the_host,
    ),
    (
        "shares::nothing_outside_is_reachable",
        nothing_outside_is_reachable,
    ),
    (
        "shares::changes_of_the_host_show_at_once",
        changes_of_the_host_show_at_once,
    ),
    (
        "shares::a_file_alone_can_be_shared",
        a_file_alone_can_be_shared,
    ),
    (
        "shares::attributes_and_programs_work",
        attributes_and_programs_work,
    ),
    (
        "shares::kill_takes_their_process_along",
        kill_takes_their_process_along,
    ),
];

fn share(tag: &str, source: &std::path::Path, read_only: bool) -> DirShare {
    DirShare {
        tag: tag.to_owned(),
        source: source.to_owned(),
        read_only,
    }
}

fn files_pass_both_ways() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(one.path().join("greeting"), "hello from the host").unwrap();
    let mut config = config("shares");
    config.shares = vec![
        share("one", one.path(), false),
        share("two", two.path(), false),
    ];
    let machine = boot(&config);
    assert_eq!(ask(&machine, "mount one /one virtiofs rw"), "ok");
    assert_eq!(ask(&machine, "mount two /two virtiofs rw"), "ok");
    assert_eq!(ask(&machine, "read /one/greeting"), "hello from the host");
    let data: Vec<u8> = (0..20_000_000u32).map(|i| (i % 253) as u8).collect();
    assert_eq!(ask_with(&machine, "write /two/data 0", &data), b"ok\n");
    assert!(fs::read(two.path().join("data")).unwrap() == data);
    assert!(ask_with(&machine, "read /two/data", &[]) == data);
    assert_eq!(ask(&machine, "mkdir /one/dir"), "ok");
    assert_eq!(ask(&machine, "rename /one/greeting /one/dir/moved"), "ok");
    assert_eq!(ask(&machine, "list /one/dir"), "moved");
    assert!(one.path().join("dir/moved").exists());
    assert_eq!(ask(&machine, "remove /one/dir/moved"), "ok");
    assert!(!one.path().join("dir/moved").exists());
    // What the guest's root makes belongs to whoever started the machine.
    let metadata = fs::metadata(one.path().join("dir")).unwrap();
    assert_eq!(metadata.uid(), nix::unistd::getuid().as_raw());
}

fn read_only_is_refused_by_the_host() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "as it was").unwrap();
    let mut config = config("shares-ro");
    config.shares = vec![share("data", directory.path(), true)];
    let machine = boot(&config);
    // The guest mounts it for writing and tries.
    assert_eq!(ask(&machine, "mount data /data virtiofs rw"), "ok");
    for command in ["write /data/file 0", "write /data/new 0", "mkdir /data/dir"] {
        let answer = ask(&machine, command);
        assert!(
            answer.contains("Read-only file system"),
            "{command}: {answer}"
        );
    }
    assert!(ask(&machine, "remove /data/file").contains("Read-only file system"));
    assert_eq!(ask(&machine, "read /data/file"), "as it was");
}

fn nothing_outside_is_reachable() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    symlink("../secret", inner.join("relative")).unwrap();
    symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
    let mut config = config("shares-outside");
    config.shares = vec![share("data", &inner, false)];
    let machine = boot(&config);
    assert_eq!(ask(&machine, "mount data /data virtiofs rw"), "ok");
    // Links are the guest's to follow: they lead to places in the guest.
    for name in ["relative", "absolute", "../secret"] {
        let answer = ask(&machine, &format!("read /data/{name}"));
        assert!(
            answer.starts_with("error: No such file"),
            "{name}: {answer}"
        );
    }
}

fn changes_of_the_host_show_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let mut config = config("shares-fresh");
    config.shares = vec![share("data", directory.path(), false)];
    let machine = boot(&config);
    assert_eq!(ask(&machine, "mount data /data virtiofs rw"), "ok");
    for round in 0..20 {
        fs::write(&file, format!("{} round {round}", "x".repeat(round))).unwrap();
        let expected = fs::read_to_string(&file).unwrap();
        assert_eq!(ask(&machine, "read /data/file"), expected);
    }
    fs::remove_file(&file).unwrap();
    assert!(ask(&machine, "read /data/file").starts_with("error: No such file"));
}

fn a_file_alone_can_be_shared() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["shared", "private"] {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let mut config = config("shares-file");
    config.shares = vec![
        share("rw", &directory.path().join("shared"), false),
        share("ro", &directory.path().join("shared"), true),
    ];
    let machine = boot(&config);
    assert_eq!(ask(&machine, "mount rw /rw virtiofs rw"), "ok");
    assert_eq!(ask(&machine, "mount ro /ro virtiofs rw"), "ok");
    assert_eq!(ask(&machine, "list /rw"), "shared");
    assert_eq!(ask(&machine, "read /ro/shared"), "shared");
    assert_eq!(ask_with(&machine, "write /rw/shared 0", b"SH"), b"ok\n");
    assert_eq!(
        fs::read_to_string(directory.path().join("shared")).unwrap(),
        "SHared"
    );
    assert!(ask(&machine, "write /ro/shared 0").contains("Read-only file system"));
    assert!(ask(&machine, "write /rw/other 0").contains("Read-only file system"));
}

fn kill_takes_their_process_along() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config("shares-kill");
    config.shares = vec![share("data", directory.path(), false)];
    let mut machine = boot(&config);
    let before = crate::life::processes_named("shares-kill");
    assert!(before.len() >= 4, "{before:?}");
    machine.kill();
    assert_eq!(
        crate::life::processes_named("shares-kill"),
        Vec::<i32>::new()
    );
    end(&mut machine);
}

fn attributes_and_programs_work() {
    // A directory beside the target: /tmp may lie on a file system without attributes.
    let parent = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(parent).unwrap();
    let mut config = config("shares-attributes");
    config.shares = vec![share("data", directory.path(), false)];
    let machine = boot(&config);
    assert_eq!(ask(&machine, "mount data /data virtiofs rw"), "ok");
    assert_eq!(ask(&machine, "copy /init /data/true"), "ok");
    // Executing asks for the attribute with the file's capabilities first.
    assert_eq!(ask(&machine, "run /data/true"), "0");
    assert!(ask(&machine, "getxattr /data/true user.colour").starts_with("error: No data"));
    assert_eq!(ask(&machine, "setxattr /data/true user.colour green"), "ok");
    assert_eq!(ask(&machine, "getxattr /data/true user.colour"), "green");
}
