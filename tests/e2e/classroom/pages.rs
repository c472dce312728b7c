//! The pages in a browser.

use super::browser::Browser;
use super::layers::thirty_layers;
use crate::archive::{Layer, oci_layout, tar_directory};
use crate::harness::Hull;

/// A name that does harm where it is read as HTML.
pub const HOSTILE: &str =
    "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>";

#[test]
fn the_page_of_layers_shows_what_each_layer_changes() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    thirty_layers(&hull, "thirty:page", work.path());
    let file = work.path().join("layers.html");
    hull.ok(&["layers", "--html", file.to_str().unwrap(), "thirty:page"]);
    let stack: serde_json::Value =
        serde_json::from_str(&hull.ok(&["layers", "--json", "thirty:page"])).unwrap();

    let browser = Browser::start();
    browser.open_file(&file);
    assert_eq!(
        browser.text("document.querySelector('h1').textContent"),
        "Layers of thirty:page"
    );
    assert_eq!(
        browser.value("document.querySelectorAll('.overlay .band').length"),
        30
    );
    let count = |browser: &Browser| browser.text("document.querySelector('.count').textContent");
    assert_eq!(count(&browser), format!("{} paths", stack["visible"]));
    browser.assert_readable("layers");

    // The picture is what the layers say: each path's column ends in the layer that is seen.
    let shown = browser.value(
        "[...document.querySelectorAll('.overlay .path')].map((path, index) => \
         [path.title, document.querySelectorAll('.overlay .cell.view')[index].textContent])",
    );
    let shown = shown.as_array().unwrap();
    assert!(shown.len() > 10, "{shown:?}");
    for pair in shown {
        let path = pair[0].as_str().unwrap().trim_start_matches('/');
        let layers = stack["layers"].as_array().unwrap().iter();
        let mut seen = layers.filter(|layer| {
            let mut changes = layer["changes"].as_array().unwrap().iter();
            changes.any(|change| change["path"] == path && change["seen"] == true)
        });
        let expected = seen
            .next()
            .map_or("–".to_owned(), |layer| layer["number"].to_string());
        assert_eq!(pair[1], expected, "{path}");
    }
    for kind in ["has", "under", "out", "opaque"] {
        let cells = format!("document.querySelectorAll('.overlay .cell.{kind}').length");
        assert!(
            browser.value(&cells).as_u64() > Some(0),
            "no cell is {kind}"
        );
    }

    // The merged view of the bottom layer alone, then what the second layer makes of it.
    browser.click("[data-layer='1']");
    assert_eq!(count(&browser), "3 paths");
    let title = |browser: &Browser| {
        browser.text("document.querySelector('.split > section:last-child h2').textContent")
    };
    assert_eq!(title(&browser), "Layers 1 to 1 together");
    assert_eq!(
        browser.text("document.querySelector('.about .tag').textContent"),
        "1"
    );
    browser.click("[data-layer='2']");
    let layer = &stack["layers"][1];
    let added = layer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["what"] == "added")
        .count();
    assert_eq!(count(&browser), format!("{} paths", 3 + added));
    browser.click(".mode");
    assert_eq!(title(&browser), "What layer 2 holds");
    browser.click("details summary");
    assert!(
        browser
            .value("document.querySelectorAll('.tree .tree li').length")
            .as_u64()
            > Some(0)
    );
    browser.keys("input[type=search]", "/bin/busybox");
    browser.until(
        "document.querySelector('.answer').innerText.includes('this is what a container sees')",
    );
    browser.assert_quiet("file://");
    assert!(browser.print().starts_with(b"%PDF"));
    hull.ok(&["rmi", "thirty:page"]);
}

#[test]
fn hostile_names_of_files_are_text_in_the_page_of_layers() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let name = HOSTILE.replace('/', "\\");
    let layer = Layer::new()
        .file(&format!("a/{name}"), b"1")
        .file("b\u{202e}txt\x1b[2J", b"2")
        .finish();
    let layout = oci_layout(
        &work.path().join("layout"),
        "hostile:page",
        &[layer],
        &["/none"],
    );
    let tar = work.path().join("layout.tar");
    tar_directory(&layout, &tar);
    hull.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
    let file = work.path().join("layers.html");
    hull.ok(&["layers", "--html", file.to_str().unwrap(), "hostile:page"]);
    let browser = Browser::start();
    browser.open_file(&file);
    let text = serde_json::to_string(&name).unwrap();
    browser.until(&format!("document.body.innerText.includes({text})"));
    assert_eq!(
        browser.value("document.querySelectorAll('img, body script + script + script').length"),
        0
    );
    assert_ne!(browser.text("document.title"), "owned");
    browser.assert_quiet("file://");
    let picture = hull.ok(&["layers", "--all", "hostile:page"]);
    assert!(
        !picture.contains('\x1b') && !picture.contains('\u{202e}'),
        "{picture:?}"
    );
    hull.ok(&["rmi", "hostile:page"]);
}
