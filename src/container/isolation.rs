//! How strong the boundary of a container has to be, by its image.

use crate::arch::dispatch::Isolation;
use crate::image::Reference;
use crate::settings::Settings;

/// The strictest of the rules for an image that is called `reference` now and has these `names`.
/// One that is run by its id has its names all the same.
pub fn of_image(settings: &Settings, reference: &str, names: &[String]) -> Isolation {
    if settings.images.is_empty() {
        return Isolation::Any;
    }
    let texts = std::iter::once(reference).chain(names.iter().map(String::as_str));
    let spellings: Vec<String> = texts.flat_map(spellings).collect();
    let rules = settings.images.iter();
    rules
        .filter(|(pattern, _)| spellings.iter().any(|name| fits(pattern, name)))
        .fold(Isolation::Any, |strictest, (_, rule)| {
            strictest.strictest(rule.isolation)
        })
}

/// All the ways to write the name of an image: short and in full, with and without its tag.
fn spellings(text: &str) -> Vec<String> {
    let Ok(reference) = text.parse::<Reference>() else {
        return Vec::new();
    };
    let reference = reference.with_default_tag();
    vec![
        reference.to_string(),
        reference.canonical(),
        reference.familiar_name(),
        reference.canonical_name(),
    ]
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Isolation::{Any, Hardware, Kernel};

    #[test]
    fn rules_are_found_by_any_spelling_and_the_strictest_holds() {
        let rules = "[images.'debian']\nisolation = 'kernel'\n\
            [images.'debian:12']\nisolation = 'hardware'\n\
            [images.'docker.io/library/busybox']\nisolation = 'hardware'\n\
            [images.'registry.example/team/*']\nisolation = 'hardware'\n";
        let settings: Settings = toml::from_str(rules).unwrap();
        for (reference, wanted) in [
            ("debian", Kernel),
            ("debian:latest", Kernel),
            ("docker.io/library/debian:12", Hardware),
            ("busybox", Hardware),
            ("busybox:1", Hardware),
            ("registry.example/team/a:2", Hardware),
            ("registry.example/teams/a:2", Any),
            ("python", Any),
            ("Not A Name", Any),
        ] {
            assert_eq!(of_image(&settings, reference, &[]), wanted, "{reference}");
        }
        let names = ["own:1".to_owned(), "debian:12".to_owned()];
        assert_eq!(of_image(&settings, "0123456789ab", &names), Hardware);
        assert_eq!(of_image(&Settings::default(), "debian", &names), Any);
    }
}
