//! Bytes as a JSON string, one character for each: what is mostly text stays about as long.

use serde::{Deserialize, Deserializer, Serializer, de};

pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Characters(bytes))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.chars()
        .map(|character| u8::try_from(character).map_err(de::Error::custom))
        .collect()
}

struct Characters<'a>(&'a [u8]);

impl std::fmt::Display for Characters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        self.0
            .iter()
            .try_for_each(|byte| f.write_char((*byte).into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Holder(#[serde(with = "super")] Vec<u8>);

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            let text = serde_json::to_string(&Holder(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Holder>(&text).unwrap().0, bytes);
        }
    }

    #[test]
    fn what_is_no_byte_is_refused() {
        assert!(serde_json::from_str::<Holder>("\"\u{100}\"").is_err());
    }
}
