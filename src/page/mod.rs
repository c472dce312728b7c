//! Pages for a browser: one file each, with everything in it, that loads nothing.
//!
//! A page is this module's frame, a script, and data as JSON. What people, images and guests
//! named is data only: scripts make elements and set their text, and nothing is ever read as
//! HTML. The page's content security policy holds that up: it names the hashes of the script and
//! the style that are here and allows nothing else, so that a page can neither run anything
//! else nor ask anybody for anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");
const DOM: &str = include_str!("dom.js");

/// A script of a page.
#[derive(Debug, Clone, Copy)]
pub enum Script {
    /// The layers of an image.
    Layers,
    /// A process, a container and microVMs side by side.
    Compare,
    /// `hull ui`, which asks the server that it came from.
    Ui,
}

impl Script {
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Layers => &[
                DOM,
                include_str!("overlay.js"),
                include_str!("stack.js"),
                include_str!("layers.js"),
            ],
            Self::Compare => &[
                DOM,
                include_str!("plots.js"),
                include_str!("compare.js"),
                include_str!("compared.js"),
            ],
            Self::Ui => &[
                DOM,
                include_str!("overlay.js"),
                include_str!("stack.js"),
                include_str!("plots.js"),
                include_str!("compare.js"),
                include_str!("screen.js"),
                include_str!("ui.js"),
            ],
        }
    }
}

/// A whole page that shows `data`.
pub fn page(title: &str, script: Script, data: &Value) -> String {
    let code = script.parts().concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main id=\"page\"></main>\n<noscript>This page needs JavaScript; it loads nothing from \
         anywhere.</noscript>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>{code}</script>\n</body>\n</html>\n",
        policy(&code, script),
        text(title),
        json(data),
    )
}

fn policy(code: &str, script: Script) -> String {
    let asks = match script {
        Script::Ui => "connect-src 'self'; ",
        Script::Layers | Script::Compare => "",
    };
    format!(
        "default-src 'none'; {asks}img-src data:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(code)
    )
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Text as HTML has it.
fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// JSON that can stand in a script element: in strings, the only places where it can occur, `<`
/// is written as an escape, so that nothing in it ends the element or begins a comment.
fn json(data: &Value) -> String {
    data.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn nothing_in_a_page_leads_anywhere() {
        for script in [Script::Layers, Script::Compare, Script::Ui] {
            let page = page("x", script, &json!({}));
            let allowed = page.replace("http://www.w3.org/2000/svg", "");
            for word in [
                "http:",
                "https:",
                "url(",
                "@import",
                "src=",
                "innerHTML",
                "insertAdjacent",
                "eval(",
            ] {
                assert!(!allowed.contains(word), "{script:?} {word}");
            }
            let asks = page.contains("connect-src");
            assert_eq!(asks, matches!(script, Script::Ui), "{script:?}");
        }
    }

    #[test]
    fn the_policy_names_what_is_in_the_page() {
        let page = page("x", Script::Layers, &json!({}));
        let between = |from: &str, to: &str| {
            let (_, rest) = page.split_once(from).unwrap();
            rest.split_once(to).unwrap().0.to_owned()
        };
        assert!(page.contains(&hash(&between("<style>", "</style>"))));
        assert!(page.contains(&hash(&between("<script>", "</script>"))));
    }

    proptest! {
        #[test]
        fn hostile_text_stays_text(name in ".*", tag in "(</script>|<!--|<script>|\"'>){1,3}") {
            let name = format!("{name}{tag}");
            let page = page(&name, Script::Layers, &json!({"name": name}));
            let (head, rest) = page.split_once("id=\"data\">").unwrap();
            let (data, rest) = rest.split_once("</script>").unwrap();
            let read: Value = serde_json::from_str(data).unwrap();
            prop_assert_eq!(read["name"].as_str().unwrap(), &name);
            prop_assert!(rest.starts_with("\n<script>\"use strict\";"));
            let (_, title) = head.split_once("<title>").unwrap();
            let (title, _) = title.split_once("</title>").unwrap();
            prop_assert!(!title.contains(['<', '>', '"', '\'']));
        }
    }
}
