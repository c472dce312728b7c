//! `hull hash`: the same files have the same hash, and what differs is told.

use std::path::Path;
use std::process::Command;

use crate::archive::{Layer, oci_layout, tar_directory};
use crate::build::Project;
use crate::harness::Hull;

fn shell(directory: &Path, script: &str) -> String {
    let done = Command::new("bash")
        .args(["-c", script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}

/// A line of `hull hash` by its first word.
fn line(text: &str, word: &str) -> String {
    let own = text.lines().find_map(|line| line.strip_prefix(word));
    own.unwrap_or_else(|| panic!("{word} in {text}"))
        .trim()
        .to_owned()
}

#[test]
fn the_recipe_gives_what_the_shell_gives() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    shell(
        work.path(),
        "mkdir -p dir/b/c dir/B; echo 1 > dir/b/c/x; echo 2 > dir/a; echo 2 > dir/b-; printf '' > 'dir/with  blanks'; \
         echo 3 > $'dir/new\\nline'; echo 4 > 'dir/back\\slash'; echo 5 > $'dir/return\\r'; echo 6 > dir/B/é; ln -s a dir/link; mkfifo dir/pipe",
    );
    for written in ["dir", "dir/", "./dir", "dir/b"] {
        let recipe = format!("find {written} -type f -exec sha1sum {{}} + | LC_ALL=C sort -k 2");
        let expected = shell(
            work.path(),
            &format!("{recipe} | sha1sum | cut -d ' ' -f 1"),
        );
        let done = hull
            .command(&["hash", written])
            .current_dir(work.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(line(&told, "recipe "), expected, "{written}: {told}");
        let done = hull
            .command(&["hash", "--recipe", written])
            .current_dir(work.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stdout).trim_end().to_owned();
        assert_eq!(told, shell(work.path(), &recipe), "{written}");
    }
    // The content hash does not know where the directory is, and is the digest of what --list says.
    let in_work = |arguments: &[&str]| {
        let done = hull
            .command(arguments)
            .current_dir(work.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    shell(
        work.path(),
        "cp -r --no-dereference dir copy; touch -d @0 copy/a",
    );
    let content = line(&in_work(&["hash", "./dir"]), "content ");
    assert_eq!(line(&in_work(&["hash", "./copy"]), "content "), content);
    let list = in_work(&["hash", "--list", "./dir"]);
    assert_eq!(
        content,
        format!("sha256:{}", crate::archive::sha256(list.as_bytes()))
    );
}

#[test]
fn images_layers_and_directories_have_one_hash_for_the_same_files() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let bottom = Layer::new()
        .directory("d", 0o755)
        .file("d/a", b"1")
        .file("d/b", b"2")
        .file("c", b"3");
    let top = Layer::new()
        .directory("d", 0o755)
        .whiteout("d/b")
        .file("c", b"three")
        .symlink("l", "c");
    let layers = [bottom.finish(), top.finish()];
    let layout = oci_layout(&work.path().join("layout"), "hashed:1", &layers, &["/none"]);
    let tar = work.path().join("layout.tar");
    tar_directory(&layout, &tar);
    hull.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
    let bundle = work.path().join("bundle");
    let image = format!("{}:hashed:1", work.path().join("layout").display());
    let done = Command::new("umoci")
        .args(["unpack", "--image", &image])
        .arg(&bundle)
        .output();
    assert!(
        done.expect("umoci is installed by make test")
            .status
            .success()
    );
    let unpacked = bundle.join("rootfs");

    let of_image = hull.ok(&["hash", "hashed:1"]);
    let of_directory = hull.ok(&["hash", unpacked.to_str().unwrap()]);
    assert_eq!(line(&of_image, "content "), line(&of_directory, "content "));
    let recipe =
        "find . -type f -exec sha1sum {} + | LC_ALL=C sort -k 2 | sha1sum | cut -d ' ' -f 1";
    assert_eq!(line(&of_image, "recipe "), shell(&unpacked, recipe));
    let same = hull.ok(&["hash", "hashed:1", unpacked.to_str().unwrap()]);
    assert!(same.contains("The content hashes are equal"), "{same}");

    let digest = format!("sha256:{}", crate::archive::sha256(&layers[1]));
    let of_layer = hull.ok(&["hash", &digest[..20]]);
    assert_eq!(line(&of_layer, "layer "), digest);
    let list = hull.ok(&["hash", "--list", &digest]);
    assert!(
        list.contains("whiteout ") && list.contains("link "),
        "{list}"
    );
    let lower = format!("sha256:{}", crate::archive::sha256(&layers[0]));
    let done = hull.run(&["hash", &lower, &digest]);
    assert_eq!(done.code, 1);
    for wanted in [
        "< d/a",
        "~ c",
        "> l",
        "The layers' digests differ, because paths or contents do.",
    ] {
        assert!(done.stdout.contains(wanted), "{wanted:?} in {done:#?}");
    }
    hull.fails(&["hash", "no-such-thing"], 1);
    hull.ok(&["rmi", "hashed:1"]);
}

#[test]
fn it_explains_why_two_builds_agree_or_do_not() {
    let hull = Hull::fresh();
    let project = Project::new("FROM busybox\nRUN echo hello > /test.txt\n", &[]);
    project.build(&hull, &["-q", "-t", "mine"]);
    project.build(&hull, &["-q", "-t", "yours", "--no-cache"]);
    let done = hull.run(&["hash", "mine", "yours"]);
    assert_eq!(done.code, 0, "{done:#?}");

    let project = Project::new(
        "FROM busybox\nRUN echo hello > /test.txt\nENV WHO=me\n",
        &[],
    );
    project.build(&hull, &["-q", "-t", "settings"]);
    let told = hull.ok(&["hash", "mine", "settings"]);
    assert!(
        told.contains("Every layer is the same to the byte."),
        "{told}"
    );
    assert!(told.contains("config.Env"), "{told}");

    // The same file at another time: the same content in a layer with another digest.
    let project = Project::new(
        "FROM busybox\nRUN echo hello > /test.txt && touch -d @86400 /test.txt\n",
        &[],
    );
    project.build(&hull, &["-q", "-t", "later"]);
    let told = hull.ok(&["hash", "mine", "later"]);
    assert!(
        told.contains("from layer 2 on the digests differ, only because times do (of 1 paths)"),
        "{told}"
    );

    let project = Project::new("FROM busybox\nRUN date +%s%N > /test.txt\n", &[]);
    project.build(&hull, &["-q", "-t", "random"]);
    let done = hull.run(&["hash", "mine", "random"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("~ test.txt") && done.stdout.contains("because paths or contents do"),
        "{done:#?}"
    );
    let same = hull.ok(&["hash", "mine", "mine"]);
    assert!(same.contains("They are the same image"), "{same}");
    let json: serde_json::Value =
        serde_json::from_str(&hull.run(&["hash", "--json", "mine", "random"]).stdout).unwrap();
    assert_eq!(json["differences"][0]["path"], "test.txt");
    assert_eq!(json["same"], false);
}
