//! `filters`: docker's JSON, of which there are two forms, as `KEY=VALUE` lines.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::ApiError;

/// The values of one key: `{"exited": true}`, or `["exited"]` as older clients have it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

/// Reads them; none where there is no text.
pub fn parse(text: Option<&str>) -> Result<Vec<String>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let keys: BTreeMap<String, Option<Values>> = serde_json::from_str(text)
        .map_err(|error| ApiError::bad(format!("invalid filters: {error}")))?;
    let mut lines = Vec::new();
    for (key, values) in keys {
        match values {
            None => {}
            Some(Values::List(values)) => {
                lines.extend(values.iter().map(|value| format!("{key}={value}")));
            }
            Some(Values::Map(values)) => {
                let wanted = values.iter().filter(|(_, wanted)| **wanted);
                lines.extend(wanted.map(|(value, _)| format!("{key}={value}")));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = r#"{"status":{"exited":true,"dead":false},"label":{"a=b":true}}"#;
        assert_eq!(parse(Some(new)).unwrap(), ["label=a=b", "status=exited"]);
        let old = r#"{"status":["exited"],"name":null}"#;
        assert_eq!(parse(Some(old)).unwrap(), ["status=exited"]);
        assert!(parse(None).unwrap().is_empty() && parse(Some("")).unwrap().is_empty());
        for bad in ["{", "[]", r#"{"a":1}"#, r#"{"a":{"b":"c"}}"#] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
