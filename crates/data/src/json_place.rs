//! Where in a line of JSON a value stands, for the column of an error. The line has been parsed before, so that it is valid.

/// A step from a value to one inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The value of the last entry with this key.
    Key(&'a str),
    /// The item of this number, from 0.
    Index(usize),
}

/// Byte offset of the value that `path` leads to, or of the innermost one that is there.
pub(crate) fn offset(json: &str, path: &[Step<'_>]) -> usize {
    let mut at = skip_white(json.as_bytes(), 0);
    for step in path {
        match inside(json, at, *step) {
            Some(inner) => at = inner,
            None => break,
        }
    }
    at
}

fn inside(json: &str, at: usize, step: Step<'_>) -> Option<usize> {
    let bytes = json.as_bytes();
    let is_object = match (bytes.get(at)?, step) {
        (b'{', Step::Key(_)) => true,
        (b'[', Step::Index(_)) => false,
        _ => return None,
    };
    let (mut position, mut number, mut found) = (skip_white(bytes, at + 1), 0, None);
    while !matches!(bytes.get(position)?, b'}' | b']') {
        let mut is_it = step == Step::Index(number);
        if is_object {
            let end = skip_value(bytes, position)?;
            // Escapes in keys are decoded, as the parser did.
            let key: String = serde_json::from_str(json.get(position..end)?).ok()?;
            is_it = step == Step::Key(&key);
            position = skip_white(bytes, skip_white(bytes, end) + 1); // the colon
        }
        if is_it {
            found = Some(position);
        }
        position = skip_white(bytes, skip_value(bytes, position)?);
        if bytes.get(position) == Some(&b',') {
            position = skip_white(bytes, position + 1);
        }
        number += 1;
    }
    found
}

fn skip_white(bytes: &[u8], at: usize) -> usize {
    at + bytes.iter().skip(at).take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The end of a value.
fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut position) = (0usize, at);
    loop {
        match bytes.get(position)? {
            b'"' => {
                position += 1;
                while *bytes.get(position)? != b'"' {
                    position += if bytes[position] == b'\\' { 2 } else { 1 };
                }
                position += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                position += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                position += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                position += 1;
                continue;
            }
            _ => {
                let is_part = |byte: &&u8| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                position += bytes[position..].iter().take_while(is_part).count();
            }
        }
        if depth == 0 {
            return Some(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn values_are_found_whatever_surrounds_them() {
        let json = r#" { "a\u0062" : [ 1 , {"x":"]\"}"}, [ ] ,null ] , "b":{} , "ab":-2.5e3 }"#;
        let at = |path: &[Step<'_>]| &json[offset(json, path)..];
        assert!(at(&[]).starts_with("{ \"a"));
        assert!(at(&[Step::Key("b")]).starts_with("{} ,"));
        assert!(at(&[Step::Key("ab")]).starts_with("-2.5e3"), "the last of two");
        assert!(at(&[Step::Key("none")]).starts_with("{ \"a"), "what is there");
        let json = r#"{"m":[ 1 , {"x":"]\"}", "y" : true}, [ ] ,null ]}"#;
        let at = |path: &[Step<'_>]| &json[offset(json, path)..];
        let m = Step::Key("m");
        assert!(at(&[m, Step::Index(3)]).starts_with("null"));
        assert!(at(&[m, Step::Index(1), Step::Key("y")]).starts_with("true"));
        assert!(at(&[m, Step::Index(4)]).starts_with("[ 1"));
        assert!(at(&[m, Step::Key("m")]).starts_with("[ 1"));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".{0,4}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn check(json: &str, value: &Value, path: &mut Vec<(Option<String>, usize)>) {
        let steps: Vec<_> =
            path.iter().map(|(key, index)| key.as_deref().map_or(Step::Index(*index), Step::Key)).collect();
        let found = &json[offset(json, &steps)..];
        let mut stream = serde_json::Deserializer::from_str(found).into_iter::<Value>();
        assert_eq!(&stream.next().unwrap().unwrap(), value, "{json} {steps:?}");
        let inner: Vec<(Option<String>, usize, &Value)> = match value {
            Value::Array(items) => items.iter().enumerate().map(|(index, item)| (None, index, item)).collect(),
            Value::Object(map) => map.iter().map(|(key, item)| (Some(key.clone()), 0, item)).collect(),
            _ => Vec::new(),
        };
        for (key, index, item) in inner {
            path.push((key, index));
            check(json, item, path);
            path.pop();
        }
    }

    proptest! {
        #[test]
        fn every_value_of_any_json_is_found(value in value(), pretty: bool) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            check(&json, &value, &mut Vec::new());
        }

        #[test]
        fn what_is_no_json_does_no_harm(text in r#"[\[\]{}",:\\ a1é]{0,20}"#, index in 0usize..3) {
            offset(&text, &[Step::Key("a"), Step::Index(index)]);
            offset(&text, &[Step::Index(index), Step::Key("a")]);
        }
    }
}
