//! `hull layers`: what it says of thirty layers is what a guest sees and what umoci unpacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::archive::{Layer, oci_layout, tar_directory};
use crate::build::Project;
use crate::harness::Hull;

/// Numbers that look random and are the same every time.
struct Dice(u32);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % limit
    }
}

/// One layer that adds, changes, deletes and makes opaque in a small world of names.
fn layer(number: u32, dice: &mut Dice) -> Layer {
    const NAMES: [&str; 6] = ["apple", "box", "crow", "data", "eel", "fox"];
    let mut layer = Layer::new();
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut files: BTreeSet<String> = BTreeSet::new();
    for _ in 0..14 {
        let depth = 1 + dice.below(4) as usize;
        let path: Vec<&str> = (0..depth).map(|_| NAMES[dice.below(6) as usize]).collect();
        let path = format!("world/{}", path.join("/"));
        let above = (1..path.len()).filter(|at| path.as_bytes()[*at] == b'/');
        let blocked = above
            .map(|at| path[..at].to_owned())
            .any(|above| files.contains(&above));
        let beneath = used
            .iter()
            .any(|other| other.starts_with(&format!("{path}/")));
        if blocked || beneath || used.contains(&path) {
            continue;
        }
        // As tar does, every directory on the way has an entry of its own.
        let above: Vec<usize> = (6..path.len())
            .filter(|at| path.as_bytes()[*at] == b'/')
            .collect();
        for directory in above.iter().map(|at| &path[..*at]) {
            if used.insert(directory.to_owned()) {
                layer = layer.directory(directory, 0o755);
            }
        }
        layer = match dice.below(10) {
            0..=1 => {
                files.insert(path.clone());
                layer.whiteout(&path)
            }
            2 => layer.directory(&path, 0o750).opaque(&path),
            3..=4 => layer.directory(&path, 0o700 + dice.below(64)),
            5 => {
                files.insert(path.clone());
                layer.symlink(&path, "elsewhere")
            }
            _ => {
                files.insert(path.clone());
                let content = "x".repeat(1 + dice.below(50) as usize);
                layer.file(&path, format!("{number} {content}").as_bytes())
            }
        };
        used.insert(path);
    }
    layer
}

pub fn thirty_layers(hull: &Hull, name: &str, work: &Path) {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed by make test");
    let bottom = Layer::new()
        .directory("world", 0o755)
        .directory("bin", 0o755)
        .file_with("bin/busybox", &busybox, 0o755, 0, &[]);
    let mut dice = Dice(7);
    let mut layers = vec![bottom.finish()];
    layers.extend((1..30).map(|number| layer(number, &mut dice).finish()));
    let layout = oci_layout(&work.join("layout"), name, &layers, &["/bin/busybox"]);
    let tar = work.join("layout.tar");
    tar_directory(&layout, &tar);
    hull.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
}

fn json(hull: &Hull, arguments: &[&str]) -> Value {
    serde_json::from_str(&hull.ok(&[&["layers", "--json"], arguments].concat())).unwrap()
}

/// What is seen below `world/`, by path: kind and size.
fn told(stack: &Value) -> BTreeMap<String, (String, u64)> {
    let mut told = BTreeMap::new();
    for layer in stack["layers"].as_array().unwrap() {
        for change in layer["changes"].as_array().unwrap() {
            let path = change["path"].as_str().unwrap();
            if change["seen"] == true && path.starts_with("world/") {
                let file = change["file"].as_str().unwrap().to_owned();
                let size = change["size"].as_u64().unwrap();
                let before = told.insert(path.to_owned(), (file, size));
                assert!(before.is_none(), "{path} is seen twice");
            }
        }
    }
    told
}

/// `kind size path` per line, as find prints it.
fn found(lines: &str) -> BTreeMap<String, (String, u64)> {
    let parse = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let kind = match words.next().unwrap() {
            "d" | "directory" => "directory",
            "l" | "symbolic link" => "link",
            _ => "file",
        };
        let size = words.next().unwrap().parse().unwrap();
        let path = words
            .next()
            .unwrap()
            .trim_start_matches(['.', '/'])
            .to_owned();
        (
            path,
            (kind.to_owned(), if kind == "file" { size } else { 0 }),
        )
    };
    lines
        .lines()
        .map(parse)
        .filter(|(path, _)| path != "world")
        .collect()
}

#[test]
fn thirty_layers_agree_with_the_guest_and_with_umoci() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    thirty_layers(&hull, "thirty:1", work.path());
    let stack = json(&hull, &["thirty:1"]);
    assert_eq!(stack["layers"].as_array().unwrap().len(), 30);
    let told = told(&stack);
    assert!(told.len() > 25, "{told:?}");
    let doings = |what: &str| {
        let layers = stack["layers"].as_array().unwrap().iter();
        let changes = layers.flat_map(|layer| layer["changes"].as_array().unwrap());
        changes.filter(|change| change["what"] == what).count()
    };
    assert!(doings("hidden") > 10 && doings("changed") > 20);
    assert!(stack.to_string().contains("\"opaque\":true"));

    // What the guest's overlayfs shows.
    let script = "cd /; for f in $(/bin/busybox find world); do \
                  if [ -L $f ]; then echo l 0 $f; elif [ -d $f ]; then echo d 0 $f; \
                  else echo f $(/bin/busybox stat -c %s $f) $f; fi; done";
    let guest = hull.ok(&[
        "run",
        "--rm",
        "thirty:1",
        "/bin/busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(found(&guest), told);

    // What umoci unpacks.
    let bundle = work.path().join("bundle");
    let image = format!("{}:thirty:1", work.path().join("layout").display());
    let done = Command::new("umoci")
        .args(["unpack", "--keep-dirlinks", "--image", &image])
        .arg(&bundle)
        .output()
        .expect("umoci is installed by make test");
    assert!(done.status.success(), "{done:?}");
    let listed = Command::new("find")
        .current_dir(bundle.join("rootfs"))
        .args(["world", "-printf", "%y %s %p\n"])
        .output()
        .unwrap();
    assert_eq!(found(&String::from_utf8_lossy(&listed.stdout)), told);

    // Which version wins, to the byte.
    for (path, _) in told.iter().filter(|(_, (kind, _))| kind == "file") {
        let story = json(&hull, &["thirty:1", path]);
        let versions = story["versions"].as_array().unwrap();
        let seen: Vec<&Value> = versions
            .iter()
            .filter(|version| version["seen"] == true)
            .collect();
        let content = std::fs::read(bundle.join("rootfs").join(path)).unwrap();
        let digest = format!("sha256:{}", crate::archive::sha256(&content));
        assert_eq!(seen.len(), 1, "{path}: {story}");
        assert_eq!(seen[0]["content"], digest, "{path}");
    }
    hull.ok(&["rmi", "thirty:1"]);
}

#[test]
fn a_path_has_its_story_and_sharing_is_told() {
    let hull = Hull::fresh();
    let project = Project::new(
        "FROM busybox\nRUN echo hello > /test.txt && mkdir /gone && echo 1 > /gone/a\nENV A=1\n\
         RUN echo hello2 > /test.txt && rm -r /gone\n",
        &[],
    );
    project.build(&hull, &["-q", "-t", "story"]);
    let picture = hull.ok(&["layers", "story"]);
    for wanted in [
        "3 layers,",
        "in common with busybox:latest: 1 of the layers,",
        "│       then ENV A=1",
        "~ test.txt  7B, hides 1",
        "- gone  hides 2",
        "8B never seen",
    ] {
        assert!(picture.contains(wanted), "{wanted:?} in {picture}");
    }
    let story = hull.ok(&["layers", "story", "/test.txt"]);
    assert!(story.contains(">   3  changed, file of 7B"), "{story}");
    assert!(story.contains("    2  added, file of 6B"), "{story}");
    let gone = hull.ok(&["layers", "story", "/gone/a"]);
    assert!(
        gone.contains("hidden, with /gone") && gone.contains("does not see it"),
        "{gone}"
    );
    let error = hull.fails(&["layers", "story", "/never"], 1);
    assert_eq!(error, "hull: /never: no layer of story:latest has it\n");

    // What a container writes is the topmost layer, whether it runs or not.
    let id = hull.ok(&[
        "create",
        "--name",
        "writer",
        "story",
        "sh",
        "-c",
        "echo 3 > /test.txt; rm /bin/ls",
    ]);
    hull.ok(&["start", "-a", "writer"]);
    let picture = hull.ok(&["layers", "writer"]);
    assert!(
        picture.contains("4 layers,") && picture.contains("writable"),
        "{picture}"
    );
    assert!(picture.contains("~ test.txt  2B, hides 1"), "{picture}");
    assert!(picture.contains("- bin/ls  hides 1"), "{picture}");
    let story = hull.ok(&["layers", "writer", "/bin/ls"]);
    assert!(
        story.contains("4  hidden") && story.contains("does not see it"),
        "{story}"
    );
    hull.ok(&["rm", &id]);
}
